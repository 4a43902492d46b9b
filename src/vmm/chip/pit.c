/*
 * pit: see chips.h. The 8254's three counters (Intel 8254 data sheet, 231164): counter 0 is the timer
 * interrupt, counter 1 the memory refresh of old, counter 2 the speaker, by which kernels calibrate.
 *
 * Nothing counts here. A counter remembers when it was loaded; its value and its output are computed
 * from the clock when somebody looks. BCD counting is not there: no system uses it.
 */
#include "vmm/chip/chips.h"

#include <errno.h>

#include "base/clock.h"

enum {
	REGION_COUNTERS,
	REGION_GATE,
	FREQUENCY_HZ = 1193182,
	COUNTERS = 3,
	ACCESS_LATCH = 0,
	ACCESS_LOW = 1,
	ACCESS_HIGH = 2,
	ACCESS_BOTH = 3,
	GATE_TIMER2 = 1 << 0,
	GATE_SPEAKER = 1 << 1,
	GATE_REFRESH = 1 << 4,
	GATE_OUTPUT2 = 1 << 5,
	INTERVAL_MIN_NS = 50000,
};

struct counter {
	uint8_t mode, access;
	uint32_t reload; /* 1 to 65536 */
	uint16_t latch;
	uint8_t status;
	uint8_t write_low; /* the first of two bytes */
	bool low_written, high_next;
	bool latched, status_latched;
	bool loaded, gate;
	int64_t start_ns;
};

struct pit {
	struct device device;
	struct board *board;
	struct timer timer;
	int64_t next_ns; /* the next interrupt of counter 0 */
	uint8_t gate;    /* port 0x61's writable bits */
	struct counter counters[COUNTERS];
};

static uint64_t ticks_since(const struct counter *c)
{
	int64_t ns = clock_monotonic_ns() - c->start_ns;

	return (uint64_t)((unsigned __int128)(uint64_t)ns * FREQUENCY_HZ / 1000000000);
}

static int64_t ticks_to_ns(uint64_t ticks)
{
	return (int64_t)((unsigned __int128)ticks * 1000000000 / FREQUENCY_HZ) + 1;
}

static bool is_periodic(const struct counter *c)
{
	return c->mode == 2 || c->mode == 3;
}

static uint16_t value_of(const struct counter *c)
{
	uint64_t ticks;

	if (!c->loaded || !c->gate)
		return (uint16_t)c->reload;
	ticks = ticks_since(c);
	if (c->mode == 3) /* counts by two, twice in a period */
		return (uint16_t)((c->reload - (ticks * 2) % c->reload) & ~1u);
	if (c->mode == 2)
		return (uint16_t)(c->reload - ticks % c->reload);
	return (uint16_t)(c->reload - ticks);
}

static bool output_of(const struct counter *c)
{
	uint64_t ticks;

	if (!c->loaded)
		return c->mode != 0;
	ticks = ticks_since(c);
	switch (c->mode) {
	case 2:
		return ticks % c->reload != c->reload - 1;
	case 3:
		return ticks % c->reload < (c->reload + 1) / 2;
	case 0:
	case 1:
		return ticks >= c->reload;
	default:
		return ticks != c->reload;
	}
}

static void schedule(struct pit *self, int64_t next_ns)
{
	self->next_ns = next_ns;
	timer_set(&self->board->timers, &self->timer, next_ns);
}

static void load(struct pit *self, struct counter *c, uint16_t value)
{
	c->reload = value ? value : 65536;
	c->start_ns = clock_monotonic_ns();
	c->loaded = true;
	if (c == &self->counters[0])
		schedule(self, c->start_ns + ticks_to_ns(c->reload));
}

static void pit_fire(struct timer *timer)
{
	struct pit *self = container_of(timer, struct pit, timer);
	struct counter *c = &self->counters[0];
	int64_t now = clock_monotonic_ns();

	device_lock(&self->device);
	if (self->next_ns <= now) {
		irq_pulse(self->board->irq, IRQ_PIT);
		if (is_periodic(c)) {
			int64_t period = ticks_to_ns(c->reload), next;

			if (period < INTERVAL_MIN_NS)
				period = INTERVAL_MIN_NS;
			next = self->next_ns + period;
			schedule(self, next > now - 10 * period ? next : now + period);
		} else {
			schedule(self, TIMER_NEVER);
		}
	}
	device_unlock(&self->device);
}

static void latch_count(struct counter *c)
{
	if (c->latched)
		return;
	c->latch = value_of(c);
	c->latched = true;
}

static void latch_status(struct counter *c)
{
	if (c->status_latched)
		return;
	c->status = (uint8_t)(output_of(c) << 7 | !c->loaded << 6 | c->access << 4 | c->mode << 1);
	c->status_latched = true;
}

static void write_control(struct pit *self, uint8_t value)
{
	unsigned int select = value >> 6, access = (value >> 4) & 3;
	struct counter *c;

	if (select == 3) { /* read-back */
		for (unsigned int i = 0; i < COUNTERS; i++) {
			if (!(value & (2 << i)))
				continue;
			if (!(value & 0x20))
				latch_count(&self->counters[i]);
			if (!(value & 0x10))
				latch_status(&self->counters[i]);
		}
		return;
	}
	c = &self->counters[select];
	if (access == ACCESS_LATCH) {
		latch_count(c);
		return;
	}
	c->access = (uint8_t)access;
	c->mode = (value >> 1) & 7;
	if (c->mode > 5)
		c->mode &= 3;
	c->low_written = c->high_next = c->latched = c->status_latched = false;
	c->loaded = false;
	if (select == 0)
		schedule(self, TIMER_NEVER);
}

static void write_counter(struct pit *self, struct counter *c, uint8_t value)
{
	switch (c->access) {
	case ACCESS_LOW:
		load(self, c, value);
		break;
	case ACCESS_HIGH:
		load(self, c, (uint16_t)(value << 8));
		break;
	case ACCESS_BOTH:
		if (c->low_written)
			load(self, c, (uint16_t)(value << 8 | c->write_low));
		else
			c->write_low = value;
		c->low_written = !c->low_written;
		break;
	}
}

static uint8_t read_counter(struct counter *c)
{
	uint16_t value;
	bool high;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	value = c->latched ? c->latch : value_of(c);
	high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->high_next);
	if (c->access == ACCESS_BOTH)
		c->high_next = !c->high_next;
	if (c->access != ACCESS_BOTH || !c->high_next)
		c->latched = false;
	return (uint8_t)(high ? value >> 8 : value);
}

static uint8_t read_gate(const struct pit *self)
{
	/* The refresh bit toggles about every 15 us; old delay loops watch it. */
	uint8_t refresh = clock_monotonic_ns() / 15085 & 1 ? GATE_REFRESH : 0;

	return self->gate | refresh | (output_of(&self->counters[2]) ? GATE_OUTPUT2 : 0);
}

static void write_gate(struct pit *self, uint8_t value)
{
	struct counter *c = &self->counters[2];
	bool gate = value & GATE_TIMER2;

	if (gate && !c->gate && c->mode != 0 && c->mode != 4)
		c->start_ns = clock_monotonic_ns();
	c->gate = gate;
	self->gate = value & (GATE_TIMER2 | GATE_SPEAKER);
}

static uint64_t pit_read(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size)
{
	struct pit *self = container_of(device, struct pit, device);

	(void)size;
	if (region == REGION_GATE)
		return read_gate(self);
	return offset < COUNTERS ? read_counter(&self->counters[offset]) : 0xff;
}

static void pit_write(struct device *device, unsigned int region, uint64_t offset,
		      unsigned int size, uint64_t value)
{
	struct pit *self = container_of(device, struct pit, device);

	(void)size;
	if (region == REGION_GATE)
		write_gate(self, (uint8_t)value);
	else if (offset == COUNTERS)
		write_control(self, (uint8_t)value);
	else
		write_counter(self, &self->counters[offset], (uint8_t)value);
}

static void pit_reset(struct device *device)
{
	struct pit *self = container_of(device, struct pit, device);

	self->gate = 0;
	for (unsigned int i = 0; i < COUNTERS; i++)
		self->counters[i] =
			(struct counter){.reload = 65536, .access = ACCESS_BOTH, .gate = i != 2};
	schedule(self, TIMER_NEVER);
}

static void pit_save(struct device *device, struct state_writer *out)
{
	struct pit *self = container_of(device, struct pit, device);
	int64_t now = clock_monotonic_ns(), left = self->next_ns - now;

	state_put_u8(out, self->gate);
	/* A deadline that has passed unserved is due at once, not never. */
	if (left < 0)
		left = 0;
	state_put_u64(out, self->next_ns == TIMER_NEVER ? UINT64_MAX : (uint64_t)left);
	for (unsigned int i = 0; i < COUNTERS; i++) {
		const struct counter *c = &self->counters[i];
		const uint8_t fields[] = {
			c->mode,      c->access,  c->status,         c->write_low, c->low_written,
			c->high_next, c->latched, c->status_latched, c->loaded,    c->gate};

		state_put(out, fields, sizeof(fields));
		state_put_u32(out, c->reload);
		state_put_u16(out, c->latch);
		state_put_u64(out, (uint64_t)(now - c->start_ns));
	}
}

static int pit_load(struct device *device, struct state_reader *in)
{
	struct pit *self = container_of(device, struct pit, device);
	int64_t now = clock_monotonic_ns();
	uint64_t left;

	self->gate = state_get_u8(in);
	left = state_get_u64(in);
	for (unsigned int i = 0; i < COUNTERS; i++) {
		struct counter *c = &self->counters[i];

		c->mode = state_get_u8(in);
		c->access = state_get_u8(in) & 3;
		c->status = state_get_u8(in);
		c->write_low = state_get_u8(in);
		c->low_written = state_get_u8(in);
		c->high_next = state_get_u8(in);
		c->latched = state_get_u8(in);
		c->status_latched = state_get_u8(in);
		c->loaded = state_get_u8(in);
		c->gate = state_get_u8(in);
		c->reload = state_get_u32(in);
		c->latch = state_get_u16(in);
		c->start_ns = now - state_get_elapsed_ns(in);
		in->bad |= c->mode > 5 || c->reload < 1 || c->reload > 65536;
	}
	schedule(self, left > INT64_MAX / 2 ? TIMER_NEVER : now + (int64_t)left);
	return state_finish(in);
}

static void pit_destroy(struct device *device)
{
	struct pit *self = container_of(device, struct pit, device);

	timer_set(&self->board->timers, &self->timer, TIMER_NEVER);
	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "pit",
	.read = pit_read,
	.write = pit_write,
	.reset = pit_reset,
	.save = pit_save,
	.load = pit_load,
	.destroy = pit_destroy,
};

int pit_create(struct board *board, struct device **ret)
{
	struct pit *self = mem_new(sizeof(*self));
	int rc;

	self->board = board;
	timer_init(&self->timer, pit_fire);
	device_init(&self->device, &ops, 0);
	pit_reset(&self->device);
	*ret = &self->device;
	rc = bus_add(&board->ports, 0x40, 4, &self->device, REGION_COUNTERS);
	return rc < 0 ? rc : bus_add(&board->ports, 0x61, 1, &self->device, REGION_GATE);
}
