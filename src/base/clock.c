/* clock: see clock.h. */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"

enum { NS_PER_SECOND = 1000000000 };

static int64_t read_clock(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (int64_t)now.tv_sec * NS_PER_SECOND + now.tv_nsec;
}

int64_t clock_now_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t clock_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

void clock_format(int64_t ns, char out[static CLOCK_TEXT_MAX])
{
	time_t seconds = ns / NS_PER_SECOND;
	long fraction = (long)(ns % NS_PER_SECOND);
	struct tm tm;
	size_t n;

	if (fraction < 0) {
		fraction += NS_PER_SECOND;
		seconds--;
	}
	gmtime_r(&seconds, &tm);
	n = strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, CLOCK_TEXT_MAX - n, ".%09ldZ", fraction);
}

/* Parses ".123" at *s into nanoseconds and moves *s behind it; no fraction is 0. */
static int64_t parse_fraction(const char **s)
{
	const char *p = *s;
	int64_t ns = 0, unit = NS_PER_SECOND / 10;

	if (*p != '.')
		return 0;
	for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
		ns += (*p - '0') * unit;
	*s = p;
	return ns;
}

/* Parses "Z", "+02:00" or nothing into an offset from UTC in seconds. */
static int parse_zone(const char *s, long *ret_seconds)
{
	int hours, minutes, n = 0;
	char sign;

	*ret_seconds = 0;
	if (*s == '\0' || strcmp(s, "Z") == 0 || strcmp(s, "z") == 0)
		return 0;
	if (sscanf(s, "%c%2d:%2d%n", &sign, &hours, &minutes, &n) != 3 || s[n] != '\0' ||
	    (sign != '+' && sign != '-') || hours > 23 || minutes > 59)
		return -EINVAL;
	*ret_seconds = (sign == '-' ? -1 : 1) * (hours * 3600L + minutes * 60L);
	return 0;
}

static int parse_epoch(const char *s, int64_t *ret_ns)
{
	own_mem char *whole = NULL;
	const char *dot = strchr(s, '.');
	const char *rest = dot ? dot : s + strlen(s);
	int64_t seconds, fraction;
	int rc;

	whole = str_copy_n(s, (size_t)(rest - s));
	rc = str_to_int(whole, INT64_MIN / NS_PER_SECOND + 1, INT64_MAX / NS_PER_SECOND - 1,
			&seconds);
	if (rc < 0)
		return rc;
	fraction = parse_fraction(&rest);
	if (*rest != '\0')
		return -EINVAL;
	*ret_ns = seconds * NS_PER_SECOND + (seconds < 0 ? -fraction : fraction);
	return 0;
}

int clock_parse(const char *s, int64_t *ret_ns)
{
	static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S",
					    "%Y-%m-%dT%H:%M", "%Y-%m-%d"};

	if (str_empty(s))
		return -EINVAL;
	if (strchr(s + 1, '-') == NULL)
		return parse_epoch(s, ret_ns);
	for (size_t i = 0; i < array_size(forms); i++) {
		struct tm tm = {0};
		const char *rest = strptime(s, forms[i], &tm);
		int64_t fraction;
		long offset;

		if (rest == NULL)
			continue;
		fraction = parse_fraction(&rest);
		if (parse_zone(rest, &offset) < 0)
			continue;
		*ret_ns = ((int64_t)timegm(&tm) - offset) * NS_PER_SECOND + fraction;
		return 0;
	}
	return -EINVAL;
}

void clock_format_age(int64_t ns, char out[static CLOCK_TEXT_MAX])
{
	const int64_t seconds = ns / NS_PER_SECOND, minutes = seconds / 60;
	const int64_t hours = (seconds + 1800) / 3600;
	const struct {
		int64_t below; /* applies while `measure` is smaller than this */
		int64_t measure;
		int64_t count;
		const char *text;
	} forms[] = {
		{1, seconds, 0, "Less than a second"},
		{2, seconds, 0, "1 second"},
		{60, seconds, seconds, "%lld seconds"},
		{2, minutes, 0, "About a minute"},
		{60, minutes, minutes, "%lld minutes"},
		{2, hours, 0, "About an hour"},
		{48, hours, hours, "%lld hours"},
		{24 * 7 * 2, hours, hours / 24, "%lld days"},
		{24 * 30 * 2, hours, hours / 24 / 7, "%lld weeks"},
		{24 * 365 * 2, hours, hours / 24 / 30, "%lld months"},
		{INT64_MAX, hours, hours / 24 / 365, "%lld years"},
	};

	for (size_t i = 0; i < array_size(forms); i++) {
		if (forms[i].measure >= forms[i].below)
			continue;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(out, CLOCK_TEXT_MAX, forms[i].text, (long long)forms[i].count);
#pragma GCC diagnostic pop
		return;
	}
}
