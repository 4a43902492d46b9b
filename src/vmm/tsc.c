/* tsc: see tsc.h. */
#include "vmm/tsc.h"

#include <pthread.h>
#include <x86intrin.h>

#include "base/clock.h"

struct sample {
	uint64_t tsc;
	int64_t ns;
};

/* Of several pairs the one whose two clock readings lie closest: no interrupt came between. */
static struct sample take_sample(void)
{
	struct sample best = {0};
	int64_t best_width = INT64_MAX;

	for (int i = 0; i < 16; i++) {
		int64_t before = clock_monotonic_ns();
		uint64_t tsc = __rdtsc();
		int64_t width = clock_monotonic_ns() - before;

		if (width < best_width) {
			best_width = width;
			best = (struct sample){.tsc = tsc, .ns = before + width / 2};
		}
	}
	return best;
}

enum { SPAN_NS = 4000000 };

static uint64_t measured_khz;

static void measure(void)
{
	struct sample first = take_sample(), last;

	while (clock_monotonic_ns() - first.ns < SPAN_NS)
		;
	last = take_sample();
	measured_khz = (last.tsc - first.tsc) * 1000000 / (uint64_t)(last.ns - first.ns);
}

uint64_t tsc_khz(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, measure);
	return measured_khz;
}
