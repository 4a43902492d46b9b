/* Tests of what UEFI firmware meets: the ACPI tables as files with a list of what to do with them, the chip
 * with its variables, and the chipset. The firmware's part is played here. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "driver.h"
#include "vmm/boot/table_loader.h"
#include "vmm/boot/uefi.h"
#include "vmm/chip/chips.h"
#include "vmm/chip/pflash.h"
#include "vmm/chip/q35.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* --- the tables -------------------------------------------------------------------------------------- */

enum { FILES = 4, PLACE = 0x7000000, ITEM_DIRECTORY = 0x19 };

struct file {
	char name[56];
	uint8_t data[16 << 10];
	uint32_t size;
	uint64_t address; /* where "the firmware" has put it */
};

static void read_item(struct driver_board *b, uint16_t item, void *data, uint32_t size)
{
	bus_write(&b->board.ports, 0x510, 2, item);
	for (uint32_t i = 0; i < size; i++)
		((uint8_t *)data)[i] = (uint8_t)bus_read(&b->board.ports, 0x511, 1);
}

static uint32_t read_file(struct driver_board *b, const char *name, void *data, uint32_t room)
{
	uint8_t directory[4 + 64 * 16];
	uint32_t count, size;
	uint16_t item;

	read_item(b, ITEM_DIRECTORY, directory, sizeof(directory));
	memcpy(&count, directory, 4);
	for (uint32_t i = 0; i < be32toh(count); i++) {
		const uint8_t *entry = directory + 4 + (size_t)64 * i;

		if (strcmp((const char *)entry + 8, name) != 0)
			continue;
		memcpy(&size, entry, 4);
		memcpy(&item, entry + 4, 2);
		assert_true(be32toh(size) <= room);
		read_item(b, be16toh(item), data, be32toh(size));
		return be32toh(size);
	}
	fail_msg("there is no file %s", name);
	return 0;
}

static struct file *find(struct file files[FILES], const char *name)
{
	for (unsigned int i = 0; i < FILES; i++)
		if (strcmp(files[i].name, name) == 0)
			return &files[i];
	return NULL;
}

static uint8_t sum(const uint8_t *data, uint32_t size)
{
	uint8_t total = 0;

	while (size-- > 0)
		total = (uint8_t)(total + *data++);
	return total;
}

/* The commands as the firmware carries them out. */
static void run_loader(struct driver_board *b, struct file files[FILES])
{
	uint8_t script[128 * TABLE_LOADER_MAX];
	uint32_t size = read_file(b, "etc/table-loader", script, sizeof(script)), numbers[3];
	unsigned int count = 0;

	assert_int_equal(size % 128, 0);
	for (uint8_t *c = script; c < script + size; c += 128) {
		struct file *file = find(files, (const char *)c + 4), *target;
		uint64_t value = 0;

		switch (c[0]) {
		case 1:
			assert_null(file);
			file = &files[count];
			strcpy(file->name, (const char *)c + 4);
			file->size = read_file(b, file->name, file->data, sizeof(file->data));
			file->address = PLACE + 0x10000ull * count++;
			break;
		case 2:
			target = find(files, (const char *)c + 60);
			memcpy(numbers, c + 116, 4);
			assert_non_null(target);
			memcpy(&value, file->data + numbers[0], c[120]);
			assert_true(value < target->size);
			value += target->address;
			memcpy(file->data + numbers[0], &value, c[120]);
			break;
		case 3:
			memcpy(numbers, c + 60, sizeof(numbers));
			file->data[numbers[0]] = (uint8_t)-sum(file->data + numbers[1], numbers[2]);
			break;
		default:
			fail_msg("command %u", c[0]);
		}
	}
}

/* The table at an address, which must be sound. */
static const uint8_t *table_at(struct file *tables, uint64_t address, const char *signature)
{
	const uint8_t *table = tables->data + (address - tables->address);
	uint32_t length;

	assert_true(address >= tables->address && address < tables->address + tables->size);
	memcpy(&length, table + 4, sizeof(length));
	assert_memory_equal(table, signature, 4);
	assert_int_equal(sum(table, length), 0);
	return table;
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static void the_tables_are_sound_wherever_they_are_put(void **state)
{
	struct driver_board b;
	struct fw_cfg *fw_cfg = NULL;
	struct file *files = mem_new_array(FILES, sizeof(*files)), *rsdp, *tables;
	struct acpi_config acpi = {.cpus = 2,
				   .start = DRIVER_MEMORY - 0x10000,
				   .end = DRIVER_MEMORY,
				   .pci_start = Q35_WINDOWS_START,
				   .pci_end = Q35_WINDOWS_END};
	struct acpi_layout layout;
	const uint8_t *xsdt, *fadt;
	uint32_t facs;

	(void)state;
	driver_board_init(&b);
	assert_int_equal(fw_cfg_create(&b.board, &fw_cfg), 0);
	assert_int_equal(acpi_build(b.board.memory, &acpi, &layout), 0);
	uefi_describe(b.board.memory, acpi.start, &layout, fw_cfg);
	run_loader(&b, files);
	rsdp = find(files, "etc/acpi/rsdp");
	tables = find(files, "etc/acpi/tables");
	assert_int_equal(sum(rsdp->data, 20), 0);
	assert_int_equal(sum(rsdp->data, 36), 0);
	xsdt = table_at(tables, get64(rsdp->data + 24), "XSDT");
	fadt = table_at(tables, get64(xsdt + 36), "FACP");
	table_at(tables, get64(xsdt + 44), "APIC");
	table_at(tables, get64(fadt + 140), "DSDT");
	memcpy(&facs, fadt + 36, sizeof(facs));
	assert_memory_equal(tables->data + (facs - tables->address), "FACS", 4);
	/* No window for the configuration: nobody knows yet where it will be. */
	assert_int_equal(xsdt[4], 36 + 2 * 8);
	fw_cfg_device(fw_cfg)->ops->destroy(fw_cfg_device(fw_cfg));
	free(files);
	driver_board_release(&b);
}

/* --- the flash chip ---------------------------------------------------------------------------------- */

enum { CHIP = 0xffc00000u, CHIP_SIZE = 4 * PFLASH_BLOCK };

static int file_of(uint8_t fill)
{
	static uint8_t data[CHIP_SIZE];
	int fd = memfd_create("vars", MFD_CLOEXEC);

	memset(data, fill, sizeof(data));
	assert_int_equal(fd_write_full(fd, data, sizeof(data)), 0);
	return fd;
}

static uint8_t byte_of(int fd, uint64_t at)
{
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	return byte;
}

static void put(struct driver_board *b, uint64_t at, uint8_t value)
{
	bus_write(&b->board.mmio, CHIP + at, 1, value);
}

static uint8_t get(struct driver_board *b, uint64_t at)
{
	return (uint8_t)bus_read(&b->board.mmio, CHIP + at, 1);
}

static void the_chip_is_told_from_memory_and_rom(void **state)
{
	struct driver_board b;
	struct pflash *chip = NULL;

	(void)state;
	driver_board_init(&b);
	assert_int_equal(pflash_create(&b.board, CHIP, CHIP_SIZE, file_of(0x8d), true, &chip), 0);
	put(&b, 5, 0x50);
	assert_int_not_equal(get(&b, 5), 0x50);
	put(&b, 5, 0x70);
	assert_int_equal(get(&b, 5), 0);
	put(&b, 5, 0xff);
	assert_int_equal(get(&b, 5), 0x8d);
	assert_int_equal(bus_read(&b.board.mmio, CHIP, 4), 0x8d8d8d8d);
	pflash_device(chip)->ops->destroy(pflash_device(chip));
	driver_board_release(&b);
}

static void bits_are_cleared_and_only_erasing_sets_them(void **state)
{
	struct driver_board b;
	struct pflash *chip = NULL;
	int fd = file_of(0xf0), copy = dup(fd);

	(void)state;
	driver_board_init(&b);
	assert_int_equal(pflash_create(&b.board, CHIP, CHIP_SIZE, fd, true, &chip), 0);
	put(&b, 9, 0x10);
	put(&b, 9, 0x3c);
	put(&b, 9, 0xff);
	assert_int_equal(get(&b, 9), 0x30);
	/* Without its confirmation an erasure is none. */
	put(&b, PFLASH_BLOCK, 0x20);
	put(&b, PFLASH_BLOCK, 0xff);
	put(&b, PFLASH_BLOCK, 0xff);
	assert_int_equal(get(&b, PFLASH_BLOCK), 0xf0);
	put(&b, 2 * PFLASH_BLOCK + 7, 0x20);
	put(&b, 2 * PFLASH_BLOCK + 7, 0xd0);
	put(&b, 0, 0xff);
	assert_int_equal(get(&b, 2 * PFLASH_BLOCK), 0xff);
	assert_int_equal(get(&b, 3 * PFLASH_BLOCK - 1), 0xff);
	assert_int_equal(get(&b, 3 * PFLASH_BLOCK), 0xf0);
	pflash_device(chip)->ops->destroy(pflash_device(chip));
	/* The file has it all. */
	assert_int_equal(byte_of(copy, 9), 0x30);
	assert_int_equal(byte_of(copy, 10), 0xf0);
	assert_int_equal(byte_of(copy, 2 * PFLASH_BLOCK), 0xff);
	close(copy);
	driver_board_release(&b);
}

static void a_write_over_two_blocks_is_kept(void **state)
{
	struct driver_board b;
	struct pflash *chip = NULL;
	int fd = file_of(0xff), copy = dup(fd);

	(void)state;
	driver_board_init(&b);
	assert_int_equal(pflash_create(&b.board, CHIP, CHIP_SIZE, fd, true, &chip), 0);
	put(&b, PFLASH_BLOCK - 2, 0x40);
	bus_write(&b.board.mmio, CHIP + PFLASH_BLOCK - 2, 4, 0x44332211);
	pflash_device(chip)->ops->destroy(pflash_device(chip));
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(byte_of(copy, PFLASH_BLOCK - 2 + i), 0x11 * (i + 1));
	close(copy);
	driver_board_release(&b);
}

static void what_is_not_to_be_kept_is_not_written(void **state)
{
	struct driver_board b;
	struct pflash *chip = NULL;
	int fd = file_of(0xff), copy = dup(fd);

	(void)state;
	driver_board_init(&b);
	assert_int_equal(pflash_create(&b.board, CHIP, CHIP_SIZE, fd, false, &chip), 0);
	put(&b, 0, 0x10);
	put(&b, 0, 0);
	pflash_device(chip)->ops->destroy(pflash_device(chip));
	assert_int_equal(byte_of(copy, 0), 0xff);
	assert_int_equal(pflash_create(&b.board, CHIP, CHIP_SIZE + 1, copy, false, &chip), -EINVAL);
	close(copy);
	driver_board_release(&b);
}

/* --- the chipset ------------------------------------------------------------------------------------- */

static uint32_t config_read(struct driver_board *b, unsigned int slot, unsigned int at)
{
	bus_write(&b->board.ports, 0xcf8, 4, 1u << 31 | slot << 11 | at);
	return (uint32_t)bus_read(&b->board.ports, 0xcfc, 4);
}

static void config_write(struct driver_board *b, unsigned int slot, unsigned int at, uint32_t value)
{
	bus_write(&b->board.ports, 0xcf8, 4, 1u << 31 | slot << 11 | at);
	bus_write(&b->board.ports, 0xcfc, 4, value);
}

static void the_configuration_window_is_where_it_is_put(void **state)
{
	struct driver_board b;
	struct pci_host *host = NULL;

	(void)state;
	driver_board_init(&b);
	assert_int_equal(pci_host_create(&b.board, PCI_HOST_Q35, &host), 0);
	assert_int_equal(config_read(&b, 0, 0), 0x29c08086);
	assert_int_equal(config_read(&b, Q35_BRIDGE_SLOT, 0), 0x29188086);
	assert_int_equal(config_read(&b, Q35_BRIDGE_SLOT, 0x40), ACPI_PM_PORT | 1);
	assert_int_equal(pci_host_window(host), 0);
	config_write(&b, 0, Q35_WINDOW, 0xb0000001);
	assert_int_equal(pci_host_window(host), 0xb0000000);
	assert_int_equal(bus_read(&b.board.mmio, 0xb0000000, 4), 0x29c08086);
	assert_int_equal(bus_read(&b.board.mmio, 0xb0000000 + (Q35_BRIDGE_SLOT << 15), 4),
			 0x29188086);
	/* Not over memory. */
	config_write(&b, 0, Q35_WINDOW, 0x00000001);
	assert_int_equal(pci_host_window(host), 0);
	config_write(&b, 0, Q35_WINDOW, 0xe0000001);
	assert_int_equal(pci_host_window(host), 0xe0000000);
	pci_host_device(host)->ops->reset(pci_host_device(host));
	assert_int_equal(pci_host_window(host), 0);
	assert_int_equal(config_read(&b, 0, Q35_WINDOW), 0);
	pci_host_device(host)->ops->destroy(pci_host_device(host));
	driver_board_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tables_are_sound_wherever_they_are_put),
		cmocka_unit_test(the_chip_is_told_from_memory_and_rom),
		cmocka_unit_test(bits_are_cleared_and_only_erasing_sets_them),
		cmocka_unit_test(a_write_over_two_blocks_is_kept),
		cmocka_unit_test(what_is_not_to_be_kept_is_not_written),
		cmocka_unit_test(the_configuration_window_is_where_it_is_put),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
