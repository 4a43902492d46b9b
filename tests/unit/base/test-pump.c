/* Tests of base/pump.h: what happens when a process ends whose output it carries. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/loop.h"
#include "base/pump.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { SIZE = 1 << 20 };

static void note(struct pump *pump, void *data)
{
	(void)pump;
	*(bool *)data = true;
}

static void what_was_written_before_the_end_arrives(void **state)
{
	char *text = malloc(SIZE), *got = malloc(SIZE);
	struct pump pump = PUMP_NONE;
	struct loop *loop;
	int from[2], to[2];
	bool done = false;

	(void)state;
	memset(text, 'x', SIZE);
	assert_int_equal(loop_create(&loop), 0);
	assert_true(pipe2(from, O_CLOEXEC) == 0 && pipe2(to, O_CLOEXEC) == 0);
	assert_int_equal(fcntl(from[1], F_SETPIPE_SZ, SIZE), SIZE);
	assert_int_equal(fcntl(to[1], F_SETPIPE_SZ, SIZE), SIZE);
	assert_int_equal(write(from[1], text, SIZE), SIZE);
	assert_int_equal(pump_start(&pump, loop, from[0], to[1], 0, note, &done), 0);
	pump_end(&pump);
	/* Although somebody could still write. */
	assert_true(done);
	for (size_t len = 0; len < SIZE;) {
		ssize_t n = read(to[0], got + len, SIZE - len);

		assert_true(n > 0);
		len += (size_t)n;
	}
	assert_memory_equal(got, text, SIZE);
	assert_int_equal(read(to[0], got, SIZE), 0);
	close(from[1]);
	close(to[0]);
	loop_destroy(loop);
	free(text);
	free(got);
}

/* The device is one that there is always more of. */
static void who_writes_on_without_end_does_not_keep_it_going(void **state)
{
	struct pump pump = PUMP_NONE;
	struct loop *loop;
	bool done = false;

	(void)state;
	assert_int_equal(loop_create(&loop), 0);
	assert_int_equal(pump_start(&pump, loop, open("/dev/random", O_RDONLY | O_CLOEXEC),
				    open("/dev/random", O_WRONLY | O_CLOEXEC), 0, note, &done),
			 0);
	pump_end(&pump);
	assert_true(done);
	loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_written_before_the_end_arrives),
		cmocka_unit_test(who_writes_on_without_end_does_not_keep_it_going),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
