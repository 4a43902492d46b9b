/*
 * run: from block to block. The way that is taken millions of times a second is here, inline.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

static inline struct jump_entry *run_jump_entry(struct soft *c, uint64_t rip)
{
	return &c->jump[(rip ^ rip >> 12) & (SOFT_JUMP_SIZE - 1)];
}

/* Goes on at `rip`: directly if the block is in the jump cache and nobody wants anything. */
static inline const struct op *run_goto(struct soft *c, uint64_t rip)
{
	struct jump_entry *j = run_jump_entry(c, rip);

	if (likely(j->rip == rip && j->key == c->key &&
		   !atomic_load_explicit(&c->requests, memory_order_relaxed))) {
		c->regs[SOFT_RIP] = rip;
		c->block = j->block;
		c->instructions += j->block->count;
		CONTINUE(c, j->block->ops);
	}
	c->rip = rip;
	return NULL;
}

/* Ends the chain: for what may have changed mode, stepping or interrupts. */
static inline const struct op *run_leave(struct soft *c, uint64_t rip)
{
	c->rip = rip;
	return NULL;
}

enum cpu_exit soft_run(struct vcpu *vcpu);
/* Does what an INIT or a startup message has asked for. On the vCPU's thread, outside of soft_run. */
void run_take_start(struct soft *c);
