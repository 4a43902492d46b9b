/* clock: see clock.h. */
#include "base/clock.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"

enum { NS_PER_SECOND = 1000000000, SECONDS_PER_DAY = 86400 };

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

__attribute__((hot)) int64_t clock_monotonic_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* The date of a day counted from 1970-01-01, in the proleptic Gregorian calendar. gmtime(3) would read
 * the file of the local time zone first, which a short-lived program should not pay for. Years are
 * counted from March here, so that the leap day is the last of its year; 146097 days make 400 years. */
static void civil_date(int64_t day, int *ret_year, int *ret_month, int *ret_day)
{
	const int64_t shifted = day + 719468; /* days since 0000-03-01 */
	const int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
	const int in_era = (int)(shifted - era * 146097);
	const int year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365;
	const int in_year = in_era - (365 * year + year / 4 - year / 100);
	const int month = (5 * in_year + 2) / 153; /* 0: March */

	*ret_day = in_year - (153 * month + 2) / 5 + 1;
	*ret_month = month < 10 ? month + 3 : month - 9;
	*ret_year = (int)(era * 400) + year + (*ret_month <= 2);
}

void clock_format(int64_t ns, char out[static CLOCK_TEXT_MAX])
{
	int64_t seconds = ns / NS_PER_SECOND, day;
	int fraction = (int)(ns % NS_PER_SECOND), year, month, date, rest;

	if (fraction < 0) {
		fraction += NS_PER_SECOND;
		seconds--;
	}
	day = seconds / SECONDS_PER_DAY;
	rest = (int)(seconds % SECONDS_PER_DAY);
	if (rest < 0) {
		rest += SECONDS_PER_DAY;
		day--;
	}
	civil_date(day, &year, &month, &date);
	snprintf(out, CLOCK_TEXT_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%09dZ", year, month, date,
		 rest / 3600, rest / 60 % 60, rest % 60, fraction);
}

/* Takes the character `c` at *s if it is there. */
static bool take_char(const char **s, char c)
{
	if (**s != c)
		return false;
	(*s)++;
	return true;
}

/* Takes exactly `count` digits at *s. */
static bool take_digits(const char **s, int count, int *ret)
{
	int value = 0;

	for (int i = 0; i < count; i++) {
		char c = (*s)[i];

		if (c < '0' || c > '9')
			return false;
		value = value * 10 + (c - '0');
	}
	*s += count;
	*ret = value;
	return true;
}

/* Takes ".123" at *s as nanoseconds; no point is 0. */
static bool take_fraction(const char **s, int64_t *ret_ns)
{
	int64_t ns = 0, unit = NS_PER_SECOND;
	int digit;

	*ret_ns = 0;
	if (!take_char(s, '.'))
		return true;
	while (unit > 1 && take_digits(s, 1, &digit)) {
		unit /= 10;
		ns += digit * unit;
	}
	*ret_ns = ns;
	return unit < NS_PER_SECOND;
}

static int join(int64_t seconds, int64_t ns, int64_t *ret_ns)
{
	/* Wider, since the second that INT64_MIN lies in begins before it. */
	__int128 sum = (__int128)seconds * NS_PER_SECOND + ns;

	if (sum < INT64_MIN || sum > INT64_MAX)
		return -ERANGE;
	*ret_ns = (int64_t)sum;
	return 0;
}

/* Seconds since 1970 with an optional fraction. */
static int parse_epoch(const char *s, int64_t *ret_ns)
{
	const bool negative = *s == '-';
	const size_t digits = strspn(s + negative, "0123456789");
	own_mem char *whole = str_copy_n(s, digits + negative);
	const char *rest = s + negative + digits;
	int64_t seconds = 0, fraction;
	int rc = str_to_int(whole, INT64_MIN, INT64_MAX, &seconds);

	if (rc == -EINVAL || !take_fraction(&rest, &fraction) || *rest != '\0')
		return -EINVAL;
	return rc < 0 ? rc : join(seconds, negative ? -fraction : fraction, ret_ns);
}

/* Takes "2024-05-06" into *tm. */
static bool take_date(const char **s, struct tm *tm)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	int year, month, day;
	bool leap;

	if (!take_digits(s, 4, &year) || !take_char(s, '-') || !take_digits(s, 2, &month) ||
	    !take_char(s, '-') || !take_digits(s, 2, &day))
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	if (month < 1 || month > 12 || day < 1 || day > days[month - 1] ||
	    (month == 2 && day == 29 && !leap))
		return false;
	tm->tm_year = year - 1900;
	tm->tm_mon = month - 1;
	tm->tm_mday = day;
	return true;
}

/* Takes "07:08" or "07:08:09.5"; a second of 60 is a leap second. */
static bool take_time(const char **s, struct tm *tm, int64_t *ret_ns)
{
	if (!take_digits(s, 2, &tm->tm_hour) || !take_char(s, ':') ||
	    !take_digits(s, 2, &tm->tm_min) || tm->tm_hour > 23 || tm->tm_min > 59)
		return false;
	if (!take_char(s, ':'))
		return true;
	return take_digits(s, 2, &tm->tm_sec) && tm->tm_sec <= 60 && take_fraction(s, ret_ns);
}

/* Takes "Z", "+02:00" or nothing as an offset from UTC in seconds. */
static bool take_zone(const char **s, int *ret_seconds)
{
	const char sign = **s;
	int hours, minutes;

	*ret_seconds = 0;
	if (sign == '\0' || take_char(s, 'Z') || take_char(s, 'z'))
		return true;
	if (!take_char(s, '+') && !take_char(s, '-'))
		return false;
	if (!take_digits(s, 2, &hours) || !take_char(s, ':') || !take_digits(s, 2, &minutes) ||
	    hours > 23 || minutes > 59)
		return false;
	*ret_seconds = (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return true;
}

int clock_parse(const char *s, int64_t *ret_ns)
{
	struct tm tm = {0};
	int64_t fraction = 0;
	int offset;

	if (str_empty(s))
		return -EINVAL;
	if (strchr(s + 1, '-') == NULL)
		return parse_epoch(s, ret_ns);
	if (!take_date(&s, &tm))
		return -EINVAL;
	if ((take_char(&s, 'T') || take_char(&s, 't') || take_char(&s, ' ')) &&
	    !take_time(&s, &tm, &fraction))
		return -EINVAL;
	if (!take_zone(&s, &offset) || *s != '\0')
		return -EINVAL;
	return join((int64_t)timegm(&tm) - offset, fraction, ret_ns);
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
		/* Not rounded, unlike those before: docker's "1 years" is kept too. */
		{INT64_MAX, hours, seconds / 3600 / 24 / 365, "%lld years"},
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
