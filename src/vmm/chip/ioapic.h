/*
 * ioapic: the I/O APIC with 24 inputs (Intel 82093AA data sheet, 290566; the EOI register of its
 * successors).
 *
 * A plain value without a lock: it lives inside the irqchip, whose lock covers it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/chip/lapic.h"
#include "vmm/state.h"

enum { IOAPIC_PINS = 24, IOAPIC_PAGE = 0xfec00000u };

struct ioapic {
	uint8_t id, select;
	uint32_t lines;   /* the inputs' levels */
	uint32_t pending; /* edges that arrived while masked, levels that wait */
	uint64_t entries[IOAPIC_PINS];
	void (*send)(struct ioapic *ioapic, const struct lapic_message *message);
};

void ioapic_reset(struct ioapic *ioapic);
void ioapic_set_line(struct ioapic *ioapic, unsigned int pin, bool level);
/* A CPU has finished with this level-triggered vector. */
void ioapic_end(struct ioapic *ioapic, uint8_t vector);
/* The register window; 32-bit accesses. */
uint32_t ioapic_read(struct ioapic *ioapic, uint32_t offset);
void ioapic_write(struct ioapic *ioapic, uint32_t offset, uint32_t value);
void ioapic_save(const struct ioapic *ioapic, struct state_writer *out);
void ioapic_load(struct ioapic *ioapic, struct state_reader *in);
