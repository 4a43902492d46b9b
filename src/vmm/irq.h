/*
 * irq: the way from a device to the interrupt controllers, whoever implements them: the kernel's (KVM)
 * or ours (chip/irqchip.h).
 *
 * Lines are numbered as ACPI numbers them (global system interrupts). Line 0 is the PIT's; it reaches
 * input 2 of the IO-APIC and input 0 of the PIC, as on every PC. Any thread may call.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
	IRQ_LINES = 24,
	IRQ_PIT = 0,
	IRQ_SERIAL = 4,
	IRQ_RTC = 8,
	IRQ_SCI = 9, /* ACPI's, level-triggered, active high */
};

struct irq;

struct irq_ops {
	void (*set_line)(struct irq *irq, unsigned int line, bool level);
	/* A message-signalled interrupt: a write of `data` to `address` in the local APICs' range. */
	void (*send_msi)(struct irq *irq, uint64_t address, uint32_t data);
	/* Both may be NULL. From now on `*route` (0 at first, then the caller's for good) stands for this message,
	 * which signal_route sends with no more than a write to an eventfd. -errno: there is only send_msi. */
	int (*set_route)(struct irq *irq, unsigned int *route, uint64_t address, uint32_t data);
	void (*signal_route)(struct irq *irq, unsigned int route);
};

struct irq {
	const struct irq_ops *ops;
};

static inline void irq_set_line(struct irq *irq, unsigned int line, bool level)
{
	irq->ops->set_line(irq, line, level);
}

static inline void irq_pulse(struct irq *irq, unsigned int line)
{
	irq->ops->set_line(irq, line, true);
	irq->ops->set_line(irq, line, false);
}

static inline void irq_send_msi(struct irq *irq, uint64_t address, uint32_t data)
{
	irq->ops->send_msi(irq, address, data);
}
