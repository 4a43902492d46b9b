/* The interrupt controllers, seen by devices and CPUs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/chip/ioapic.h"
#include "vmm/chip/irqchip.h"

#include <cmocka.h>

enum { CPUS = 3, LEVEL = 1 << 15, MASKED = 1 << 16 };

struct fixture {
	struct irqchip_host host;
	struct timer_queue timers;
	struct bus ports, mmio;
	struct irqchip *chip;
	unsigned int requests[CPUS][CPU_REQUEST_FLUSH + 1];
	unsigned int startup_vector;
};

static void on_request(struct irqchip_host *host, unsigned int cpu, enum cpu_request request,
		       unsigned int argument)
{
	struct fixture *f = container_of(host, struct fixture, host);

	f->requests[cpu][request]++;
	if (request == CPU_REQUEST_STARTUP)
		f->startup_vector = argument;
}

/* A counter of one tick per nanosecond. */
static uint64_t get_tsc(struct irqchip_host *host, unsigned int cpu, uint64_t *ret_khz)
{
	(void)host;
	(void)cpu;
	*ret_khz = 1000000;
	return (uint64_t)clock_monotonic_ns();
}

static const struct irqchip_host_ops host_ops = {.request = on_request, .tsc = get_tsc};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	f->host.ops = &host_ops;
	bus_init(&f->ports);
	bus_init(&f->mmio);
	assert_int_equal(timer_queue_init(&f->timers), 0);
	assert_int_equal(irqchip_create(CPUS, &f->host, &f->timers, &f->ports, &f->mmio, &f->chip),
			 0);
	for (unsigned int i = 0; i < CPUS; i++)
		irqchip_apic_write(f->chip, i, 0xf0, 0x1ff); /* software enable */
	memset(f->requests, 0, sizeof(f->requests));
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	struct device *device = irqchip_device(f->chip);

	device->ops->destroy(device);
	timer_queue_release(&f->timers);
	bus_release(&f->ports);
	bus_release(&f->mmio);
	own_mem_release(&f);
	return 0;
}

static void route(struct fixture *f, unsigned int pin, uint32_t low, uint8_t destination)
{
	bus_write(&f->mmio, IOAPIC_PAGE, 4, 0x10 + 2 * pin + 1);
	bus_write(&f->mmio, IOAPIC_PAGE + 0x10, 4, (uint32_t)destination << 24);
	bus_write(&f->mmio, IOAPIC_PAGE, 4, 0x10 + 2 * pin);
	bus_write(&f->mmio, IOAPIC_PAGE + 0x10, 4, low);
}

static void end_of_interrupt(struct fixture *f, unsigned int cpu)
{
	irqchip_apic_write(f->chip, cpu, 0xb0, 0);
}

static void edge_arrives_once_at_its_cpu(void **state)
{
	struct fixture *f = *state;

	route(f, 5, 0x45, 1);
	irq_pulse(irqchip_irq(f->chip), 5);
	assert_int_equal(f->requests[1][CPU_REQUEST_INTERRUPT], 1);
	assert_int_equal(f->requests[0][CPU_REQUEST_INTERRUPT], 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 1), 0x45);
	assert_int_equal(irqchip_acknowledge(f->chip, 1), -1);
	end_of_interrupt(f, 1);
	assert_int_equal(irqchip_acknowledge(f->chip, 1), -1);
}

static void level_comes_again_until_it_falls(void **state)
{
	struct fixture *f = *state;
	struct irq *irq = irqchip_irq(f->chip);

	route(f, 9, 0x49 | LEVEL, 0);
	irq_set_line(irq, 9, true);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x49);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	end_of_interrupt(f, 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x49);
	irq_set_line(irq, 9, false);
	end_of_interrupt(f, 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
}

static void masked_edge_is_kept(void **state)
{
	struct fixture *f = *state;

	route(f, 5, 0x45 | MASKED, 0);
	irq_pulse(irqchip_irq(f->chip), 5);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	route(f, 5, 0x45, 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x45);
}

static void higher_priority_interrupts_lower(void **state)
{
	struct fixture *f = *state;
	struct irq *irq = irqchip_irq(f->chip);

	irq_send_msi(irq, LAPIC_PAGE, 0x51);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x51);
	irq_send_msi(irq, LAPIC_PAGE, 0x5f); /* the same class waits */
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	irq_send_msi(irq, LAPIC_PAGE, 0x61);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x61);
	end_of_interrupt(f, 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	end_of_interrupt(f, 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x5f);
}

static void task_priority_holds_back(void **state)
{
	struct fixture *f = *state;

	irqchip_set_cr8(f->chip, 0, 6);
	irq_send_msi(irqchip_irq(f->chip), LAPIC_PAGE, 0x65);
	assert_int_equal(f->requests[0][CPU_REQUEST_INTERRUPT], 0);
	irqchip_set_cr8(f->chip, 0, 5);
	assert_int_equal(f->requests[0][CPU_REQUEST_INTERRUPT], 1);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x65);
	assert_int_equal(irqchip_get_cr8(f->chip, 0), 5);
}

static void startup_sequence_reaches_the_other_cpu(void **state)
{
	struct fixture *f = *state;

	irqchip_apic_write(f->chip, 0, 0x310, 2u << 24);
	irqchip_apic_write(f->chip, 0, 0x300, 0x4500); /* INIT, assert */
	irqchip_apic_write(f->chip, 0, 0x300, 0x4600 | 0x9a);
	assert_int_equal(f->requests[2][CPU_REQUEST_INIT], 1);
	assert_int_equal(f->requests[2][CPU_REQUEST_STARTUP], 1);
	assert_int_equal(f->startup_vector, 0x9a);
	assert_int_equal(f->requests[1][CPU_REQUEST_INIT], 0);
}

static void init_keeps_the_id_that_was_written(void **state)
{
	struct fixture *f = *state;

	irqchip_apic_write(f->chip, 2, 0x20, 7u << 24);
	irqchip_apic_write(f->chip, 0, 0x310, 7u << 24);
	irqchip_apic_write(f->chip, 0, 0x300, 0x4500); /* INIT, assert */
	assert_int_equal(irqchip_apic_read(f->chip, 2, 0x20), 7u << 24);
	irqchip_apic_write(f->chip, 0, 0x300, 0x4600 | 0x9a);
	assert_int_equal(f->requests[2][CPU_REQUEST_INIT], 1);
	assert_int_equal(f->requests[2][CPU_REQUEST_STARTUP], 1);
}

static void shorthand_excludes_the_sender(void **state)
{
	struct fixture *f = *state;

	irqchip_apic_write(f->chip, 1, 0x300, 3 << 18 | 0x77);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x77);
	assert_int_equal(irqchip_acknowledge(f->chip, 1), -1);
	assert_int_equal(irqchip_acknowledge(f->chip, 2), 0x77);
}

static void nothing_is_behind_the_registers(void **state)
{
	struct fixture *f = *state;

	for (uint32_t offset = 0x400; offset < 0x1000; offset += 16) {
		irqchip_apic_write(f->chip, 0, offset, 0xffffffff);
		assert_int_equal(irqchip_apic_read(f->chip, 0, offset), 0);
	}
}

static void x2apic_is_entered_and_used(void **state)
{
	struct fixture *f = *state;
	uint64_t value;

	assert_false(irqchip_read_msr(f->chip, 1, 0x802, &value));
	assert_true(irqchip_read_msr(f->chip, 1, 0x1b, &value));
	assert_int_equal(value, LAPIC_PAGE | 1 << 11);
	assert_true(irqchip_write_msr(f->chip, 1, 0x1b, value | 1 << 10));
	assert_false(irqchip_apic_page(f->chip, 1, LAPIC_PAGE));
	assert_true(irqchip_read_msr(f->chip, 1, 0x802, &value));
	assert_int_equal(value, 1);
	/* Back to xAPIC without switching off is not allowed. */
	assert_false(irqchip_write_msr(f->chip, 1, 0x1b, LAPIC_PAGE | 1 << 11));
	assert_true(irqchip_write_msr(f->chip, 1, 0x83f, 0x81)); /* to itself */
	assert_int_equal(irqchip_acknowledge(f->chip, 1), 0x81);
	assert_false(irqchip_write_msr(f->chip, 1, 0x80b, 1)); /* only zero ends an interrupt */
	assert_true(irqchip_write_msr(f->chip, 1, 0x80b, 0));
	assert_true(irqchip_write_msr(f->chip, 1, 0x830, 2ull << 32 | 0x91));
	assert_int_equal(irqchip_acknowledge(f->chip, 2), 0x91);
}

static void run_timers(struct fixture *f, int timeout_ms)
{
	struct pollfd p = {.fd = f->timers.fd, .events = POLLIN};

	if (poll(&p, 1, timeout_ms) > 0)
		timer_queue_run(&f->timers);
}

static void tsc_deadline_fires_once(void **state)
{
	struct fixture *f = *state;
	uint64_t khz, now = get_tsc(&f->host, 0, &khz), value;

	irqchip_apic_write(f->chip, 0, 0x320, 2 << 17 | 0xec);
	assert_true(irqchip_write_msr(f->chip, 0, 0x6e0, now + 2000000));
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	run_timers(f, 1000);
	assert_true(get_tsc(&f->host, 0, &khz) >= now + 2000000);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0xec);
	assert_true(irqchip_read_msr(f->chip, 0, 0x6e0, &value));
	assert_int_equal(value, 0);
	run_timers(f, 20);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
}

static void periodic_timer_comes_again(void **state)
{
	struct fixture *f = *state;

	irqchip_apic_write(f->chip, 0, 0x3e0, 0xb); /* divide by 1 */
	irqchip_apic_write(f->chip, 0, 0x320, 1 << 17 | 0xec);
	irqchip_apic_write(f->chip, 0, 0x380, 1000000);
	for (unsigned int i = 0; i < 3; i++) {
		run_timers(f, 1000);
		assert_int_equal(irqchip_acknowledge(f->chip, 0), 0xec);
		end_of_interrupt(f, 0);
	}
	irqchip_apic_write(f->chip, 0, 0x380, 0);
	run_timers(f, 20);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
}

static void pic_interrupts_the_first_cpu(void **state)
{
	struct fixture *f = *state;
	static const struct {
		uint16_t port;
		uint8_t value;
	} init[] = {{0x20, 0x11}, {0x21, 0x20}, {0x21, 4}, {0x21, 1}, {0xa0, 0x11},
		    {0xa1, 0x28}, {0xa1, 2},    {0xa1, 1}, {0x21, 0}, {0xa1, 0}};

	irqchip_apic_write(f->chip, 0, 0x350, 0x700); /* LINT0: the PIC */
	for (unsigned int i = 0; i < array_size(init); i++)
		bus_write(&f->ports, init[i].port, 1, init[i].value);
	irq_pulse(irqchip_irq(f->chip), 4);
	irq_pulse(irqchip_irq(f->chip), 8);
	/* The slave's inputs stand between the master's 1 and 3. */
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x28);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	bus_write(&f->ports, 0xa0, 1, 0x20);
	bus_write(&f->ports, 0x20, 1, 0x20);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x24);
	assert_int_equal(irqchip_acknowledge(f->chip, 1), -1);
}

static void state_survives_saving(void **state)
{
	struct fixture *f = *state;
	struct device *device = irqchip_device(f->chip);
	struct state_writer out = {0};
	struct state_reader in;

	route(f, 5, 0x45, 1);
	irq_send_msi(irqchip_irq(f->chip), LAPIC_PAGE, 0x51);
	irqchip_apic_write(f->chip, 2, 0x320, 0xec);
	irqchip_apic_write(f->chip, 2, 0x380, 3000000);
	state_begin(&out, "irqchip", 0, 1);
	device->ops->save(device, &out);
	state_end(&out);
	device->ops->reset(device);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), -1);
	assert_int_equal(state_find(out.data.data, out.data.len, "irqchip", 0, &in), 0);
	assert_int_equal(device->ops->load(device, &in), 0);
	assert_int_equal(irqchip_acknowledge(f->chip, 0), 0x51);
	irq_pulse(irqchip_irq(f->chip), 5);
	assert_int_equal(irqchip_acknowledge(f->chip, 1), 0x45);
	run_timers(f, 1000);
	assert_int_equal(irqchip_acknowledge(f->chip, 2), 0xec);
	assert_int_equal(state_find(out.data.data, out.data.len, "irqchip", 0, &in), 0);
	in.end -= 4;
	assert_int_equal(device->ops->load(device, &in), -EINVAL);
	buf_release(&out.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(edge_arrives_once_at_its_cpu),
		TEST(level_comes_again_until_it_falls),
		TEST(masked_edge_is_kept),
		TEST(higher_priority_interrupts_lower),
		TEST(task_priority_holds_back),
		TEST(startup_sequence_reaches_the_other_cpu),
		TEST(init_keeps_the_id_that_was_written),
		TEST(shorthand_excludes_the_sender),
		TEST(nothing_is_behind_the_registers),
		TEST(x2apic_is_entered_and_used),
		TEST(tsc_deadline_fires_once),
		TEST(periodic_timer_comes_again),
		TEST(pic_interrupts_the_first_cpu),
		TEST(state_survives_saving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
