/* The registers that all virtio devices have, against a driver that is not one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "driver.h"
#include "vmm/chip/pci_priv.h"
#include "vmm/virtio/devices.h"
#include "vmm/virtio/virtio_priv.h"

#include <cmocka.h>

enum {
	CID = 7,
	QUEUES = 3, /* of a socket device */
	VECTORS = QUEUES + 1,
	OFFERED_SELECT = 0x00,
	ACCEPTED_SELECT = 0x08,
	ACCEPTED = 0x0c,
	CONFIG_VECTOR = 0x10,
	STATUS = 0x14,
	SELECT = 0x16,
	SIZE = 0x18,
	VECTOR = 0x1a,
	ENABLE = 0x1c,
	DESCRIPTORS = 0x20,
	DEVICE = 0x30,
	MSIX_ENTRY = 16,
	TIME_LIMIT_S = 60,
};

struct fixture {
	struct driver_board board;
	struct virtio *virtio;
	struct driver driver;
};

static int set_up(void **state)
{
	const struct vsock_config config = {.cid = CID, .listen_fd = -1, .broker_fd = -1};
	struct fixture *f = mem_new(sizeof(*f));

	driver_board_init(&f->board);
	assert_int_equal(virtio_vsock_create(&f->board.board, &config, &f->virtio), 0);
	driver_start(&f->driver, &f->board, f->virtio);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	own_mem_release(&f);
	return 0;
}

static void put(struct fixture *f, uint32_t offset, unsigned int size, uint64_t value)
{
	struct device *device = &f->virtio->device;

	device_lock(device);
	device->ops->write(device, 0, offset, size, value);
	device_unlock(device);
}

static uint64_t get(struct fixture *f, uint32_t offset, unsigned int size)
{
	return driver_read(&f->driver, offset, size);
}

/* It was checked when it was switched on. */
static void a_queue_that_is_on_does_not_change(void **state)
{
	struct fixture *f = *state;
	const uint32_t registers[] = {DESCRIPTORS, DESCRIPTORS + 4, DESCRIPTORS + 8, DEVICE, SIZE};

	put(f, SELECT, 2, 1);
	for (size_t i = 0; i < array_size(registers); i++) {
		unsigned int size = registers[i] == SIZE ? 2 : 4;
		uint64_t before = get(f, registers[i], size);

		put(f, registers[i], size, 0xdead0000 | 2);
		assert_int_equal(get(f, registers[i], size), before);
	}
}

static void a_queue_is_no_larger_than_the_device_says(void **state)
{
	struct fixture *f = *state;
	uint64_t most;

	driver_reset(&f->driver);
	most = get(f, SIZE, 2);
	put(f, SIZE, 2, most + 1);
	assert_int_equal(get(f, SIZE, 2), most);
	put(f, SIZE, 2, 0);
	assert_int_equal(get(f, SIZE, 2), most);
	put(f, SIZE, 2, 4);
	assert_int_equal(get(f, SIZE, 2), 4);
}

static void a_queue_outside_of_memory_is_not_switched_on(void **state)
{
	struct fixture *f = *state;

	driver_reset(&f->driver);
	put(f, DESCRIPTORS, 8, DRIVER_MEMORY);
	put(f, ENABLE, 2, 1);
	assert_int_equal(get(f, ENABLE, 2), 0);
	assert_true(driver_needs_reset(&f->driver));
}

static void queues_and_vectors_that_are_none_read_as_none(void **state)
{
	static const uint32_t numbers[] = {QUEUES, 64, 0x7fff, 0xffff};
	struct fixture *f = *state;

	for (size_t i = 0; i < array_size(numbers); i++) {
		put(f, SELECT, 2, numbers[i]);
		assert_int_equal(get(f, SIZE, 2), 0);
		assert_int_equal(get(f, ENABLE, 2), 0);
		put(f, DEVICE, 8, UINT64_MAX);
		put(f, 0x4000 + 4 * numbers[i] % 0x1000, 2, numbers[i]);
	}
	put(f, SELECT, 2, 0);
	put(f, VECTOR, 2, VECTORS);
	assert_int_equal(get(f, VECTOR, 2), QUEUE_NO_VECTOR);
	put(f, CONFIG_VECTOR, 2, 0xfffe);
	assert_int_equal(get(f, CONFIG_VECTOR, 2), QUEUE_NO_VECTOR);
	put(f, VECTOR, 2, VECTORS - 1);
	assert_int_equal(get(f, VECTOR, 2), VECTORS - 1);
}

static void features_that_are_not_offered_are_not_agreed_to(void **state)
{
	struct fixture *f = *state;

	driver_reset(&f->driver);
	put(f, STATUS, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (uint32_t select = 2; select < 70; select += 30) {
		put(f, OFFERED_SELECT, 4, select);
		assert_int_equal(get(f, OFFERED_SELECT + 4, 4), 0);
		put(f, ACCEPTED_SELECT, 4, select);
		put(f, ACCEPTED, 4, ~0u);
		assert_int_equal(get(f, ACCEPTED, 4), 0);
	}
	put(f, ACCEPTED_SELECT, 4, 0);
	put(f, ACCEPTED, 4, 1u << 23);
	put(f, ACCEPTED_SELECT, 4, 1);
	put(f, ACCEPTED, 4, 1);
	put(f, STATUS, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	assert_int_equal(get(f, STATUS, 1) & STATUS_FEATURES_OK, 0);
	/* And without that nothing begins. */
	put(f, STATUS, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
	assert_false(virtio_is_active(f->virtio));
}

/* Only a reset ends what a driver has done wrong. */
static void a_broken_device_is_not_mended_by_its_status(void **state)
{
	struct fixture *f = *state;

	virtio_fail(f->virtio, "a test");
	assert_true(driver_needs_reset(&f->driver));
	put(f, STATUS, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK);
	assert_true(driver_needs_reset(&f->driver));
	driver_reset(&f->driver);
	assert_false(driver_needs_reset(&f->driver));
}

static void the_configuration_ends_where_it_ends(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, WINDOW_DEVICE, 8), CID);
	for (unsigned int size = 1; size <= 8; size *= 2)
		for (uint32_t at = 8; at < 4096; at += size)
			assert_int_equal(get(f, WINDOW_DEVICE + at, size), 0);
	assert_int_equal(get(f, WINDOW_DEVICE + 4, 8), 0);
}

static void the_table_of_messages_ends_where_it_ends(void **state)
{
	struct fixture *f = *state;

	for (uint32_t at = WINDOW_MSIX + VECTORS * MSIX_ENTRY; at < WINDOW_PENDING; at += 4) {
		put(f, at, 4, ~0u);
		assert_int_equal(get(f, at, 4), 0);
	}
	/* Nor is one reached from the entry before it. */
	for (uint32_t at = 1; at < 8; at++)
		put(f, WINDOW_MSIX + VECTORS * MSIX_ENTRY - at, 8, UINT64_MAX);
	assert_int_equal(get(f, WINDOW_MSIX + (VECTORS - 1) * MSIX_ENTRY + 12, 4), 1);
}

static void put_config(struct fixture *f, unsigned int offset, unsigned int size, uint32_t value)
{
	device_lock(&f->virtio->device);
	pci_config_write(&f->virtio->pci, offset, size, value);
	device_unlock(&f->virtio->device);
}

/* A kernel that takes over (kexec) finds its memory alone. */
static void without_access_to_memory_a_device_stands_still(void **state)
{
	struct fixture *f = *state;

	put_config(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	put_config(f, PCI_COMMAND, 1, PCI_COMMAND_MASTER);
	put_config(f, PCI_COMMAND + 1, 1, 4);
	assert_true(virtio_is_active(f->virtio));
	put_config(f, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(get(f, STATUS, 1), 0);
	driver_start(&f->driver, &f->board, f->virtio);
	assert_true(virtio_is_active(f->virtio));
}

/* 4.1.4.5.1: with MSI-X, too. */
static void a_change_of_configuration_stands_in_the_interrupt_status(void **state)
{
	struct fixture *f = *state;

	for (unsigned int msix = 0; msix < 2; msix++) {
		put_config(f, f->virtio->pci.msix_capability + 2u, 2, msix << 15);
		assert_int_equal(pci_msix_enabled(&f->virtio->pci), msix);
		virtio_config_changed(f->virtio);
		assert_int_equal(get(f, WINDOW_ISR, 1), 2);
		assert_int_equal(get(f, WINDOW_ISR, 1), 0);
	}
}

/* A device that answers everything, before a driver that offers it again at once. */
struct echo {
	struct virtio virtio;
	struct driver driver;
	unsigned int answered;
};

static void echo_notify(struct virtio *v, unsigned int queue)
{
	struct echo *echo = container_of(v, struct echo, virtio);

	while (virtio_pop(v, queue)) {
		virtio_push(v, queue, 0);
		driver_offer(&echo->driver, queue,
			     (unsigned int)driver_used(&echo->driver, queue, NULL), 1, 0);
		echo->answered++;
	}
}

static void echo_destroy(struct virtio *v)
{
	virtio_release(v);
}

static void a_driver_that_always_has_more_leaves_others_their_turn(void **state)
{
	static const struct virtio_ops ops = {.device = VIRTIO_DEVICE_OPS("test"),
					      .notify = echo_notify,
					      .destroy = echo_destroy};
	struct fixture *f = *state;
	struct echo *echo = mem_new(sizeof(*echo));
	unsigned int before;

	alarm(TIME_LIMIT_S);
	assert_int_equal(virtio_init(&echo->virtio, &ops, &f->board.board, 0, 1, 64, 0), 0);
	driver_start(&echo->driver, &f->board, &echo->virtio);
	driver_offer(&echo->driver, 0, 0, 1, 0);
	/* Else the loop would not come to its timer, which ends this. */
	driver_serve(&echo->driver);
	before = echo->answered;
	assert_true(before > 0);
	driver_serve(&echo->driver);
	assert_true(echo->answered > before);
	alarm(0);
	echo_destroy(&echo->virtio);
	own_mem_release(&echo);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_queue_that_is_on_does_not_change),
		CASE(a_queue_is_no_larger_than_the_device_says),
		CASE(a_queue_outside_of_memory_is_not_switched_on),
		CASE(queues_and_vectors_that_are_none_read_as_none),
		CASE(features_that_are_not_offered_are_not_agreed_to),
		CASE(a_broken_device_is_not_mended_by_its_status),
		CASE(the_configuration_ends_where_it_ends),
		CASE(the_table_of_messages_ends_where_it_ends),
		CASE(without_access_to_memory_a_device_stands_still),
		CASE(a_change_of_configuration_stands_in_the_interrupt_status),
		CASE(a_driver_that_always_has_more_leaves_others_their_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
