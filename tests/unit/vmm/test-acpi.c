/* The tables as an operating system finds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "vmm/chip/acpi.h"
#include "vmm/chip/pci.h"

#include <cmocka.h>

enum { START = 0xe0000, END = 0x100000 };

static uint8_t sum(const void *data, size_t size)
{
	const uint8_t *bytes = data;
	uint8_t total = 0;

	while (size--)
		total += *bytes++;
	return total;
}

/* The table at `gpa`, checked. */
static const uint8_t *table_at(const struct memory *memory, uint64_t gpa, const char *signature)
{
	const uint8_t *table = memory_at(memory, gpa, 36);
	uint32_t length;

	assert_non_null(table);
	memcpy(&length, table + 4, sizeof(length));
	assert_memory_equal(table, signature, 4);
	assert_non_null(memory_at(memory, gpa, length));
	assert_int_equal(sum(table, length), 0);
	return table;
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

/* With BERTH_TEST_ACPI_DIR set the tables are left there, for iasl. */
static void leave(const uint8_t *table, const char *name)
{
	const char *dir = getenv("BERTH_TEST_ACPI_DIR");
	own_mem char *path = dir ? str_format("%s/%s.dat", dir, name) : NULL;
	uint32_t length;

	memcpy(&length, table + 4, sizeof(length));
	if (path)
		assert_int_equal(
			file_write(AT_FDCWD, path, table, length, 0644, FILE_WRITE_PLAIN, NULL), 0);
}

static void tables_are_found_and_sound(void **state)
{
	const struct acpi_config config = {.cpus = 3,
					   .start = START,
					   .end = END,
					   .pci_config = PCI_ECAM_START,
					   .pci_start = PCI_WINDOW_START,
					   .pci_end = PCI_WINDOW_END,
					   .generation = {1, 2, 3}};
	struct acpi_layout layout;
	struct memory *memory;
	const uint8_t *rsdp, *xsdt, *fadt, *madt;

	(void)state;
	assert_int_equal(memory_create(1 << 20, &memory, NULL), 0);
	assert_int_equal(acpi_build(memory, &config, &layout), 0);
	rsdp = memory_at(memory, layout.rsdp, 36);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(layout.rsdp % 16, 0);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table_at(memory, get64(rsdp + 24), "XSDT");
	fadt = table_at(memory, get64(xsdt + 36), "FACP");
	madt = table_at(memory, get64(xsdt + 44), "APIC");
	leave(table_at(memory, get64(xsdt + 52), "MCFG"), "mcfg");
	leave(table_at(memory, get64(fadt + 140), "DSDT"), "dsdt");
	leave(fadt, "facp");
	leave(madt, "apic");
	/* Three local APICs: type 0, length 8, ids 0 to 2, enabled. */
	for (uint8_t i = 0; i < 3; i++) {
		const uint8_t expected[8] = {0, 8, i, i, 1, 0, 0, 0};

		assert_memory_equal(madt + 44 + 8 * i, expected, 8);
	}
	assert_memory_equal(memory_at(memory, layout.generation, 16), config.generation, 16);
	assert_int_equal(layout.generation % 8, 0);
	memory_destroy(memory);
}

static void too_little_room_is_refused(void **state)
{
	const struct acpi_config config = {.cpus = 64, .start = START, .end = START + 512};
	struct acpi_layout layout;
	struct memory *memory;

	(void)state;
	assert_int_equal(memory_create(1 << 20, &memory, NULL), 0);
	assert_int_equal(acpi_build(memory, &config, &layout), -E2BIG);
	memory_destroy(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_found_and_sound),
		cmocka_unit_test(too_little_room_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
