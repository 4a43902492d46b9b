/* ops_data: data movement that is not plain: stack, flags, segment registers, decimal adjustment and the
 * other instructions that 64-bit mode does not have. */
#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/ops_string.h"
#include "vmm/cpu/soft/run.h"
#include "vmm/cpu/soft/segment.h"

static const struct op *do_nop(struct soft *c, const struct op *op)
{
	NEXT(c, op);
}

/* Has the faults of a read of one byte. */
static const struct op *do_clflush(struct soft *c, const struct op *op)
{
	c->op = op;
	(void)operand_read(c, op, 1);
	NEXT(c, op);
}

static const struct op *do_fence(struct soft *c, const struct op *op)
{
	atomic_thread_fence(memory_order_seq_cst);
	NEXT(c, op);
}

/* 90 with REX.B is no NOP, nor PAUSE. */
static const struct op *do_xchg_r8(struct soft *c, const struct op *op)
{
	uint64_t rax = reg_get(c, 0, op->size);

	reg_set(c, 0, op->size, reg_get(c, 8 * 8, op->size));
	reg_set(c, 8 * 8, op->size, rax);
	NEXT(c, op);
}

/* Long-mode pushes and pops of registers are among the most frequent instructions. */
static const struct op *do_push_reg64(struct soft *c, const struct op *op)
{
	uint64_t rsp = c->regs[CPU_RSP] - 8;

	c->op = op;
	soft_write(c, rsp, 8, c->regs[op->src / 8]);
	c->regs[CPU_RSP] = rsp;
	NEXT(c, op);
}

static const struct op *do_pop_reg64(struct soft *c, const struct op *op)
{
	uint64_t value;

	c->op = op;
	value = soft_read(c, c->regs[CPU_RSP], 8);
	c->regs[CPU_RSP] += 8;
	c->regs[op->dst / 8] = value;
	NEXT(c, op);
}

static const struct op *do_push_reg(struct soft *c, const struct op *op)
{
	c->op = op;
	soft_push(c, op->size, reg_get(c, op->src, op->size));
	NEXT(c, op);
}

static const struct op *do_push_imm(struct soft *c, const struct op *op)
{
	c->op = op;
	soft_push(c, op->size, op->imm);
	NEXT(c, op);
}

static const struct op *do_push_mem(struct soft *c, const struct op *op)
{
	uint64_t value;

	c->op = op;
	value = operand_read(c, op, op->size);
	stack_check_canonical(c);
	soft_push(c, op->size, value);
	NEXT(c, op);
}

static const struct op *do_push_segment(struct soft *c, const struct op *op)
{
	uint16_t selector = c->segments[op->src].selector;
	uint64_t rsp = c->regs[CPU_RSP] - op->size;

	c->op = op;
	/* With 32 bits only two bytes are written. */
	soft_write(c, stack_linear(c, rsp, op->size, ACCESS_WRITE), op->size == 8 ? 8 : 2,
		   selector);
	stack_set(c, rsp);
	NEXT(c, op);
}

static const struct op *do_pop_reg(struct soft *c, const struct op *op)
{
	uint64_t value;

	c->op = op;
	value = soft_peek(c, 0, op->size);
	stack_set(c, c->regs[CPU_RSP] + op->size);
	reg_set(c, op->dst, op->size, value);
	NEXT(c, op);
}

static const struct op *do_pop_mem(struct soft *c, const struct op *op)
{
	uint64_t value, rsp = c->regs[CPU_RSP], address;

	c->op = op;
	stack_check_canonical(c);
	value = soft_peek(c, 0, op->size);
	stack_set(c, rsp + op->size); /* an address by RSP is that after the pop */
	address = address_offset(c, op);
	c->regs[CPU_RSP] = rsp;
	if (op->address == ADDRESS_CHECKED)
		address = address_checked(c, op, address, op->size | ACCESS_WRITE << 16);
	else if (op->address_size == 4)
		address = (uint32_t)address;
	if (op->address == ADDRESS_BASED)
		address += c->segment_base[op->segment];
	soft_write(c, address, op->size, value);
	stack_set(c, rsp + op->size);
	NEXT(c, op);
}

/* After a load of SS interrupts wait for one instruction. */
static const struct op *after_segment_load(struct soft *c, const struct op *op, unsigned int name)
{
	c->shadow = c->debug_shadow = name == CPU_SS;
	return run_leave(c, op_next_rip(c, op));
}

static const struct op *do_pop_segment(struct soft *c, const struct op *op)
{
	uint64_t rsp = c->regs[CPU_RSP];

	c->op = op;
	segment_load(c, op->dst, (uint16_t)soft_peek(c, 0, op->size == 8 ? 8 : 2));
	stack_set(c, rsp + op->size);
	return after_segment_load(c, op, op->dst);
}

static const struct op *do_mov_to_segment(struct soft *c, const struct op *op)
{
	uint16_t selector;

	c->op = op;
	if (op->dst == CPU_CS)
		soft_throw(c, VECTOR_UD, 0);
	selector = (uint16_t)(op->has_memory ? operand_read(c, op, 2) : reg_get(c, op->src, 2));
	segment_load(c, op->dst, selector);
	return after_segment_load(c, op, op->dst);
}

static const struct op *do_mov_from_segment(struct soft *c, const struct op *op)
{
	uint16_t selector = c->segments[op->src].selector;

	c->op = op;
	if (op->has_memory)
		operand_write(c, op, 2, selector);
	else
		reg_set(c, op->dst, op->size, selector);
	NEXT(c, op);
}

/* LDS and its like: `condition` is the segment. */
static const struct op *do_load_far(struct soft *c, const struct op *op)
{
	uint64_t address, offset;

	c->op = op;
	address = address_of(c, op, op->size + 2u, ACCESS_READ);
	offset = soft_read(c, address, op->size);
	segment_load(c, op->condition, (uint16_t)soft_read(c, address + op->size, 2));
	reg_set(c, op->dst, op->size, offset);
	return run_leave(c, op_next_rip(c, op)); /* LSS has the stack complete: nothing waits */
}

static const struct op *do_pushf(struct soft *c, const struct op *op)
{
	c->op = op;
	if (is_vm86(c) && iopl(c) < 3)
		soft_throw(c, VECTOR_GP, 0);
	soft_push(c, op->size, soft_get_flags(c) & ~(uint64_t)(FLAG_VM | FLAG_RF));
	NEXT(c, op);
}

static const struct op *do_popf(struct soft *c, const struct op *op)
{
	uint64_t mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;
	uint64_t value;

	c->op = op;
	if (is_vm86(c) && iopl(c) < 3)
		soft_throw(c, VECTOR_GP, 0);
	value = soft_peek(c, 0, op->size);
	if (op->size > 2)
		mask |= FLAG_AC | FLAG_ID | FLAG_RF;
	if (c->cpl <= iopl(c))
		mask |= FLAG_IF;
	if (c->cpl == 0)
		mask |= FLAG_IOPL;
	stack_set(c, c->regs[CPU_RSP] + op->size);
	soft_set_flags(c, value & ~(uint64_t)FLAG_RF, mask);
	c->op = NULL;
	return run_goto(c, op_next_rip(c, op));
}

static const struct op *do_pusha(struct soft *c, const struct op *op)
{
	uint64_t rsp = c->regs[CPU_RSP];

	c->op = op;
	soft_probe(c, stack_linear(c, rsp - 8u * op->size, 8u * op->size, ACCESS_WRITE),
		   8u * op->size, ACCESS_WRITE);
	for (unsigned int i = 0; i < 8; i++)
		soft_push(c, op->size, i == CPU_RSP ? rsp : c->regs[i]);
	NEXT(c, op);
}

static const struct op *do_popa(struct soft *c, const struct op *op)
{
	uint64_t values[8];

	c->op = op;
	for (unsigned int i = 0; i < 8; i++)
		values[7 - i] = soft_peek(c, i * op->size, op->size);
	for (unsigned int i = 0; i < 8; i++) {
		if (i != CPU_RSP)
			reg_set(c, i * 8, op->size, values[i]);
	}
	stack_set(c, c->regs[CPU_RSP] + 8u * op->size);
	NEXT(c, op);
}

static const struct op *do_leave(struct soft *c, const struct op *op)
{
	uint64_t rbp = c->regs[CPU_RBP], value;

	c->op = op;
	value = soft_read(c, stack_linear(c, rbp, op->size, ACCESS_READ), op->size);
	stack_set(c, rbp + op->size);
	reg_set(c, CPU_RBP * 8, op->size, value);
	NEXT(c, op);
}

static const struct op *do_enter(struct soft *c, const struct op *op)
{
	unsigned int level = op->imm >> 16 & 31, size = op->size;
	uint64_t old_rsp = c->regs[CPU_RSP], rbp = c->regs[CPU_RBP], frame, link;

	c->op = op;
	/* Nothing may have moved when the last write faults. */
	soft_probe(c, stack_linear(c, old_rsp - size * (level + 1), size, ACCESS_WRITE),
		   size * (level + 1), ACCESS_WRITE);
	soft_push(c, size, rbp);
	frame = c->regs[CPU_RSP];
	for (unsigned int i = 1; i < level; i++) {
		link = soft_read(c, stack_linear(c, rbp - i * size, size, ACCESS_READ), size);
		soft_push(c, size, link);
	}
	if (level > 0)
		soft_push(c, size, frame);
	stack_set(c, c->regs[CPU_RSP] - (op->imm & 0xffff));
	reg_set(c, CPU_RBP * 8, size, frame);
	NEXT(c, op);
}

static const struct op *do_direction(struct soft *c, const struct op *op)
{
	c->flags = op->imm ? c->flags | FLAG_DF : c->flags & ~(uint64_t)FLAG_DF;
	NEXT(c, op);
}

static const struct op *do_xlat(struct soft *c, const struct op *op)
{
	uint64_t offset = c->regs[CPU_RBX] + (uint8_t)c->regs[CPU_RAX];

	c->op = op;
	offset = op->address_size == 8   ? offset
		 : op->address_size == 4 ? (uint32_t)offset
					 : (uint16_t)offset;
	reg_set(c, 0, 1, soft_read(c, address_linear(c, op->segment, offset, 1, ACCESS_READ), 1));
	NEXT(c, op);
}

static const struct op *do_bound(struct soft *c, const struct op *op)
{
	uint64_t address;
	int64_t low, high, index;
	unsigned int shift = 64 - 8u * op->size;

	c->op = op;
	address = address_of(c, op, 2u * op->size, ACCESS_READ);
	low = (int64_t)(soft_read(c, address, op->size) << shift) >> shift;
	high = (int64_t)(soft_read(c, address + op->size, op->size) << shift) >> shift;
	index = (int64_t)(reg_get(c, op->dst, op->size) << shift) >> shift;
	if (index < low || index > high)
		soft_throw(c, VECTOR_BR, 0);
	NEXT(c, op);
}

static const struct op *do_arpl(struct soft *c, const struct op *op)
{
	uint16_t want = (uint16_t)reg_get(c, op->src, 2), have;
	uint64_t flags = soft_get_flags(c) & ~(uint64_t)FLAG_ZF;

	c->op = op;
	if (!is_protected(c))
		soft_throw(c, VECTOR_UD, 0);
	have = (uint16_t)(op->has_memory ? operand_read(c, op, 2) : reg_get(c, op->dst, 2));
	if ((have & 3) < (want & 3)) {
		have = (uint16_t)((have & ~3u) | (want & 3));
		flags |= FLAG_ZF;
		if (op->has_memory)
			operand_write(c, op, 2, have);
		else
			reg_set(c, op->dst, 2, have);
	}
	soft_set_status(c, flags);
	NEXT(c, op);
}

/* SF, ZF and PF of a byte. */
static uint64_t byte_flags(uint8_t value)
{
	return (value & 0x80 ? FLAG_SF : 0) | (value == 0 ? FLAG_ZF : 0) |
	       (__builtin_parity(value) ? 0 : FLAG_PF);
}

/* DAA and DAS: `imm` is 1 for the latter. */
static const struct op *do_decimal(struct soft *c, const struct op *op)
{
	uint8_t old = (uint8_t)c->regs[CPU_RAX], al = old;
	uint64_t flags = soft_get_flags(c), result = 0;
	int sign = op->imm ? -1 : 1;

	if ((old & 15) > 9 || flags & FLAG_AF) {
		if (op->imm && (old < 6 || flags & FLAG_CF))
			result |= FLAG_CF;
		al = (uint8_t)(al + sign * 6);
		result |= FLAG_AF;
	}
	if (old > 0x99 || flags & FLAG_CF) {
		al = (uint8_t)(al + sign * 0x60);
		result |= FLAG_CF;
	}
	reg_set(c, 0, 1, al);
	soft_set_status(c, result | byte_flags(al));
	NEXT(c, op);
}

/* AAA and AAS. */
static const struct op *do_ascii(struct soft *c, const struct op *op)
{
	uint16_t ax = (uint16_t)c->regs[CPU_RAX];
	uint64_t result = 0;

	if ((ax & 15) > 9 || soft_get_flags(c) & FLAG_AF) {
		ax = (uint16_t)(op->imm ? ax - 0x106 : ax + 0x106);
		result = FLAG_AF | FLAG_CF;
	}
	ax &= 0xff0f;
	reg_set(c, 0, 2, ax);
	soft_set_status(c, result | byte_flags((uint8_t)ax));
	NEXT(c, op);
}

static const struct op *do_aam(struct soft *c, const struct op *op)
{
	uint8_t al = (uint8_t)c->regs[CPU_RAX], base = (uint8_t)op->imm;

	reg_set(c, 0, 2, (uint64_t)(al / base) << 8 | al % base);
	soft_set_status(c, byte_flags(al % base));
	NEXT(c, op);
}

static const struct op *do_aad(struct soft *c, const struct op *op)
{
	uint16_t ax = (uint16_t)c->regs[CPU_RAX];
	uint8_t al = (uint8_t)((ax & 0xff) + (ax >> 8) * (uint8_t)op->imm);

	reg_set(c, 0, 2, al);
	soft_set_status(c, byte_flags(al));
	NEXT(c, op);
}

static const struct op *do_salc(struct soft *c, const struct op *op)
{
	reg_set(c, 0, 1, c->status & 0x100 ? 0xff : 0);
	NEXT(c, op);
}

static bool is_segment(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER && o->reg.value >= ZYDIS_REGISTER_ES &&
	       o->reg.value <= ZYDIS_REGISTER_GS;
}

static enum decoded decode_push(uint32_t mode, const struct instruction *in, struct op *op)
{
	const ZydisDecodedOperand *o = &in->operands[0];

	if (o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		op->fn = do_push_imm;
		op->imm = o->imm.value.u;
	} else if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		op->fn = do_push_mem;
	} else if (is_segment(o)) {
		op->fn = do_push_segment;
		op->src = (uint8_t)(o->reg.value - ZYDIS_REGISTER_ES);
	} else {
		op->fn = mode & MODE_64 && op->size == 8 ? do_push_reg64 : do_push_reg;
		op->src = (uint8_t)zydis_gpr_offset(o->reg.value);
	}
	return DECODED;
}

static enum decoded decode_pop(uint32_t mode, const struct instruction *in, struct op *op)
{
	const ZydisDecodedOperand *o = &in->operands[0];

	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		op->fn = do_pop_mem;
		/* The block-relative address of RIP is no matter here; that of RSP is special. */
	} else if (is_segment(o)) {
		op->fn = do_pop_segment;
		op->dst = (uint8_t)(o->reg.value - ZYDIS_REGISTER_ES);
		return DECODED_LAST;
	} else {
		op->fn = mode & MODE_64 && op->size == 8 ? do_pop_reg64 : do_pop_reg;
		op->dst = (uint8_t)zydis_gpr_offset(o->reg.value);
	}
	return DECODED;
}

static enum decoded decode_mov(const struct instruction *in, struct op *op)
{
	if (is_segment(&in->operands[0])) {
		op->fn = do_mov_to_segment;
		op->dst = (uint8_t)(in->operands[0].reg.value - ZYDIS_REGISTER_ES);
		if (!op->has_memory)
			op->src = (uint8_t)zydis_gpr_offset(in->operands[1].reg.value);
		return DECODED_LAST;
	}
	if (!is_segment(&in->operands[1]))
		return DECODED_NO;
	op->fn = do_mov_from_segment;
	op->src = (uint8_t)(in->operands[1].reg.value - ZYDIS_REGISTER_ES);
	if (!op->has_memory)
		op->dst = (uint8_t)zydis_gpr_offset(in->operands[0].reg.value);
	return DECODED;
}

static enum decoded load_far(const struct instruction *in, struct op *op,
			     enum cpu_segment_name name)
{
	op->fn = do_load_far;
	op->condition = name;
	op->dst = (uint8_t)zydis_gpr_offset(in->operands[0].reg.value);
	op->size = (uint8_t)(in->operands[0].size / 8);
	return DECODED_LAST;
}

static enum decoded simple(struct op *op, op_fn fn, uint64_t imm)
{
	op->fn = fn;
	op->imm = imm;
	return DECODED;
}

static enum decoded decode_old(const struct instruction *in, struct op *op)
{
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_DAA:
		return simple(op, do_decimal, 0);
	case ZYDIS_MNEMONIC_DAS:
		return simple(op, do_decimal, 1);
	case ZYDIS_MNEMONIC_AAA:
		return simple(op, do_ascii, 0);
	case ZYDIS_MNEMONIC_AAS:
		return simple(op, do_ascii, 1);
	case ZYDIS_MNEMONIC_AAM:
		if ((in->operands[0].imm.value.u & 0xff) == 0)
			return decode_throw(op, VECTOR_DE);
		return simple(op, do_aam, in->operands[0].imm.value.u);
	case ZYDIS_MNEMONIC_AAD:
		return simple(op, do_aad, in->operands[0].imm.value.u);
	case ZYDIS_MNEMONIC_SALC:
		return simple(op, do_salc, 0);
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		return simple(op, do_pusha, 0);
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		return simple(op, do_popa, 0);
	case ZYDIS_MNEMONIC_BOUND:
		op->dst = (uint8_t)zydis_gpr_offset(in->operands[0].reg.value);
		return simple(op, do_bound, 0);
	case ZYDIS_MNEMONIC_ARPL:
		op->src = (uint8_t)zydis_gpr_offset(in->operands[1].reg.value);
		if (!op->has_memory)
			op->dst = (uint8_t)zydis_gpr_offset(in->operands[0].reg.value);
		return simple(op, do_arpl, 0);
	case ZYDIS_MNEMONIC_LES:
		return load_far(in, op, CPU_ES);
	case ZYDIS_MNEMONIC_LDS:
		return load_far(in, op, CPU_DS);
	case ZYDIS_MNEMONIC_LSS:
		return load_far(in, op, CPU_SS);
	case ZYDIS_MNEMONIC_LFS:
		return load_far(in, op, CPU_FS);
	case ZYDIS_MNEMONIC_LGS:
		return load_far(in, op, CPU_GS);
	default:
		return DECODED_NO;
	}
}

static enum decoded decode_nothing(const struct instruction *in, struct op *op)
{
	if (in->info.opcode_map == ZYDIS_OPCODE_MAP_0F && in->info.opcode == 0x0d &&
	    in->info.raw.modrm.mod == 3) /* PREFETCHW of a register */
		return decode_throw(op, VECTOR_UD);
	if (in->info.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && in->info.opcode == 0x90 &&
	    in->info.attributes & ZYDIS_ATTRIB_HAS_REX && in->info.raw.rex.B)
		return simple(op, do_xchg_r8, 0);
	switch (in->info.meta.category) {
	case ZYDIS_CATEGORY_NOP:
	case ZYDIS_CATEGORY_WIDENOP:
	case ZYDIS_CATEGORY_PREFETCH:
	case ZYDIS_CATEGORY_CET:
		return simple(op, do_nop, 0);
	default:
		break;
	}
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
		return simple(op, do_nop, 0);
	case ZYDIS_MNEMONIC_CLFLUSH:
	case ZYDIS_MNEMONIC_CLFLUSHOPT:
		return simple(op, do_clflush, 0);
	case ZYDIS_MNEMONIC_MFENCE:
	case ZYDIS_MNEMONIC_LFENCE:
	case ZYDIS_MNEMONIC_SFENCE:
		return simple(op, do_fence, 0);
	default:
		return DECODED_NO;
	}
}

enum decoded decode_data(uint32_t mode, const struct instruction *in, struct op *op)
{
	enum decoded done;

	if (!op->has_memory && (in->info.meta.category == ZYDIS_CATEGORY_PUSH ||
				in->info.meta.category == ZYDIS_CATEGORY_POP ||
				in->info.mnemonic == ZYDIS_MNEMONIC_LEAVE))
		op->segment = CPU_SS;
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		return decode_push(mode, in, op);
	case ZYDIS_MNEMONIC_POP:
		return decode_pop(mode, in, op);
	case ZYDIS_MNEMONIC_MOV:
		return decode_mov(in, op);
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		return simple(op, do_pushf, 0);
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		op->fn = do_popf;
		return DECODED_LAST;
	case ZYDIS_MNEMONIC_LEAVE:
		return simple(op, do_leave, 0);
	case ZYDIS_MNEMONIC_ENTER:
		return simple(op, do_enter,
			      in->operands[0].imm.value.u | in->operands[1].imm.value.u << 16);
	case ZYDIS_MNEMONIC_CLD:
		return simple(op, do_direction, 0);
	case ZYDIS_MNEMONIC_STD:
		return simple(op, do_direction, 1);
	case ZYDIS_MNEMONIC_XLAT:
		string_segment(in, op);
		return simple(op, do_xlat, 0);
	default:
		break;
	}
	done = decode_nothing(in, op);
	if (done == DECODED_NO)
		done = decode_old(in, op);
	return done == DECODED_NO ? decode_string(mode, in, op) : done;
}
