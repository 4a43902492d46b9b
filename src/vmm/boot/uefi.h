/*
 * uefi: a machine that starts with UEFI firmware (OVMF) instead of a kernel.
 *
 * The firmware is two files, as Debian's package ovmf has them: its code, which ends at 4 GiB and is ROM,
 * and below it its variables, which are a flash chip's (chip/pflash.h). The CPU begins at its reset vector.
 * The chipset is a Q35 (chip/q35.h); the rest it learns by fw_cfg: memory, CPUs, and the ACPI tables, which it
 * puts where it likes.
 */
#pragma once

#include "vmm/boot/boot.h"
#include "vmm/chip/acpi.h"
#include "vmm/chip/fw_cfg.h"

enum { UEFI_CODE_MIN = 1 << 20, UEFI_CODE_MAX = 8 << 20 };

/* The code, in anonymous memory of ours, as a region for the CPUs. -EINVAL: it is no such file. */
int uefi_load(int fd, const char *name, struct cpu_region *ret, struct error *err) must_check;
void uefi_unload(struct cpu_region *region);
/* Tells it of the ACPI tables, which have been written to memory (from `tables` on). */
void uefi_describe(const struct memory *memory, gpa_t tables, const struct acpi_layout *acpi,
		   struct fw_cfg *fw_cfg);
