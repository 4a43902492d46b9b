/*
 * acpi: the tables that describe the machine (ACPI 6.4): RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT.
 */
#pragma once

#include "vmm/memory.h"

struct acpi_config {
	unsigned int cpus;
	gpa_t start, end;            /* where the tables may lie, below 4 GiB */
	gpa_t pci_config;            /* the PCI configuration window; 0: only by ports */
	uint32_t pci_start, pci_end; /* where the PCI memory windows may lie */
	uint8_t generation[16];      /* the VM generation id */
};

struct acpi_layout {
	gpa_t rsdp;
	gpa_t generation; /* where the VM generation id lies */
	gpa_t xsdt, fadt;
	gpa_t end; /* of everything */
};

/* Writes the tables. -E2BIG if they do not fit. */
int acpi_build(const struct memory *memory, const struct acpi_config *config,
	       struct acpi_layout *ret) must_check;
