/*
 * address: from an operand to a linear address: effective address, segment limit and rights.
 */
#pragma once

#include "vmm/cpu/soft/mmu.h"

/* For ADDRESS_CHECKED: cuts `offset` to the address size, checks it against the operation's segment and
 * adds the base. Throws #GP or #SS. Called by generated code. */
uint64_t address_checked(struct soft *c, const struct op *op, uint64_t offset,
			 uint32_t size_access);
/* The same for any segment and an offset that is already cut. No checks in 64-bit mode. */
uint64_t address_linear(struct soft *c, unsigned int segment, uint64_t offset, unsigned int size,
			enum soft_access access);

static inline uint64_t address_offset(const struct soft *c, const struct op *op)
{
	return c->regs[op->base] + (c->regs[op->index] << op->scale_bits) + (uint64_t)op->disp;
}

/* The linear address of the operation's memory operand. */
static inline uint64_t address_of(struct soft *c, const struct op *op, unsigned int size,
				  enum soft_access access)
{
	uint64_t offset = address_offset(c, op);

	if (likely(op->address == ADDRESS_FLAT))
		return offset;
	if (op->address == ADDRESS_CHECKED)
		return address_checked(c, op, offset, size | (uint32_t)access << 16);
	if (op->address_size == 4)
		offset = (uint32_t)offset;
	return op->address == ADDRESS_BASED ? offset + c->segment_base[op->segment] : offset;
}

/* The operation's memory operand, `size` bytes, moved by `by` bytes. */
static inline uint64_t operand_read(struct soft *c, const struct op *op, unsigned int size)
{
	return soft_read(c, address_of(c, op, size, ACCESS_READ), size);
}

static inline void operand_write(struct soft *c, const struct op *op, unsigned int size,
				 uint64_t value)
{
	soft_write(c, address_of(c, op, size, ACCESS_WRITE), size, value);
}

/* The stack: the linear address of an offset, with the stack segment's checks. */
static inline uint64_t stack_mask(const struct soft *c)
{
	return c->key & MODE_64 ? ~0ull : c->key & MODE_STACK32 ? 0xffffffffull : 0xffffull;
}

static inline uint64_t stack_linear(struct soft *c, uint64_t offset, unsigned int size,
				    enum soft_access access)
{
	if (likely(c->key & MODE_64))
		return offset;
	return address_linear(c, CPU_SS, offset & stack_mask(c), size, access);
}

/* Writes the part of RSP that the mode uses. */
static inline void stack_set(struct soft *c, uint64_t rsp)
{
	uint64_t mask = stack_mask(c);

	if (mask == 0xffff)
		c->regs[CPU_RSP] = (c->regs[CPU_RSP] & ~mask) | (rsp & mask);
	else
		c->regs[CPU_RSP] = rsp & mask;
}

/* For instructions with a memory operand besides the stack: elsewhere check_address knows from the
 * operation's segment that it is the stack. */
static inline void stack_check_canonical(struct soft *c)
{
	uint64_t rsp = c->regs[CPU_RSP];

	if (is_long64(c) && !is_canonical(rsp))
		soft_throw(c, VECTOR_SS, 0);
}

static inline void soft_push(struct soft *c, unsigned int size, uint64_t value)
{
	uint64_t rsp = c->regs[CPU_RSP] - size;

	soft_write(c, stack_linear(c, rsp, size, ACCESS_WRITE), size, value);
	stack_set(c, rsp);
}

/* What lies `depth` bytes above the top of the stack; moves nothing. */
static inline uint64_t soft_peek(struct soft *c, unsigned int depth, unsigned int size)
{
	return soft_read(c, stack_linear(c, c->regs[CPU_RSP] + depth, size, ACCESS_READ), size);
}

/* Registers by size, as results are written: 4 bytes clear the upper half. */
static inline uint64_t reg_get(const struct soft *c, unsigned int offset, unsigned int size)
{
	return soft_load((const uint8_t *)c->regs + offset, size);
}

static inline void reg_set(struct soft *c, unsigned int offset, unsigned int size, uint64_t value)
{
	if (size == 4)
		soft_store((uint8_t *)c->regs + offset, 8, (uint32_t)value);
	else
		soft_store((uint8_t *)c->regs + offset, size, value);
}
