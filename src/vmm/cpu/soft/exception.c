/*
 * exception: from the place where something goes wrong to the guest's handler (Intel SDM volume 3,
 * chapter 6). Task gates are refused with #GP, as long mode does.
 */
#include "vmm/cpu/soft/address.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/segment.h"

enum { NOT_DELIVERING = -1 };

/* Those whose error code names a segment or a gate, and in bit 0 (EXT) whether the program is without
 * fault (6.13). */
static bool names_selector(enum soft_vector vector)
{
	return vector >= VECTOR_TS && vector <= VECTOR_GP;
}

_Noreturn void soft_throw(struct soft *c, enum soft_vector vector, uint32_t error)
{
	if (c->op)
		c->rip = op_rip(c, c->op) & rip_mask(c);
	if (c->restarts)
		c->rip = c->restart_rip;
	c->restarts = false;
	c->op = NULL;
	c->commit.kind = COMMIT_NONE;
	soft_unlock_split(c);
	c->debug.pending = 0;
	c->fault_vector = (int)vector;
	c->fault_kind = EVENT_FAULT;
	c->fault_error = error | (c->external && names_selector(vector));
	c->external = false;
	soft_select_tlb(c);
	_longjmp(c->jump_out, 1);
}

_Noreturn void soft_throw_page_fault(struct soft *c, uint64_t address, uint32_t error)
{
	c->fault_address = address;
	soft_throw(c, VECTOR_PF, error);
}

_Noreturn void soft_throw_trap(struct soft *c, enum soft_vector vector)
{
	c->op = NULL;
	c->fault_vector = (int)vector;
	c->fault_kind = EVENT_TRAP;
	c->fault_error = 0;
	soft_select_tlb(c);
	_longjmp(c->jump_out, 1);
}

static bool has_error_code(unsigned int vector)
{
	return vector == VECTOR_DF || (vector >= VECTOR_TS && vector <= VECTOR_PF) ||
	       vector == VECTOR_AC;
}

static void deliver_real(struct soft *c, unsigned int vector)
{
	uint64_t flags = soft_get_flags(c);
	uint64_t entry;

	if (vector * 4 + 3 > c->idt.limit)
		soft_throw(c, VECTOR_GP, 0);
	entry = soft_read_system(c, c->idt.base + vector * 4, 4);
	soft_push(c, 2, flags);
	soft_push(c, 2, c->segments[CPU_CS].selector);
	soft_push(c, 2, c->rip);
	soft_set_flags(c, 0, FLAG_IF | FLAG_TF | FLAG_AC | FLAG_RF);
	c->segments[CPU_CS].selector = (uint16_t)(entry >> 16);
	c->segments[CPU_CS].base = entry >> 16 << 4;
	c->rip = entry & 0xffff;
	soft_update_mode(c);
}

struct gate {
	uint64_t low, high;
	uint32_t error; /* that names this gate */
};

static unsigned int gate_type(const struct gate *g)
{
	return g->low >> 40 & 31;
}

static struct gate read_gate(struct soft *c, unsigned int vector, enum soft_event event)
{
	bool long_mode = c->efer & EFER_LMA;
	unsigned int size = long_mode ? 16 : 8;
	struct gate g = {.error = vector * 8 + 2};
	unsigned int type;

	if (vector * size + size - 1 > c->idt.limit)
		soft_throw(c, VECTOR_GP, g.error);
	g.low = soft_read_system(c, c->idt.base + vector * size, 8);
	if (long_mode)
		g.high = soft_read_system(c, c->idt.base + vector * size + 8, 8);
	type = gate_type(&g);
	if (type != TYPE_INTERRUPT_GATE && type != TYPE_TRAP_GATE &&
	    (long_mode || (type != TYPE_INTERRUPT_GATE16 && type != TYPE_TRAP_GATE16)))
		soft_throw(c, VECTOR_GP, g.error);
	if (event == EVENT_SOFTWARE && (g.low >> 45 & 3) < c->cpl)
		soft_throw(c, VECTOR_GP, g.error);
	if (!(g.low >> 47 & 1))
		soft_throw(c, VECTOR_NP, g.error);
	return g;
}

static struct descriptor gate_target(struct soft *c, uint16_t selector)
{
	uint32_t error = selector & 0xfffcu;
	struct descriptor d;

	if (!(selector & 0xfffc))
		soft_throw(c, VECTOR_GP, 0);
	if (!segment_read(c, selector, &d) || !descriptor_is_code(&d) ||
	    descriptor_dpl(&d) > c->cpl)
		soft_throw(c, VECTOR_GP, error);
	if (c->efer & EFER_LMA && (!descriptor_is_long(&d) || d.low >> 54 & 1))
		soft_throw(c, VECTOR_GP, error);
	if (!descriptor_is_present(&d))
		soft_throw(c, VECTOR_NP, error);
	return d;
}

/* Pushes on a stack that is not yet the current one. */
struct frame {
	uint64_t sp, base, mask;
	unsigned int size;
	bool user;
};

static void frame_push(struct soft *c, struct frame *f, uint64_t value)
{
	uint64_t address;

	f->sp = (f->sp & ~f->mask) | ((f->sp - f->size) & f->mask);
	address = f->base + (f->sp & f->mask);
	if (!(c->efer & EFER_LMA))
		address = (uint32_t)address;
	else if (!is_canonical(address))
		soft_throw(c, VECTOR_SS, 0);
	if (f->user)
		soft_write(c, address, f->size, value);
	else
		soft_write_system(c, address, f->size, value);
}

static uint64_t pushed_flags(const struct soft *c, enum soft_event event)
{
	return soft_get_flags(c) | (event == EVENT_FAULT ? FLAG_RF : 0);
}

static void deliver_long(struct soft *c, unsigned int vector, enum soft_event event, uint32_t error)
{
	struct gate g = read_gate(c, vector, event);
	uint16_t selector = (uint16_t)(g.low >> 16);
	struct descriptor d = gate_target(c, selector);
	unsigned int cpl = descriptor_is_conforming(&d) ? c->cpl : descriptor_dpl(&d);
	unsigned int ist = g.low >> 32 & 7;
	struct frame f = {.sp = c->regs[CPU_RSP], .mask = ~0ull, .size = 8, .user = cpl == 3};
	uint64_t rip = (g.low & 0xffff) | (g.low >> 32 & 0xffff0000) | g.high << 32;
	bool inward = cpl < c->cpl;

	if (!is_canonical(rip))
		soft_throw(c, VECTOR_GP, 0);
	if (ist)
		f.sp = segment_tss_rsp(c, 3 + ist); /* IST1 lies 4 entries behind RSP0 */
	else if (inward)
		f.sp = segment_tss_rsp(c, cpl);
	f.sp &= ~15ull;
	frame_push(c, &f, c->segments[CPU_SS].selector);
	frame_push(c, &f, c->regs[CPU_RSP]);
	frame_push(c, &f, pushed_flags(c, event));
	frame_push(c, &f, c->segments[CPU_CS].selector);
	frame_push(c, &f, c->rip);
	if (event == EVENT_FAULT && has_error_code(vector))
		frame_push(c, &f, error);
	if (inward) {
		c->segments[CPU_SS] = (struct cpu_segment){
			.selector = (uint16_t)cpl, .access = CPU_ACCESS_UNUSABLE | cpl << 5};
	}
	c->regs[CPU_RSP] = f.sp;
	c->rip = rip;
	soft_set_flags(c, 0,
		       FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM |
			       (gate_type(&g) == TYPE_INTERRUPT_GATE ? FLAG_IF : 0));
	segment_set_code(c, &d, selector, cpl);
}

static void push_return(struct soft *c, struct frame *f, enum soft_event event, bool inward)
{
	if (is_vm86(c)) {
		frame_push(c, f, c->segments[CPU_GS].selector);
		frame_push(c, f, c->segments[CPU_FS].selector);
		frame_push(c, f, c->segments[CPU_DS].selector);
		frame_push(c, f, c->segments[CPU_ES].selector);
	}
	if (inward) {
		frame_push(c, f, c->segments[CPU_SS].selector);
		frame_push(c, f, c->regs[CPU_RSP]);
	}
	frame_push(c, f, pushed_flags(c, event));
	frame_push(c, f, c->segments[CPU_CS].selector);
	frame_push(c, f, c->rip);
}

static void leave_vm86(struct soft *c)
{
	static const enum cpu_segment_name names[] = {CPU_ES, CPU_DS, CPU_FS, CPU_GS};

	for (unsigned int i = 0; i < 4; i++)
		c->segments[names[i]] = (struct cpu_segment){.access = CPU_ACCESS_UNUSABLE};
}

static void deliver_protected(struct soft *c, unsigned int vector, enum soft_event event,
			      uint32_t error)
{
	struct gate g = read_gate(c, vector, event);
	uint16_t selector = (uint16_t)(g.low >> 16), ss = 0;
	struct descriptor d = gate_target(c, selector), stack = {0};
	unsigned int cpl = descriptor_is_conforming(&d) ? c->cpl : descriptor_dpl(&d);
	bool inward = cpl < c->cpl, wide = gate_type(&g) & 8, vm86 = is_vm86(c);
	struct frame f = {.sp = c->regs[CPU_RSP],
			  .base = c->segments[CPU_SS].base,
			  .mask = stack_mask(c),
			  .size = wide ? 4 : 2,
			  .user = cpl == 3};

	if (vm86 && cpl != 0)
		soft_throw(c, VECTOR_GP, selector & 0xfffc);
	if (inward) {
		segment_tss_stack(c, cpl, &ss, &f.sp);
		if (!(ss & 0xfffc))
			soft_throw(c, VECTOR_TS, 0);
		stack = segment_must_read(c, ss, VECTOR_TS);
		if ((ss & 3u) != cpl || descriptor_dpl(&stack) != cpl ||
		    !descriptor_is_segment(&stack) || descriptor_is_code(&stack) ||
		    !(stack.low >> 41 & 1))
			soft_throw(c, VECTOR_TS, ss & 0xfffc);
		if (!descriptor_is_present(&stack))
			soft_throw(c, VECTOR_SS, ss & 0xfffc);
		f.base = segment_from(&stack, ss).base;
		f.mask = stack.low >> 54 & 1 ? 0xffffffffull : 0xffffull;
	}
	push_return(c, &f, event, inward);
	if (event == EVENT_FAULT && has_error_code(vector))
		frame_push(c, &f, error);
	if (vm86)
		leave_vm86(c);
	if (inward)
		c->segments[CPU_SS] = segment_from(&stack, ss);
	c->regs[CPU_RSP] =
		f.mask == 0xffff ? (c->regs[CPU_RSP] & ~f.mask) | (f.sp & f.mask) : f.sp & f.mask;
	c->rip = (g.low & 0xffff) | (wide ? g.low >> 32 & 0xffff0000 : 0);
	soft_set_flags(c, 0,
		       FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM | (gate_type(&g) & 1 ? 0 : FLAG_IF));
	segment_set_code(c, &d, selector, cpl);
}

void soft_deliver(struct soft *c, unsigned int vector, enum soft_event event, uint32_t error)
{
	c->op = NULL;
	c->external = event != EVENT_SOFTWARE;
	if (!(c->cr0 & CR0_PE))
		deliver_real(c, vector);
	else if (c->efer & EFER_LMA)
		deliver_long(c, vector, event, error);
	else
		deliver_protected(c, vector, event, error);
	c->external = false;
}

void soft_deliver_software(struct soft *c, unsigned int vector, uint64_t rip)
{
	c->restarts = true;
	c->restart_rip = rip;
	soft_deliver(c, vector, EVENT_SOFTWARE, 0);
	c->restarts = false;
}

static bool is_contributory(int vector)
{
	return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP);
}

bool soft_deliver_fault(struct soft *c)
{
	int vector = c->fault_vector, first = c->delivering;
	uint32_t error = c->fault_error;

	if (first == VECTOR_DF && (is_contributory(vector) || vector == VECTOR_PF))
		return false;
	if ((is_contributory(first) && is_contributory(vector)) ||
	    (first == VECTOR_PF && (is_contributory(vector) || vector == VECTOR_PF))) {
		vector = VECTOR_DF;
		error = 0;
	}
	if (vector == VECTOR_PF)
		c->cr2 = c->fault_address;
	if (vector == VECTOR_DB)
		c->debug.dr7 &= ~0x2000ull; /* general detect */
	c->delivering = vector;
	c->shadow = c->debug_shadow = false;
	soft_deliver(c, (unsigned int)vector, c->fault_kind, error);
	c->delivering = NOT_DELIVERING;
	return true;
}
