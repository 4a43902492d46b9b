/*
 * pci: the PCI host (configuration by ports 0xcf8/0xcfc and by ECAM) and what every function on bus 0
 * has: configuration space, memory windows, MSI-X.
 *
 * A device embeds struct pci_function next to its struct device; configuration space is guarded by the
 * device's lock. The MSI-X table lies in one of the function's windows, whose owner passes accesses on.
 */
#pragma once

#include "vmm/board.h"

enum {
	PCI_SLOTS = 32,
	PCI_CONFIG_SIZE = 256,
	PCI_BARS = 6,
	PCI_ECAM_SIZE = 1 << 20, /* bus 0 */
	PCI_MSIX_VECTORS_MAX = 64,
	PCI_NO_VECTOR = 0xffff,
	PCI_COMMAND = 0x04,
	PCI_COMMAND_IO = 1 << 0,
	PCI_COMMAND_MEMORY = 1 << 1,
	PCI_COMMAND_MASTER = 1 << 2,
};
/* Where SeaBIOS, too, puts the windows. */
#define PCI_WINDOW_START 0xe0000000u
#define PCI_WINDOW_END 0xfec00000u
#define PCI_ECAM_START 0xc0000000u

struct pci_function;

struct pci_function_ops {
	/* Window `bar` now answers at `gpa`, or no more (0). NULL: not interested. */
	void (*moved)(struct pci_function *function, unsigned int bar, gpa_t gpa);
	/* Accesses to configuration space beyond what is stored in it; NULL: none. They are called
	 * before a read and after a write of [offset, offset + size). */
	void (*before_read)(struct pci_function *function, unsigned int offset, unsigned int size);
	void (*after_write)(struct pci_function *function, unsigned int offset, unsigned int size);
};

struct pci_msix_entry {
	uint64_t address;
	uint32_t data, control;
};

struct pci_function {
	const struct pci_function_ops *ops;
	struct device *device;
	struct board *board;
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* the bits that the guest can change */
	uint8_t capability_end;            /* where the next capability goes */
	uint8_t last_capability;
	uint32_t bar_size[PCI_BARS]; /* powers of two; 0: none */
	gpa_t bar_at[PCI_BARS];      /* where it answers now; 0: nowhere */
	uint8_t msix_capability;
	unsigned int msix_count;
	struct pci_msix_entry msix[PCI_MSIX_VECTORS_MAX];
	unsigned int
		msix_route[PCI_MSIX_VECTORS_MAX]; /* for its message as it is; 0: none (irq.h) */
	uint64_t msix_pending;
};

struct pci_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_revision; /* class, subclass, interface, revision, as at offset 8 */
};

void pci_function_init(struct pci_function *function, const struct pci_function_ops *ops,
		       struct device *device, struct board *board,
		       const struct pci_identity *identity);
/* Gives it a 32-bit memory window. The bus region of the device is the window's number. */
void pci_add_bar(struct pci_function *function, unsigned int bar, uint32_t size);
/* Appends a capability of `size` bytes (the first two, id and link, are filled in). Its offset. */
unsigned int pci_add_capability(struct pci_function *function, uint8_t id, const void *data,
				unsigned int size);
/* MSI-X with its table and pending bits at these offsets of window `bar`. */
void pci_add_msix(struct pci_function *function, unsigned int vectors, unsigned int bar,
		  uint32_t table, uint32_t pending);

/* Accesses to the MSI-X table; `offset` counts from its start. */
uint64_t pci_msix_read(const struct pci_function *function, uint32_t offset, unsigned int size);
void pci_msix_write(struct pci_function *function, uint32_t offset, unsigned int size,
		    uint64_t value);
bool pci_msix_enabled(const struct pci_function *function);
/* Sends the interrupt of a vector, or keeps it pending while it is masked. */
void pci_msix_send(struct pci_function *function, unsigned int vector);

/* Whether the guest lets it reach memory (bus master). */
bool pci_is_master(const struct pci_function *function);

void pci_function_reset(struct pci_function *function);
void pci_function_save(const struct pci_function *function, struct state_writer *out);
void pci_function_load(struct pci_function *function, struct state_reader *in);

struct pci_host;
/* GENERIC's configuration window is where PCI_ECAM_START says; Q35's where the guest puts it (q35.h). */
enum pci_host_kind { PCI_HOST_GENERIC, PCI_HOST_Q35 };
int pci_host_create(struct board *board, enum pci_host_kind kind, struct pci_host **ret) must_check;
/* Where the configuration window is now; 0: nowhere. On the device thread, the vCPUs parked. */
gpa_t pci_host_window(const struct pci_host *host);
struct device *pci_host_device(struct pci_host *host);
/* Puts a function into the next free slot and places its windows. -ENOSPC. */
int pci_host_add(struct pci_host *host, struct pci_function *function) must_check;
