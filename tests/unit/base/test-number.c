/* number: whole numbers, sizes and durations as people write them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#include <cmocka.h>

static void parses_integers_within_bounds(void **state)
{
	static const struct {
		const char *text;
		int64_t min, max;
		int rc;
		int64_t value;
	} cases[] = {
		{"0", 0, 9, 0, 0},
		{"-0", 0, 9, 0, 0},
		{"42", 0, 42, 0, 42},
		{"007", 0, 42, 0, 7},
		{"-5", -5, 5, 0, -5},
		{"9223372036854775807", INT64_MIN, INT64_MAX, 0, INT64_MAX},
		{"-9223372036854775808", INT64_MIN, INT64_MAX, 0, INT64_MIN},
		{"43", 0, 42, -ERANGE, 0},
		{"-6", -5, 5, -ERANGE, 0},
		{"9223372036854775808", INT64_MIN, INT64_MAX, -ERANGE, 0},
		{"-9223372036854775809", INT64_MIN, INT64_MAX, -ERANGE, 0},
		{"99999999999999999999999", INT64_MIN, INT64_MAX, -ERANGE, 0},
		{"", 0, 9, -EINVAL, 0},
		{NULL, 0, 9, -EINVAL, 0},
		{"-", -9, 9, -EINVAL, 0},
		{"+1", 0, 9, -EINVAL, 0},
		{"--1", -9, 9, -EINVAL, 0},
		{" 1", 0, 9, -EINVAL, 0},
		{"1 ", 0, 9, -EINVAL, 0},
		{"1x", 0, 9, -EINVAL, 0},
		{"0x10", 0, 99, -EINVAL, 0},
		{"1.0", 0, 9, -EINVAL, 0},
		{"99999999999999999999999x", 0, 9, -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t value = 777;
		int rc = str_to_int(cases[i].text, cases[i].min, cases[i].max, &value);

		print_message("\"%s\"\n", cases[i].text ? cases[i].text : "NULL");
		assert_int_equal(rc, cases[i].rc);
		assert_true(value == (rc == 0 ? cases[i].value : 777));
	}
}

static void parses_unsigned_up_to_its_limit(void **state)
{
	uint64_t value;

	(void)state;
	assert_int_equal(str_to_uint("18446744073709551615", UINT64_MAX, &value), 0);
	assert_true(value == UINT64_MAX);
	assert_int_equal(str_to_uint("18446744073709551616", UINT64_MAX, &value), -ERANGE);
	assert_int_equal(str_to_uint("256", 255, &value), -ERANGE);
	assert_int_equal(str_to_uint("-1", UINT64_MAX, &value), -EINVAL);
}

static void parses_sizes_as_docker_does(void **state)
{
	static const struct {
		const char *text;
		int rc;
		uint64_t value;
	} cases[] = {
		{"0", 0, 0},
		{"32", 0, 32},
		{"32b", 0, 32},
		{"32B", 0, 32},
		{"32k", 0, 32768},
		{"32K", 0, 32768},
		{"32kb", 0, 32768},
		{"32KiB", 0, 32768},
		{"32 kB", 0, 32768},
		{"512m", 0, 536870912},
		{"32MiB", 0, 33554432},
		{"1g", 0, 1073741824},
		{"1.5g", 0, 1610612736},
		{"0.125k", 0, 128},
		{"0.3k", 0, 307},
		{".5k", 0, 512},
		{"32.5kB", 0, 33280},
		{"2t", 0, UINT64_C(2) << 40},
		{"3P", 0, UINT64_C(3) << 50},
		{"9007199254740993", 0, 9007199254740993},
		{"8191p", 0, UINT64_C(8191) << 50},
		{"9000p", -ERANGE, 0},
		{"99999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{NULL, -EINVAL, 0},
		{"k", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{"+1", -EINVAL, 0},
		{"1x", -EINVAL, 0},
		{"1kk", -EINVAL, 0},
		{"1bb", -EINVAL, 0},
		{"1ib", -EINVAL, 0},
		{"1kib ", -EINVAL, 0},
		{"1..5k", -EINVAL, 0},
		{"1e3", -EINVAL, 0},
		{"inf", -EINVAL, 0},
		{"0x1k", -EINVAL, 0},
		{".", -EINVAL, 0},
		{"1,5g", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		uint64_t value = 777;
		int rc = str_to_size(cases[i].text, &value);

		print_message("\"%s\"\n", cases[i].text ? cases[i].text : "NULL");
		assert_int_equal(rc, cases[i].rc);
		assert_true(value == (rc == 0 ? cases[i].value : 777));
	}
}

static void parses_durations(void **state)
{
	static const struct {
		const char *text;
		int rc;
		int64_t value;
	} cases[] = {
		{"0", 0, 0},
		{"10", 0, 10000000000},
		{"1.5", 0, 1500000000},
		{"10s", 0, 10000000000},
		{"100ms", 0, 100000000},
		{"250us", 0, 250000},
		{"250\302\265s", 0, 250000},
		{"7ns", 0, 7},
		{"1h2m3.5s", 0, 3723500000000},
		{"2m", 0, 120000000000},
		{"0s", 0, 0},
		{"0h5s", 0, 5000000000},
		{"0.29s", 0, 290000000},
		{"2540400h", 0, 9145440000000000000},
		{"2600000h", -ERANGE, 0},
		{"999999999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{NULL, -EINVAL, 0},
		{"s", -EINVAL, 0},
		{"-1s", -EINVAL, 0},
		{"+1s", -EINVAL, 0},
		{"1h30", -EINVAL, 0},
		{"0s5", -EINVAL, 0},
		{"1d", -EINVAL, 0},
		{"1sm", -EINVAL, 0},
		{"1 s", -EINVAL, 0},
		{"1s ", -EINVAL, 0},
		{"1.2.3s", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		int64_t value = 777;
		int rc = str_to_duration(cases[i].text, &value);

		print_message("\"%s\"\n", cases[i].text ? cases[i].text : "NULL");
		assert_int_equal(rc, cases[i].rc);
		assert_true(value == (rc == 0 ? cases[i].value : 777));
	}
}

/* What stands in the text is what comes out, to the last millisecond. */
static void every_millisecond_is_exact(void **state)
{
	(void)state;
	for (int ms = 0; ms < 1000; ms++) {
		char text[16];
		int64_t value;

		snprintf(text, sizeof(text), "0.%03ds", ms);
		assert_int_equal(str_to_duration(text, &value), 0);
		assert_true(value == ms * INT64_C(1000000));
	}
}

static void prints_sizes_as_docker_does(void **state)
{
	static const struct {
		uint64_t bytes;
		int digits;
		const char *text;
	} cases[] = {
		{0, 3, "0B"},
		{1, 3, "1B"},
		{999, 3, "999B"},
		{1000, 3, "1kB"},
		{1024, 4, "1.024kB"},
		{1024, 3, "1.02kB"},
		{4262148, 3, "4.26MB"},
		{72800000, 3, "72.8MB"},
		{1000000, 4, "1MB"},
		{1048576, 4, "1.049MB"},
		{2048000000, 3, "2.05GB"},
		{3420000000000, 3, "3.42TB"},
		{999499, 3, "999kB"},
		{999500, 3, "1MB"},
		{999949, 4, "999.9kB"},
		{999950, 4, "1MB"},
		{UINT64_MAX, 3, "18.4EB"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		char text[24];

		str_from_size(cases[i].bytes, cases[i].digits, text);
		assert_string_equal(text, cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_integers_within_bounds),
		cmocka_unit_test(parses_unsigned_up_to_its_limit),
		cmocka_unit_test(parses_sizes_as_docker_does),
		cmocka_unit_test(parses_durations),
		cmocka_unit_test(every_millisecond_is_exact),
		cmocka_unit_test(prints_sizes_as_docker_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
