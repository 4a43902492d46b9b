/*
 * boot: puts a kernel into guest memory and says how the first CPU starts in it.
 *
 * Accepted: a Linux bzImage (its payload is unpacked here, so that the guest need not; one without a
 * payload that we know is entered by Linux's 32-bit protocol and unpacks itself), an ELF file
 * with a PVH note (Xen's docs/misc/pvh.pandoc), a multiboot 1 ELF file (test kernels), and an x86-64
 * ELF file without either, which is taken for a vmlinux and entered by Linux's 64-bit protocol
 * (Documentation/arch/x86/boot.rst).
 *
 * Where things lie below 1 MiB (what the kernel is told, it may reuse):
 *   0x00500  GDT            0x06000  start info: PVH, multiboot      0x07000  Linux's zero page
 *   0x09000  page tables (six pages)      0x20000  command line      0xe0000  ACPI tables
 * All but the ACPI tables move up by 0x70000 if the kernel wants to lie there.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "vmm/cpu/cpu.h"
#include "vmm/memory.h"

enum {
	BOOT_COMMAND_LINE_MAX = 4096,
	BOOT_ACPI_START = 0xe0000,
	BOOT_ACPI_END = 0x100000,
};

/* Device windows that the memory map given to the kernel must reserve. */
struct boot_hole {
	gpa_t start;
	uint64_t size;
};

struct boot_source {
	int kernel_fd;
	const char *kernel_name; /* for errors */
	int initrd_fd;           /* -1: none */
	const char *initrd_name;
	int modules_fd; /* an archive that goes before the initrd, for Linux; -1: none */
	const char *modules_name;
	const char *command_line; /* NULL: empty */
	gpa_t rsdp;               /* of the ACPI tables, which are in memory already; 0: none */
	struct boot_hole hole;    /* the PCI configuration window */
};

enum boot_mode {
	BOOT_PROTECTED,
	BOOT_LONG,
	BOOT_REAL, /* at the end of the first MiB */
	BOOT_RESET /* as after power on: at the end of the first 4 GiB */
};

struct boot_entry {
	enum boot_mode mode;
	gpa_t rip, low; /* low: is added to the addresses below 1 MiB */
	uint64_t rax, rbx, rsi;
};

/* Loads everything. -ENOEXEC (not a kernel of a kind we know), -EINVAL (damaged), -E2BIG (does not
 * fit the guest's memory), -errno. */
int boot_load(const struct memory *memory, const struct boot_source *source, struct boot_entry *ret,
	      struct error *err) must_check;
/* The ELF file inside a bzImage, in malloced memory. -ENOEXEC with a reason if it is not one. */
int boot_unpack(const void *data, size_t size, const char *name, uint8_t **ret, size_t *ret_size,
		struct error *err) must_check;
/* Turns the state of a CPU after power on into that in which the kernel is entered. */
void boot_apply(const struct boot_entry *entry, struct cpu_state *state);

/* Loads the library that unpacking this kernel needs, if any, for those who cannot open files when they
 * call boot_load. */
int boot_prepare(int kernel_fd, struct error *err) must_check;
