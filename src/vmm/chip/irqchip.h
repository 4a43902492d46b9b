/*
 * irqchip: our own interrupt controllers together: a local APIC per CPU, the IO-APIC, the two PICs.
 * Used by accelerators that do not bring their own.
 *
 * One lock covers them all; it is a leaf, but for calls of host->request (NMI, INIT and STARTUP), which must not
 * call back.
 *
 * Invariants
 *   Q1  whenever irqchip_acknowledge(cpu) would give a vector (seen with the lock held), a request for
 *       an interrupt has been made that no acknowledge has answered yet, or is made by who had the lock last.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/bus.h"
#include "vmm/cpu/cpu.h"
#include "vmm/irq.h"
#include "vmm/timer.h"

struct irqchip;

/* What the irqchip needs from the rest of the machine. */
struct irqchip_host;
struct irqchip_host_ops {
	/* INTERRUPT, NMI, INIT or STARTUP. Any thread. */
	void (*request)(struct irqchip_host *host, unsigned int cpu, enum cpu_request request,
			unsigned int argument);
	/* The CPU's time-stamp counter now, and its rate. Called on that CPU's thread. */
	uint64_t (*tsc)(struct irqchip_host *host, unsigned int cpu, uint64_t *ret_khz);
};
struct irqchip_host {
	const struct irqchip_host_ops *ops;
};

/* Makes the controllers of `cpus` CPUs and puts them on the buses. */
int irqchip_create(unsigned int cpus, struct irqchip_host *host, struct timer_queue *timers,
		   struct bus *ports, struct bus *mmio, struct irqchip **ret) must_check;
/* The device (for reset, save, load, destroy) and the way in for interrupts. */
struct device *irqchip_device(struct irqchip *chip);
struct irq *irqchip_irq(struct irqchip *chip);

/* For the CPU `cpu`, on its own thread: */

/* Takes the interrupt that waits: its vector, or -1 if none does any more. */
int irqchip_acknowledge(struct irqchip *chip, unsigned int cpu);
/* IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC's MSRs. false: #GP. */
bool irqchip_is_msr(uint32_t index);
bool irqchip_read_msr(struct irqchip *chip, unsigned int cpu, uint32_t index, uint64_t *ret);
bool irqchip_write_msr(struct irqchip *chip, unsigned int cpu, uint32_t index, uint64_t value);
/* CR8: the upper half of the task priority. */
uint8_t irqchip_get_cr8(struct irqchip *chip, unsigned int cpu);
void irqchip_set_cr8(struct irqchip *chip, unsigned int cpu, uint8_t value);
/* The CPU's own register page. irqchip_apic_page answers whether `gpa` is in it: such an access must
 * come here and not go to the bus, for every CPU sees its own APIC at the same address. */
bool irqchip_apic_page(struct irqchip *chip, unsigned int cpu, uint64_t gpa);
uint32_t irqchip_apic_read(struct irqchip *chip, unsigned int cpu, uint32_t offset);
void irqchip_apic_write(struct irqchip *chip, unsigned int cpu, uint32_t offset, uint32_t value);
