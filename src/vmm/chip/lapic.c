/*
 * lapic: see lapic.h.
 *
 * The timer counts at 1 GHz before the divider, so a tick is a nanosecond. Nothing ticks here: the
 * current count is computed from the clock when it is read.
 */
#include "vmm/chip/lapic.h"

#include <string.h>

#include "base/clock.h"
#include "vmm/timer.h"

enum {
	REG_ID = 0x020,
	REG_VERSION = 0x030,
	REG_TPR = 0x080,
	REG_PPR = 0x0a0,
	REG_EOI = 0x0b0,
	REG_LDR = 0x0d0,
	REG_DFR = 0x0e0,
	REG_SVR = 0x0f0,
	REG_ISR = 0x100,
	REG_TMR = 0x180,
	REG_IRR = 0x200,
	REG_ESR = 0x280,
	REG_ICR = 0x300,
	REG_ICR_HIGH = 0x310,
	REG_LVT_TIMER = 0x320,
	REG_LVT_THERMAL = 0x330,
	REG_LVT_PERF = 0x340,
	REG_LVT_LINT0 = 0x350,
	REG_LVT_LINT1 = 0x360,
	REG_LVT_ERROR = 0x370,
	REG_TIMER_INITIAL = 0x380,
	REG_TIMER_CURRENT = 0x390,
	REG_TIMER_DIVIDE = 0x3e0,
	REG_SELF_IPI = 0x3f0,

	SVR_ENABLE = 1 << 8,
	LVT_MASKED = 1 << 16,
	LVT_MODE_SHIFT = 17,
	TIMER_ONE_SHOT = 0,
	TIMER_PERIODIC = 1,
	TIMER_TSC_DEADLINE = 2,
	ESR_ILLEGAL_VECTOR_SEND = 1 << 5,
	ESR_ILLEGAL_REGISTER = 1 << 7,
	VERSION = 0x00050014, /* an integrated APIC with six local vectors */

	MSR_APIC_BASE = 0x1b,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
};
#define BASE_WRITABLE 0xffffff000ull

static uint32_t *reg(struct lapic *lapic, uint32_t offset)
{
	return &lapic->registers[offset >> 4];
}

static uint32_t get(const struct lapic *lapic, uint32_t offset)
{
	return lapic->registers[offset >> 4];
}

static bool test_bit(const struct lapic *lapic, uint32_t set, uint8_t vector)
{
	return get(lapic, set + (vector >> 5) * 16) & (1u << (vector & 31));
}

static void set_bit(struct lapic *lapic, uint32_t set, uint8_t vector, bool value)
{
	uint32_t *word = reg(lapic, set + (vector >> 5) * 16);
	uint32_t bit = 1u << (vector & 31);

	*word = value ? *word | bit : *word & ~bit;
}

/* The highest vector in a set, or -1. */
static int highest(const struct lapic *lapic, uint32_t set)
{
	for (int word = 7; word >= 0; word--) {
		uint32_t bits = get(lapic, set + (uint32_t)word * 16);

		if (bits)
			return word * 32 + 31 - __builtin_clz(bits);
	}
	return -1;
}

static bool is_x2apic(const struct lapic *lapic)
{
	return lapic->base & LAPIC_BASE_X2APIC;
}

static bool is_on(const struct lapic *lapic)
{
	return (lapic->base & LAPIC_BASE_ENABLE) && (get(lapic, REG_SVR) & SVR_ENABLE);
}

void lapic_init(struct lapic *lapic, uint32_t id, const struct lapic_events *events)
{
	memset(lapic, 0, sizeof(*lapic));
	lapic->id = id;
	lapic->events = events;
	lapic_reset(lapic, false);
}

void lapic_reset(struct lapic *lapic, bool init)
{
	uint32_t id = init ? get(lapic, REG_ID) : lapic->id << 24;

	memset(lapic->registers, 0, sizeof(lapic->registers));
	*reg(lapic, REG_ID) = id;
	*reg(lapic, REG_DFR) = UINT32_MAX;
	*reg(lapic, REG_SVR) = 0xff;
	for (uint32_t lvt = REG_LVT_TIMER; lvt <= REG_LVT_ERROR; lvt += 16)
		*reg(lapic, lvt) = LVT_MASKED;
	lapic->tsc_deadline = 0;
	lapic->timer_deadline_ns = TIMER_NEVER;
	if (!init) {
		lapic->base = LAPIC_PAGE | LAPIC_BASE_ENABLE | (lapic->id ? 0 : LAPIC_BASE_BSP);
		/* What firmware would leave behind: the PIC's interrupts reach the first CPU. */
		if (lapic->id == 0)
			*reg(lapic, REG_LVT_LINT0) = LAPIC_EXTINT << 8;
	}
	lapic->events->set_timer(lapic, TIMER_NEVER);
}

/* The processor priority: the higher of the task's and of what is in service. */
static uint8_t ppr(const struct lapic *lapic)
{
	uint8_t tpr = (uint8_t)get(lapic, REG_TPR);
	int served = highest(lapic, REG_ISR);

	return served >= 0 && (served & 0xf0) > (tpr & 0xf0) ? (uint8_t)(served & 0xf0) : tpr;
}

int lapic_pending(const struct lapic *lapic)
{
	int vector;

	if (!is_on(lapic))
		return -1;
	vector = highest(lapic, REG_IRR);
	return vector >= 0 && (vector & 0xf0) > (ppr(lapic) & 0xf0) ? vector : -1;
}

void lapic_acknowledge(struct lapic *lapic, uint8_t vector)
{
	set_bit(lapic, REG_IRR, vector, false);
	set_bit(lapic, REG_ISR, vector, true);
}

bool lapic_takes_extint(const struct lapic *lapic)
{
	uint32_t lvt = get(lapic, REG_LVT_LINT0);

	if (!(lapic->base & LAPIC_BASE_ENABLE))
		return lapic->id == 0;
	return !(lvt & LVT_MASKED) && ((lvt >> 8) & 7) == LAPIC_EXTINT;
}

static void raise(struct lapic *lapic, uint8_t vector, bool level)
{
	if (!is_on(lapic))
		return;
	if (vector < 16) {
		*reg(lapic, REG_ESR) |= 1 << 6; /* received an illegal vector */
		return;
	}
	set_bit(lapic, REG_IRR, vector, true);
	set_bit(lapic, REG_TMR, vector, level);
	lapic->events->changed(lapic);
}

void lapic_accept(struct lapic *lapic, const struct lapic_message *message)
{
	switch (message->delivery) {
	case LAPIC_FIXED:
	case LAPIC_LOWEST:
		raise(lapic, message->vector, message->level);
		return;
	case LAPIC_INIT:
		lapic_reset(lapic, true);
		lapic->events->signal(lapic, message->delivery, 0);
		return;
	case LAPIC_NMI:
	case LAPIC_STARTUP:
		lapic->events->signal(lapic, message->delivery, message->vector);
		return;
	case LAPIC_SMI: /* there is no system management mode */
	case LAPIC_EXTINT:
		return;
	}
}

static uint32_t logical_id(const struct lapic *lapic)
{
	if (is_x2apic(lapic))
		return (lapic->id >> 4) << 16 | 1u << (lapic->id & 15);
	return get(lapic, REG_LDR);
}

bool lapic_matches(const struct lapic *lapic, const struct lapic_message *message)
{
	uint32_t destination = message->destination;
	uint32_t own = logical_id(lapic);

	if (!(lapic->base & LAPIC_BASE_ENABLE))
		return false;
	if (destination == (message->wide ? UINT32_MAX : 0xff))
		return true;
	if (!message->logical)
		return destination ==
		       (is_x2apic(lapic) || message->wide ? lapic->id : get(lapic, REG_ID) >> 24);
	if (is_x2apic(lapic)) {
		/* An 8-bit destination names CPUs of cluster 0. */
		return destination >> 16 == own >> 16 && (destination & own & 0xffff);
	}
	own >>= 24;
	if (get(lapic, REG_DFR) >> 28 == 0xf)
		return destination & own;
	return destination >> 4 == own >> 4 && (destination & own & 0xf);
}

/* The divider's shift: bits 3, 1 and 0 of the register, biased by one. */
static unsigned int divide_shift(const struct lapic *lapic)
{
	uint32_t value = get(lapic, REG_TIMER_DIVIDE);

	return (((value & 3) | (value & 8) >> 1) + 1) & 7;
}

static unsigned int timer_mode(const struct lapic *lapic)
{
	return (get(lapic, REG_LVT_TIMER) >> LVT_MODE_SHIFT) & 3;
}

static void set_deadline(struct lapic *lapic, int64_t deadline_ns)
{
	lapic->timer_deadline_ns = deadline_ns;
	lapic->events->set_timer(lapic, deadline_ns);
}

/* A guest could ask for a period so short that the device thread did nothing else. */
enum { PERIOD_MIN_NS = 20000 };

static int64_t period_ns(const struct lapic *lapic)
{
	int64_t period = (int64_t)get(lapic, REG_TIMER_INITIAL) << divide_shift(lapic);

	return timer_mode(lapic) == TIMER_PERIODIC && period < PERIOD_MIN_NS ? PERIOD_MIN_NS
									     : period;
}

static void start_count(struct lapic *lapic)
{
	if (timer_mode(lapic) == TIMER_TSC_DEADLINE)
		return;
	if (!get(lapic, REG_TIMER_INITIAL)) {
		set_deadline(lapic, TIMER_NEVER);
		return;
	}
	lapic->timer_started_ns = clock_monotonic_ns();
	set_deadline(lapic, lapic->timer_started_ns + period_ns(lapic));
}

static uint32_t current_count(const struct lapic *lapic)
{
	int64_t left;

	if (timer_mode(lapic) == TIMER_TSC_DEADLINE || lapic->timer_deadline_ns == TIMER_NEVER)
		return 0;
	left = lapic->timer_deadline_ns - clock_monotonic_ns();
	return left > 0 ? (uint32_t)(left >> divide_shift(lapic)) : 0;
}

static void set_tsc_deadline(struct lapic *lapic, uint64_t deadline)
{
	uint64_t khz, now;
	int64_t ns;

	if (timer_mode(lapic) != TIMER_TSC_DEADLINE)
		return;
	lapic->tsc_deadline = deadline;
	if (!deadline) {
		set_deadline(lapic, TIMER_NEVER);
		return;
	}
	now = lapic->events->tsc(lapic, &khz);
	if (deadline <= now) { /* at once, before the next instruction */
		lapic->timer_deadline_ns = clock_monotonic_ns();
		lapic_timer_fired(lapic);
		lapic->events->set_timer(lapic, TIMER_NEVER);
		return;
	}
	ns = (int64_t)((unsigned __int128)(deadline - now) * 1000000 / khz);
	if (ns < 0 || ns > INT64_MAX / 2)
		ns = INT64_MAX / 2;
	set_deadline(lapic, clock_monotonic_ns() + ns);
}

void lapic_timer_fired(struct lapic *lapic)
{
	uint32_t lvt = get(lapic, REG_LVT_TIMER);

	if (lapic->timer_deadline_ns > clock_monotonic_ns())
		return; /* set anew meanwhile */
	if (timer_mode(lapic) == TIMER_PERIODIC && get(lapic, REG_TIMER_INITIAL)) {
		int64_t period = period_ns(lapic), now = clock_monotonic_ns();
		int64_t next = lapic->timer_deadline_ns + period;

		/* Ticks that were missed by much are not made up for: the guest reads a clock. */
		set_deadline(lapic, next > now - 10 * period ? next : now + period);
	} else {
		lapic->timer_deadline_ns = TIMER_NEVER;
		lapic->tsc_deadline = 0;
	}
	if (!(lvt & LVT_MASKED))
		raise(lapic, (uint8_t)lvt, false);
}

static void write_icr(struct lapic *lapic, uint64_t value)
{
	struct lapic_message message = {
		.vector = (uint8_t)value,
		.delivery = (value >> 8) & 7,
		.logical = value & (1 << 11),
		.level = false, /* IPIs are edges, but for the ancient de-assert of INIT */
		.destination = is_x2apic(lapic) ? value >> 32 : (value >> 56) & 0xff,
		.wide = is_x2apic(lapic),
	};

	if (message.delivery == LAPIC_INIT && (value & (1 << 15)) && !(value & (1 << 14)))
		return;
	if (message.vector < 16 && message.delivery <= LAPIC_LOWEST) {
		*reg(lapic, REG_ESR) |= ESR_ILLEGAL_VECTOR_SEND;
		return;
	}
	lapic->events->send(lapic, &message, (value >> 18) & 3);
}

static void end_of_interrupt(struct lapic *lapic)
{
	int vector = highest(lapic, REG_ISR);

	if (vector < 0)
		return;
	set_bit(lapic, REG_ISR, (uint8_t)vector, false);
	if (test_bit(lapic, REG_TMR, (uint8_t)vector))
		lapic->events->end_level(lapic, (uint8_t)vector);
	lapic->events->changed(lapic);
}

static void write_lvt(struct lapic *lapic, uint32_t offset, uint32_t value)
{
	unsigned int mode = timer_mode(lapic);

	if (!(get(lapic, REG_SVR) & SVR_ENABLE))
		value |= LVT_MASKED;
	switch (offset) {
	case REG_LVT_TIMER:
		*reg(lapic, offset) = value & 0x700ff;
		/* Changing between the deadline and the counting modes disarms. */
		if (mode != timer_mode(lapic) &&
		    (mode == TIMER_TSC_DEADLINE || timer_mode(lapic) == TIMER_TSC_DEADLINE)) {
			lapic->tsc_deadline = 0;
			*reg(lapic, REG_TIMER_INITIAL) = 0;
			set_deadline(lapic, TIMER_NEVER);
		}
		break;
	case REG_LVT_LINT0:
	case REG_LVT_LINT1:
		*reg(lapic, offset) = value & 0x1a7ff;
		break;
	default:
		*reg(lapic, offset) = value & 0x107ff;
	}
	lapic->events->changed(lapic);
}

static void write_svr(struct lapic *lapic, uint32_t value)
{
	*reg(lapic, REG_SVR) = value & 0x1ff;
	if (!(value & SVR_ENABLE))
		for (uint32_t lvt = REG_LVT_TIMER; lvt <= REG_LVT_ERROR; lvt += 16)
			*reg(lapic, lvt) |= LVT_MASKED;
	lapic->events->changed(lapic);
}

/* Registers that both modes have. false: there is none to write at this offset. */
static bool write_register(struct lapic *lapic, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case REG_TPR:
		lapic_set_tpr(lapic, (uint8_t)value);
		return true;
	case REG_EOI:
		end_of_interrupt(lapic);
		return true;
	case REG_SVR:
		write_svr(lapic, value);
		return true;
	case REG_ESR:
		*reg(lapic, REG_ESR) = 0;
		return true;
	case REG_LVT_TIMER:
	case REG_LVT_THERMAL:
	case REG_LVT_PERF:
	case REG_LVT_LINT0:
	case REG_LVT_LINT1:
	case REG_LVT_ERROR:
		write_lvt(lapic, offset, value);
		return true;
	case REG_TIMER_INITIAL:
		if (timer_mode(lapic) == TIMER_TSC_DEADLINE)
			return true;
		*reg(lapic, offset) = value;
		start_count(lapic);
		return true;
	case REG_TIMER_DIVIDE:
		*reg(lapic, offset) = value & 0xb;
		return true;
	}
	return false;
}

void lapic_write(struct lapic *lapic, uint32_t offset, uint32_t value)
{
	offset &= 0xff0;
	switch (offset) {
	case REG_ID:
	case REG_LDR:
		*reg(lapic, offset) = value & 0xff000000;
		return;
	case REG_DFR:
		*reg(lapic, offset) = value | 0x0fffffff;
		return;
	case REG_ICR_HIGH:
		*reg(lapic, offset) = value & 0xff000000;
		return;
	case REG_ICR:
		*reg(lapic, offset) = value & 0xfffff & ~(1u << 12);
		write_icr(lapic, (uint64_t)get(lapic, REG_ICR_HIGH) << 32 | value);
		return;
	}
	if (!write_register(lapic, offset, value))
		*reg(lapic, REG_ESR) |= ESR_ILLEGAL_REGISTER;
}

uint32_t lapic_read(struct lapic *lapic, uint32_t offset)
{
	offset &= 0xff0;
	switch (offset) {
	case REG_ID:
		return is_x2apic(lapic) ? lapic->id : get(lapic, REG_ID);
	case REG_VERSION:
		return VERSION;
	case REG_PPR:
		return ppr(lapic);
	case REG_LDR:
		return logical_id(lapic);
	case REG_TIMER_CURRENT:
		return current_count(lapic);
	case REG_EOI:
	case REG_SELF_IPI:
		return 0;
	default:
		/* The page is longer than what is in it. */
		return offset < 16 * LAPIC_REGISTERS ? get(lapic, offset) : 0;
	}
}

bool lapic_is_msr(uint32_t index)
{
	return index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
	       (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST);
}

static bool has_x2apic_register(uint32_t offset)
{
	switch (offset) {
	case REG_ID:
	case REG_VERSION:
	case REG_TPR:
	case REG_PPR:
	case REG_LDR:
	case REG_SVR:
	case REG_ESR:
	case REG_ICR:
	case REG_TIMER_INITIAL:
	case REG_TIMER_CURRENT:
	case REG_TIMER_DIVIDE:
		return true;
	}
	return (offset >= REG_ISR && offset < REG_ESR) ||
	       (offset >= REG_LVT_TIMER && offset <= REG_LVT_ERROR);
}

bool lapic_read_msr(struct lapic *lapic, uint32_t index, uint64_t *ret)
{
	uint32_t offset = (index - MSR_X2APIC) << 4;

	if (index == MSR_APIC_BASE) {
		*ret = lapic->base;
		return true;
	}
	if (index == MSR_TSC_DEADLINE) {
		*ret = lapic->tsc_deadline;
		return true;
	}
	if (!is_x2apic(lapic) || !has_x2apic_register(offset))
		return false;
	*ret = lapic_read(lapic, offset);
	if (offset == REG_ICR)
		*ret |= (uint64_t)get(lapic, REG_ICR_HIGH) << 32;
	return true;
}

static bool write_base(struct lapic *lapic, uint64_t value)
{
	const uint64_t modes = LAPIC_BASE_ENABLE | LAPIC_BASE_X2APIC;
	uint64_t before = lapic->base & modes, after = value & modes;

	if (value & ~(BASE_WRITABLE | modes | LAPIC_BASE_BSP))
		return false;
	/* x2APIC needs the APIC on, and is only left by switching all off. */
	if (after == LAPIC_BASE_X2APIC || (before == modes && after == LAPIC_BASE_ENABLE) ||
	    (before == 0 && after == modes))
		return false;
	if (before != 0 && after == 0)
		lapic_reset(lapic, true);
	lapic->base = (value & (BASE_WRITABLE | modes)) | (lapic->id ? 0 : LAPIC_BASE_BSP);
	if (after == LAPIC_BASE_ENABLE && before == 0)
		*reg(lapic, REG_ID) = lapic->id << 24;
	lapic->events->changed(lapic);
	return true;
}

bool lapic_write_msr(struct lapic *lapic, uint32_t index, uint64_t value)
{
	uint32_t offset = (index - MSR_X2APIC) << 4;

	if (index == MSR_APIC_BASE)
		return write_base(lapic, value);
	if (index == MSR_TSC_DEADLINE) {
		set_tsc_deadline(lapic, value);
		return true;
	}
	if (!is_x2apic(lapic))
		return false;
	switch (offset) {
	case REG_ICR:
		if (value & 0xfff32000)
			return false;
		*reg(lapic, REG_ICR) = (uint32_t)value;
		*reg(lapic, REG_ICR_HIGH) = (uint32_t)(value >> 32);
		write_icr(lapic, value);
		return true;
	case REG_SELF_IPI:
		if (value > 0xff)
			return false;
		raise(lapic, (uint8_t)value, false);
		return true;
	case REG_EOI:
	case REG_ESR:
		if (value)
			return false;
		break;
	}
	return value <= UINT32_MAX && write_register(lapic, offset, (uint32_t)value);
}

uint8_t lapic_get_tpr(const struct lapic *lapic)
{
	return (uint8_t)get(lapic, REG_TPR);
}

void lapic_set_tpr(struct lapic *lapic, uint8_t value)
{
	*reg(lapic, REG_TPR) = value;
	lapic->events->changed(lapic);
}

void lapic_save(const struct lapic *lapic, struct state_writer *out)
{
	int64_t left = lapic->timer_deadline_ns;

	/* Deadlines are kept as distances: the clock of the restoring host is another. */
	if (left != TIMER_NEVER)
		left -= clock_monotonic_ns();
	state_put_u64(out, lapic->base);
	state_put(out, lapic->registers, sizeof(lapic->registers));
	state_put_u64(out, lapic->tsc_deadline);
	state_put_u64(out, (uint64_t)left);
}

void lapic_load(struct lapic *lapic, struct state_reader *in)
{
	int64_t left;

	lapic->base = state_get_u64(in);
	state_get(in, lapic->registers, sizeof(lapic->registers));
	lapic->tsc_deadline = state_get_u64(in);
	left = (int64_t)state_get_u64(in);
	if (left != TIMER_NEVER && left > INT64_MAX / 2)
		left = INT64_MAX / 2;
	if (left < 0) /* overdue */
		left = 0;
	set_deadline(lapic, left == TIMER_NEVER ? left : clock_monotonic_ns() + left);
}
