/* state: see the header. */
#include "vmm/cpu/soft/state.h"

#include <errno.h>

#include "base/mem.h"
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/fpu.h"
#include "vmm/cpu/soft/identity.h"
#include "vmm/cpu/soft/mmu.h"
#include "vmm/cpu/soft/msr.h"
#include "vmm/cpu/soft/run.h"

static void get_events(const struct soft *c, struct cpu_events *e)
{
	*e = (struct cpu_events){
		.activity = c->activity,
		.nmi_pending = c->nmi_pending || atomic_load(&c->nmis),
		.nmi_blocked = c->nmi_blocked,
		.interrupt_shadow = c->shadow,
	};
	if (c->debug.pending) {
		e->exception_pending = true;
		e->exception_vector = VECTOR_DB;
	}
}

int soft_get_state(struct vcpu *vcpu, struct cpu_state *s)
{
	struct soft *c = container_of(vcpu, struct soft, vcpu);

	/* What has been asked for but not begun would else be lost (C2). */
	run_take_start(c);
	memset(s, 0, sizeof(*s));
	memcpy(s->gpr, c->regs, sizeof(s->gpr));
	s->rip = c->rip;
	s->rflags = soft_get_flags(c);
	memcpy(s->segments, c->segments, sizeof(s->segments));
	s->ldt = c->ldt;
	s->tr = c->tr;
	s->gdt = c->gdt;
	s->idt = c->idt;
	s->cr0 = c->cr0;
	s->cr2 = c->cr2;
	s->cr3 = c->cr3;
	s->cr4 = c->cr4;
	s->cr8 = c->cr8;
	s->efer = c->efer;
	s->xcr0 = c->xcr0;
	s->apic_base = c->apic_base;
	memcpy(s->dr, c->debug.dr, sizeof(s->dr));
	s->dr6 = c->debug.dr6 | c->debug.pending;
	s->dr7 = c->debug.dr7;
	get_events(c, &s->events);
	fpu_get_xsave(c, s->xsave);
	s->msr_count = msr_save(c, s->msrs, CPU_MSRS_MAX);
	return 0;
}

static int check(const struct cpu_state *s)
{
	bool lma = s->efer & EFER_LMA;

	if (s->msr_count > CPU_MSRS_MAX || s->cr0 >> 32 || s->cr4 & ~(uint64_t)CR4_KNOWN ||
	    s->efer & ~(uint64_t)EFER_KNOWN || s->xcr0 & ~identity_xcr0() ||
	    (s->cr0 & CR0_PG && !(s->cr0 & CR0_PE)) ||
	    (lma && (!(s->cr0 & CR0_PG) || !(s->efer & EFER_LME) || !(s->cr4 & CR4_PAE))) ||
	    (s->rflags & FLAG_VM && (lma || !(s->cr0 & CR0_PE))) || s->cr8 > 15)
		return -EINVAL;
	return cpu_events_are_valid(&s->events) ? 0 : -EINVAL;
}

static void set_events(struct soft *c, const struct cpu_state *s)
{
	const struct cpu_events *e = &s->events;

	c->activity = (uint8_t)e->activity;
	c->nmi_pending = e->nmi_pending; /* the run loop looks before its first block */
	c->nmi_blocked = e->nmi_blocked;
	c->shadow = e->interrupt_shadow;
	c->debug_shadow = false;
	c->interrupt_waits = true; /* ask once: the APIC may hold one */
	if (e->exception_pending && e->exception_vector == VECTOR_DB) {
		c->debug.pending = s->dr6 & (0xf | DR6_BS);
		soft_request(c, REQUEST_TRAP);
	}
}

int soft_set_state(struct vcpu *vcpu, const struct cpu_state *s)
{
	struct soft *c = container_of(vcpu, struct soft, vcpu);
	int rc = check(s);

	if (rc < 0 || fpu_set_xsave(c, s->xsave) < 0)
		return -EINVAL;
	memcpy(c->regs, s->gpr, sizeof(s->gpr));
	c->rip = s->rip;
	memcpy(c->segments, s->segments, sizeof(c->segments));
	c->ldt = s->ldt;
	c->tr = s->tr;
	c->gdt = s->gdt;
	c->idt = s->idt;
	c->cr0 = s->cr0 | CR0_ET;
	c->cr2 = s->cr2;
	c->cr3 = s->cr3;
	c->cr4 = s->cr4;
	c->cr8 = s->cr8;
	c->efer = s->efer;
	c->xcr0 = s->xcr0 | 1;
	c->apic_base = s->apic_base;
	c->cpl = s->cr0 & CR0_PE ? s->segments[CPU_SS].access >> CPU_ACCESS_DPL_SHIFT & 3 : 0;
	if (s->rflags & FLAG_VM)
		c->cpl = 3;
	if (c->cr0 & CR0_PG && c->cr4 & CR4_PAE && !(c->efer & EFER_LMA) &&
	    !soft_load_pdptes(c, c->cr3))
		return -EINVAL;
	memcpy(c->debug.dr, s->dr, sizeof(s->dr));
	c->debug.dr6 = (s->dr6 & 0xe00f) | DR6_FIXED;
	c->debug.dr7 = (s->dr7 & 0xffff2bff) | DR7_FIXED;
	c->debug.pending = 0;
	soft_flush_tlb(c);
	soft_set_flags(c, s->rflags, ~0ull);
	for (unsigned int i = 0; i < s->msr_count; i++) {
		if (!msr_load(c, &s->msrs[i]))
			rc = -EINVAL;
	}
	set_events(c, s);
	soft_update_mode(c);
	return rc;
}
