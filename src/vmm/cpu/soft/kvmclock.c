/* kvmclock: see the header. The layouts are those of Linux' Documentation/virt/kvm/x86/msr.rst. */
#include "vmm/cpu/soft/kvmclock.h"

#include <time.h>
#include <x86intrin.h>

#include "vmm/cpu/soft/cache.h"
#include "vmm/cpu/soft/mmu.h"

struct wall_clock {
	uint32_t version, seconds, nanoseconds;
} __attribute__((packed));

struct system_time {
	uint32_t version, pad0;
	uint64_t tsc, nanoseconds;
	uint32_t multiplier;
	int8_t shift;
	uint8_t flags;
	uint8_t pad[2];
} __attribute__((packed));

enum { FLAG_TSC_STABLE = 1 };

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void store(struct soft *c, gpa_t gpa, const void *data, unsigned int size)
{
	uint8_t *host = soft_host(c->vm, gpa, NULL);

	if (!host || (gpa & 0xfff) + size > SOFT_PAGE_SIZE)
		return; /* a guest that names no memory gets no clock */
	memcpy(host, data, size);
	cache_written(c, gpa, size);
}

static void write_wall(struct soft *c, gpa_t gpa)
{
	/* The wall time at the clock's zero: the host's start, unless the guest came from a snapshot. */
	uint64_t zero =
		now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC) - (uint64_t)c->vm->vm.clock_offset_ns;
	struct wall_clock w = {2, (uint32_t)(zero / 1000000000u), (uint32_t)(zero % 1000000000u)};

	store(c, gpa, &w, sizeof(w));
}

/* ns = (ticks << shift) * multiplier >> 32 */
static void scale(uint32_t tsc_khz, uint32_t *ret_multiplier, int8_t *ret_shift)
{
	uint64_t hz = tsc_khz * 1000ull, target = 1000000000u;
	int8_t shift = 0;

	while (hz > target * 2) {
		hz >>= 1;
		shift--;
	}
	while (hz <= target / 2 || hz >> 32) {
		hz <<= 1;
		shift++;
	}
	while (hz < target) {
		target >>= 1;
		shift++;
	}
	*ret_multiplier = (uint32_t)((target << 32) / hz);
	*ret_shift = shift;
}

static void write_system_time(struct soft *c, gpa_t gpa)
{
	struct system_time s = {.version = 2, .flags = FLAG_TSC_STABLE};
	const struct cpu_vm *vm = &c->vm->vm;
	uint32_t multiplier;

	scale(c->vm->vm.tsc_khz, &multiplier, &s.shift);
	s.multiplier = multiplier;
	if (vm->moment_tsc) {
		c->vm->clock_tsc = vm->moment_tsc;
		c->vm->clock_ns = (uint64_t)(vm->moment_ns + vm->clock_offset_ns);
	}
	s.tsc = __rdtsc() + c->vcpu.tsc_offset;
	s.nanoseconds = now(CLOCK_MONOTONIC) + (uint64_t)vm->clock_offset_ns;
	if (vm->moment_tsc || (c->vcpu.index > 0 && c->vm->clock_tsc)) {
		/* One line through all CPUs' clocks, so that they agree to the nanosecond. */
		s.tsc = c->vm->clock_tsc + c->vcpu.tsc_offset;
		s.nanoseconds = c->vm->clock_ns;
	} else {
		c->vm->clock_tsc = s.tsc - c->vcpu.tsc_offset;
		c->vm->clock_ns = s.nanoseconds;
	}
	store(c, gpa, &s, sizeof(s));
}

bool kvmclock_read(struct soft *c, uint32_t index, uint64_t *ret)
{
	if (index == KVMCLOCK_WALL)
		*ret = c->msrs.wall_clock;
	else if (index == KVMCLOCK_SYSTEM_TIME)
		*ret = c->msrs.system_time;
	else
		return false;
	return true;
}

bool kvmclock_write(struct soft *c, uint32_t index, uint64_t value)
{
	if (index == KVMCLOCK_WALL) {
		c->msrs.wall_clock = value;
		write_wall(c, value);
	} else if (index == KVMCLOCK_SYSTEM_TIME) {
		c->msrs.system_time = value;
		if (value & 1)
			write_system_time(c, value & ~1ull);
	} else {
		return false;
	}
	return true;
}
