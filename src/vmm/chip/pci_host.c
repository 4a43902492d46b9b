/* pci_host: see pci.h. Slot 0 is the host bridge itself. There may be no firmware, so the windows get their
 * addresses here; a guest may move them. */
#include <errno.h>
#include <string.h>

#include "vmm/chip/pci_priv.h"
#include "vmm/chip/q35.h"

enum {
	REGION_ADDRESS,
	REGION_DATA,
	REGION_ECAM,
	ADDRESS_ENABLE = 1u << 31,
	ECAM_FUNCTION_SIZE = 4096,
};

struct pci_host {
	struct device device;
	struct board *board;
	enum pci_host_kind kind;
	uint32_t address; /* port 0xcf8 */
	gpa_t window;     /* where the configuration window answers; 0: nowhere */
	unsigned int count;
	uint32_t next_window;
	struct pci_function bridge, isa; /* isa: of a Q35 */
	struct pci_function *slots[PCI_SLOTS];
};

static const struct pci_function_ops isa_ops = {0};

static void move_window(struct pci_host *host, gpa_t window)
{
	if (host->window == window)
		return;
	if (host->window)
		bus_remove(&host->board->mmio, &host->device, REGION_ECAM);
	/* Only where no memory is, nor anything else. */
	if (window &&
	    (window < host->board->memory->low_size ||
	     bus_add(&host->board->mmio, window, PCI_ECAM_SIZE, &host->device, REGION_ECAM) < 0))
		window = 0;
	host->window = window;
}

static void bridge_written(struct pci_function *bridge, unsigned int offset, unsigned int size)
{
	struct pci_host *host = container_of(bridge, struct pci_host, bridge);

	if (host->kind == PCI_HOST_Q35 && offset < Q35_WINDOW + Q35_WINDOW_SIZE &&
	    offset + size > Q35_WINDOW)
		move_window(host, q35_window(bridge));
}

static const struct pci_function_ops bridge_ops = {.after_write = bridge_written};

/* The function at a bus/device/function number, or NULL. Only functions 0 exist. */
static struct pci_function *find(const struct pci_host *host, unsigned int number)
{
	return number < PCI_SLOTS * 8 && number % 8 == 0 ? host->slots[number / 8] : NULL;
}

static uint32_t read_config(struct pci_host *host, unsigned int number, unsigned int offset,
			    unsigned int size)
{
	struct pci_function *f = find(host, number);
	uint32_t value;

	if (!f)
		return UINT32_MAX;
	if (size > 4 || offset % 4 + size > 4 || offset + size > PCI_CONFIG_SIZE)
		return 0;
	if (f->device == &host->device) /* whose lock is held */
		return pci_config_read(f, offset, size);
	device_lock(f->device);
	value = pci_config_read(f, offset, size);
	device_unlock(f->device);
	return value;
}

static void write_config(struct pci_host *host, unsigned int number, unsigned int offset,
			 unsigned int size, uint32_t value)
{
	struct pci_function *f = find(host, number);

	if (!f || size > 4 || offset % 4 + size > 4 || offset + size > PCI_CONFIG_SIZE)
		return;
	if (f->device == &host->device) {
		if (host->kind == PCI_HOST_Q35)
			pci_config_write(f, offset, size, value);
		return;
	}
	device_lock(f->device);
	pci_config_write(f, offset, size, value);
	device_unlock(f->device);
}

static uint64_t host_read(struct device *device, unsigned int region, uint64_t offset,
			  unsigned int size)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	switch (region) {
	case REGION_ADDRESS:
		return size == 4 ? host->address : UINT64_MAX;
	case REGION_DATA:
		if (!(host->address & ADDRESS_ENABLE))
			return UINT64_MAX;
		return read_config(host, (host->address >> 8) & 0xffff,
				   (host->address & 0xfc) + (unsigned int)offset, size);
	default:
		return read_config(host, (unsigned int)(offset / ECAM_FUNCTION_SIZE),
				   offset % ECAM_FUNCTION_SIZE, size);
	}
}

static void host_write(struct device *device, unsigned int region, uint64_t offset,
		       unsigned int size, uint64_t value)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	switch (region) {
	case REGION_ADDRESS:
		if (size == 4)
			host->address = (uint32_t)value;
		break;
	case REGION_DATA:
		if (host->address & ADDRESS_ENABLE)
			write_config(host, (host->address >> 8) & 0xffff,
				     (host->address & 0xfc) + (unsigned int)offset, size,
				     (uint32_t)value);
		break;
	default:
		write_config(host, (unsigned int)(offset / ECAM_FUNCTION_SIZE),
			     offset % ECAM_FUNCTION_SIZE, size, (uint32_t)value);
	}
}

static void host_reset(struct device *device)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	host->address = 0;
	if (host->kind == PCI_HOST_Q35) {
		q35_reset(&host->bridge);
		move_window(host, 0);
	}
}

static void host_save(struct device *device, struct state_writer *out)
{
	state_put_u32(out, container_of(device, struct pci_host, device)->address);
}

static int host_load(struct device *device, struct state_reader *in)
{
	container_of(device, struct pci_host, device)->address = state_get_u32(in);
	return state_finish(in);
}

static void host_destroy(struct device *device)
{
	struct pci_host *host = container_of(device, struct pci_host, device);

	own_mem_release(&host);
}

static const struct device_ops ops = {
	.name = "pci-host",
	.read = host_read,
	.write = host_write,
	.reset = host_reset,
	.save = host_save,
	.load = host_load,
	.destroy = host_destroy,
};

static void add_bridges(struct pci_host *host)
{
	/* A host bridge of Red Hat's, as QEMU's generic PCIe host has: guests know it. */
	const struct pci_identity identity = {
		.vendor = 0x1b36, .device = 0x0008, .class_revision = 0x06000000};

	if (host->kind == PCI_HOST_Q35) {
		q35_controller_init(&host->bridge, &bridge_ops, &host->device, host->board);
		q35_bridge_init(&host->isa, &isa_ops, &host->device, host->board);
		host->slots[Q35_BRIDGE_SLOT] = &host->isa;
	} else {
		pci_function_init(&host->bridge, &bridge_ops, &host->device, host->board,
				  &identity);
	}
	host->slots[0] = &host->bridge;
	host->count = 1;
}

int pci_host_create(struct board *board, enum pci_host_kind kind, struct pci_host **ret)
{
	struct pci_host *host = mem_new(sizeof(*host));
	int rc;

	host->board = board;
	host->kind = kind;
	host->next_window = PCI_WINDOW_START;
	device_init(&host->device, &ops, 0);
	add_bridges(host);
	*ret = host;
	rc = bus_add(&board->ports, 0xcf8, 4, &host->device, REGION_ADDRESS);
	if (rc == 0)
		rc = bus_add(&board->ports, 0xcfc, 4, &host->device, REGION_DATA);
	if (rc == 0 && kind == PCI_HOST_GENERIC) {
		move_window(host, PCI_ECAM_START);
		rc = host->window ? 0 : -EEXIST;
	}
	return rc;
}

gpa_t pci_host_window(const struct pci_host *host)
{
	return host->window;
}

struct device *pci_host_device(struct pci_host *host)
{
	return &host->device;
}

int pci_host_add(struct pci_host *host, struct pci_function *function)
{
	if (host->count == PCI_SLOTS || host->slots[host->count] != NULL)
		return -ENOSPC;
	for (unsigned int bar = 0; bar < PCI_BARS; bar++) {
		uint32_t size = function->bar_size[bar];

		if (!size)
			continue;
		host->next_window = (host->next_window + size - 1) & ~(size - 1);
		pci_place_bar(function, bar, host->next_window);
		host->next_window += size;
	}
	host->slots[host->count++] = function;
	return 0;
}
