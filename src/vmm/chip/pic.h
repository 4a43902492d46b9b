/*
 * pic: the two cascaded 8259A interrupt controllers (Intel 8259A data sheet, 231468).
 *
 * A plain value without a lock: it lives inside the irqchip, whose lock covers it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vmm/state.h"

struct pic_half {
	uint8_t irr, isr, imr;
	uint8_t lines;  /* the inputs' levels */
	uint8_t level;  /* ELCR: inputs that are level-triggered */
	uint8_t base;   /* ICW2: the vector of input 0 */
	uint8_t init;   /* the initialisation word expected next (2-4), 0: operating */
	uint8_t lowest; /* the input of lowest priority: 7 unless rotated */
	bool need_icw4;
	bool read_isr; /* OCW3 */
	bool poll;     /* OCW3: the next read is a poll */
	bool special_mask;
	bool auto_eoi;
	bool rotate_on_aeoi;
	bool nested; /* special fully nested mode */
};

struct pic {
	struct pic_half half[2]; /* master, slave (on the master's input 2) */
};

void pic_reset(struct pic *pic);
void pic_set_line(struct pic *pic, unsigned int line, bool level); /* line 0-15 */
/* True if an interrupt waits for the CPU. */
bool pic_pending(const struct pic *pic);
/* The CPU's acknowledge cycle: the vector (the spurious one if nothing waits any more). */
uint8_t pic_acknowledge(struct pic *pic);
/* Ports 0x20/0x21, 0xa0/0xa1, 0x4d0/0x4d1. */
uint8_t pic_read(struct pic *pic, uint16_t port);
void pic_write(struct pic *pic, uint16_t port, uint8_t value);
void pic_save(const struct pic *pic, struct state_writer *out);
void pic_load(struct pic *pic, struct state_reader *in);
