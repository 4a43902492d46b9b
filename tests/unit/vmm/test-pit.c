/* The timer of old, asked for more than the device thread can give. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "driver.h"
#include "vmm/chip/chips.h"

#include <cmocka.h>

enum {
	COUNTER_0 = 0x40,
	CONTROL = 0x43,
	LOW_BYTE_MODE_2 = 1 << 4 | 2 << 1,
	LATE_NS = 300000,
	PULSES_MAX = 11, /* missed ones that are made up for, and the present one */
};

static unsigned int pulses;

static void count_pulse(struct irq *irq, unsigned int line, bool level)
{
	(void)irq;
	pulses += line == IRQ_PIT && level;
}

/* A period of a microsecond, on a host where each takes longer, would let nothing else run. */
static void a_period_that_is_too_short_is_made_longer(void **state)
{
	static const struct irq_ops ops = {.set_line = count_pulse};
	const struct timespec late = {.tv_nsec = LATE_NS};
	struct driver_board board;
	struct device *pit = NULL;

	(void)state;
	driver_board_init(&board);
	board.irq.ops = &ops;
	assert_int_equal(pit_create(&board.board, &pit), 0);
	bus_write(&board.board.ports, CONTROL, 1, LOW_BYTE_MODE_2);
	bus_write(&board.board.ports, COUNTER_0, 1, 1);
	for (unsigned int i = 0; i < 20; i++) {
		nanosleep(&late, NULL);
		pulses = 0;
		timer_queue_run(&board.board.timers);
		assert_in_range(pulses, 1, PULSES_MAX);
	}
	pit->ops->destroy(pit);
	driver_board_release(&board);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_period_that_is_too_short_is_made_longer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
