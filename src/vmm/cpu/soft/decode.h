/*
 * decode: from bytes to operations.
 */
#pragma once

#include "vmm/cpu/soft/zydis.h"

enum { BLOCK_OPS_MAX = 48 };

/* Decodes from the linear address (at the physical address `gpa`) to the next branch, page border or
 * BLOCK_OPS_MAX. `mark` is called for the second page if an instruction reaches into it, before its
 * bytes are read. NULL: no memory in the arena or for generated code. Throws what fetching throws for
 * the first instruction; a later instruction that cannot be fetched begins a block of its own. */
struct block *decode_block(struct soft *c, uint32_t mode, uint64_t linear, gpa_t gpa,
			   void (*mark)(struct soft *c, gpa_t gpa));

/* Whether its `imm` has the block that it led to last (run.h). */
bool decode_has_link(const struct op *op);

/* decode_system.c etc.: fills in what is particular to an instruction. */
enum decoded {
	DECODED_NO,   /* not an instruction of this group */
	DECODED,      /* goes on with the next instruction */
	DECODED_LAST, /* ends the block */
};

/* The groups, asked in this order. */
enum decoded decode_control(uint32_t mode, const struct instruction *in, struct op *op);
bool control_has_link(const struct op *op);
enum decoded decode_data(uint32_t mode, const struct instruction *in, struct op *op);
enum decoded decode_system(uint32_t mode, const struct instruction *in, struct op *op);
enum decoded decode_fpu(uint32_t mode, const struct instruction *in, struct op *op);

/* An operation that throws #UD, #NM, #GP(0). */
enum decoded decode_throw(struct op *op, enum soft_vector vector);
