/*
 * segment: selectors and descriptors (Intel SDM volume 3, chapters 3 and 5).
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

enum descriptor_type {
	TYPE_TSS16 = 1,
	TYPE_LDT = 2,
	TYPE_TSS16_BUSY = 3,
	TYPE_CALL_GATE16 = 4,
	TYPE_TASK_GATE = 5,
	TYPE_INTERRUPT_GATE16 = 6,
	TYPE_TRAP_GATE16 = 7,
	TYPE_TSS = 9,
	TYPE_TSS_BUSY = 11,
	TYPE_CALL_GATE = 12,
	TYPE_INTERRUPT_GATE = 14,
	TYPE_TRAP_GATE = 15,
};

struct descriptor {
	uint64_t low, high; /* high: the second half of a system descriptor in long mode */
	uint64_t address;
};

static inline unsigned int descriptor_type(const struct descriptor *d)
{
	return d->low >> 40 & 15;
}

static inline unsigned int descriptor_dpl(const struct descriptor *d)
{
	return d->low >> 45 & 3;
}

static inline bool descriptor_is_segment(const struct descriptor *d) /* S: code or data */
{
	return d->low >> 44 & 1;
}

static inline bool descriptor_is_code(const struct descriptor *d)
{
	return descriptor_is_segment(d) && d->low >> 43 & 1;
}

static inline bool descriptor_is_present(const struct descriptor *d)
{
	return d->low >> 47 & 1;
}

static inline bool descriptor_is_conforming(const struct descriptor *d)
{
	return d->low >> 42 & 1;
}

static inline bool descriptor_is_long(const struct descriptor *d)
{
	return d->low >> 53 & 1;
}

/* Reads the descriptor; false: the selector lies outside its table. */
bool segment_read(struct soft *c, uint16_t selector, struct descriptor *ret);
/* The same; throws `vector` with the selector where it lies outside. */
struct descriptor segment_must_read(struct soft *c, uint16_t selector, enum soft_vector vector);
struct cpu_segment segment_from(const struct descriptor *d, uint16_t selector);
/* Sets the accessed bit in the table. */
void segment_mark_accessed(struct soft *c, struct descriptor *d);

/* MOV to a segment register and its like: real and protected mode, all checks. */
void segment_load(struct soft *c, enum cpu_segment_name name, uint16_t selector);
/* As virtual 8086 and real mode load it. */
void segment_load_real(struct soft *c, enum cpu_segment_name name, uint16_t selector);
/* Enters code at `selector`, whose checks have been made, with `cpl`. */
void segment_set_code(struct soft *c, struct descriptor *d, uint16_t selector, unsigned int cpl);
/* SS for a new privilege level; throws `vector`. */
void segment_set_stack(struct soft *c, uint16_t selector, unsigned int cpl,
		       enum soft_vector vector);
/* After a return to an outer level: data segments that it may not use become null. */
void segment_drop_privileged(struct soft *c);

void segment_load_ldt(struct soft *c, uint16_t selector);
void segment_load_tr(struct soft *c, uint16_t selector);

/* From the TSS: the stack for a privilege level; an IST or RSPn entry in long mode. */
void segment_tss_stack(struct soft *c, unsigned int cpl, uint16_t *ret_ss, uint64_t *ret_sp);
uint64_t segment_tss_rsp(struct soft *c, unsigned int index_from_rsp0);
bool segment_io_allowed(struct soft *c, uint16_t port, unsigned int size);
