/* Interrupts on their way into KVM: lines, and messages that an eventfd sends; and what must not get lost of a vCPU's
 * state. Also a /dev/kvm that only emulates the CPU has the kernel's interrupt controllers. */
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <x86intrin.h>

#include "../../cpu/guest.h"
#include "base/mem.h"
#include "vmm/cpu/kvm/kvm_priv.h"
#include "vmm/tsc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum {
	LAPIC_SPURIOUS = 0xf0,
	LAPIC_REQUESTS = 0x200, /* eight registers, one each 16 bytes */
	ENABLED = 0x1ff,
	LAPIC_ADDRESS = 0xfee00000,
	MESSAGE_STARTUP = 0x600,
	MSR_TSC = 0x10,
	MSR_ASYNC_FAULT_VECTOR = 0x4b564d06,
};

static bool have_kvm; /* false: there is no /dev/kvm */

static int set_up(void **state)
{
	struct guest *g = mem_new(sizeof(*g));
	struct kvm_lapic_state lapic;
	struct error err = {0};

	have_kvm = guest_open_on(g, &cpu_accel_kvm, &err) == 0;
	*state = g;
	if (!have_kvm) {
		print_message("NOT TESTED: %s\n", err.text);
		return 0;
	}
	if (ioctl(kvm_vcpu_of(g->vcpu)->fd, KVM_GET_LAPIC, &lapic) < 0)
		return -1;
	memcpy(lapic.regs + LAPIC_SPURIOUS, &(uint32_t){ENABLED}, 4);
	return ioctl(kvm_vcpu_of(g->vcpu)->fd, KVM_SET_LAPIC, &lapic);
}

static int tear_down(void **state)
{
	struct guest *g = *state;

	if (have_kvm)
		guest_close(g);
	own_mem_release(&g);
	return 0;
}

/* Whether the local APIC has been asked for this vector; by a thread of the kernel's in the worst case. */
static bool is_requested(struct guest *g, unsigned int vector)
{
	for (unsigned int i = 0; i < 100; i++) {
		struct kvm_lapic_state lapic;
		uint32_t word;

		assert_int_equal(ioctl(kvm_vcpu_of(g->vcpu)->fd, KVM_GET_LAPIC, &lapic), 0);
		memcpy(&word, lapic.regs + LAPIC_REQUESTS + vector / 32 * 16, 4);
		if (word >> vector % 32 & 1)
			return true;
		usleep(1000);
	}
	return false;
}

static struct kvm_irqchip get_chip(struct guest *g, unsigned int id)
{
	struct kvm_irqchip chip = {.chip_id = id};

	assert_int_equal(ioctl(kvm_vm_of(g->vm)->fd, KVM_GET_IRQCHIP, &chip), 0);
	return chip;
}

static void the_timers_line_is_input_2_of_the_io_apic(void **state)
{
	struct guest *g = *state;

	if (!have_kvm)
		skip();
	/* Only an input that is not masked is remembered: edge, vector 0x55. */
	struct kvm_irqchip chip = get_chip(g, KVM_IRQCHIP_IOAPIC);

	chip.chip.ioapic.redirtbl[0].bits = chip.chip.ioapic.redirtbl[2].bits = 0;
	chip.chip.ioapic.redirtbl[0].fields.vector = 0x44;
	chip.chip.ioapic.redirtbl[2].fields.vector = 0x55;
	assert_int_equal(ioctl(kvm_vm_of(g->vm)->fd, KVM_SET_IRQCHIP, &chip), 0);
	irq_set_line(kvm_irq(g->vm), IRQ_PIT, true);
	assert_true(is_requested(g, 0x55));
	assert_int_equal(get_chip(g, KVM_IRQCHIP_PIC_MASTER).chip.pic.irr & 5, 1);
	assert_false(is_requested(g, 0x44));
	irq_set_line(kvm_irq(g->vm), IRQ_PIT, false);
}

static void an_eventfd_sends_its_message_as_it_is_now(void **state)
{
	struct guest *g = *state;
	struct irq *irq;
	unsigned int first = 0, second = 0;

	if (!have_kvm)
		skip();
	irq = kvm_irq(g->vm);
	assert_int_equal(irq->ops->set_route(irq, &first, LAPIC_ADDRESS, 0x61), 0);
	assert_int_equal(irq->ops->set_route(irq, &second, LAPIC_ADDRESS, 0x62), 0);
	irq->ops->signal_route(irq, second);
	assert_true(is_requested(g, 0x62));
	assert_false(is_requested(g, 0x61));
	assert_int_equal(irq->ops->set_route(irq, &first, LAPIC_ADDRESS, 0x63), 0);
	irq->ops->signal_route(irq, first);
	assert_true(is_requested(g, 0x63));
	assert_false(is_requested(g, 0x61));
	/* And as often as it is told to: the first has not been used up. */
	assert_int_equal(irq->ops->set_route(irq, &first, LAPIC_ADDRESS, 0x64), 0);
	irq->ops->signal_route(irq, first);
	assert_true(is_requested(g, 0x64));
}

static void there_are_as_many_routes_as_there_are(void **state)
{
	struct guest *g = *state;
	struct irq *irq;

	if (!have_kvm)
		skip();
	irq = kvm_irq(g->vm);
	kvm_vm_of(g->vm)->route_count = KVM_ROUTES_MAX;
	assert_int_equal(irq->ops->set_route(irq, &(unsigned int){0}, LAPIC_ADDRESS, 0x70),
			 -ENOSPC);
	kvm_vm_of(g->vm)->route_count = 0;
}

static void who_waits_for_a_startup_message_takes_it(void **state)
{
	struct guest *g = *state;
	struct cpu_state cpu;

	if (!have_kvm)
		skip();
	assert_int_equal(kvm_get_state(g->vcpu, &cpu), 0);
	cpu.events.activity = CPU_WAITS_FOR_STARTUP;
	assert_int_equal(kvm_set_state(g->vcpu, &cpu), 0);
	irq_send_msi(kvm_irq(g->vm), LAPIC_ADDRESS, MESSAGE_STARTUP | 0x12);
	assert_int_equal(kvm_get_state(g->vcpu, &cpu), 0);
	assert_int_equal(cpu.events.activity, CPU_RUNNABLE);
	assert_int_equal(cpu.segments[CPU_CS].base, 0x12000);
}

static uint64_t *msr_of(struct cpu_state *cpu, uint32_t index)
{
	for (unsigned int i = 0; i < cpu->msr_count; i++)
		if (cpu->msrs[i].index == index)
			return &cpu->msrs[i].value;
	return NULL;
}

/* Also by less than a second, which KVM takes for the wish to leave the counters as they are. */
static void the_clock_is_set_to_the_tick(void **state)
{
	struct guest *g = *state;
	struct cpu_state cpu;
	uint64_t value, ticks = tsc_khz() * 300;

	if (!have_kvm)
		skip();
	g->vm->moment_tsc = __rdtsc();
	assert_int_equal(kvm_get_state(g->vcpu, &cpu), 0);
	if (*msr_of(&cpu, MSR_TSC) == g->vm->moment_tsc) {
		print_message("NOT TESTED: this KVM's guests see the host's counter\n");
		skip();
	}
	value = *msr_of(&cpu, MSR_TSC) += ticks;
	assert_int_equal(kvm_set_state(g->vcpu, &cpu), 0);
	g->vm->moment_tsc += 12345;
	assert_int_equal(kvm_get_state(g->vcpu, &cpu), 0);
	assert_int_equal(*msr_of(&cpu, MSR_TSC), value + 12345);
}

static void asynchronous_faults_keep_their_vector(void **state)
{
	struct guest *g = *state;
	struct cpu_state cpu;

	if (!have_kvm)
		skip();
	assert_int_equal(kvm_get_state(g->vcpu, &cpu), 0);
	if (!msr_of(&cpu, MSR_ASYNC_FAULT_VECTOR)) {
		print_message("NOT TESTED: this KVM sends no interrupts for them\n");
		skip();
	}
	*msr_of(&cpu, MSR_ASYNC_FAULT_VECTOR) = 0xec;
	assert_int_equal(kvm_set_state(g->vcpu, &cpu), 0);
	assert_int_equal(kvm_get_state(g->vcpu, &cpu), 0);
	assert_int_equal(*msr_of(&cpu, MSR_ASYNC_FAULT_VECTOR), 0xec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(the_timers_line_is_input_2_of_the_io_apic, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(an_eventfd_sends_its_message_as_it_is_now, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(there_are_as_many_routes_as_there_are, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(who_waits_for_a_startup_message_takes_it, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_clock_is_set_to_the_tick, set_up, tear_down),
		cmocka_unit_test_setup_teardown(asynchronous_faults_keep_their_vector, set_up,
						tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
