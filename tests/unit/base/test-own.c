/* own and mem: what is owned is released once, on every path, and errno survives it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"

#include <cmocka.h>

static int closed;

static void thing_close(int *thing)
{
	closed += *thing;
	errno = EIO;
}
OWN_DEFINE(own_thing, int *, thing_close);
#define own_thing __attribute__((cleanup(own_thing_release)))

static int open_null(void)
{
	own_fd int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	return take(fd);
}

static void taken_descriptor_stays_open(void **state)
{
	int fd = open_null();

	(void)state;
	assert_true(fcntl(fd, F_GETFD) >= 0);
	fd_close(&fd);
	assert_int_equal(fd, -1);
	fd_close(&fd);
}

static void owned_descriptor_is_closed_and_errno_kept(void **state)
{
	int number;

	(void)state;
	errno = ENOTTY;
	{
		own_fd int fd = open_null();

		number = fd;
	}
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(fcntl(number, F_GETFD), -1);
}

static void destroyer_runs_once_and_only_if_owned(void **state)
{
	int weight = 1;

	(void)state;
	closed = 0;
	errno = ENOTTY;
	{
		own_thing int *kept = &weight, *moved = &weight, *none = NULL;
		int *taken = take(moved);

		assert_ptr_equal(taken, &weight);
		assert_null(moved);
		(void)kept;
		(void)none;
	}
	assert_int_equal(closed, 1);
	assert_int_equal(errno, ENOTTY);
}

static void arrays_grow_by_doubling(void **state)
{
	own_mem int *items = NULL;
	size_t capacity = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		items = mem_grow(items, (size_t)i, &capacity, sizeof(*items));
		items[i] = i;
	}
	assert_int_equal(capacity, 1024);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(items[i], i);
}

static void memory_comes_zeroed_and_never_null(void **state)
{
	static const char zero[64];
	own_mem char *a = mem_new(64), *b = mem_new_array(8, 8), *none = mem_new(0);
	own_mem char *copy = mem_copy("abc", 4), *empty = mem_copy(NULL, 0);

	(void)state;
	assert_memory_equal(a, zero, 64);
	assert_memory_equal(b, zero, 64);
	assert_non_null(none);
	assert_non_null(empty);
	assert_string_equal(copy, "abc");
}

static void container_is_found_from_its_member(void **state)
{
	struct outer {
		int before;
		struct inner {
			int x;
		} inner;
	} o;

	(void)state;
	assert_ptr_equal(container_of(&o.inner, struct outer, inner), &o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(taken_descriptor_stays_open),
		cmocka_unit_test(owned_descriptor_is_closed_and_errno_kept),
		cmocka_unit_test(destroyer_runs_once_and_only_if_owned),
		cmocka_unit_test(arrays_grow_by_doubling),
		cmocka_unit_test(memory_comes_zeroed_and_never_null),
		cmocka_unit_test(container_is_found_from_its_member),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
