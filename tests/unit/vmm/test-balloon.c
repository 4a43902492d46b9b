/* The balloon, without a guest: what is given back is gone from the host's memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver.h"
#include "vmm/virtio/devices.h"

#include <cmocka.h>

enum {
	INFLATE,
	DEFLATE,
	STATISTICS,
	REPORTING,
	PAGE = 4096,
	FREE_AREA = 24 << 20, /* guest memory that no queue uses */
	CONFIG = 0x2000,
};

struct fixture {
	struct driver_board board;
	struct driver driver;
	struct virtio *virtio;
	uint8_t *of_the_host; /* a page behind the guest's memory */
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	f->of_the_host =
		mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(f->of_the_host != MAP_FAILED);
	driver_board_init(&f->board);
	assert_int_equal(virtio_balloon_create(&f->board.board, &f->virtio), 0);
	driver_start(&f->driver, &f->board, f->virtio);
	memset(driver_out(&f->driver, INFLATE, 0), 0xaa,
	       PAGE); /* what is offered is there already */
	memset(f->board.board.memory->host + FREE_AREA, 0xaa, 1 << 20);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	munmap(f->of_the_host, PAGE);
	own_mem_release(&f);
	return 0;
}

static uint64_t resident(const struct fixture *f)
{
	struct stat st;

	assert_int_equal(fstat(f->board.board.memory->fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void inflate(struct fixture *f, const uint32_t *pages, uint32_t count)
{
	memcpy(driver_out(&f->driver, INFLATE, 0), pages, count * sizeof(*pages));
	driver_offer(&f->driver, INFLATE, 0, count * (uint32_t)sizeof(*pages), 0);
	assert_int_equal(driver_wait(&f->driver, INFLATE, NULL), 0);
}

static void what_is_put_into_it_is_given_back_to_the_host(void **state)
{
	struct fixture *f = *state;
	const uint8_t *host = f->board.board.memory->host;
	uint32_t pages[64];
	uint64_t before;

	for (uint32_t i = 0; i < 64; i++)
		pages[i] = FREE_AREA / PAGE + 2 * i;
	driver_offer(&f->driver, DEFLATE, 0, 4, 0);
	assert_int_equal(driver_wait(&f->driver, DEFLATE, NULL), 0);
	before = resident(f);
	inflate(f, pages, 64);
	assert_int_equal(before - resident(f), 64 * PAGE);
	assert_int_equal(host[FREE_AREA], 0);
	assert_int_equal(host[FREE_AREA + PAGE], 0xaa);
}

static void pages_that_are_none_are_ignored(void **state)
{
	struct fixture *f = *state;
	uint32_t pages[] = {UINT32_MAX, DRIVER_MEMORY / PAGE, DRIVER_MEMORY / PAGE - 1, 0xfee00};
	uint64_t before = resident(f);

	inflate(f, pages, 4);
	assert_int_equal(before, resident(f));
	assert_false(driver_needs_reset(&f->driver));
}

/* The device thread has other things to do. */
static void a_request_without_end_is_refused(void **state)
{
	struct fixture *f = *state;

	driver_offer(&f->driver, INFLATE, 0, (64 << 10) + 4, 0);
	assert_int_equal(driver_wait(&f->driver, INFLATE, NULL), -1);
	assert_true(driver_needs_reset(&f->driver));
}

/* A page number that would be the host's own memory, if it were only added. */
static void pages_of_the_host_are_not_given_back(void **state)
{
	struct fixture *f = *state;
	ptrdiff_t distance = f->of_the_host - f->board.board.memory->host;
	uint32_t page = (uint32_t)(distance / PAGE);

	/* The kernel puts what is mapped later below. */
	if (distance < 0 || distance / PAGE > UINT32_MAX)
		skip();
	memset(f->of_the_host, 0xaa, PAGE);
	inflate(f, &page, 1);
	assert_int_equal(f->of_the_host[0], 0xaa);
}

static void what_is_reported_free_is_given_back(void **state)
{
	struct fixture *f = *state;
	uint64_t before;

	memset(driver_in(&f->driver, REPORTING, 3), 0xaa, DRIVER_BUFFER);
	before = resident(f);
	driver_offer(&f->driver, REPORTING, 3, 0, 16 * PAGE);
	assert_int_equal(driver_wait(&f->driver, REPORTING, NULL), 3);
	assert_int_equal(before - resident(f), 16 * PAGE);
	assert_int_equal(driver_in(&f->driver, REPORTING, 3)[0], 0);
}

static void what_is_wanted_stands_in_the_configuration(void **state)
{
	struct fixture *f = *state;
	struct balloon_statistics statistics;
	struct device *device = &f->virtio->device;

	virtio_balloon_set(f->virtio, 10 * PAGE + 1);
	assert_int_equal(driver_read(&f->driver, CONFIG, 4), 10);
	virtio_balloon_set(f->virtio, UINT64_MAX);
	assert_int_equal(driver_read(&f->driver, CONFIG, 4), DRIVER_MEMORY / PAGE);
	device->ops->write(device, 0, CONFIG + 4, 4, 7);
	virtio_balloon_get(f->virtio, &statistics);
	assert_int_equal(statistics.actual_bytes, 7 * PAGE);
	assert_int_equal(statistics.wanted_bytes, DRIVER_MEMORY);
}

static void offer_statistics(struct fixture *f, uint64_t available)
{
	struct __attribute__((packed)) {
		uint16_t tag;
		uint64_t value;
	} numbers[] = {{BALLOON_AVAILABLE_MEMORY, available}, {999, 1}, {BALLOON_SWAP_IN, 5}};

	memcpy(driver_out(&f->driver, STATISTICS, 0), numbers, sizeof(numbers));
	driver_offer(&f->driver, STATISTICS, 0, sizeof(numbers), 0);
	driver_serve(&f->driver);
}

static void the_guests_numbers_are_kept_and_asked_for_anew(void **state)
{
	struct fixture *f = *state;
	struct balloon_statistics statistics;

	offer_statistics(f, 1000);
	assert_int_equal(driver_used(&f->driver, STATISTICS, NULL), -1);
	virtio_balloon_get(f->virtio, &statistics);
	assert_int_equal(statistics.known, 1 << BALLOON_AVAILABLE_MEMORY | 1 << BALLOON_SWAP_IN);
	assert_int_equal(statistics.values[BALLOON_AVAILABLE_MEMORY], 1000);
	assert_int_equal(driver_used(&f->driver, STATISTICS, NULL), 0);
	offer_statistics(f, 2000);
	virtio_balloon_get(f->virtio, &statistics);
	assert_int_equal(statistics.values[BALLOON_AVAILABLE_MEMORY], 2000);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(what_is_put_into_it_is_given_back_to_the_host),
		CASE(pages_that_are_none_are_ignored),
		CASE(a_request_without_end_is_refused),
		CASE(pages_of_the_host_are_not_given_back),
		CASE(what_is_reported_free_is_given_back),
		CASE(what_is_wanted_stands_in_the_configuration),
		CASE(the_guests_numbers_are_kept_and_asked_for_anew),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
