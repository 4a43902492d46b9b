/* clock: texts of points in time and of lengths of time. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"

#include <cmocka.h>

#define SECOND INT64_C(1000000000)
#define HOUR (3600 * SECOND)

static void formats_nanoseconds_in_utc(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00.000000000Z"},
		{1, "1970-01-01T00:00:00.000000001Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"},
		{1714979349123456789, "2024-05-06T07:09:09.123456789Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
		{INT64_MIN, "1677-09-21T00:12:43.145224192Z"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char text[CLOCK_TEXT_MAX];
		int64_t back;

		clock_format(cases[i].ns, text);
		assert_string_equal(text, cases[i].text);
		assert_int_equal(clock_parse(text, &back), 0);
		assert_true(back == cases[i].ns);
	}
}

/* Every day of four centuries, beside what the C library makes of it. */
static void formats_every_date(void **state)
{
	enum { DAYS = 146100 };

	(void)state;
	for (int64_t day = -DAYS / 2; day < DAYS / 2; day++) {
		const time_t seconds = day * 86400 + 86399;
		char text[CLOCK_TEXT_MAX], expected[CLOCK_TEXT_MAX];
		struct tm tm;

		clock_format(seconds * SECOND, text);
		strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S.000000000Z",
			 gmtime_r(&seconds, &tm));
		assert_string_equal(text, expected);
	}
}

static void parses_points_in_time(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01t00:00:00z", 0},
		{"2024-02-29T23:59:59Z", 1709251199 * SECOND},
		{"2024-05-06T07:09:09.5Z", 1714979349 * SECOND + SECOND / 2},
		{"2024-05-06T09:09:09+02:00", 1714979349 * SECOND},
		{"2024-05-06T01:39:09-05:30", 1714979349 * SECOND},
		{"2024-05-06T07:09:09", 1714979349 * SECOND},
		{"2024-05-06 07:09:09", 1714979349 * SECOND},
		{"2024-05-06T07:09", 1714979340 * SECOND},
		{"2024-05-06", 1714953600 * SECOND},
		{"0", 0},
		{"1714979349", 1714979349 * SECOND},
		{"1714979349.000000001", 1714979349 * SECOND + 1},
		{"-1.5", -SECOND - SECOND / 2},
		{"-0.5", -SECOND / 2},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t ns = 777;

		print_message("%s\n", cases[i].text);
		assert_int_equal(clock_parse(cases[i].text, &ns), 0);
		assert_true(ns == cases[i].ns);
	}
}

static void refuses_what_is_no_time(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} cases[] = {
		{NULL, -EINVAL},
		{"", -EINVAL},
		{"now", -EINVAL},
		{"-", -EINVAL},
		{".5", -EINVAL},
		{"5.", -EINVAL},
		{"5.1234567890", -EINVAL},
		{"5 ", -EINVAL},
		{"2024-05", -EINVAL},
		{"2024-05-06T", -EINVAL},
		{"2024-05-06T07", -EINVAL},
		{"2024-05-06T07:09:09.", -EINVAL},
		{"2024-05-06T07:09:09.1234567890Z", -EINVAL},
		{"2024-05-06.5", -EINVAL},
		{"2024-05-06T07:09.5", -EINVAL},
		{"2024- 5-06", -EINVAL},
		{"2024-5-6", -EINVAL},
		{" 2024-05-06", -EINVAL},
		{"2024-05-06T07:09:09+2:00", -EINVAL},
		{"2024-05-06T07:09:09+ 2: 0", -EINVAL},
		{"2024-05-06T07:09:09+02:00x", -EINVAL},
		{"2024-05-06T07:09:09+24:00", -EINVAL},
		{"2024-05-06T07:09:09 Z", -EINVAL},
		{"2024-02-30T00:00:00Z", -EINVAL},
		{"2023-02-29", -EINVAL},
		{"2024-13-01", -EINVAL},
		{"2024-00-01", -EINVAL},
		{"2024-01-00", -EINVAL},
		{"2024-01-01T24:00:00Z", -EINVAL},
		{"2024-01-01T00:60:00Z", -EINVAL},
		/* What a time that was never set looks like in others' JSON. */
		{"0001-01-01T00:00:00Z", -ERANGE},
		{"9999-12-31T23:59:59Z", -ERANGE},
		{"99999999999999999999", -ERANGE},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t ns = 777;

		print_message("%s\n", cases[i].text ? cases[i].text : "NULL");
		assert_int_equal(clock_parse(cases[i].text, &ns), cases[i].rc);
		assert_true(ns == 777);
	}
}

/* The thresholds of docker's HumanDuration, on both sides of each. */
static void says_ages_in_dockers_words(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{-5 * SECOND, "Less than a second"},
		{0, "Less than a second"},
		{SECOND - 1, "Less than a second"},
		{SECOND, "1 second"},
		{2 * SECOND - 1, "1 second"},
		{2 * SECOND, "2 seconds"},
		{60 * SECOND - 1, "59 seconds"},
		{60 * SECOND, "About a minute"},
		{120 * SECOND - 1, "About a minute"},
		{120 * SECOND, "2 minutes"},
		{HOUR - 1, "59 minutes"},
		{HOUR, "About an hour"},
		{HOUR + HOUR / 2 - SECOND, "About an hour"},
		{HOUR + HOUR / 2, "2 hours"},
		{47 * HOUR + HOUR / 2 - SECOND, "47 hours"},
		{47 * HOUR + HOUR / 2, "2 days"},
		{7 * 24 * HOUR, "7 days"},
		{14 * 24 * HOUR - HOUR, "13 days"},
		{14 * 24 * HOUR, "2 weeks"},
		{60 * 24 * HOUR - HOUR, "8 weeks"},
		{60 * 24 * HOUR, "2 months"},
		{730 * 24 * HOUR - HOUR, "24 months"},
		{730 * 24 * HOUR - HOUR / 4, "1 years"},
		{730 * 24 * HOUR, "2 years"},
		{INT64_MAX, "292 years"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char text[CLOCK_TEXT_MAX];

		clock_format_age(cases[i].ns, text);
		assert_string_equal(text, cases[i].text);
	}
}

static void clocks_run(void **state)
{
	int64_t before = clock_monotonic_ns();

	(void)state;
	assert_true(clock_monotonic_ns() >= before);
	assert_true(clock_now_ns() > 1700000000 * SECOND);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_nanoseconds_in_utc),
		cmocka_unit_test(formats_every_date),
		cmocka_unit_test(parses_points_in_time),
		cmocka_unit_test(refuses_what_is_no_time),
		cmocka_unit_test(says_ages_in_dockers_words),
		cmocka_unit_test(clocks_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
