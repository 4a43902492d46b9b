/* transfer: see the header. Faults come before anything is changed, in the order of the manual as far as
 * software can tell. */
#include "vmm/cpu/soft/transfer.h"

#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/run.h"
#include "vmm/cpu/soft/segment.h"

static void check_canonical(struct soft *c, uint64_t rip)
{
	if (!is_canonical(rip))
		soft_throw(c, VECTOR_GP, 0);
}

static void set_real_code(struct soft *c, uint16_t selector)
{
	c->segments[CPU_CS].selector = selector;
	c->segments[CPU_CS].base = (uint64_t)selector << 4;
	if (is_vm86(c))
		c->segments[CPU_CS].limit = 0xffff;
	soft_update_mode(c);
}

/* The checks of a direct far jump or call. Returns the privilege level, which stays. */
static void check_code(struct soft *c, const struct descriptor *d, uint16_t selector)
{
	unsigned int dpl = descriptor_dpl(d), rpl = selector & 3;

	if (descriptor_is_conforming(d) ? dpl > c->cpl : (rpl > c->cpl || dpl != c->cpl))
		soft_throw(c, VECTOR_GP, selector & 0xfffc);
	if (!descriptor_is_present(d))
		soft_throw(c, VECTOR_NP, selector & 0xfffc);
	if (c->efer & EFER_LMA && descriptor_is_long(d) && d->low >> 54 & 1)
		soft_throw(c, VECTOR_GP, selector & 0xfffc);
}

struct target {
	struct descriptor code;
	uint16_t selector;
	uint64_t offset;
	unsigned int parameters, size; /* of a call gate */
	bool gate;
};

static void open_gate(struct soft *c, struct target *t)
{
	const struct descriptor gate = t->code;
	uint16_t through = t->selector;
	unsigned int type = descriptor_type(&gate);

	if ((type != TYPE_CALL_GATE && (type != TYPE_CALL_GATE16 || c->efer & EFER_LMA)) ||
	    descriptor_dpl(&gate) < c->cpl || descriptor_dpl(&gate) < (through & 3u))
		soft_throw(c, VECTOR_GP, through & 0xfffc);
	if (!descriptor_is_present(&gate))
		soft_throw(c, VECTOR_NP, through & 0xfffc);
	t->gate = true;
	t->selector = (uint16_t)(gate.low >> 16);
	t->parameters = gate.low >> 32 & 31;
	t->size = c->efer & EFER_LMA ? 8 : type == TYPE_CALL_GATE ? 4 : 2;
	t->offset = (gate.low & 0xffff) | (t->size > 2 ? gate.low >> 32 & 0xffff0000 : 0);
	if (c->efer & EFER_LMA)
		t->offset |= gate.high << 32;
	if (!(t->selector & 0xfffc))
		soft_throw(c, VECTOR_GP, 0);
	t->code = segment_must_read(c, t->selector, VECTOR_GP);
	if (!descriptor_is_code(&t->code) || descriptor_dpl(&t->code) > c->cpl ||
	    (c->efer & EFER_LMA && !descriptor_is_long(&t->code)))
		soft_throw(c, VECTOR_GP, t->selector & 0xfffc);
	if (!descriptor_is_present(&t->code))
		soft_throw(c, VECTOR_NP, t->selector & 0xfffc);
}

static struct target find_target(struct soft *c, uint16_t selector, uint64_t offset,
				 unsigned int size)
{
	struct target t = {.selector = selector, .offset = offset, .size = size};

	if (!(selector & 0xfffc))
		soft_throw(c, VECTOR_GP, 0);
	t.code = segment_must_read(c, selector, VECTOR_GP);
	if (!descriptor_is_segment(&t.code)) {
		open_gate(c, &t);
		return t;
	}
	if (!descriptor_is_code(&t.code))
		soft_throw(c, VECTOR_GP, selector & 0xfffc);
	check_code(c, &t.code, selector);
	return t;
}

static const struct op *far_jump(struct soft *c, uint16_t selector, uint64_t offset,
				 unsigned int size)
{
	struct target t;

	if (!is_protected(c)) {
		set_real_code(c, selector);
		return run_leave(c, offset);
	}
	t = find_target(c, selector, offset, size);
	if (t.gate && !descriptor_is_conforming(&t.code) && descriptor_dpl(&t.code) != c->cpl)
		soft_throw(c, VECTOR_GP, t.selector & 0xfffc);
	if (c->efer & EFER_LMA && descriptor_is_long(&t.code))
		check_canonical(c, t.offset);
	c->op = NULL;
	segment_set_code(c, &t.code, t.selector, c->cpl);
	return run_leave(c, t.offset);
}

/* A call gate to an inner level: the new stack gets the old one's address and the parameters. */
static void call_inward(struct soft *c, struct target *t, unsigned int cpl, uint64_t return_rip)
{
	uint64_t old_rsp = c->regs[CPU_RSP], parameters[32], sp;
	struct cpu_segment old_ss = c->segments[CPU_SS];
	uint16_t old_cs = c->segments[CPU_CS].selector, ss = 0;

	for (unsigned int i = 0; i < t->parameters && t->size != 8; i++)
		parameters[i] = soft_peek(c, i * t->size, t->size);
	if (c->efer & EFER_LMA)
		sp = segment_tss_rsp(c, cpl);
	else
		segment_tss_stack(c, cpl, &ss, &sp);
	/* From here on the new stack is in place; a fault on it would have to put the old one back. */
	soft_probe_system(c, sp - 8 * (4 + t->parameters), 8 * (4 + t->parameters));
	if (c->efer & EFER_LMA)
		c->segments[CPU_SS] = (struct cpu_segment){
			.selector = (uint16_t)cpl, .access = CPU_ACCESS_UNUSABLE | cpl << 5};
	else
		segment_set_stack(c, ss, cpl, VECTOR_TS);
	segment_set_code(c, &t->code, t->selector, cpl);
	c->regs[CPU_RSP] = sp;
	soft_push(c, t->size, old_ss.selector);
	soft_push(c, t->size, old_rsp);
	for (unsigned int i = t->parameters; i-- > 0 && t->size != 8;)
		soft_push(c, t->size, parameters[i]);
	soft_push(c, t->size, old_cs);
	soft_push(c, t->size, return_rip);
}

static const struct op *far_call(struct soft *c, uint16_t selector, uint64_t offset,
				 unsigned int size, uint64_t return_rip)
{
	uint64_t rsp = c->regs[CPU_RSP];
	struct target t;
	unsigned int cpl;

	if (!is_protected(c)) {
		(void)stack_linear(c, rsp - 2 * size, 2 * size, ACCESS_WRITE);
		soft_push(c, size, c->segments[CPU_CS].selector);
		soft_push(c, size, return_rip);
		set_real_code(c, selector);
		return run_leave(c, offset);
	}
	t = find_target(c, selector, offset, size);
	cpl = descriptor_is_conforming(&t.code) || !t.gate ? c->cpl : descriptor_dpl(&t.code);
	if (cpl < c->cpl) {
		call_inward(c, &t, cpl, return_rip);
		c->op = NULL;
		return run_leave(c, t.offset);
	}
	soft_write(c, stack_linear(c, rsp - t.size, t.size, ACCESS_WRITE), t.size,
		   c->segments[CPU_CS].selector);
	soft_write(c, stack_linear(c, rsp - 2 * t.size, t.size, ACCESS_WRITE), t.size, return_rip);
	stack_set(c, rsp - 2 * t.size);
	c->op = NULL;
	segment_set_code(c, &t.code, t.selector, cpl);
	return run_leave(c, t.offset);
}

static const struct op *do_jmp_far(struct soft *c, const struct op *op)
{
	c->op = op;
	return far_jump(c, (uint16_t)(op->imm >> 32), (uint32_t)op->imm, op->size);
}

static const struct op *do_call_far(struct soft *c, const struct op *op)
{
	c->op = op;
	return far_call(c, (uint16_t)(op->imm >> 32), (uint32_t)op->imm, op->size,
			op_next_rip(c, op));
}

static void read_far_pointer(struct soft *c, const struct op *op, uint16_t *selector,
			     uint64_t *offset)
{
	uint64_t address = address_of(c, op, op->size + 2u, ACCESS_READ);

	*offset = soft_read(c, address, op->size);
	*selector = (uint16_t)soft_read(c, address + op->size, 2);
}

static const struct op *do_jmp_far_mem(struct soft *c, const struct op *op)
{
	uint16_t selector;
	uint64_t offset;

	c->op = op;
	read_far_pointer(c, op, &selector, &offset);
	return far_jump(c, selector, offset, op->size);
}

static const struct op *do_call_far_mem(struct soft *c, const struct op *op)
{
	uint16_t selector;
	uint64_t offset;

	c->op = op;
	read_far_pointer(c, op, &selector, &offset);
	return far_call(c, selector, offset, op->size, op_next_rip(c, op));
}

/* The end of RETF and IRET in protected mode: to `selector`:`rip` at its RPL. `extra` is what lies on the
 * stack above the return address, `release` what RETF n drops. */
struct back {
	uint16_t selector;
	uint64_t rip, flags, flags_mask;
	unsigned int size, depth; /* depth: of SP and SS on the stack */
	unsigned int release;
	bool always_stack; /* IRET in 64-bit mode takes SS:RSP always */
};

static struct descriptor check_return(struct soft *c, const struct back *b)
{
	unsigned int rpl = b->selector & 3;
	struct descriptor d;

	if (!(b->selector & 0xfffc))
		soft_throw(c, VECTOR_GP, 0);
	d = segment_must_read(c, b->selector, VECTOR_GP);
	if (!descriptor_is_code(&d) || rpl < c->cpl ||
	    (descriptor_is_conforming(&d) ? descriptor_dpl(&d) > rpl : descriptor_dpl(&d) != rpl))
		soft_throw(c, VECTOR_GP, b->selector & 0xfffc);
	if (!descriptor_is_present(&d))
		soft_throw(c, VECTOR_NP, b->selector & 0xfffc);
	return d;
}

static void check_return_stack(struct soft *c, uint16_t ss, unsigned int rpl, bool to_long)
{
	struct descriptor d;

	if (!(ss & 0xfffc)) {
		if (!to_long || rpl == 3)
			soft_throw(c, VECTOR_GP, 0);
		return;
	}
	d = segment_must_read(c, ss, VECTOR_GP);
	if ((ss & 3u) != rpl || !descriptor_is_segment(&d) || descriptor_is_code(&d) ||
	    !(d.low >> 41 & 1) || descriptor_dpl(&d) != rpl)
		soft_throw(c, VECTOR_GP, ss & 0xfffc);
	if (!descriptor_is_present(&d))
		soft_throw(c, VECTOR_SS, ss & 0xfffc);
}

static const struct op *go_back(struct soft *c, const struct back *b)
{
	unsigned int rpl = b->selector & 3;
	struct descriptor d = check_return(c, b);
	bool outward = rpl > c->cpl, to_long = c->efer & EFER_LMA && descriptor_is_long(&d);
	uint64_t rsp = 0;
	uint16_t ss = 0;

	if (outward || b->always_stack) {
		rsp = soft_peek(c, b->depth + b->release, b->size);
		ss = (uint16_t)soft_peek(c, b->depth + b->release + b->size, b->size);
		check_return_stack(c, ss, rpl, to_long);
	}
	if (to_long)
		check_canonical(c, b->rip);
	segment_set_code(c, &d, b->selector, rpl);
	if (outward || b->always_stack) {
		if (ss & 0xfffc)
			segment_set_stack(c, ss, rpl, VECTOR_GP);
		else
			c->segments[CPU_SS] = (struct cpu_segment){
				.selector = ss, .access = CPU_ACCESS_UNUSABLE | rpl << 5};
		soft_update_mode(c);
		stack_set(c, rsp + b->release);
	} else {
		stack_set(c, c->regs[CPU_RSP] + b->depth + b->release);
	}
	if (outward)
		segment_drop_privileged(c);
	soft_set_flags(c, b->flags, b->flags_mask);
	c->op = NULL;
	return run_leave(c, b->rip & rip_mask(c));
}

static const struct op *do_retf(struct soft *c, const struct op *op)
{
	struct back b = {
		.size = op->size, .depth = 2u * op->size, .release = (unsigned int)op->imm};

	c->op = op;
	b.rip = soft_peek(c, 0, op->size);
	b.selector = (uint16_t)soft_peek(c, op->size, op->size);
	if (is_protected(c))
		return go_back(c, &b);
	stack_set(c, c->regs[CPU_RSP] + b.depth + b.release);
	set_real_code(c, b.selector);
	return run_leave(c, b.rip);
}

static const struct op *iret_real(struct soft *c, const struct op *op)
{
	uint64_t rip = soft_peek(c, 0, op->size);
	uint16_t selector = (uint16_t)soft_peek(c, op->size, op->size);
	uint64_t flags = soft_peek(c, 2u * op->size, op->size);
	uint64_t mask = op->size == 2 ? 0x7fd5 : 0x257fd5;

	if (is_vm86(c)) {
		if (iopl(c) < 3)
			soft_throw(c, VECTOR_GP, 0);
		mask &= ~(uint64_t)FLAG_IOPL;
	}
	stack_set(c, c->regs[CPU_RSP] + 3u * op->size);
	set_real_code(c, selector);
	soft_set_flags(c, flags, mask);
	c->nmi_blocked = false;
	return run_leave(c, rip);
}

static const struct op *iret_to_vm86(struct soft *c, uint64_t rip, uint16_t selector,
				     uint64_t flags)
{
	static const enum cpu_segment_name order[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};
	uint16_t selectors[4];
	uint64_t rsp = soft_peek(c, 12, 4);
	uint16_t ss = (uint16_t)soft_peek(c, 16, 4);

	for (unsigned int i = 0; i < 4; i++)
		selectors[i] = (uint16_t)soft_peek(c, 20 + i * 4, 4);
	c->op = NULL;
	soft_set_flags(c, flags, 0x3f7fd5);
	soft_set_cpl(c, 3);
	segment_load_real(c, CPU_CS, selector);
	segment_load_real(c, CPU_SS, ss);
	for (unsigned int i = 0; i < 4; i++)
		segment_load_real(c, order[i], selectors[i]);
	c->regs[CPU_RSP] = (uint32_t)rsp;
	return run_leave(c, rip & 0xffff);
}

static const struct op *do_iret(struct soft *c, const struct op *op)
{
	struct back b = {.size = op->size, .depth = 3u * op->size};

	c->op = op;
	if (!is_protected(c))
		return iret_real(c, op);
	if (c->flags & FLAG_NT) /* a return to another task: hardware tasks are not offered */
		soft_throw(c, VECTOR_GP, 0);
	b.rip = soft_peek(c, 0, op->size);
	b.selector = (uint16_t)soft_peek(c, op->size, op->size);
	b.flags = soft_peek(c, 2u * op->size, op->size);
	if (b.flags & FLAG_VM && c->cpl == 0 && op->size == 4 && !(c->efer & EFER_LMA)) {
		c->nmi_blocked = false;
		return iret_to_vm86(c, b.rip, b.selector, b.flags);
	}
	b.flags_mask = FLAGS_STATUS | FLAG_TF | FLAG_DF | FLAG_NT;
	if (op->size > 2)
		b.flags_mask |= FLAG_RF | FLAG_AC | FLAG_ID;
	if (c->cpl <= iopl(c))
		b.flags_mask |= FLAG_IF;
	if (c->cpl == 0)
		b.flags_mask |= FLAG_IOPL | (op->size > 2 ? FLAG_VIF | FLAG_VIP : 0);
	b.always_stack = is_long64(c);
	c->nmi_blocked = false;
	return go_back(c, &b);
}

/* INT, SYSCALL and SYSRET are single steps if TF is set at their end, whatever it was at their beginning:
 * so the step that the user has asked for comes when the kernel returns. */
static void step_at_end(struct soft *c, uint64_t flags_before)
{
	bool before = flags_before & FLAG_TF, after = c->flags & FLAG_TF;

	if (after && !before) {
		c->debug.pending |= DR6_BS;
		soft_request(c, REQUEST_TRAP);
	}
	if (before && !after)
		c->debug_shadow = true;
}

static const struct op *software_interrupt(struct soft *c, const struct op *op, unsigned int vector)
{
	uint64_t rip = op_rip(c, op), next = op_next_rip(c, op), flags = c->flags;

	c->op = NULL;
	c->rip = next;
	soft_deliver_software(c, vector, rip);
	step_at_end(c, flags);
	return NULL;
}

static const struct op *do_int(struct soft *c, const struct op *op)
{
	c->op = op;
	if (is_vm86(c) && iopl(c) < 3)
		soft_throw(c, VECTOR_GP, 0);
	return software_interrupt(c, op, (unsigned int)op->imm);
}

static const struct op *do_int3(struct soft *c, const struct op *op)
{
	return software_interrupt(c, op, VECTOR_BP);
}

static const struct op *do_into(struct soft *c, const struct op *op)
{
	if (!(c->status & 1))
		return run_goto(c, op_next_rip(c, op));
	return software_interrupt(c, op, VECTOR_OF);
}

static const struct op *do_int1(struct soft *c, const struct op *op)
{
	c->op = NULL;
	c->rip = op_next_rip(c, op);
	if (c->debug.pending) /* held back by a load of SS: the same #DB tells of them */
		debug_report(c);
	soft_throw_trap(c, VECTOR_DB);
}

/* SYSCALL and SYSENTER load flat segments without looking at the descriptor tables. */
static void flat_code(struct soft *c, uint16_t selector, unsigned int cpl, bool long64)
{
	c->segments[CPU_CS] = (struct cpu_segment){
		.selector = (uint16_t)((selector & ~3u) | cpl),
		.limit = ~0u,
		.access = CPU_ACCESS_P | CPU_ACCESS_S | 0xb | cpl << 5 | CPU_ACCESS_G |
			  (long64 ? CPU_ACCESS_L : CPU_ACCESS_DB),
	};
}

static void flat_stack(struct soft *c, uint16_t selector, unsigned int cpl)
{
	c->segments[CPU_SS] = (struct cpu_segment){
		.selector = (uint16_t)((selector & ~3u) | cpl),
		.limit = ~0u,
		.access =
			CPU_ACCESS_P | CPU_ACCESS_S | 0x3 | cpl << 5 | CPU_ACCESS_G | CPU_ACCESS_DB,
	};
}

static const struct op *do_syscall(struct soft *c, const struct op *op)
{
	uint16_t selector = (uint16_t)(c->msrs.star >> 32 & 0xfffc);
	uint64_t flags = soft_get_flags(c), rip = c->msrs.lstar;
	bool from64 = is_long64(c);

	c->op = op;
	if (!(c->efer & EFER_SCE) || !is_protected(c))
		soft_throw(c, VECTOR_UD, 0);
	c->regs[CPU_RCX] = op_next_rip(c, op);
	c->op = NULL;
	if (c->efer & EFER_LMA) {
		c->regs[11] = flags & ~(uint64_t)FLAG_RF;
		if (!from64)
			rip = c->msrs.cstar;
		soft_set_flags(c, 0, c->msrs.fmask | FLAG_RF);
	} else {
		rip = (uint32_t)c->msrs.star;
		soft_set_flags(c, 0, FLAG_IF | FLAG_VM | FLAG_RF);
	}
	step_at_end(c, flags);
	flat_code(c, selector, 0, c->efer & EFER_LMA);
	flat_stack(c, (uint16_t)(selector + 8), 0);
	soft_set_cpl(c, 0);
	return run_goto(c, rip);
}

static const struct op *do_sysret(struct soft *c, const struct op *op)
{
	uint16_t selector = (uint16_t)(c->msrs.star >> 48);
	uint64_t rip = c->regs[CPU_RCX], flags = c->flags;

	c->op = op;
	if (!(c->efer & EFER_SCE) || !is_protected(c))
		soft_throw(c, VECTOR_UD, 0);
	if (c->cpl != 0)
		soft_throw(c, VECTOR_GP, 0);
	if (op->size == 8)
		check_canonical(c, rip);
	c->op = NULL;
	if (op->size == 8)
		selector = (uint16_t)(selector + 16);
	else
		rip = (uint32_t)rip;
	flat_code(c, selector, 3, op->size == 8);
	flat_stack(c, (uint16_t)((c->msrs.star >> 48) + 8), 3);
	if (c->efer & EFER_LMA)
		soft_set_flags(c, c->regs[11], 0x3c7fd5);
	else
		soft_set_flags(c, FLAG_IF, FLAG_IF);
	step_at_end(c, flags);
	soft_set_cpl(c, 3);
	return run_goto(c, rip);
}

static const struct op *do_sysenter(struct soft *c, const struct op *op)
{
	bool long_mode = c->efer & EFER_LMA;

	c->op = op;
	if (!is_protected(c) || !(c->msrs.sysenter_cs & 0xfffc))
		soft_throw(c, VECTOR_GP, 0);
	c->op = NULL;
	soft_set_flags(c, 0, FLAG_VM | FLAG_IF | FLAG_RF);
	flat_code(c, (uint16_t)c->msrs.sysenter_cs, 0, long_mode);
	flat_stack(c, (uint16_t)(c->msrs.sysenter_cs + 8), 0);
	soft_set_cpl(c, 0);
	c->regs[CPU_RSP] = long_mode ? c->msrs.sysenter_esp : (uint32_t)c->msrs.sysenter_esp;
	return run_goto(c, long_mode ? c->msrs.sysenter_eip : (uint32_t)c->msrs.sysenter_eip);
}

static const struct op *do_sysexit(struct soft *c, const struct op *op)
{
	uint16_t selector = (uint16_t)c->msrs.sysenter_cs;
	bool to64 = op->size == 8;

	c->op = op;
	if (!is_protected(c) || !(selector & 0xfffc) || c->cpl != 0)
		soft_throw(c, VECTOR_GP, 0);
	if (to64) {
		check_canonical(c, c->regs[CPU_RDX]);
		check_canonical(c, c->regs[CPU_RCX]);
	}
	c->op = NULL;
	flat_code(c, (uint16_t)(selector + (to64 ? 32 : 16)), 3, to64);
	flat_stack(c, (uint16_t)(selector + (to64 ? 40 : 24)), 3);
	soft_set_cpl(c, 3);
	c->regs[CPU_RSP] = to64 ? c->regs[CPU_RCX] : (uint32_t)c->regs[CPU_RCX];
	return run_goto(c, to64 ? c->regs[CPU_RDX] : (uint32_t)c->regs[CPU_RDX]);
}

static enum decoded decode_pointer(const struct instruction *in, struct op *op, op_fn direct,
				   op_fn memory)
{
	const ZydisDecodedOperand *o = &in->operands[0];

	op->fn = memory;
	op->size = in->info.operand_width / 8;
	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		op->size = (uint8_t)(o->size / 8 - 2);
	} else {
		op->fn = direct;
		op->imm = (uint64_t)o->ptr.segment << 32 | o->ptr.offset;
	}
	return DECODED_LAST;
}

enum decoded decode_far(uint32_t mode, const struct instruction *in, struct op *op)
{
	switch (in->info.mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
		return decode_pointer(in, op, do_jmp_far, do_jmp_far_mem);
	case ZYDIS_MNEMONIC_CALL:
		return decode_pointer(in, op, do_call_far, do_call_far_mem);
	case ZYDIS_MNEMONIC_RET:
		op->fn = do_retf;
		op->imm = in->info.operand_count_visible ? in->operands[0].imm.value.u : 0;
		break;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		op->fn = do_iret;
		break;
	case ZYDIS_MNEMONIC_INT:
		op->fn = do_int;
		op->imm = in->operands[0].imm.value.u & 0xff;
		break;
	case ZYDIS_MNEMONIC_INT1:
		op->fn = do_int1;
		break;
	case ZYDIS_MNEMONIC_INT3:
		op->fn = do_int3;
		break;
	case ZYDIS_MNEMONIC_INTO:
		op->fn = do_into;
		break;
	case ZYDIS_MNEMONIC_SYSCALL:
		op->fn = do_syscall;
		break;
	case ZYDIS_MNEMONIC_SYSRET:
		op->fn = do_sysret;
		op->size = in->info.raw.rex.W && mode & MODE_64 ? 8 : 4;
		break;
	case ZYDIS_MNEMONIC_SYSENTER:
		op->fn = do_sysenter;
		break;
	case ZYDIS_MNEMONIC_SYSEXIT:
		op->fn = do_sysexit;
		op->size = in->info.raw.rex.W && mode & MODE_64 ? 8 : 4;
		break;
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
		return decode_throw(op, VECTOR_UD);
	default:
		return DECODED_NO;
	}
	return DECODED_LAST;
}
