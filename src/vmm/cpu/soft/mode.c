/* mode: the registers that decide how instructions are decoded and addresses translated. Writers check
 * what the CPU checks and throw #GP. */
#include "vmm/cpu/soft/debug.h"
#include "vmm/cpu/soft/fpu.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu.h"

#define CR3_KEEP (1ull << 63) /* with PCIDs: translations need not be forgotten */

static bool is_flat(const struct cpu_segment *s)
{
	uint32_t wanted = CPU_ACCESS_P | CPU_ACCESS_S | 2; /* a data segment that can be written */

	return s->base == 0 && s->limit == ~0u && (s->access & (wanted | 8 | 4)) == wanted &&
	       !(s->access & CPU_ACCESS_UNUSABLE);
}

static uint32_t mode_of(const struct soft *c)
{
	uint32_t mode = 0;
	const struct cpu_segment *s = c->segments;

	if (c->cr0 & CR0_PE && !is_vm86(c))
		mode |= MODE_PROTECTED;
	if (c->efer & EFER_LMA)
		mode |= MODE_LONG;
	if (c->efer & EFER_LMA && s[CPU_CS].access & CPU_ACCESS_L)
		mode |= MODE_64;
	else if (s[CPU_CS].access & CPU_ACCESS_DB)
		mode |= MODE_CODE32;
	if (s[CPU_SS].access & CPU_ACCESS_DB)
		mode |= MODE_STACK32;
	if (mode & MODE_PROTECTED && !(mode & MODE_64) && is_flat(&s[CPU_DS]) &&
	    is_flat(&s[CPU_ES]) && is_flat(&s[CPU_SS]))
		mode |= MODE_FLAT;
	if (c->cpl == 3)
		mode |= MODE_USER;
	mode |= (c->cr0 & CR0_TS ? MODE_TS : 0) | (c->cr0 & CR0_EM ? MODE_EM : 0) |
		(c->cr0 & CR0_MP ? MODE_MP : 0) | (c->cr4 & CR4_OSFXSR ? MODE_SSE : 0) |
		(c->cr4 & CR4_OSXSAVE ? MODE_XSAVE : 0);
	if (c->cr4 & CR4_OSXSAVE && (c->xcr0 & 6) == 6)
		mode |= MODE_AVX;
	return mode;
}

void soft_update_mode(struct soft *c)
{
	c->key = soft_key(c, mode_of(c));
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		c->segment_base[i] =
			c->key & MODE_64 && i != CPU_FS && i != CPU_GS ? 0 : c->segments[i].base;
	soft_select_tlb(c);
}

void soft_set_cpl(struct soft *c, unsigned int cpl)
{
	c->cpl = (uint8_t)cpl;
	soft_update_mode(c);
}

void soft_write_cr0(struct soft *c, uint64_t value)
{
	uint64_t changed = c->cr0 ^ value;

	if (value >> 32 || (value & CR0_PG && !(value & CR0_PE)) ||
	    (value & CR0_NW && !(value & CR0_CD)))
		soft_throw(c, VECTOR_GP, 0);
	if (changed & value & CR0_PG) {
		if (c->efer & EFER_LME &&
		    (!(c->cr4 & CR4_PAE) || c->segments[CPU_CS].access & CPU_ACCESS_L))
			soft_throw(c, VECTOR_GP, 0);
		if (!(c->efer & EFER_LME) && c->cr4 & CR4_PAE && !soft_load_pdptes(c, c->cr3))
			soft_throw(c, VECTOR_GP, 0);
	}
	if (changed & CR0_PG && !(value & CR0_PG) && (is_long64(c) || c->cr4 & CR4_PCIDE))
		soft_throw(c, VECTOR_GP, 0);
	c->cr0 = (value & 0xe005003f) | CR0_ET;
	c->efer &= ~(uint64_t)EFER_LMA;
	if (c->efer & EFER_LME && value & CR0_PG)
		c->efer |= EFER_LMA;
	if (changed & (CR0_PG | CR0_WP | CR0_PE))
		soft_flush_tlb(c);
	soft_update_mode(c);
}

void soft_write_cr3(struct soft *c, uint64_t value)
{
	bool keep = c->cr4 & CR4_PCIDE && value & CR3_KEEP;

	if (c->efer & EFER_LMA) {
		if (keep)
			value &= ~CR3_KEEP;
		if (value >> PHYSICAL_BITS)
			soft_throw(c, VECTOR_GP, 0);
	} else if (c->cr0 & CR0_PG && c->cr4 & CR4_PAE && !soft_load_pdptes(c, value)) {
		soft_throw(c, VECTOR_GP, 0);
	}
	c->cr3 = value;
	soft_select_context(c, keep);
}

void soft_write_cr4(struct soft *c, uint64_t value)
{
	uint64_t changed = c->cr4 ^ value;

	if (value & ~(uint64_t)CR4_KNOWN || (c->efer & EFER_LMA && !(value & CR4_PAE)))
		soft_throw(c, VECTOR_GP, 0);
	if (changed & value & CR4_PCIDE && (!(c->efer & EFER_LMA) || c->cr3 & CR3_PCID))
		soft_throw(c, VECTOR_GP, 0);
	if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP) && c->cr0 & CR0_PG &&
	    !(c->efer & EFER_LMA) && value & CR4_PAE && !soft_load_pdptes(c, c->cr3))
		soft_throw(c, VECTOR_GP, 0);
	c->cr4 = value;
	if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PCIDE))
		soft_flush_tlb(c);
	soft_update_mode(c);
}

void soft_write_dr(struct soft *c, unsigned int number, uint64_t value)
{
	if (number < 4) {
		c->debug.dr[number] = value;
	} else if (value >> 32) {
		soft_throw(c, VECTOR_GP, 0);
	} else if (number == 6) {
		c->debug.dr6 = (value & 0xe00f) | DR6_FIXED;
	} else {
		c->debug.dr7 = (value & 0xffff2bff) | DR7_FIXED;
	}
	soft_flush_tlb(c); /* watched pages leave the TLB */
	soft_set_flags(c, 0, 0);
}

static void reset_segments(struct soft *c)
{
	for (unsigned int i = 0; i < CPU_SEGMENTS; i++)
		c->segments[i] = (struct cpu_segment){.limit = 0xffff,
						      .access = CPU_ACCESS_P | CPU_ACCESS_S | 3};
	c->segments[CPU_CS].selector = 0xf000;
	c->segments[CPU_CS].base = 0xffff0000;
	c->segments[CPU_CS].access |= 8;
	c->ldt = (struct cpu_segment){.limit = 0xffff, .access = CPU_ACCESS_P | 2};
	c->tr = (struct cpu_segment){.limit = 0xffff, .access = CPU_ACCESS_P | 11};
	c->gdt = c->idt = (struct cpu_table){.limit = 0xffff};
}

void soft_reset(struct soft *c, bool init)
{
	memset(c->regs, 0, sizeof(c->regs));
	c->regs[CPU_RDX] = 0x600;
	c->rip = 0xfff0;
	c->flags = 0;
	soft_set_status(c, 0);
	reset_segments(c);
	/* INIT keeps the caches' bits, MSRs and the vector state. */
	c->cr0 = (init ? c->cr0 & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW) | CR0_ET;
	c->cr2 = c->cr3 = c->cr4 = c->cr8 = c->efer = 0;
	c->debug = (struct soft_debug){.dr6 = DR6_FIXED, .dr7 = DR7_FIXED};
	c->cpl = 0;
	c->shadow = c->debug_shadow = c->nmi_blocked = c->interrupt_waits = false;
	c->nmi_pending = 0;
	c->delivering = -1;
	c->restarts = false;
	c->op = NULL;
	if (!init) {
		c->xcr0 = 1;
		c->msrs = (struct soft_msrs){.pat = 0x0007040600070406ull, .misc_enable = 1};
		c->vcpu.tsc_offset = 0;
		memset(c->vec, 0, sizeof(c->vec));
		fpu_reset(c);
	}
	soft_flush_tlb(c);
	soft_update_mode(c);
	soft_set_flags(c, 0, 0);
}
