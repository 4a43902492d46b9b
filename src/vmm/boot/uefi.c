/* uefi: see uefi.h. */
#include "vmm/boot/uefi.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/boot/table_loader.h"

enum {
	RSDP_SIZE = 36,
	/* offsets in ACPI's structures (ACPI 6.4, 5.2) */
	RSDP_CHECKSUM = 8,
	RSDP_FIRST_PART = 20,
	RSDP_XSDT = 24,
	RSDP_CHECKSUM_2 = 32,
	TABLE_LENGTH = 4,
	TABLE_CHECKSUM = 9,
	XSDT_ENTRIES = 36,
	FADT_FACS = 36,
	FADT_DSDT = 40,
	FADT_X_DSDT = 140,
	POINTER = 8,
};

#define FILE_RSDP "etc/acpi/rsdp"
#define FILE_TABLES "etc/acpi/tables"

int uefi_load(int fd, const char *name, struct cpu_region *ret, struct error *err)
{
	struct stat st;
	uint8_t *code;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "look at %s", name);
	if (!S_ISREG(st.st_mode) || st.st_size < UEFI_CODE_MIN || st.st_size > UEFI_CODE_MAX ||
	    st.st_size % (off_t)MEMORY_PAGE_SIZE)
		return hint(
			err,
			refuse(err, -EINVAL, "%s is no UEFI firmware: that has 1 to 8 MiB", name),
			"Debian's package ovmf has one");
	code = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	if (code == MAP_FAILED)
		return fail(err, -errno, "make room for %s", name);
	*ret = (struct cpu_region){.gpa = MEMORY_HIGH_START - (gpa_t)st.st_size,
				   .size = (uint64_t)st.st_size,
				   .host = code,
				   .flags = CPU_REGION_READ_ONLY};
	n = fd_read_full_at(fd, code, (size_t)st.st_size, 0);
	if (n == st.st_size)
		return 0;
	uefi_unload(ret);
	return fail(err, n < 0 ? (int)n : -EIO, "read %s", name);
}

void uefi_unload(struct cpu_region *region)
{
	if (region->host != NULL)
		munmap(region->host, region->size);
	*region = (struct cpu_region){0};
}

/* --- the ACPI tables ---------------------------------------------------------------------------------- */

/* They refer to each other by address. The firmware gets them as one file, in which an address is an
 * offset in it, and a list of the places at which it has to add where it has put the file. */
struct tables {
	uint8_t *data;
	uint32_t size;
	gpa_t base; /* where they are now */
	struct table_loader loader;
};

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static void make_relative(struct tables *t, const char *file, uint8_t *data, uint32_t offset,
			  uint32_t size)
{
	uint64_t value = 0;

	memcpy(&value, data + offset, size);
	value = htole64(le64toh(value) - t->base);
	memcpy(data + offset, &value, size);
	table_loader_add_pointer(&t->loader, file, FILE_TABLES, offset, (uint8_t)size);
}

static void sum_table(struct tables *t, uint32_t table)
{
	t->data[table + TABLE_CHECKSUM] = 0;
	table_loader_add_checksum(&t->loader, FILE_TABLES, table + TABLE_CHECKSUM, table,
				  get32(t->data + table + TABLE_LENGTH));
}

/* All of it is our own work (chip/acpi.c): what is where is known. */
static void relocate(struct tables *t, const struct acpi_layout *acpi, uint8_t rsdp[RSDP_SIZE])
{
	const uint32_t xsdt = (uint32_t)(acpi->xsdt - t->base),
		       fadt = (uint32_t)(acpi->fadt - t->base);
	const uint32_t xsdt_size = get32(t->data + xsdt + TABLE_LENGTH);

	for (uint32_t at = XSDT_ENTRIES; at < xsdt_size; at += POINTER)
		make_relative(t, FILE_TABLES, t->data, xsdt + at, POINTER);
	make_relative(t, FILE_TABLES, t->data, fadt + FADT_FACS, 4);
	make_relative(t, FILE_TABLES, t->data, fadt + FADT_DSDT, 4);
	make_relative(t, FILE_TABLES, t->data, fadt + FADT_X_DSDT, POINTER);
	sum_table(t, fadt);
	sum_table(t, xsdt);
	make_relative(t, FILE_RSDP, rsdp, RSDP_XSDT, POINTER);
	rsdp[RSDP_CHECKSUM] = rsdp[RSDP_CHECKSUM_2] = 0;
	table_loader_add_checksum(&t->loader, FILE_RSDP, RSDP_CHECKSUM, 0, RSDP_FIRST_PART);
	table_loader_add_checksum(&t->loader, FILE_RSDP, RSDP_CHECKSUM_2, 0, RSDP_SIZE);
}

void uefi_describe(const struct memory *memory, gpa_t start, const struct acpi_layout *acpi,
		   struct fw_cfg *fw_cfg)
{
	struct tables t = {.base = start, .size = (uint32_t)(acpi->end - start)};
	const uint8_t *host = memory_at(memory, start, t.size);
	uint8_t rsdp[RSDP_SIZE];

	assert(host != NULL && acpi->rsdp >= start);
	t.data = mem_copy(host, t.size);
	memcpy(rsdp, t.data + (acpi->rsdp - start), sizeof(rsdp));
	table_loader_add_file(&t.loader, FILE_RSDP, 16, TABLE_LOADER_BELOW_1M);
	table_loader_add_file(&t.loader, FILE_TABLES, 64, TABLE_LOADER_ANYWHERE);
	relocate(&t, acpi, rsdp);
	fw_cfg_set_file(fw_cfg, FILE_RSDP, rsdp, sizeof(rsdp));
	fw_cfg_set_file(fw_cfg, FILE_TABLES, t.data, t.size);
	table_loader_finish(&t.loader, fw_cfg);
	own_mem_release(&t.data);
}
