/*
 * clock: points in time as nanoseconds since 1970-01-01T00:00:00Z (int64_t), and their texts.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"

enum { CLOCK_TEXT_MAX = 40 };

int64_t clock_now_ns(void);       /* wall clock */
int64_t clock_monotonic_ns(void); /* for deadlines and durations */

/* RFC 3339 in UTC with nanoseconds: "2024-05-06T07:08:09.123456789Z". */
void clock_format(int64_t ns, char out[static CLOCK_TEXT_MAX]);
/* Parses RFC 3339 (any offset, up to nine digits of fraction), a date, a date with a time without
 * zone (UTC), or seconds since 1970 with an optional fraction. -EINVAL for anything else, -ERANGE for
 * a time that int64_t does not hold (1677 to 2262; others write "0001-01-01T00:00:00Z" for never). */
int clock_parse(const char *s, int64_t *ret_ns) must_check;
/* A length of time in words as docker prints it: "3 seconds", "About a minute", "2 weeks". */
void clock_format_age(int64_t ns, char out[static CLOCK_TEXT_MAX]);
