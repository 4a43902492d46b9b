/*
 * firmware: a machine that starts with a BIOS instead of a kernel.
 *
 * The firmware's file ends at 1 MiB, where the CPU begins with it, in memory that it may write: the chipset
 * of a PC copies it there. It learns of the machine by fw_cfg: how much memory there is, how many CPUs, and
 * where the ACPI tables are. Those lie at the end of low memory, which the memory map reserves.
 */
#pragma once

#include "vmm/boot/boot.h"
#include "vmm/chip/fw_cfg.h"

enum {
	FIRMWARE_SIZE_MIN = 64 << 10,
	FIRMWARE_SIZE_MAX = 256 << 10,
	FIRMWARE_TABLES_SIZE = 64 << 10, /* at the end of low memory */
};

/* Where the ACPI tables go. */
gpa_t firmware_tables(const struct memory *memory);
/* Loads the file into memory, and says how the CPU starts. -EINVAL: it is no BIOS. */
int firmware_load(const struct memory *memory, int fd, const char *name, struct boot_entry *ret,
		  struct error *err) must_check;
/* Tells firmware of any kind how much memory there is; `hole` of no size: none. */
void firmware_describe_memory(const struct memory *memory, const struct boot_hole *hole,
			      struct fw_cfg *fw_cfg);
/* Tells it of the machine. `rsdp` is the address of the ACPI tables' root. */
void firmware_describe(const struct memory *memory, const struct boot_hole *hole, gpa_t rsdp,
		       struct fw_cfg *fw_cfg);
