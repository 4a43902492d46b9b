/* The real-time clock: before a device thread that comes too late, and with dates that hardly anybody sets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/clock.h"
#include "driver.h"
#include "vmm/chip/chips.h"

#include <cmocka.h>

enum {
	INDEX = 0x70,
	DATA = 0x71,
	REG_DAY = 7,
	REG_MONTH = 8,
	REG_YEAR = 9,
	REG_B = 11,
	REG_C = 12,
	B_UPDATE = 1 << 4,
	B_ALARM = 1 << 5,
	B_24_HOURS = 1 << 1,
	B_SET = 1 << 7,
	REG_CENTURY = 50,
	C_INTERRUPT = 1 << 7,
	LATE_NS = 50000000,
};
#define SECOND_NS 1000000000ll

struct fixture {
	struct driver_board board;
	struct device *rtc;
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	driver_board_init(&f->board);
	assert_int_equal(rtc_create(&f->board.board, &f->rtc), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->rtc->ops->destroy(f->rtc);
	driver_board_release(&f->board);
	own_mem_release(&f);
	return 0;
}

static void put(struct fixture *f, uint8_t index, uint8_t value)
{
	bus_write(&f->board.board.ports, INDEX, 1, index);
	bus_write(&f->board.board.ports, DATA, 1, value);
}

static unsigned int get(struct fixture *f, uint8_t index)
{
	bus_write(&f->board.board.ports, INDEX, 1, index);
	return (unsigned int)bus_read(&f->board.board.ports, DATA, 1);
}

/* Seconds, minutes and hours as they will be in `after` seconds, in BCD; they stand beside the time's registers. */
static void set_alarm(struct fixture *f, int64_t after)
{
	time_t then = clock_now_ns() / SECOND_NS + after;
	struct tm tm;

	gmtime_r(&then, &tm);
	put(f, 1, (uint8_t)(tm.tm_sec / 10 << 4 | tm.tm_sec % 10));
	put(f, 3, (uint8_t)(tm.tm_min / 10 << 4 | tm.tm_min % 10));
	put(f, 5, (uint8_t)(tm.tm_hour / 10 << 4 | tm.tm_hour % 10));
}

/* Sleeps until the second has changed so often, and some time more. */
static void be_late(unsigned int seconds)
{
	int64_t ns = (int64_t)seconds * SECOND_NS - clock_now_ns() % SECOND_NS + LATE_NS;
	struct timespec time = {.tv_sec = ns / SECOND_NS, .tv_nsec = ns % SECOND_NS};

	assert_int_equal(nanosleep(&time, NULL), 0);
}

static void an_alarm_that_is_served_late_is_not_lost(void **state)
{
	struct fixture *f = *state;

	set_alarm(f, 1);
	put(f, REG_B, B_24_HOURS | B_ALARM | B_UPDATE);
	be_late(2);
	timer_queue_run(&f->board.board.timers);
	assert_int_equal(get(f, REG_C), C_INTERRUPT | B_ALARM | B_UPDATE);
	assert_int_equal(get(f, REG_C), 0);
}

static void an_alarm_of_the_past_or_the_future_is_not_told(void **state)
{
	struct fixture *f = *state;

	for (int64_t after = -1; after < 100; after += 100) {
		set_alarm(f, after);
		put(f, REG_B, B_24_HOURS | B_ALARM);
		be_late(1);
		timer_queue_run(&f->board.board.timers);
		assert_int_equal(get(f, REG_C), B_UPDATE);
	}
}

/* Month and day 0 of the year 0 lie in the year before. */
static void years_before_1900_are_kept(void **state)
{
	static const struct {
		uint8_t century, year, month, day, ret_century, ret_year;
	} cases[] = {{0x18, 0x94, 0x06, 0x15, 0x18, 0x94}, {0, 0, 0, 0, 0x99, 0x99}};
	struct fixture *f = *state;

	for (size_t i = 0; i < array_size(cases); i++) {
		put(f, REG_B, B_24_HOURS | B_SET);
		put(f, REG_CENTURY, cases[i].century);
		put(f, REG_YEAR, cases[i].year);
		put(f, REG_MONTH, cases[i].month);
		put(f, REG_DAY, cases[i].day);
		put(f, REG_B, B_24_HOURS);
		assert_int_equal(get(f, REG_YEAR), cases[i].ret_year);
		assert_int_equal(get(f, REG_CENTURY), cases[i].ret_century);
	}
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(an_alarm_that_is_served_late_is_not_lost),
		CASE(an_alarm_of_the_past_or_the_future_is_not_told),
		CASE(years_before_1900_are_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
