/* start: the structures by which a kernel learns of its command line, initrd, memory and ACPI. */
#include "vmm/boot/boot_priv.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* include/xen/interface/hvm/start_info.h of Linux */
struct pvh_start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, command_line, rsdp, memory_map;
	uint32_t memory_map_entries, reserved;
};
struct pvh_module {
	uint64_t address, size, command_line, reserved;
};
struct pvh_range {
	uint64_t start, size;
	uint32_t type, reserved;
};
enum { PVH_MAGIC = 0x336ec578 };

struct pvh_start {
	struct pvh_start_info info;
	struct pvh_module module;
	struct pvh_range ranges[BOOT_RANGES_MAX];
};

static int put(const struct boot_plan *plan, gpa_t at, const void *data, size_t size,
	       struct error *err)
{
	int rc = memory_write(plan->memory, at, data, size);

	return rc < 0 ? refuse(err, rc, "the guest has too little memory to boot") : 0;
}

int boot_start_pvh(const struct boot_plan *plan, struct error *err)
{
	struct pvh_start start = {
		.info = {.magic = PVH_MAGIC,
			 .version = 1,
			 .module_count = plan->initrd_size ? 1 : 0,
			 .modules =
				 plan->low + BOOT_START_INFO + offsetof(struct pvh_start, module),
			 .command_line = plan->low + BOOT_COMMAND_LINE,
			 .rsdp = plan->source->rsdp,
			 .memory_map =
				 plan->low + BOOT_START_INFO + offsetof(struct pvh_start, ranges),
			 .memory_map_entries = plan->range_count},
		.module = {.address = plan->initrd, .size = plan->initrd_size},
	};

	for (unsigned int i = 0; i < plan->range_count; i++)
		start.ranges[i] = (struct pvh_range){.start = plan->ranges[i].start,
						     .size = plan->ranges[i].size,
						     .type = plan->ranges[i].type};
	return put(plan, plan->low + BOOT_START_INFO, &start, sizeof(start), err);
}

/* Maps the first 4 GiB one to one with pages of 2 MiB. */
static int write_page_tables(const struct boot_plan *plan, struct error *err)
{
	enum { PRESENT_WRITE = 3, LARGE = 0x80, ENTRIES = 512, DIRECTORIES = 4 };
	uint64_t *table = memory_at(plan->memory, plan->low + BOOT_PAGE_TABLES,
				    (2 + DIRECTORIES) * MEMORY_PAGE_SIZE);

	if (!table)
		return refuse(err, -E2BIG, "the guest has too little memory to boot");
	memset(table, 0, (2 + DIRECTORIES) * MEMORY_PAGE_SIZE);
	table[0] = (plan->low + BOOT_PAGE_TABLES + MEMORY_PAGE_SIZE) | PRESENT_WRITE;
	for (unsigned int i = 0; i < DIRECTORIES; i++)
		table[ENTRIES + i] =
			(plan->low + BOOT_PAGE_TABLES + (2 + i) * MEMORY_PAGE_SIZE) | PRESENT_WRITE;
	for (uint64_t i = 0; i < DIRECTORIES * ENTRIES; i++)
		table[2 * ENTRIES + i] = i << 21 | LARGE | PRESENT_WRITE;
	return 0;
}

/* The setup header as the kernel's file has it; its length is in the jump before its magic number. */
static void copy_setup_header(const uint8_t *setup, struct setup_header *ret)
{
	enum { HEADER = 0x1f1, JUMP = 0x201, MAGIC = 0x202 };
	size_t size = MAGIC + setup[JUMP] - HEADER;

	memcpy(ret, setup + HEADER, size < sizeof(*ret) ? size : sizeof(*ret));
}

int boot_start_linux(const struct boot_plan *plan, struct error *err)
{
	enum { HEADER_MAGIC = 0x53726448, LOADER_UNDEFINED = 0xff, BOOT_FLAG = 0xaa55 };
	struct boot_params params = {
		.acpi_rsdp_addr = plan->source->rsdp,
		.hdr = {.boot_flag = BOOT_FLAG,
			.header = HEADER_MAGIC,
			.version = 0x20f,
			.loadflags = 1,
			.cmdline_size = BOOT_COMMAND_LINE_MAX,
			.kernel_alignment = 0x1000000},
		.e820_entries = (uint8_t)plan->range_count,
	};
	int rc;

	if (plan->setup)
		copy_setup_header(plan->setup, &params.hdr);
	params.hdr.type_of_loader = LOADER_UNDEFINED;
	params.hdr.ramdisk_image = (uint32_t)plan->initrd;
	params.hdr.ramdisk_size = (uint32_t)plan->initrd_size;
	params.hdr.cmd_line_ptr = plan->low + BOOT_COMMAND_LINE;
	for (unsigned int i = 0; i < plan->range_count; i++) {
		params.e820_table[i].addr = plan->ranges[i].start;
		params.e820_table[i].size = plan->ranges[i].size;
		params.e820_table[i].type = plan->ranges[i].type;
	}
	rc = put(plan, plan->low + BOOT_ZERO_PAGE, &params, sizeof(params), err);
	return rc < 0 ? rc : write_page_tables(plan, err);
}

/* The Multiboot Specification, version 0.6.96, section 3.3 */
struct multiboot_info {
	uint32_t flags, mem_lower_kib, mem_upper_kib, boot_device, command_line;
	uint32_t module_count, modules;
	uint32_t symbols[4];
	uint32_t map_size, map;
	uint32_t drives_size, drives, config_table, loader_name, apm_table;
};
struct multiboot_module {
	uint32_t start, end, command_line, reserved;
};
struct __attribute__((packed)) multiboot_range {
	uint32_t entry_size; /* without itself */
	uint64_t start, size;
	uint32_t type;
};
enum {
	MULTIBOOT_MEMORY = 1 << 0,
	MULTIBOOT_COMMAND_LINE = 1 << 2,
	MULTIBOOT_MODULES = 1 << 3,
	MULTIBOOT_MAP = 1 << 6,
	MULTIBOOT_LOADER = 1 << 9,
};

struct multiboot_start {
	struct multiboot_info info;
	struct multiboot_module module;
	struct multiboot_range ranges[BOOT_RANGES_MAX];
	char loader_name[8];
};

/* By that protocol the kernel's name is the first word of its command line, as in argv. */
static int write_multiboot_command_line(const struct boot_plan *plan, struct error *err)
{
	const struct boot_source *source = plan->source;
	const char *slash = strrchr(source->kernel_name, '/');
	own_mem char *line = str_format("%s %s", slash ? slash + 1 : source->kernel_name,
					source->command_line ? source->command_line : "");

	if (strlen(line) >= BOOT_COMMAND_LINE_MAX)
		return refuse(err, -E2BIG, "the kernel's name and command line are too long");
	return put(plan, plan->low + BOOT_COMMAND_LINE, line, strlen(line) + 1, err);
}

/* What a BIOS would have noted: kernels that look where low memory ends (Xen) look here, too. */
static int write_bios_data(const struct boot_plan *plan, struct error *err)
{
	enum { EXTENDED_AREA_SEGMENT = 0x40e, BASE_MEMORY_KIB = 0x413 };
	const uint16_t segment = BOOT_LOW_END >> 4, kib = BOOT_LOW_END >> 10;
	int rc = put(plan, EXTENDED_AREA_SEGMENT, &segment, sizeof(segment), err);

	return rc < 0 ? rc : put(plan, BASE_MEMORY_KIB, &kib, sizeof(kib), err);
}

int boot_start_multiboot(const struct boot_plan *plan, struct error *err)
{
	struct multiboot_start start = {
		.info = {.flags = MULTIBOOT_MEMORY | MULTIBOOT_COMMAND_LINE | MULTIBOOT_MAP |
				  MULTIBOOT_LOADER | (plan->initrd_size ? MULTIBOOT_MODULES : 0),
			 .mem_lower_kib = BOOT_LOW_END >> 10,
			 .mem_upper_kib = (uint32_t)((plan->memory->low_size >> 10) - 1024),
			 .command_line = plan->low + BOOT_COMMAND_LINE,
			 .module_count = plan->initrd_size ? 1 : 0,
			 .modules = plan->low + BOOT_START_INFO +
				    offsetof(struct multiboot_start, module),
			 .map_size = plan->range_count * (uint32_t)sizeof(struct multiboot_range),
			 .map = plan->low + BOOT_START_INFO +
				offsetof(struct multiboot_start, ranges),
			 .loader_name = plan->low + BOOT_START_INFO +
					offsetof(struct multiboot_start, loader_name)},
		.module = {.start = (uint32_t)plan->initrd,
			   .end = (uint32_t)(plan->initrd + plan->initrd_size)},
		.loader_name = "berth",
	};
	int rc;

	for (unsigned int i = 0; i < plan->range_count; i++)
		start.ranges[i] =
			(struct multiboot_range){.entry_size = sizeof(start.ranges[0]) - 4,
						 .start = plan->ranges[i].start,
						 .size = plan->ranges[i].size,
						 .type = plan->ranges[i].type};
	rc = put(plan, plan->low + BOOT_START_INFO, &start, sizeof(start), err);
	if (rc == 0)
		rc = write_bios_data(plan, err);
	return rc < 0 ? rc : write_multiboot_command_line(plan, err);
}
