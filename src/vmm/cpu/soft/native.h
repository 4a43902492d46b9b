/*
 * native: instructions that the host executes with its own copy of them. A generated piece loads the
 * operands from `struct soft`, looks the memory operand up in the TLB, executes the instruction, stores
 * the results and goes on to the next operation. It is the operation's function itself.
 */
#pragma once

#include "vmm/cpu/soft/code.h"
#include "vmm/cpu/soft/zydis.h"

enum native_kind {
	NATIVE_GENERAL,
	NATIVE_VECTOR,      /* SSE, AVX: vector registers live in `struct soft` */
	NATIVE_X87,         /* x87, MMX: state lives in the host's registers */
	NATIVE_X87_CONTROL, /* the same, but does not count as "last instruction" */
};

/* The code for one instruction whose memory operand `op` describes. NULL: no such code can be made, or
 * the memory is full (*ret_full). */
void *native_compile(struct code *code, const struct instruction *in, const struct op *op,
		     enum native_kind kind, bool *ret_full);

/* LEA: the address itself is the result. */
void *native_compile_lea(struct code *code, const struct instruction *in, const struct op *op,
			 bool *ret_full);

/* Fills in what generated code calls. */
void native_bind(struct soft *c);
