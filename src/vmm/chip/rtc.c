/*
 * rtc: see chips.h. The MC146818's registers and 114 bytes of memory. The time is the host's, in UTC,
 * plus what the guest set it off by; the alarm and the periodic interrupt are there, for kernels that
 * use them as an event source.
 */
#include "vmm/chip/chips.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum {
	REG_SECONDS = 0,
	REG_SECONDS_ALARM = 1,
	REG_MINUTES = 2,
	REG_MINUTES_ALARM = 3,
	REG_HOURS = 4,
	REG_HOURS_ALARM = 5,
	REG_WEEKDAY = 6,
	REG_DAY = 7,
	REG_MONTH = 8,
	REG_YEAR = 9,
	REG_A = 10,
	REG_B = 11,
	REG_C = 12,
	REG_D = 13,
	REG_CENTURY = 0x32,
	A_UPDATING = 1 << 7,
	B_SET = 1 << 7,
	B_PERIODIC = 1 << 6,
	B_ALARM = 1 << 5,
	B_UPDATE = 1 << 4,
	B_BINARY = 1 << 2,
	B_24_HOURS = 1 << 1,
	C_INTERRUPT = 1 << 7,
	D_VALID = 1 << 7,
	MEMORY = 128,
	MINUTE_S = 60,
	HOUR_S = 3600,
	DAY_S = 86400,
};
#define SECOND_NS 1000000000ll

struct rtc {
	struct device device;
	struct board *board;
	struct timer timer;
	int64_t offset_s; /* the guest's time less the host's */
	int64_t seen_s;   /* the guest's time until which it has been told of updates and alarms */
	uint8_t index;
	uint8_t memory[MEMORY];
};

static int64_t now_s(const struct rtc *self)
{
	return clock_now_ns() / SECOND_NS + self->offset_s;
}

static uint8_t encode(const struct rtc *self, int value)
{
	return (uint8_t)(self->memory[REG_B] & B_BINARY ? value : value / 10 << 4 | value % 10);
}

static int decode(const struct rtc *self, uint8_t value)
{
	return self->memory[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 0xf);
}

static uint8_t encode_hour(const struct rtc *self, int hour)
{
	if (self->memory[REG_B] & B_24_HOURS)
		return encode(self, hour);
	return encode(self, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? 0x80 : 0);
}

static int decode_hour(const struct rtc *self, uint8_t value)
{
	if (self->memory[REG_B] & B_24_HOURS)
		return decode(self, value);
	return decode(self, value & 0x7f) % 12 + (value & 0x80 ? 12 : 0);
}

/* Writes the clock into the registers, unless the guest has stopped it in order to set it. */
static void refresh(struct rtc *self)
{
	time_t seconds = (time_t)now_s(self);
	struct tm tm;
	int year;

	if ((self->memory[REG_B] & B_SET) || !gmtime_r(&seconds, &tm))
		return;
	/* The registers have four digits; a guest can set less than the year 0. */
	year = ((tm.tm_year + 1900) % 10000 + 10000) % 10000;
	self->memory[REG_SECONDS] = encode(self, tm.tm_sec);
	self->memory[REG_MINUTES] = encode(self, tm.tm_min);
	self->memory[REG_HOURS] = encode_hour(self, tm.tm_hour);
	self->memory[REG_WEEKDAY] = encode(self, tm.tm_wday + 1);
	self->memory[REG_DAY] = encode(self, tm.tm_mday);
	self->memory[REG_MONTH] = encode(self, tm.tm_mon + 1);
	self->memory[REG_YEAR] = encode(self, year % 100);
	self->memory[REG_CENTURY] = encode(self, year / 100);
}

/* Takes the registers as the time from now on. */
static void adopt(struct rtc *self)
{
	struct tm tm = {
		.tm_sec = decode(self, self->memory[REG_SECONDS]),
		.tm_min = decode(self, self->memory[REG_MINUTES]),
		.tm_hour = decode_hour(self, self->memory[REG_HOURS]),
		.tm_mday = decode(self, self->memory[REG_DAY]),
		.tm_mon = decode(self, self->memory[REG_MONTH]) - 1,
		.tm_year = decode(self, self->memory[REG_YEAR]) +
			   decode(self, self->memory[REG_CENTURY]) * 100 - 1900,
	};
	time_t seconds = timegm(&tm);

	if (seconds == (time_t)-1)
		return;
	self->offset_s = (int64_t)seconds - clock_now_ns() / SECOND_NS;
	self->seen_s = seconds;
}

/* The period that register A selects, 0: none. The rates 1 and 2 are those of 8 and 9. */
static int64_t period_ns(const struct rtc *self)
{
	unsigned int rate = self->memory[REG_A] & 0xf;

	if (!rate)
		return 0;
	if (rate <= 2)
		rate += 7;
	return SECOND_NS * (1 << (rate - 1)) / 32768;
}

static void schedule(struct rtc *self)
{
	uint8_t wanted = self->memory[REG_B];
	int64_t now = clock_monotonic_ns(), next = TIMER_NEVER;

	if (wanted & (B_ALARM | B_UPDATE))
		next = now + SECOND_NS - clock_now_ns() % SECOND_NS;
	if ((wanted & B_PERIODIC) && period_ns(self) && now + period_ns(self) < next)
		next = now + period_ns(self);
	timer_set(&self->board->timers, &self->timer, next);
}

/* 0xc0-0xff in an alarm register match anything. */
static bool alarm_matches(const struct rtc *self, unsigned int alarm, uint8_t time)
{
	return self->memory[alarm] >= 0xc0 || self->memory[alarm] == time;
}

/* Whether the alarm is at one of the seconds after `from` and until `to`: we may be late. */
static bool alarm_between(const struct rtc *self, int64_t from, int64_t to)
{
	if (to - from > DAY_S)
		from = to - DAY_S;
	for (int64_t at = from + 1; at <= to; at++) {
		int second = (int)((at % DAY_S + DAY_S) % DAY_S);

		if (alarm_matches(self, REG_SECONDS_ALARM, encode(self, second % MINUTE_S)) &&
		    alarm_matches(self, REG_MINUTES_ALARM,
				  encode(self, second % HOUR_S / MINUTE_S)) &&
		    alarm_matches(self, REG_HOURS_ALARM, encode_hour(self, second / HOUR_S)))
			return true;
	}
	return false;
}

/* The clock's own second has gone by: an update, and perhaps the alarm. */
static void tell_seconds(struct rtc *self)
{
	int64_t now = now_s(self);
	uint8_t *c = &self->memory[REG_C];

	if (now > self->seen_s && !(self->memory[REG_B] & B_SET)) {
		*c |= B_UPDATE;
		if (alarm_between(self, self->seen_s, now))
			*c |= B_ALARM;
	}
	self->seen_s = now;
}

static void rtc_fire(struct timer *timer)
{
	struct rtc *self = container_of(timer, struct rtc, timer);
	uint8_t *b = &self->memory[REG_B], *c = &self->memory[REG_C];

	device_lock(&self->device);
	refresh(self);
	if (*b & B_PERIODIC)
		*c |= B_PERIODIC;
	tell_seconds(self);
	if (*c & *b & (B_PERIODIC | B_ALARM | B_UPDATE)) {
		*c |= C_INTERRUPT;
		irq_set_line(self->board->irq, IRQ_RTC, true);
	}
	schedule(self);
	device_unlock(&self->device);
}

static uint8_t read_register(struct rtc *self, uint8_t index)
{
	uint8_t value;

	if (index <= REG_YEAR || index == REG_CENTURY)
		refresh(self);
	value = self->memory[index];
	if (index == REG_C) {
		self->memory[REG_C] = 0;
		irq_set_line(self->board->irq, IRQ_RTC, false);
	}
	return value;
}

static void write_register(struct rtc *self, uint8_t index, uint8_t value)
{
	uint8_t before = self->memory[REG_B];

	switch (index) {
	case REG_A:
		self->memory[index] = value & (uint8_t)~A_UPDATING;
		schedule(self);
		return;
	case REG_B:
		if ((value & B_SET) && !(before & B_SET))
			refresh(self); /* the registers stand still from now on */
		self->memory[index] = value;
		if (!(before & (B_ALARM | B_UPDATE)))
			self->seen_s = now_s(self);
		if (!(value & B_SET) && (before & B_SET))
			adopt(self);
		schedule(self);
		return;
	case REG_C:
	case REG_D:
		return;
	}
	if (index <= REG_YEAR || index == REG_CENTURY)
		refresh(self);
	self->memory[index] = value;
	if ((index <= REG_YEAR && index != REG_SECONDS_ALARM && index != REG_MINUTES_ALARM &&
	     index != REG_HOURS_ALARM && !(before & B_SET)) ||
	    (index == REG_CENTURY && !(before & B_SET)))
		adopt(self);
}

static uint64_t rtc_read(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size)
{
	struct rtc *self = container_of(device, struct rtc, device);

	(void)region;
	(void)size;
	return offset == 0 ? 0xff : read_register(self, self->index);
}

static void rtc_write(struct device *device, unsigned int region, uint64_t offset,
		      unsigned int size, uint64_t value)
{
	struct rtc *self = container_of(device, struct rtc, device);

	(void)region;
	(void)size;
	if (offset == 0)
		self->index = value & (MEMORY - 1);
	else
		write_register(self, self->index, (uint8_t)value);
}

static void rtc_reset(struct device *device)
{
	struct rtc *self = container_of(device, struct rtc, device);

	self->index = 0;
	self->memory[REG_A] = 0x26; /* 32768 Hz, 1024 Hz periodic */
	self->memory[REG_B] = B_24_HOURS;
	self->memory[REG_C] = 0;
	self->memory[REG_D] = D_VALID;
	schedule(self);
}

static void rtc_save(struct device *device, struct state_writer *out)
{
	struct rtc *self = container_of(device, struct rtc, device);

	state_put_u64(out, (uint64_t)self->offset_s);
	state_put_u8(out, self->index);
	state_put(out, self->memory, sizeof(self->memory));
}

static int rtc_load(struct device *device, struct state_reader *in)
{
	struct rtc *self = container_of(device, struct rtc, device);

	self->offset_s = (int64_t)state_get_u64(in);
	self->index = state_get_u8(in) & (MEMORY - 1);
	state_get(in, self->memory, sizeof(self->memory));
	if (self->offset_s > INT32_MAX || self->offset_s < -INT32_MAX)
		self->offset_s = 0;
	self->seen_s = now_s(self);
	schedule(self);
	return state_finish(in);
}

static void rtc_destroy(struct device *device)
{
	struct rtc *self = container_of(device, struct rtc, device);

	timer_set(&self->board->timers, &self->timer, TIMER_NEVER);
	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "rtc",
	.read = rtc_read,
	.write = rtc_write,
	.reset = rtc_reset,
	.save = rtc_save,
	.load = rtc_load,
	.destroy = rtc_destroy,
};

int rtc_create(struct board *board, struct device **ret)
{
	struct rtc *self = mem_new(sizeof(*self));

	self->board = board;
	timer_init(&self->timer, rtc_fire);
	device_init(&self->device, &ops, 0);
	rtc_reset(&self->device);
	*ret = &self->device;
	return bus_add(&board->ports, 0x70, 2, &self->device, 0);
}
