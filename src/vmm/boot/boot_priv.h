/* boot_priv: what the files of boot/ share. */
#pragma once

#include <stddef.h>

#include "vmm/boot/boot.h"

enum {
	BOOT_GDT = 0x500,
	BOOT_START_INFO = 0x6000,
	BOOT_ZERO_PAGE = 0x7000,
	BOOT_PAGE_TABLES = 0x9000,
	BOOT_COMMAND_LINE = 0x20000,
	BOOT_LOW_USED = 0x21000,  /* the end of all these */
	BOOT_LOW_OTHER = 0x70000, /* is added to them if the kernel itself lies there */
	BOOT_LOW_END = 0x9fc00,
};
#define BOOT_KERNEL_MAX (512ull << 20)

/* A file as it lies in our memory. */
struct boot_image {
	const uint8_t *data;
	size_t size;
	const char *name;
};

/* One line of the memory map, with the numbers that e820, PVH and multiboot share. */
enum boot_memory_type { BOOT_RAM = 1, BOOT_RESERVED = 2 };
struct boot_range {
	uint64_t start, size;
	uint32_t type;
};
enum { BOOT_RANGES_MAX = 8 };

struct boot_plan {
	const struct memory *memory;
	const struct boot_source *source;
	unsigned int range_count;
	struct boot_range ranges[BOOT_RANGES_MAX];
	gpa_t low;        /* 0 or BOOT_LOW_OTHER */
	gpa_t initrd_max; /* the last address that it may occupy */
	gpa_t initrd;
	uint64_t initrd_size;
	gpa_t kernel_end;     /* the first address behind the kernel */
	const uint8_t *setup; /* a bzImage's setup sectors, if its own code unpacks it; else NULL */
};

/* elf.c */
struct boot_elf {
	bool wide; /* 64-bit */
	uint64_t entry;
	gpa_t start, end; /* what it occupies */
};
bool boot_is_elf(const struct boot_image *image);
/* Copies the segments to their physical addresses. */
int boot_elf_load(const struct memory *memory, const struct boot_image *image, struct boot_elf *ret,
		  struct error *err) must_check;
/* The 32-bit entry in the PVH note: 1 found, 0 none. */
int boot_elf_pvh_entry(const struct boot_image *image, uint32_t *ret_entry);

/* bzimage.c: finds the ELF file in a bzImage and unpacks it into malloced memory. -ENOEXEC: not one;
 * -ENOTSUP: one without an ELF file that we can unpack. */
int boot_bzimage_unpack(const struct boot_image *image, uint8_t **ret, size_t *ret_size,
			struct error *err) must_check;
/* Copies the protected-mode code of a bzImage to where it wants to be and fills in plan->setup and
 * plan->kernel_end; lowers plan->initrd_max. -EINVAL: it cannot do without a BIOS; -E2BIG. */
int boot_bzimage_load(struct boot_plan *plan, const struct boot_image *image, uint32_t *ret_entry,
		      struct error *err) must_check;

/* start.c: the structures that the entry protocols pass. */
int boot_start_pvh(const struct boot_plan *plan, struct error *err) must_check;
int boot_start_linux(const struct boot_plan *plan, struct error *err) must_check;
int boot_start_multiboot(const struct boot_plan *plan, struct error *err) must_check;
