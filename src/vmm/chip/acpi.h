/*
 * acpi: the tables that describe the machine (ACPI 6.4): RSDP, XSDT, FADT, FACS, MADT, MCFG, DSDT.
 */
#pragma once

#include "vmm/memory.h"

struct acpi_config {
	unsigned int cpus;
	gpa_t start, end;       /* where the tables may lie, below 1 MiB */
	uint8_t generation[16]; /* the VM generation id */
};

struct acpi_layout {
	gpa_t rsdp;
	gpa_t generation; /* where the VM generation id lies */
};

/* Writes the tables. -E2BIG if they do not fit. */
int acpi_build(const struct memory *memory, const struct acpi_config *config,
	       struct acpi_layout *ret) must_check;
