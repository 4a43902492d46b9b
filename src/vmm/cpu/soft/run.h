/*
 * run: from block to block. The way that is taken millions of times a second is here, inline.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

static inline struct jump_entry *run_jump_entry(struct soft *c, uint64_t rip)
{
	return &c->jump[(rip ^ rip >> 12) & (SOFT_JUMP_SIZE - 1)];
}

static inline const struct op *run_block(struct soft *c, uint64_t rip, struct block *b)
{
	c->regs[SOFT_RIP] = rip;
	c->block = b;
	c->instructions += b->count;
	CONTINUE(c, b->ops);
}

/* What run_follow does the first time, and when translations have changed. */
const struct op *run_link(struct soft *c, const struct op *from, uint64_t rip);

/* Goes on at `rip`, where the operation `from` leads, mostly to the block of last time: sparing the jump
 * cache spares the host's caches, as the block is needed anyway. `from->imm` is free for that. */
static inline const struct op *run_follow(struct soft *c, const struct op *from, uint64_t rip)
{
	struct block *b = (struct block *)(uintptr_t)from->imm;

	if (likely(b && b->rip == rip && b->key == c->key &&
		   !atomic_load_explicit(&c->requests, memory_order_relaxed)))
		return run_block(c, rip, b);
	return run_link(c, from, rip);
}

/* Goes on at `rip`: directly if the block is in the jump cache and nobody wants anything. */
static inline const struct op *run_goto(struct soft *c, uint64_t rip)
{
	struct jump_entry *j = run_jump_entry(c, rip);

	if (likely(j->rip == rip && j->key == c->key &&
		   !atomic_load_explicit(&c->requests, memory_order_relaxed))) {
		return run_block(c, rip, j->block);
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
