/* Kernels as they are put into guest memory, made here byte by byte. */
#include <elf.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/boot/boot.h"

#include <cmocka.h>

#define MIB (1ull << 20)
enum { ZERO_PAGE = 0x7000, RAMDISK = 0x218 };

static int file_of(const void *data, size_t size, size_t file_size)
{
	int fd = memfd_create("boot", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full(fd, data, size), 0);
	assert_int_equal(ftruncate(fd, (off_t)file_size), 0);
	return fd;
}

/* A multiboot kernel of one byte at `address`, entered at `entry`. */
static int multiboot_kernel(uint64_t address, uint64_t entry)
{
	struct {
		Elf64_Ehdr header;
		Elf64_Phdr segment;
		uint32_t multiboot[3];
	} file = {
		.header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64},
			   .e_machine = EM_X86_64,
			   .e_entry = entry,
			   .e_phoff = sizeof(Elf64_Ehdr),
			   .e_phentsize = sizeof(Elf64_Phdr),
			   .e_phnum = 1},
		.segment = {.p_type = PT_LOAD, .p_filesz = 1, .p_memsz = 1, .p_paddr = address},
		.multiboot = {0x1badb002, 0, 0u - 0x1badb002},
	};

	return file_of(&file, sizeof(file), sizeof(file));
}

/* A bzImage that has to unpack itself, with an initrd up to `initrd_max` only. */
static int bzimage(uint32_t initrd_max)
{
	uint8_t file[2048] = {0};

	file[0x1f1] = 1; /* setup sectors */
	memcpy(file + 0x202, "HdrS\x03\x02", 6);
	file[0x211] = 1;                                /* loaded high */
	memcpy(file + 0x214, &(uint32_t){0x100000}, 4); /* 32-bit entry */
	memcpy(file + 0x22c, &initrd_max, 4);
	return file_of(file, sizeof(file), sizeof(file));
}

static int load(const struct memory *memory, int kernel_fd, size_t initrd_size, struct error *err)
{
	own_fd int kernel = kernel_fd, initrd = file_of("initrd", 6, initrd_size);
	const struct boot_source source = {.kernel_fd = kernel,
					   .kernel_name = "kernel",
					   .initrd_fd = initrd,
					   .initrd_name = "initrd",
					   .modules_fd = -1};
	struct boot_entry entry = {0};

	return boot_load(memory, &source, &entry, err);
}

static struct memory *memory_of(uint64_t size)
{
	struct memory *memory = NULL;

	assert_int_equal(memory_create(size, &memory, NULL), 0);
	return memory;
}

/* There are the structures that the kernel gets, and the firmware's tables. */
static void an_initrd_stays_out_of_the_first_mebibyte(void **state)
{
	own_memory struct memory *memory = memory_of(2 * MIB);
	struct error err = {0};

	(void)state;
	assert_int_equal(load(memory, multiboot_kernel(0x4000, 0x4000), MIB, &err), 0);
	assert_memory_equal(memory->host + MIB, "initrd", 6);
	assert_int_equal(load(memory, multiboot_kernel(0x4000, 0x4000), MIB + 1, &err), -E2BIG);
	assert_non_null(strstr(err.text, "does not fit"));
}

static void an_initrd_lies_where_the_kernel_can_reach_it(void **state)
{
	own_memory struct memory *memory = memory_of(16 * MIB);
	struct error err = {0};
	uint32_t ramdisk[2];

	(void)state;
	assert_int_equal(load(memory, bzimage(8 * MIB - 1), MIB, &err), 0);
	memcpy(ramdisk, memory->host + ZERO_PAGE + RAMDISK, sizeof(ramdisk));
	assert_int_equal(ramdisk[0], 7 * MIB);
	assert_int_equal(ramdisk[1], MIB);
	assert_memory_equal(memory->host + 7 * MIB, "initrd", 6);
	assert_int_equal(load(memory, bzimage(MIB), MIB, &err), -E2BIG);
}

static void a_multiboot_kernel_begins_below_4_gib(void **state)
{
	own_memory struct memory *memory = memory_of(2 * MIB);
	struct error err = {0};

	(void)state;
	assert_int_equal(load(memory, multiboot_kernel(MIB, 1ull << 32), 4096, &err), -EINVAL);
	assert_non_null(strstr(err.text, "begins at 0x100000000"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_initrd_stays_out_of_the_first_mebibyte),
		cmocka_unit_test(an_initrd_lies_where_the_kernel_can_reach_it),
		cmocka_unit_test(a_multiboot_kernel_begins_below_4_gib),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
