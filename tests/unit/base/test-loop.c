/* loop: events, timers and signals, and callbacks that take the ground from under each other. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/loop.h"
#include "base/mem.h"

#include <cmocka.h>

static struct loop *loop;
static int pipes[3][2];
static struct loop_source *sources[3];
static int calls;

static int set_up(void **state)
{
	(void)state;
	calls = 0;
	for (int i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC | O_NONBLOCK) < 0)
			return -1;
	return loop_create(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	loop_destroy(loop);
	for (int i = 0; i < 3; i++) {
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	return 0;
}

static void stop_at(struct loop *l, struct loop_source *source, void *data)
{
	(void)source;
	loop_stop(l, *(int *)data);
}

/* Ends the loop after `ms`, so that a test that waits in vain fails instead of hanging. */
static int run_for(int ms)
{
	static int over = 1000;

	assert_int_equal(loop_add_timer(loop, ms, stop_at, &over, NULL), 0);
	return loop_run(loop);
}

static void read_one(struct loop *l, struct loop_source *source, int fd, uint32_t events,
		     void *data)
{
	char c;

	(void)source;
	(void)data;
	assert_true(events & EPOLLIN);
	assert_int_equal(read(fd, &c, 1), 1);
	calls++;
	if (c == '!')
		loop_stop(l, 7);
}

static void events_arrive_until_it_is_stopped(void **state)
{
	(void)state;
	assert_int_equal(loop_add_io(loop, pipes[0][0], EPOLLIN, read_one, NULL, NULL), 0);
	assert_int_equal(write(pipes[0][1], "ab!c", 4), 4);
	assert_int_equal(loop_run(loop), 7);
	assert_int_equal(calls, 3);
}

static void remove_all(struct loop *l, struct loop_source *source, int fd, uint32_t events,
		       void *data)
{
	(void)source;
	(void)fd;
	(void)events;
	(void)data;
	calls++;
	for (int i = 0; i < 3; i++) {
		loop_remove(sources[i]);
		/* The number may be used again at once: the pending event must not reach it. */
		close(pipes[i][0]);
		pipes[i][0] = -1;
	}
	loop_remove(NULL);
	assert_int_equal(loop_add_timer(l, 5, stop_at, &calls, NULL), 0);
}

static void callback_removes_sources_with_pending_events(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(
			loop_add_io(loop, pipes[i][0], EPOLLIN, remove_all, NULL, &sources[i]), 0);
		assert_int_equal(write(pipes[i][1], "x", 1), 1);
	}
	assert_int_equal(loop_run(loop), 1);
	assert_int_equal(calls, 1);
}

static void pause_self(struct loop *l, struct loop_source *source, int fd, uint32_t events,
		       void *data)
{
	(void)l;
	(void)fd;
	(void)data;
	assert_true(events & EPOLLHUP);
	calls++;
	assert_int_equal(loop_set_events(source, 0), 0);
}

static void paused_source_does_not_even_hang_up(void **state)
{
	struct loop_source *source;

	(void)state;
	assert_int_equal(loop_add_io(loop, pipes[0][0], EPOLLIN, pause_self, NULL, &source), 0);
	close(pipes[0][1]);
	pipes[0][1] = -1;
	assert_int_equal(run_for(20), 1000);
	assert_int_equal(calls, 1);
	assert_int_equal(loop_set_events(source, EPOLLIN), 0);
	assert_int_equal(run_for(20), 1000);
	assert_int_equal(calls, 2);
}

static void what_epoll_refuses_is_refused(void **state)
{
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	(void)state;
	assert_int_equal(loop_add_io(loop, file, EPOLLIN, read_one, NULL, NULL), -EPERM);
	assert_int_equal(loop_add_io(loop, -1, EPOLLIN, read_one, NULL, NULL), -EBADF);
	close(file);
	assert_int_equal(run_for(1), 1000);
}

static int order[8];

static void note(struct loop *l, struct loop_source *source, void *data)
{
	(void)l;
	(void)source;
	order[calls++] = *(int *)data;
}

static void timers_come_in_order_and_once(void **state)
{
	static int numbers[] = {30, 10, 20};
	int64_t before = clock_monotonic_ns();

	(void)state;
	for (size_t i = 0; i < array_size(numbers); i++)
		assert_int_equal(loop_add_timer(loop, numbers[i], note, &numbers[i], NULL), 0);
	assert_int_equal(run_for(50), 1000);
	assert_true(clock_monotonic_ns() - before >= 50000000);
	assert_int_equal(calls, 3);
	assert_true(order[0] == 10 && order[1] == 20 && order[2] == 30);
}

static void again_until_five(struct loop *l, struct loop_source *source, void *data)
{
	(void)data;
	if (++calls == 5)
		loop_stop(l, 5);
	else
		loop_set_timer(source, 1);
}

static void timer_sets_itself_again(void **state)
{
	(void)state;
	assert_int_equal(loop_add_timer(loop, 0, again_until_five, NULL, NULL), 0);
	assert_int_equal(loop_run(loop), 5);
}

static void timer_can_be_never_or_far(void **state)
{
	static int number = 1;
	struct loop_source *never, *far;

	(void)state;
	assert_int_equal(loop_add_timer(loop, 1, note, &number, &never), 0);
	assert_int_equal(loop_add_timer(loop, INT64_MAX, note, &number, &far), 0);
	loop_set_timer(never, -1);
	assert_int_equal(run_for(10), 1000);
	assert_int_equal(calls, 0);
}

static void remove_it(struct loop *l, struct loop_source *source, void *data)
{
	(void)l;
	(void)source;
	calls++;
	loop_remove(*(struct loop_source **)data);
	loop_remove(source);
}

static void timer_removes_another_that_is_due(void **state)
{
	struct loop_source *a, *b;

	(void)state;
	assert_int_equal(loop_add_timer(loop, 0, remove_it, &b, &a), 0);
	assert_int_equal(loop_add_timer(loop, 0, remove_it, &a, &b), 0);
	assert_int_equal(run_for(10), 1000);
	assert_int_equal(calls, 1);
}

static void on_signal(struct loop *l, struct loop_source *source, int signal, void *data)
{
	(void)source;
	(void)data;
	if (++calls == 2)
		loop_stop(l, signal);
	else
		raise(SIGUSR2);
}

static void signals_come_as_events(void **state)
{
	(void)state;
	assert_int_equal(loop_add_signal(loop, SIGUSR1, on_signal, NULL, NULL), 0);
	assert_int_equal(loop_add_signal(loop, SIGUSR2, on_signal, NULL, NULL), 0);
	raise(SIGUSR1);
	assert_int_equal(loop_run(loop), SIGUSR2);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(events_arrive_until_it_is_stopped),
		case_of(callback_removes_sources_with_pending_events),
		case_of(paused_source_does_not_even_hang_up),
		case_of(what_epoll_refuses_is_refused),
		case_of(timers_come_in_order_and_once),
		case_of(timer_sets_itself_again),
		case_of(timer_can_be_never_or_far),
		case_of(timer_removes_another_that_is_due),
		case_of(signals_come_as_events),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
