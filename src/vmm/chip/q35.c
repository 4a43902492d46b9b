/* q35: see q35.h. Intel's datasheets 316966 (the controller, 5.1.15) and 316972 (the bridge, 13.1). */
#include "vmm/chip/q35.h"

#include <string.h>

#include "vmm/chip/chips.h"

enum {
	VENDOR_INTEL = 0x8086,
	CONTROLLER = 0x29c0,
	BRIDGE = 0x2918,
	CLASS_HOST = 0x06000000,
	CLASS_ISA = 0x06010000,
	WINDOW_ON = 1,
	BRIDGE_PM_BASE = 0x40,
	BRIDGE_ACPI = 0x44,
	BRIDGE_ACPI_ON = 1 << 7,
	BRIDGE_LINES = 0x60, /* which line each of PCI's interrupts goes to: eight in two places */
	BRIDGE_LINES_2 = 0x68,
	BRIDGE_REGISTERS = 0xf0, /* RCBA */
};
#define WINDOW_MASK 0xff0000000ull /* 256 MiB aligned, below 64 GiB */

void q35_controller_init(struct pci_function *f, const struct pci_function_ops *ops,
			 struct device *device, struct board *board)
{
	const struct pci_identity identity = {
		.vendor = VENDOR_INTEL, .device = CONTROLLER, .class_revision = CLASS_HOST};

	pci_function_init(f, ops, device, board, &identity);
	memset(f->writable + Q35_WINDOW, 0xff, Q35_WINDOW_SIZE);
}

void q35_bridge_init(struct pci_function *f, const struct pci_function_ops *ops,
		     struct device *device, struct board *board)
{
	const struct pci_identity identity = {
		.vendor = VENDOR_INTEL, .device = BRIDGE, .class_revision = CLASS_ISA};
	const uint32_t pm_base = ACPI_PM_PORT | 1;

	pci_function_init(f, ops, device, board, &identity);
	/* ACPI's registers have their place: firmware that finds them on leaves them there. */
	memcpy(f->config + BRIDGE_PM_BASE, &pm_base, sizeof(pm_base));
	f->config[BRIDGE_ACPI] = BRIDGE_ACPI_ON;
	/* Firmware only finds the devices behind a bridge that passes I/O on. */
	f->config[PCI_COMMAND] = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	f->writable[PCI_COMMAND] |= PCI_COMMAND_IO;
	memset(f->writable + BRIDGE_LINES, 0xff, 4);
	memset(f->writable + BRIDGE_LINES_2, 0xff, 4);
	memset(f->writable + BRIDGE_REGISTERS, 0xff, 4);
}

gpa_t q35_window(const struct pci_function *controller)
{
	uint64_t value;

	memcpy(&value, controller->config + Q35_WINDOW, sizeof(value));
	return value & WINDOW_ON ? value & WINDOW_MASK : 0;
}

void q35_reset(struct pci_function *controller)
{
	memset(controller->config + Q35_WINDOW, 0, Q35_WINDOW_SIZE);
}
