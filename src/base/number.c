/* number: parsing and printing of numbers, sizes and durations; declared in str.h. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

int str_to_uint(const char *s, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	/* All of it first: a number that is too large is still no reason to call "9...9x" one. */
	if (str_empty(s) || s[strspn(s, "0123456789")] != '\0')
		return -EINVAL;
	for (; *s != '\0'; s++) {
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
			return -ERANGE;
	}
	if (value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

int str_to_int(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	bool negative = s != NULL && s[0] == '-';
	uint64_t magnitude;
	int64_t value;
	int rc = str_to_uint(negative ? s + 1 : s, (uint64_t)INT64_MAX + negative, &magnitude);

	if (rc < 0)
		return rc;
	value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
	if (value < min || value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

/* Parses digits with an optional fraction from *s on, and moves *s behind them. The digits are gathered
 * as a whole number and divided once, so that no rounding adds up; long double holds 64 bits of it. */
static int parse_decimal(const char **s, long double *ret)
{
	const char *p = *s;
	long double digits = 0, scale = 1;
	bool any = false;

	for (; isdigit((unsigned char)*p); p++, any = true)
		digits = digits * 10 + (*p - '0');
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++, any = true) {
			/* Further ones are below any unit. */
			if (scale >= 1e18L)
				continue;
			digits = digits * 10 + (*p - '0');
			scale *= 10;
		}
	if (!any)
		return -EINVAL;
	*s = p;
	*ret = digits / scale;
	return 0;
}

int str_to_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "bkmgtp";
	const char *unit;
	long double value;
	unsigned int shift = 0;

	if (str_empty(s) || parse_decimal(&s, &value) < 0)
		return -EINVAL;
	while (*s == ' ')
		s++;
	if (*s != '\0') {
		unit = strchr(units, tolower((unsigned char)*s));
		if (unit == NULL)
			return -EINVAL;
		shift = 10 * (unsigned int)(unit - units);
		s++;
		if (shift > 0 && (*s == 'i' || *s == 'I'))
			s++;
		if (shift > 0 && (*s == 'b' || *s == 'B'))
			s++;
		if (*s != '\0')
			return -EINVAL;
	}
	value *= (long double)(UINT64_C(1) << shift);
	if (value > (long double)INT64_MAX)
		return -ERANGE;
	*ret_bytes = (uint64_t)value;
	return 0;
}

int str_to_duration(const char *s, int64_t *ret_ns)
{
	static const struct {
		const char *name;
		long double ns;
	} units[] = {
		{"ns", 1},   {"us", 1e3}, {"\302\265s", 1e3}, {"\316\274s", 1e3},
		{"ms", 1e6}, {"s", 1e9},  {"m", 60e9},        {"h", 3600e9},
	};
	long double total = 0;
	const char *const start = s;
	int64_t whole;

	if (str_empty(s))
		return -EINVAL;
	while (*s != '\0') {
		const bool first = s == start;
		size_t len, i;
		long double value;

		if (parse_decimal(&s, &value) < 0)
			return -EINVAL;
		if (*s == '\0' && first) {
			total = value * 1e9L;
			break;
		}
		len = strcspn(s, "0123456789.");
		for (i = 0; i < array_size(units); i++)
			if (strlen(units[i].name) == len && memcmp(s, units[i].name, len) == 0)
				break;
		if (i == array_size(units))
			return -EINVAL;
		total += value * units[i].ns;
		s += len;
	}
	if (total > (long double)INT64_MAX)
		return -ERANGE;
	whole = (int64_t)total;
	*ret_ns = whole + (total - (long double)whole >= 0.5L);
	return 0;
}

void str_from_size(uint64_t bytes, int digits, char out[static 24])
{
	static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
	double value = (double)bytes;
	/* From here on printf would round up to 1000 of the unit, in exponent form. */
	double limit = 500;
	size_t unit = 0;

	for (int i = 0; i < digits; i++)
		limit /= 10;
	limit = 1000 - limit;
	while (value >= limit && unit + 1 < array_size(units)) {
		value /= 1000;
		unit++;
	}
	snprintf(out, 24, "%.*g%s", digits, value, units[unit]);
}
