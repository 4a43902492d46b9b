/*
 * q35: the two functions by which UEFI firmware for virtual machines knows its chipset, Intel's Q35: the
 * memory controller at 0:0.0, which says where the PCI configuration window is (PCIEXBAR), and the ISA bridge
 * at 0:1f.0, which says where ACPI's registers are (PMBASE). Only what that firmware looks at is there.
 */
#pragma once

#include "vmm/chip/pci.h"

enum {
	Q35_BRIDGE_SLOT = 0x1f,
	Q35_WINDOW = 0x60, /* PCIEXBAR, eight bytes */
	Q35_WINDOW_SIZE = 8,
};
/* Where that firmware puts the memory windows, and up to where it uses low memory. */
#define Q35_WINDOWS_START 0xc0000000u
#define Q35_WINDOWS_END 0xfc000000u
#define Q35_MEMORY_LOW_MAX 0x80000000ull

/* The configuration space of both; the device's lock is that of `device`. */
void q35_controller_init(struct pci_function *function, const struct pci_function_ops *ops,
			 struct device *device, struct board *board);
void q35_bridge_init(struct pci_function *function, const struct pci_function_ops *ops,
		     struct device *device, struct board *board);
/* What PCIEXBAR says; 0: the window is off. */
gpa_t q35_window(const struct pci_function *controller);
void q35_reset(struct pci_function *controller);
