/*
 * fpu: where the guest's x87 state is, and the instructions that save and restore state.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

/* Loads the guest's x87 registers into the host's. Called by generated code. */
const struct op *fpu_enter(struct soft *c, const struct op *op);
/* Brings `c->fx` up to date and gives the host's x87 back. */
void fpu_leave(struct soft *c);
/* Brings `c->fx` up to date; the host's registers stay the guest's. */
void fpu_sync(struct soft *c);
/* Takes over `c->fx`, which has been written, in place of what the host's registers hold. */
void fpu_forget(struct soft *c);
/* FNINIT. */
void fpu_init_x87(struct soft *c);
/* The state after power on. */
void fpu_reset(struct soft *c);

enum {
	XSTATE_X87 = 1,
	XSTATE_SSE = 2,
	XSTATE_AVX = 4,
	XSAVE_HEADER = 512,
	XSAVE_AVX = 576,
	XSAVE_END = 832,
};

/* The bits that MXCSR may have: the host's. */
uint32_t fpu_mxcsr_mask(void);

/* The XSAVE area in standard format, for get_state and set_state; -EINVAL: reserved bits. */
void fpu_get_xsave(struct soft *c, uint8_t *area);
int fpu_set_xsave(struct soft *c, const uint8_t *area);
