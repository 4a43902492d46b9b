/*
 * lapic: one CPU's local APIC, xAPIC and x2APIC, with its timer (Intel SDM volume 3, chapter 11).
 *
 * A plain value without a lock: it lives inside the irqchip, whose lock covers it. What it causes
 * elsewhere goes through `struct lapic_events`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/state.h"

struct lapic;

enum lapic_delivery {
	LAPIC_FIXED = 0,
	LAPIC_LOWEST = 1,
	LAPIC_SMI = 2,
	LAPIC_NMI = 4,
	LAPIC_INIT = 5,
	LAPIC_STARTUP = 6,
	LAPIC_EXTINT = 7,
};

/* An interrupt on its way to one or several CPUs. */
struct lapic_message {
	enum lapic_delivery delivery;
	uint8_t vector;
	bool level;   /* level-triggered */
	bool logical; /* destination mode */
	uint32_t destination;
	bool wide; /* the destination has 32 bits (x2APIC) rather than 8 */
};

enum lapic_shorthand { LAPIC_NONE, LAPIC_SELF, LAPIC_ALL, LAPIC_OTHERS };

struct lapic_events {
	void (*send)(struct lapic *from, const struct lapic_message *message,
		     enum lapic_shorthand shorthand);
	/* The CPU has finished with a level-triggered vector. */
	void (*end_level)(struct lapic *lapic, uint8_t vector);
	/* Call lapic_timer_fired at this time (monotonic), TIMER_NEVER: not at all. */
	void (*set_timer)(struct lapic *lapic, int64_t deadline_ns);
	/* What lapic_pending and lapic_takes_extint answer may have changed. */
	void (*changed)(struct lapic *lapic);
	/* The CPU itself is meant: NMI, INIT, STARTUP (with the message's vector). */
	void (*signal)(struct lapic *lapic, enum lapic_delivery delivery, uint8_t vector);
	/* The guest's time-stamp counter now, and its rate. */
	uint64_t (*tsc)(struct lapic *lapic, uint64_t *ret_khz);
};

enum {
	LAPIC_REGISTERS = 64,
	LAPIC_BASE_BSP = 1 << 8,
	LAPIC_BASE_X2APIC = 1 << 10,
	LAPIC_BASE_ENABLE = 1 << 11,
	LAPIC_PAGE = 0xfee00000u,
};

struct lapic {
	const struct lapic_events *events;
	uint32_t id;
	uint64_t base;                       /* the MSR IA32_APIC_BASE */
	uint32_t registers[LAPIC_REGISTERS]; /* at offset / 16 */
	uint64_t tsc_deadline;
	int64_t timer_started_ns; /* when the count-down began */
	int64_t timer_deadline_ns;
};

void lapic_init(struct lapic *lapic, uint32_t id, const struct lapic_events *events);
/* Power on, or INIT, which keeps the ID register and the base (11.4.7.3). */
void lapic_reset(struct lapic *lapic, bool init);

/* The register page of xAPIC mode; offsets below 0x1000, 32-bit accesses. */
uint32_t lapic_read(struct lapic *lapic, uint32_t offset);
void lapic_write(struct lapic *lapic, uint32_t offset, uint32_t value);
/* MSRs 0x800-0x8ff, IA32_APIC_BASE and IA32_TSC_DEADLINE. false: the access faults (#GP). */
bool lapic_read_msr(struct lapic *lapic, uint32_t index, uint64_t *ret);
bool lapic_write_msr(struct lapic *lapic, uint32_t index, uint64_t value);
bool lapic_is_msr(uint32_t index);
uint8_t lapic_get_tpr(const struct lapic *lapic);
void lapic_set_tpr(struct lapic *lapic, uint8_t value);

/* Whether a message is meant for this CPU. */
bool lapic_matches(const struct lapic *lapic, const struct lapic_message *message);
/* Takes a message that is meant for it. */
void lapic_accept(struct lapic *lapic, const struct lapic_message *message);
void lapic_timer_fired(struct lapic *lapic);
/* The vector that the CPU would take now, or -1; lapic_acknowledge moves it into service. */
int lapic_pending(const struct lapic *lapic);
void lapic_acknowledge(struct lapic *lapic, uint8_t vector);
/* Whether LINT0 passes the PIC's interrupts on (also while the APIC is disabled). */
bool lapic_takes_extint(const struct lapic *lapic);

void lapic_save(const struct lapic *lapic, struct state_writer *out);
void lapic_load(struct lapic *lapic, struct state_reader *in);
