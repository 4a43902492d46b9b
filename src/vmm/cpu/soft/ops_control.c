/* ops_control: near branches, and the decoding of everything that ends a block. */
#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/run.h"
#include "vmm/cpu/soft/transfer.h"

/* The target of a direct branch, cut to the operand size. */
static inline uint64_t cut(uint64_t rip, unsigned int size)
{
	return size == 8 ? rip : size == 4 ? (uint32_t)rip : (uint16_t)rip;
}

static inline uint64_t target(const struct soft *c, const struct op *op)
{
	return cut(c->regs[SOFT_RIP] + (uint64_t)op->disp, op->size);
}

static const struct op *do_jmp(struct soft *c, const struct op *op)
{
	return run_follow(c, op, target(c, op));
}

/* Status bits as they lie in `status`. */
#define S_OF(c) ((c)->status & 1)
#define S_CF(c) ((c)->status & 0x100)
#define S_PF(c) ((c)->status & 0x400)
#define S_ZF(c) ((c)->status & 0x4000)
#define S_SF(c) ((c)->status & 0x8000)
#define S_LT(c) (((c)->status >> 15 ^ (c)->status) & 1)

#define JCC(name, condition)                                                                       \
	static const struct op *do_j##name(struct soft *c, const struct op *op)                    \
	{                                                                                          \
		if (condition)                                                                     \
			return run_follow(c, op, target(c, op));                                   \
		return run_follow(c, op + 1, op_next_rip(c, op));                                  \
	}
JCC(o, S_OF(c))
JCC(no, !S_OF(c))
JCC(b, S_CF(c))
JCC(nb, !S_CF(c))
JCC(z, S_ZF(c))
JCC(nz, !S_ZF(c))
JCC(be, c->status & 0x4100)
JCC(nbe, !(c->status & 0x4100))
JCC(s, S_SF(c))
JCC(ns, !S_SF(c))
JCC(p, S_PF(c))
JCC(np, !S_PF(c))
JCC(l, S_LT(c))
JCC(nl, !S_LT(c))
JCC(le, S_LT(c) || S_ZF(c))
JCC(nle, !S_LT(c) && !S_ZF(c))

static const op_fn jcc[16] = {do_jo, do_jno, do_jb, do_jnb, do_jz, do_jnz, do_jbe, do_jnbe,
			      do_js, do_jns, do_jp, do_jnp, do_jl, do_jnl, do_jle, do_jnle};

/* A branch to where no code can be faults itself, before it has changed anything. */
static inline uint64_t checked(struct soft *c, uint64_t to)
{
	if (unlikely(!is_canonical(to)))
		soft_throw(c, VECTOR_GP, 0);
	return to;
}

/* A call looks at its stack before that. */
static inline uint64_t checked_call(struct soft *c, uint64_t to)
{
	if (unlikely(!is_canonical(to)))
		soft_probe(c, c->regs[CPU_RSP] - 8, 8, ACCESS_WRITE);
	return checked(c, to);
}

static const struct op *do_jmp_reg(struct soft *c, const struct op *op)
{
	c->op = op;
	return run_follow(c, op, checked(c, reg_get(c, op->src, op->size)));
}

static const struct op *do_jmp_mem(struct soft *c, const struct op *op)
{
	c->op = op;
	return run_follow(c, op, checked(c, operand_read(c, op, op->size)));
}

static const struct op *do_call(struct soft *c, const struct op *op)
{
	c->op = op;
	soft_push(c, op->size, op_next_rip(c, op));
	return run_follow(c, op, target(c, op));
}

static const struct op *do_call_reg(struct soft *c, const struct op *op)
{
	uint64_t to;

	c->op = op;
	to = checked_call(c, reg_get(c, op->src, op->size));
	soft_push(c, op->size, op_next_rip(c, op));
	return run_follow(c, op, to);
}

static const struct op *do_call_mem(struct soft *c, const struct op *op)
{
	uint64_t to;

	c->op = op;
	to = operand_read(c, op, op->size);
	stack_check_canonical(c);
	to = checked_call(c, to);
	soft_push(c, op->size, op_next_rip(c, op));
	return run_follow(c, op, to);
}

static const struct op *do_ret(struct soft *c, const struct op *op)
{
	uint64_t to;

	c->op = op;
	to = checked(c, soft_peek(c, 0, op->size));
	stack_set(c, c->regs[CPU_RSP] + op->size + op->imm);
	return run_goto(c, to);
}

bool control_has_link(const struct op *op)
{
	for (size_t i = 0; i < sizeof(jcc) / sizeof(jcc[0]); i++)
		if (op->fn == jcc[i])
			return true;
	return op->fn == do_jmp || op->fn == do_jmp_reg || op->fn == do_jmp_mem ||
	       op->fn == do_call || op->fn == do_call_reg || op->fn == do_call_mem;
}

static uint64_t counter_mask(const struct op *op)
{
	return op->address_size == 8 ? ~0ull : op->address_size == 4 ? 0xffffffffull : 0xffffull;
}

static const struct op *do_jrcxz(struct soft *c, const struct op *op)
{
	return run_goto(c,
			c->regs[CPU_RCX] & counter_mask(op) ? op_next_rip(c, op) : target(c, op));
}

/* LOOP, LOOPE, LOOPNE: `condition` is 0, 1, 2. */
static const struct op *do_loop(struct soft *c, const struct op *op)
{
	uint64_t left = (c->regs[CPU_RCX] - 1) & counter_mask(op);
	bool again = left != 0;

	reg_set(c, CPU_RCX * 8, op->address_size, left);
	if (op->condition == 1)
		again = again && S_ZF(c);
	else if (op->condition == 2)
		again = again && !S_ZF(c);
	return run_goto(c, again ? target(c, op) : op_next_rip(c, op));
}

static enum decoded branch(struct op *op, op_fn fn, const struct instruction *in)
{
	op->fn = fn;
	op->disp = in->operands[0].imm.value.s + op->offset + op->length;
	return DECODED_LAST;
}

static enum decoded indirect(struct op *op, const struct instruction *in, op_fn by_reg,
			     op_fn by_mem)
{
	const ZydisDecodedOperand *o = &in->operands[0];

	op->size = (uint8_t)(o->size / 8);
	op->fn = by_mem;
	if (o->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		op->fn = by_reg;
		op->src = (uint8_t)zydis_gpr_offset(o->reg.value);
	}
	return DECODED_LAST;
}

static enum decoded decode_near(uint32_t mode, const struct instruction *in, struct op *op)
{
	bool immediate = in->operands[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;

	if (!op->has_memory)
		op->segment = CPU_SS; /* whose faults calls and returns have */
	/* In 64-bit mode prefix 66 does not narrow a branch (Intel; AMD narrows: nobody uses it). */
	if (mode & MODE_64)
		op->size = 8;
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return immediate ? branch(op, do_jmp, in)
				 : indirect(op, in, do_jmp_reg, do_jmp_mem);
	case ZYDIS_MNEMONIC_CALL:
		return immediate ? branch(op, do_call, in)
				 : indirect(op, in, do_call_reg, do_call_mem);
	case ZYDIS_MNEMONIC_RET:
		op->fn = do_ret;
		op->imm = in->info.operand_count_visible ? in->operands[0].imm.value.u : 0;
		return DECODED_LAST;
	case ZYDIS_MNEMONIC_JCXZ:
	case ZYDIS_MNEMONIC_JECXZ:
	case ZYDIS_MNEMONIC_JRCXZ:
		return branch(op, do_jrcxz, in);
	case ZYDIS_MNEMONIC_LOOPNE:
		op->condition++;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_LOOPE:
		op->condition++;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_LOOP:
		return branch(op, do_loop, in);
	default:
		return DECODED_NO;
	}
}

enum decoded decode_control(uint32_t mode, const struct instruction *in, struct op *op)
{
	enum ZydisInstructionCategory_ category = in->info.meta.category;

	if (in->info.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return decode_far(mode, in, op);
	if (category == ZYDIS_CATEGORY_COND_BR && in->info.mnemonic != ZYDIS_MNEMONIC_JCXZ &&
	    in->info.mnemonic != ZYDIS_MNEMONIC_JECXZ &&
	    in->info.mnemonic != ZYDIS_MNEMONIC_JRCXZ && in->info.mnemonic != ZYDIS_MNEMONIC_LOOP &&
	    in->info.mnemonic != ZYDIS_MNEMONIC_LOOPE &&
	    in->info.mnemonic != ZYDIS_MNEMONIC_LOOPNE) {
		if (mode & MODE_64)
			op->size = 8;
		return branch(op, jcc[in->info.opcode & 15], in);
	}
	if (category == ZYDIS_CATEGORY_UNCOND_BR || category == ZYDIS_CATEGORY_CALL ||
	    category == ZYDIS_CATEGORY_RET || category == ZYDIS_CATEGORY_COND_BR)
		return decode_near(mode, in, op) == DECODED_NO ? decode_far(mode, in, op)
							       : DECODED_LAST;
	if (category == ZYDIS_CATEGORY_INTERRUPT || category == ZYDIS_CATEGORY_SYSCALL ||
	    category == ZYDIS_CATEGORY_SYSRET)
		return decode_far(mode, in, op);
	return DECODED_NO;
}
