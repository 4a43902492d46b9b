/* firmware: see firmware.h. The file names and their contents are those that SeaBIOS looks for. */
#include "vmm/boot/firmware.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "vmm/boot/table_loader.h"

enum {
	RAM = 1,
	RESERVED = 2,
	RANGES_MAX = 4,
	RSDP_SIZE = 36,
	SERIAL_PORT = 0x3f8,
};

struct __attribute__((packed)) range {
	uint64_t start, size;
	uint32_t type;
};

gpa_t firmware_tables(const struct memory *memory)
{
	return memory->low_size - FIRMWARE_TABLES_SIZE;
}

int firmware_load(const struct memory *memory, int fd, const char *name, struct boot_entry *ret,
		  struct error *err)
{
	const gpa_t end = BOOT_ACPI_END;
	struct stat st;
	uint8_t *at;

	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "look at %s", name);
	if (!S_ISREG(st.st_mode) || st.st_size < FIRMWARE_SIZE_MIN ||
	    st.st_size > FIRMWARE_SIZE_MAX || st.st_size % FIRMWARE_SIZE_MIN)
		return hint(
			err,
			refuse(err, -EINVAL, "%s is no BIOS: that has 64, 128 or 256 KiB", name),
			"Debian's package seabios has one");
	at = memory_at(memory, end - (gpa_t)st.st_size, (uint64_t)st.st_size);
	if (at == NULL || memory->low_size < end + FIRMWARE_TABLES_SIZE)
		return hint(err,
			    refuse(err, -E2BIG, "the machine has too little memory for a BIOS"),
			    "give it at least 2 MiB");
	if (fd_read_full_at(fd, at, (size_t)st.st_size, 0) != st.st_size)
		return fail(err, -EIO, "read %s", name);
	*ret = (struct boot_entry){.mode = BOOT_REAL};
	return 0;
}

static uint32_t add_range(struct range ranges[RANGES_MAX], uint32_t count, uint64_t start,
			  uint64_t size, uint32_t type)
{
	ranges[count] = (struct range){htole64(start), htole64(size), htole32(type)};
	return size ? count + 1 : count;
}

void firmware_describe_memory(const struct memory *memory, const struct boot_hole *hole,
			      struct fw_cfg *fw_cfg)
{
	struct range ranges[RANGES_MAX];
	gpa_t tables = firmware_tables(memory);
	uint32_t count = add_range(ranges, 0, 0, tables, RAM);

	count = add_range(ranges, count, tables, FIRMWARE_TABLES_SIZE, RESERVED);
	count = add_range(ranges, count, hole->start, hole->size, RESERVED);
	count = add_range(ranges, count, MEMORY_HIGH_START, memory->high_size, RAM);
	fw_cfg_set_file(fw_cfg, "etc/e820", ranges, count * (uint32_t)sizeof(ranges[0]));
}

/* The tables are in their place and complete: only their root has to be where systems look for it. */
static void describe_acpi(const struct memory *memory, gpa_t rsdp, struct fw_cfg *fw_cfg)
{
	static const char file[] = "etc/acpi/rsdp";
	struct table_loader loader = {0};
	uint8_t root[RSDP_SIZE];

	if (memory_read(memory, rsdp, root, sizeof(root)) < 0)
		return;
	fw_cfg_set_file(fw_cfg, file, root, sizeof(root));
	table_loader_add_file(&loader, file, 16, TABLE_LOADER_BELOW_1M);
	table_loader_finish(&loader, fw_cfg);
}

static void set_number(struct fw_cfg *fw_cfg, const char *file, uint64_t value)
{
	value = htole64(value);
	fw_cfg_set_file(fw_cfg, file, &value, sizeof(value));
}

void firmware_describe(const struct memory *memory, const struct boot_hole *hole, gpa_t rsdp,
		       struct fw_cfg *fw_cfg)
{
	firmware_describe_memory(memory, hole, fw_cfg);
	describe_acpi(memory, rsdp, fw_cfg);
	/* There is no screen: the terminal is the serial line. */
	set_number(fw_cfg, "etc/sercon-port", SERIAL_PORT);
	set_number(fw_cfg, "etc/show-boot-menu", 0);
}
