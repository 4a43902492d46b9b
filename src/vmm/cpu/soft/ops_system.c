/* ops_system: what only an operating system does, and the instructions that it may forbid. */
#include <sched.h>
#include <x86intrin.h>

#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/identity.h"
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/decode.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/run.h"
#include "vmm/cpu/soft/segment.h"

/* Begins an operation that only CPL 0 may do. */
static void privileged(struct soft *c, const struct op *op)
{
	c->op = op;
	if (c->cpl != 0)
		soft_throw(c, VECTOR_GP, 0);
}

static void unless_umip(struct soft *c, const struct op *op)
{
	c->op = op;
	if (c->cr4 & CR4_UMIP && c->cpl != 0)
		soft_throw(c, VECTOR_GP, 0);
}

/* Goes on after mode, translation or interrupts may have changed. */
static const struct op *afterwards(struct soft *c, const struct op *op)
{
	uint64_t next = op_next_rip(c, op);

	c->op = NULL;
	return run_goto(c, next);
}

static const struct op *do_cli(struct soft *c, const struct op *op)
{
	c->op = op;
	if (c->cr0 & CR0_PE && c->cpl > iopl(c))
		soft_throw(c, VECTOR_GP, 0);
	c->flags &= ~(uint64_t)FLAG_IF;
	NEXT(c, op);
}

static const struct op *do_sti(struct soft *c, const struct op *op)
{
	bool was = c->flags & FLAG_IF;

	c->op = op;
	if (c->cr0 & CR0_PE && c->cpl > iopl(c))
		soft_throw(c, VECTOR_GP, 0);
	if (was)
		NEXT(c, op);
	soft_set_flags(c, FLAG_IF, FLAG_IF);
	/* What comes from now on is looked at behind the next instruction anyway. */
	if (!atomic_load_explicit(&c->requests, memory_order_relaxed) && !c->interrupt_waits)
		NEXT(c, op);
	c->shadow = true;
	return afterwards(c, op);
}

static const struct op *do_hlt(struct soft *c, const struct op *op)
{
	privileged(c, op);
	c->activity = CPU_HALTED;
	return run_leave(c, op_next_rip(c, op));
}

/* A guest that spins often waits for another of its CPUs, which may need this host CPU. */
static const struct op *do_pause(struct soft *c, const struct op *op)
{
	if (c->vm->vcpus > 1)
		sched_yield();
	NEXT(c, op);
}

static const struct op *do_in(struct soft *c, const struct op *op)
{
	uint16_t port = op->condition ? (uint16_t)c->regs[CPU_RDX] : (uint16_t)op->imm;

	c->op = op;
	if (!segment_io_allowed(c, port, op->size))
		soft_throw(c, VECTOR_GP, 0);
	reg_set(c, 0, op->size, machine_in(c, port, op->size));
	debug_check_io(c, port, op->size);
	return afterwards(c, op);
}

static const struct op *do_out(struct soft *c, const struct op *op)
{
	uint16_t port = op->condition ? (uint16_t)c->regs[CPU_RDX] : (uint16_t)op->imm;

	c->op = op;
	if (!segment_io_allowed(c, port, op->size))
		soft_throw(c, VECTOR_GP, 0);
	machine_out(c, port, op->size, (uint32_t)reg_get(c, 0, op->size));
	debug_check_io(c, port, op->size);
	return afterwards(c, op);
}

/* What has locals with an address is not an operation itself: such a one would not leave the stack before
 * the next, and a guest that loops over it would use all of it. */
static __attribute__((noinline)) void cpuid(struct soft *c)
{
	uint32_t r[4];

	identity_cpuid(c, (uint32_t)c->regs[CPU_RAX], (uint32_t)c->regs[CPU_RCX], r);
	c->regs[CPU_RAX] = r[0];
	c->regs[CPU_RBX] = r[1];
	c->regs[CPU_RCX] = r[2];
	c->regs[CPU_RDX] = r[3];
}

static const struct op *do_cpuid(struct soft *c, const struct op *op)
{
	cpuid(c);
	NEXT(c, op);
}

static __attribute__((noinline)) void rdmsr(struct soft *c)
{
	uint64_t value;

	if (!msr_read(c, (uint32_t)c->regs[CPU_RCX], &value))
		soft_throw(c, VECTOR_GP, 0);
	c->regs[CPU_RAX] = (uint32_t)value;
	c->regs[CPU_RDX] = value >> 32;
}

static const struct op *do_rdmsr(struct soft *c, const struct op *op)
{
	privileged(c, op);
	rdmsr(c);
	NEXT(c, op);
}

static const struct op *do_wrmsr(struct soft *c, const struct op *op)
{
	uint64_t value = (uint32_t)c->regs[CPU_RAX] | c->regs[CPU_RDX] << 32;

	privileged(c, op);
	if (!msr_write(c, (uint32_t)c->regs[CPU_RCX], value))
		soft_throw(c, VECTOR_GP, 0);
	soft_update_mode(c);
	return afterwards(c, op);
}

static const struct op *do_rdtsc(struct soft *c, const struct op *op)
{
	uint64_t tsc = __rdtsc() + c->vcpu.tsc_offset;

	c->op = op;
	if (c->cr4 & CR4_TSD && c->cpl != 0 && c->cr0 & CR0_PE)
		soft_throw(c, VECTOR_GP, 0);
	c->regs[CPU_RAX] = (uint32_t)tsc;
	c->regs[CPU_RDX] = tsc >> 32;
	if (op->condition)
		c->regs[CPU_RCX] = (uint32_t)c->msrs.tsc_aux;
	NEXT(c, op);
}

static const struct op *do_rdpid(struct soft *c, const struct op *op)
{
	c->regs[op->dst / 8] = (uint32_t)c->msrs.tsc_aux;
	NEXT(c, op);
}

static const struct op *do_mov_from_cr(struct soft *c, const struct op *op)
{
	uint64_t value;

	privileged(c, op);
	switch (op->src) {
	case 0:
		value = c->cr0;
		break;
	case 2:
		value = c->cr2;
		break;
	case 3:
		value = c->cr3;
		break;
	case 4:
		value = c->cr4;
		break;
	default:
		value = machine_get_priority(c);
		break;
	}
	c->regs[op->dst / 8] = is_long64(c) ? value : (uint32_t)value;
	NEXT(c, op);
}

static const struct op *do_mov_to_cr(struct soft *c, const struct op *op)
{
	uint64_t value = is_long64(c) ? c->regs[op->src / 8] : (uint32_t)c->regs[op->src / 8];
	uint64_t next = op_next_rip(c, op);

	privileged(c, op);
	switch (op->dst) {
	case 0:
		soft_write_cr0(c, value);
		break;
	case 2:
		c->cr2 = value;
		break;
	case 3:
		soft_write_cr3(c, value);
		break;
	case 4:
		soft_write_cr4(c, value);
		break;
	default:
		if (value > 15)
			soft_throw(c, VECTOR_GP, 0);
		machine_set_priority(c, (uint8_t)value);
		break;
	}
	c->op = NULL;
	return run_goto(c, next);
}

static void check_dr(struct soft *c, const struct op *op, unsigned int number)
{
	privileged(c, op);
	if ((number == 4 || number == 5) && c->cr4 & CR4_DE)
		soft_throw(c, VECTOR_UD, 0);
	if (c->debug.dr7 & DR7_GD) {
		c->debug.dr6 |= DR6_BD;
		soft_throw(c, VECTOR_DB, 0);
	}
}

static const struct op *do_mov_from_dr(struct soft *c, const struct op *op)
{
	unsigned int n = op->src;

	check_dr(c, op, n);
	c->regs[op->dst / 8] = n < 4              ? c->debug.dr[n]
			       : n == 4 || n == 6 ? c->debug.dr6
						  : c->debug.dr7;
	NEXT(c, op);
}

static const struct op *do_mov_to_dr(struct soft *c, const struct op *op)
{
	unsigned int n = op->dst;

	check_dr(c, op, n);
	soft_write_dr(c, n == 4 || n == 5 ? n + 2 : n, c->regs[op->src / 8]);
	return afterwards(c, op);
}

static const struct op *do_clts(struct soft *c, const struct op *op)
{
	privileged(c, op);
	c->cr0 &= ~(uint64_t)CR0_TS;
	soft_update_mode(c);
	return afterwards(c, op);
}

static const struct op *do_smsw(struct soft *c, const struct op *op)
{
	unless_umip(c, op);
	if (op->has_memory)
		operand_write(c, op, 2, c->cr0);
	else
		reg_set(c, op->dst, op->size, c->cr0);
	NEXT(c, op);
}

static const struct op *do_lmsw(struct soft *c, const struct op *op)
{
	uint64_t value;

	privileged(c, op);
	value = op->has_memory ? operand_read(c, op, 2) : reg_get(c, op->src, 2);
	/* Sets PE but cannot clear it. */
	soft_write_cr0(c, (c->cr0 & ~14ull) | (value & 15));
	return afterwards(c, op);
}

static const struct op *do_store_table(struct soft *c, const struct op *op)
{
	const struct cpu_table *table = op->condition ? &c->idt : &c->gdt;
	unsigned int width = is_long64(c) ? 8 : 4;
	uint64_t address;

	unless_umip(c, op);
	address = address_of(c, op, 2 + width, ACCESS_WRITE);
	soft_probe(c, address, 2 + width, ACCESS_WRITE);
	soft_write(c, address, 2, table->limit);
	soft_write(c, address + 2, width, table->base);
	NEXT(c, op);
}

static const struct op *do_load_table(struct soft *c, const struct op *op)
{
	unsigned int width = is_long64(c) ? 8 : 4;
	struct cpu_table table;
	uint64_t address;

	privileged(c, op);
	address = address_of(c, op, 2 + width, ACCESS_READ);
	table.limit = (uint16_t)soft_read(c, address, 2);
	table.base = soft_read(c, address + 2, width);
	if (!is_long64(c) && op->size == 2)
		table.base &= 0xffffff;
	if (!is_canonical(table.base))
		soft_throw(c, VECTOR_GP, 0);
	*(op->condition ? &c->idt : &c->gdt) = table;
	NEXT(c, op);
}

static const struct op *do_store_selector(struct soft *c, const struct op *op)
{
	uint16_t selector = op->condition ? c->tr.selector : c->ldt.selector;

	unless_umip(c, op);
	if (!is_protected(c))
		soft_throw(c, VECTOR_UD, 0);
	if (op->has_memory)
		operand_write(c, op, 2, selector);
	else
		reg_set(c, op->dst, op->size, selector);
	NEXT(c, op);
}

static const struct op *do_load_selector(struct soft *c, const struct op *op)
{
	uint16_t selector;

	c->op = op;
	if (!is_protected(c))
		soft_throw(c, VECTOR_UD, 0);
	privileged(c, op);
	selector = (uint16_t)(op->has_memory ? operand_read(c, op, 2) : reg_get(c, op->src, 2));
	if (op->condition)
		segment_load_tr(c, selector);
	else
		segment_load_ldt(c, selector);
	NEXT(c, op);
}

/* LAR, LSL, VERR, VERW: whether the selector may be used at this level. */
static bool may_look(const struct soft *c, const struct descriptor *d, uint16_t selector)
{
	unsigned int dpl = descriptor_dpl(d);

	if (descriptor_is_code(d) && descriptor_is_conforming(d))
		return true;
	return dpl >= c->cpl && dpl >= (selector & 3u);
}

static bool has_limit(const struct soft *c, const struct descriptor *d, bool for_lar)
{
	unsigned int type = descriptor_type(d);
	bool long_mode = c->efer & EFER_LMA;

	if (descriptor_is_segment(d))
		return true;
	switch (type) {
	case TYPE_TSS16:
	case TYPE_TSS16_BUSY:
		return !long_mode;
	case TYPE_LDT:
	case TYPE_TSS:
	case TYPE_TSS_BUSY:
		return true;
	case TYPE_CALL_GATE:
		return for_lar;
	case TYPE_CALL_GATE16:
	case TYPE_TASK_GATE:
		return for_lar && !long_mode;
	default:
		return false;
	}
}

static void set_zero_flag(struct soft *c, bool value)
{
	uint64_t flags = soft_get_flags(c) & ~(uint64_t)FLAG_ZF;

	soft_set_status(c, flags | (value ? FLAG_ZF : 0));
}

static uint16_t looked_at(struct soft *c, const struct op *op)
{
	c->op = op;
	if (!is_protected(c))
		soft_throw(c, VECTOR_UD, 0);
	return (uint16_t)(op->has_memory ? operand_read(c, op, 2) : reg_get(c, op->src, 2));
}

static const struct op *do_lar(struct soft *c, const struct op *op)
{
	uint16_t selector = looked_at(c, op);
	struct descriptor d;
	bool ok = selector & 0xfffc && segment_read(c, selector, &d) && has_limit(c, &d, true) &&
		  may_look(c, &d, selector);

	if (ok)
		reg_set(c, op->dst, op->size, d.low >> 32 & 0xf0ff00);
	set_zero_flag(c, ok);
	NEXT(c, op);
}

static const struct op *do_lsl(struct soft *c, const struct op *op)
{
	uint16_t selector = looked_at(c, op);
	struct descriptor d;
	bool ok = selector & 0xfffc && segment_read(c, selector, &d) && has_limit(c, &d, false) &&
		  may_look(c, &d, selector);

	if (ok)
		reg_set(c, op->dst, op->size, segment_from(&d, selector).limit);
	set_zero_flag(c, ok);
	NEXT(c, op);
}

/* VERR; VERW with `condition`. */
static const struct op *do_verify(struct soft *c, const struct op *op)
{
	uint16_t selector = looked_at(c, op);
	struct descriptor d;
	bool ok = selector & 0xfffc && segment_read(c, selector, &d) && descriptor_is_segment(&d) &&
		  may_look(c, &d, selector);

	if (ok && descriptor_is_code(&d))
		ok = !op->condition && d.low >> 41 & 1;
	else if (ok && op->condition)
		ok = d.low >> 41 & 1;
	set_zero_flag(c, ok);
	NEXT(c, op);
}

static const struct op *do_invlpg(struct soft *c, const struct op *op)
{
	uint64_t address = address_offset(c, op);

	privileged(c, op);
	if (op->address_size == 4)
		address = (uint32_t)address;
	if (is_long64(c))
		address += c->segment_base[op->segment];
	else
		address = (uint32_t)(address + c->segments[op->segment].base);
	soft_flush_page(c, address);
	return afterwards(c, op);
}

static const struct op *do_invpcid(struct soft *c, const struct op *op)
{
	uint64_t type = c->regs[op->dst / 8], address, pcid, linear;

	privileged(c, op);
	address = address_of(c, op, 16, ACCESS_READ);
	pcid = soft_read(c, address, 8);
	linear = soft_read(c, address + 8, 8);
	if (type > 3 || pcid >> 12 || (type < 2 && pcid && !(c->cr4 & CR4_PCIDE)) ||
	    (type == 0 && is_long64(c) && !is_canonical(linear)))
		soft_throw(c, VECTOR_GP, 0);
	switch (type) {
	case 0:
		soft_flush_page(c, linear);
		break;
	case 1:
		soft_flush_pcid(c, pcid);
		break;
	case 2:
		soft_flush_tlb(c);
		break;
	default:
		soft_flush_local(c);
	}
	return afterwards(c, op);
}

static const struct op *do_swapgs(struct soft *c, const struct op *op)
{
	uint64_t base = c->segments[CPU_GS].base;

	privileged(c, op);
	c->segments[CPU_GS].base = c->segment_base[CPU_GS] = c->msrs.kernel_gs_base;
	c->msrs.kernel_gs_base = base;
	NEXT(c, op);
}

/* RDFSBASE and its like: `condition` is the segment, `imm` 1 for a write. */
static const struct op *do_segment_base(struct soft *c, const struct op *op)
{
	unsigned int name = op->condition;

	c->op = op;
	if (!(c->cr4 & CR4_FSGSBASE))
		soft_throw(c, VECTOR_UD, 0);
	if (op->imm) {
		uint64_t base = reg_get(c, op->dst, op->size);

		if (!is_canonical(base))
			soft_throw(c, VECTOR_GP, 0);
		c->segments[name].base = c->segment_base[name] = base;
	} else {
		reg_set(c, op->dst, op->size, c->segments[name].base);
	}
	NEXT(c, op);
}

static const struct op *do_ac(struct soft *c, const struct op *op)
{
	c->op = op;
	if (c->cpl != 0)
		soft_throw(c, VECTOR_UD, 0);
	c->flags = op->imm ? c->flags | FLAG_AC : c->flags & ~(uint64_t)FLAG_AC;
	soft_select_tlb(c);
	NEXT(c, op);
}

/* WBINVD and INVD: caches are not a guest's business here. */
static const struct op *do_cache(struct soft *c, const struct op *op)
{
	privileged(c, op);
	NEXT(c, op);
}

static const struct op *do_xgetbv(struct soft *c, const struct op *op)
{
	uint32_t index = (uint32_t)c->regs[CPU_RCX];

	c->op = op;
	if (!(c->cr4 & CR4_OSXSAVE))
		soft_throw(c, VECTOR_UD, 0);
	if (index != 0)
		soft_throw(c, VECTOR_GP, 0);
	c->regs[CPU_RAX] = (uint32_t)c->xcr0;
	c->regs[CPU_RDX] = c->xcr0 >> 32;
	NEXT(c, op);
}

static const struct op *do_xsetbv(struct soft *c, const struct op *op)
{
	uint64_t value = (uint32_t)c->regs[CPU_RAX] | c->regs[CPU_RDX] << 32;

	c->op = op;
	if (!(c->cr4 & CR4_OSXSAVE))
		soft_throw(c, VECTOR_UD, 0);
	privileged(c, op);
	if ((uint32_t)c->regs[CPU_RCX] != 0 || !(value & 1) || value & ~identity_xcr0() ||
	    (value & 4 && !(value & 2)))
		soft_throw(c, VECTOR_GP, 0);
	c->xcr0 = value;
	soft_update_mode(c);
	return afterwards(c, op);
}

/* KVM's calls (Documentation/virt/kvm/x86/hypercalls.rst): none is offered, but asking is allowed. */
static const struct op *do_hypercall(struct soft *c, const struct op *op)
{
	enum { NO_SUCH_CALL = -1000, NOT_PERMITTED = -1 };
	int64_t result = c->cpl == 0 ? NO_SUCH_CALL : NOT_PERMITTED;

	c->regs[CPU_RAX] = is_long64(c) ? (uint64_t)result : (uint32_t)result;
	NEXT(c, op);
}

struct entry {
	ZydisMnemonic mnemonic;
	op_fn fn;
	uint8_t condition, imm;
	bool last;
};

/* Those that need nothing but their function and a constant or two. */
static const struct entry entries[] = {
	{ZYDIS_MNEMONIC_CLI, do_cli, 0, 0, false},
	{ZYDIS_MNEMONIC_STI, do_sti, 0, 0, false},
	{ZYDIS_MNEMONIC_HLT, do_hlt, 0, 0, true},
	{ZYDIS_MNEMONIC_CPUID, do_cpuid, 0, 0, false},
	{ZYDIS_MNEMONIC_RDMSR, do_rdmsr, 0, 0, false},
	{ZYDIS_MNEMONIC_WRMSR, do_wrmsr, 0, 0, true},
	{ZYDIS_MNEMONIC_RDTSC, do_rdtsc, 0, 0, false},
	{ZYDIS_MNEMONIC_RDTSCP, do_rdtsc, 1, 0, false},
	{ZYDIS_MNEMONIC_RDPID, do_rdpid, 0, 0, false},
	{ZYDIS_MNEMONIC_CLTS, do_clts, 0, 0, true},
	{ZYDIS_MNEMONIC_SMSW, do_smsw, 0, 0, false},
	{ZYDIS_MNEMONIC_LMSW, do_lmsw, 0, 0, true},
	{ZYDIS_MNEMONIC_SGDT, do_store_table, 0, 0, false},
	{ZYDIS_MNEMONIC_SIDT, do_store_table, 1, 0, false},
	{ZYDIS_MNEMONIC_LGDT, do_load_table, 0, 0, false},
	{ZYDIS_MNEMONIC_LIDT, do_load_table, 1, 0, false},
	{ZYDIS_MNEMONIC_SLDT, do_store_selector, 0, 0, false},
	{ZYDIS_MNEMONIC_STR, do_store_selector, 1, 0, false},
	{ZYDIS_MNEMONIC_LLDT, do_load_selector, 0, 0, false},
	{ZYDIS_MNEMONIC_LTR, do_load_selector, 1, 0, false},
	{ZYDIS_MNEMONIC_LAR, do_lar, 0, 0, false},
	{ZYDIS_MNEMONIC_LSL, do_lsl, 0, 0, false},
	{ZYDIS_MNEMONIC_VERR, do_verify, 0, 0, false},
	{ZYDIS_MNEMONIC_VERW, do_verify, 1, 0, false},
	{ZYDIS_MNEMONIC_INVLPG, do_invlpg, 0, 0, true},
	{ZYDIS_MNEMONIC_INVPCID, do_invpcid, 0, 0, true},
	{ZYDIS_MNEMONIC_SWAPGS, do_swapgs, 0, 0, false},
	{ZYDIS_MNEMONIC_RDFSBASE, do_segment_base, CPU_FS, 0, false},
	{ZYDIS_MNEMONIC_RDGSBASE, do_segment_base, CPU_GS, 0, false},
	{ZYDIS_MNEMONIC_WRFSBASE, do_segment_base, CPU_FS, 1, false},
	{ZYDIS_MNEMONIC_WRGSBASE, do_segment_base, CPU_GS, 1, false},
	{ZYDIS_MNEMONIC_CLAC, do_ac, 0, 0, false},
	{ZYDIS_MNEMONIC_STAC, do_ac, 0, 1, false},
	{ZYDIS_MNEMONIC_WBINVD, do_cache, 0, 0, false},
	{ZYDIS_MNEMONIC_INVD, do_cache, 0, 0, false},
	{ZYDIS_MNEMONIC_XGETBV, do_xgetbv, 0, 0, false},
	{ZYDIS_MNEMONIC_XSETBV, do_xsetbv, 0, 0, true},
	{ZYDIS_MNEMONIC_PAUSE, do_pause, 0, 0, false},
	{ZYDIS_MNEMONIC_VMCALL, do_hypercall, 0, 0, false},
	{ZYDIS_MNEMONIC_VMMCALL, do_hypercall, 0, 0, false},
};

static enum decoded decode_io(const struct instruction *in, struct op *op)
{
	unsigned int accumulator = in->info.mnemonic == ZYDIS_MNEMONIC_IN ? 0 : 1;
	const ZydisDecodedOperand *port = &in->operands[1 - accumulator];

	op->fn = accumulator ? do_out : do_in;
	op->size = (uint8_t)(in->operands[accumulator].size / 8);
	op->condition = port->type == ZYDIS_OPERAND_TYPE_REGISTER;
	if (!op->condition)
		op->imm = port->imm.value.u & 0xff;
	return DECODED_LAST;
}

static enum decoded decode_special_mov(const struct instruction *in, struct op *op)
{
	ZydisRegister to = in->operands[0].reg.value, from = in->operands[1].reg.value;

	if (in->operands[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    in->operands[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return DECODED_NO;
	if (to >= ZYDIS_REGISTER_CR0 && to <= ZYDIS_REGISTER_CR15) {
		op->fn = do_mov_to_cr;
		op->dst = (uint8_t)(to - ZYDIS_REGISTER_CR0);
		op->src = (uint8_t)zydis_gpr_offset(from);
	} else if (from >= ZYDIS_REGISTER_CR0 && from <= ZYDIS_REGISTER_CR15) {
		op->fn = do_mov_from_cr;
		op->src = (uint8_t)(from - ZYDIS_REGISTER_CR0);
		op->dst = (uint8_t)zydis_gpr_offset(to);
	} else if (to >= ZYDIS_REGISTER_DR0 && to <= ZYDIS_REGISTER_DR15) {
		op->fn = do_mov_to_dr;
		op->dst = (uint8_t)(to - ZYDIS_REGISTER_DR0);
		op->src = (uint8_t)zydis_gpr_offset(from);
	} else if (from >= ZYDIS_REGISTER_DR0 && from <= ZYDIS_REGISTER_DR15) {
		op->fn = do_mov_from_dr;
		op->src = (uint8_t)(from - ZYDIS_REGISTER_DR0);
		op->dst = (uint8_t)zydis_gpr_offset(to);
	} else {
		return DECODED_NO;
	}
	return DECODED_LAST;
}

/* The general register operand, wherever it stands. */
static void fill_registers(const struct instruction *in, struct op *op)
{
	for (unsigned int i = in->info.operand_count_visible; i-- > 0;) {
		const ZydisDecodedOperand *o = &in->operands[i];

		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		if (i == 0)
			op->dst = (uint8_t)zydis_gpr_offset(o->reg.value);
		if (i == 1 || in->info.operand_count_visible == 1)
			op->src = (uint8_t)zydis_gpr_offset(o->reg.value);
	}
}

enum decoded decode_system(uint32_t mode, const struct instruction *in, struct op *op)
{
	ZydisMnemonic m = in->info.mnemonic;

	if (m == ZYDIS_MNEMONIC_IN || m == ZYDIS_MNEMONIC_OUT)
		return decode_io(in, op);
	if (m == ZYDIS_MNEMONIC_MOV)
		return decode_special_mov(in, op);
	for (unsigned int i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		const struct entry *e = &entries[i];

		if (e->mnemonic != m)
			continue;
		if (m == ZYDIS_MNEMONIC_SWAPGS && !(mode & MODE_64))
			return decode_throw(op, VECTOR_UD);
		op->fn = e->fn;
		op->condition = e->condition;
		op->imm = e->imm;
		fill_registers(in, op);
		return e->last ? DECODED_LAST : DECODED;
	}
	return DECODED_NO;
}
