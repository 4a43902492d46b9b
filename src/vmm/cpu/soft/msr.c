/* msr: see the header. */
#include "vmm/cpu/soft/msr.h"

#include <x86intrin.h>

#include "base/mem.h"
#include "vmm/cpu/soft/identity.h"
#include "vmm/cpu/soft/kvmclock.h"
#include "vmm/cpu/soft/machine.h"
#include "vmm/cpu/soft/mmu.h"

enum {
	MSR_TSC = 0x10,
	MSR_PLATFORM_ID = 0x17,
	MSR_APIC_BASE = 0x1b,
	MSR_FEATURE_CONTROL = 0x3a,
	MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48,
	MSR_PRED_CMD = 0x49,
	MSR_MICROCODE = 0x8b,
	MSR_MTRR_CAP = 0xfe,
	MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175,
	MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179,
	MSR_MCG_STATUS = 0x17a,
	MSR_MISC_ENABLE = 0x1a0,
	MSR_MTRR_BASE0 = 0x200,
	MSR_MTRR_LAST = 0x20f,
	MSR_MTRR_FIX64K = 0x250,
	MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268,
	MSR_PAT = 0x277,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MSR_TSC_DEADLINE = 0x6e0,
	MSR_X2APIC_FIRST = 0x800,
	MSR_X2APIC_LAST = 0x8ff,
};
enum {
	MSR_EFER = (int)0xc0000080,
	MSR_STAR,
	MSR_LSTAR,
	MSR_CSTAR,
	MSR_FMASK,
	MSR_FS_BASE = (int)0xc0000100,
	MSR_GS_BASE,
	MSR_KERNEL_GS_BASE,
	MSR_TSC_AUX,
};

/* What is just kept. */
struct plain {
	uint32_t index;
	uint16_t offset; /* in struct soft_msrs */
	bool canonical;
};

#define PLAIN(index, field, canonical)                                                             \
	{                                                                                          \
		(uint32_t)(index), offsetof(struct soft_msrs, field), canonical                    \
	}

static const struct plain plain[] = {
	PLAIN(MSR_STAR, star, false),
	PLAIN(MSR_LSTAR, lstar, true),
	PLAIN(MSR_CSTAR, cstar, true),
	PLAIN(MSR_FMASK, fmask, false),
	PLAIN(MSR_KERNEL_GS_BASE, kernel_gs_base, true),
	PLAIN(MSR_TSC_AUX, tsc_aux, false),
	PLAIN(MSR_SYSENTER_CS, sysenter_cs, false),
	PLAIN(MSR_SYSENTER_ESP, sysenter_esp, true),
	PLAIN(MSR_SYSENTER_EIP, sysenter_eip, true),
	PLAIN(MSR_MISC_ENABLE, misc_enable, false),
	PLAIN(MSR_MTRR_DEF_TYPE, mtrr_def_type, false),
	PLAIN(MSR_MTRR_FIX64K, mtrr_fixed[0], false),
	PLAIN(MSR_MTRR_FIX16K, mtrr_fixed[1], false),
	PLAIN(MSR_MTRR_FIX16K + 1, mtrr_fixed[2], false),
	PLAIN(MSR_MTRR_FIX4K, mtrr_fixed[3], false),
	PLAIN(MSR_MTRR_FIX4K + 1, mtrr_fixed[4], false),
	PLAIN(MSR_MTRR_FIX4K + 2, mtrr_fixed[5], false),
	PLAIN(MSR_MTRR_FIX4K + 3, mtrr_fixed[6], false),
	PLAIN(MSR_MTRR_FIX4K + 4, mtrr_fixed[7], false),
	PLAIN(MSR_MTRR_FIX4K + 5, mtrr_fixed[8], false),
	PLAIN(MSR_MTRR_FIX4K + 6, mtrr_fixed[9], false),
	PLAIN(MSR_MTRR_FIX4K + 7, mtrr_fixed[10], false),
	PLAIN(MSR_MCG_STATUS, mcg_status, false),
};

static uint64_t *field(struct soft *c, const struct plain *p)
{
	return (uint64_t *)(void *)((char *)&c->msrs + p->offset);
}

static const struct plain *find(uint32_t index)
{
	for (unsigned int i = 0; i < array_size(plain); i++) {
		if (plain[i].index == index)
			return &plain[i];
	}
	return NULL;
}

static bool is_machines(uint32_t index)
{
	return index == MSR_TSC_DEADLINE || (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST);
}

static bool read_variable_mtrr(const struct soft *c, uint32_t index, uint64_t *ret)
{
	unsigned int i = (index - MSR_MTRR_BASE0) / 2;

	*ret = index & 1 ? c->msrs.mtrr_mask[i] : c->msrs.mtrr_base[i];
	return true;
}

/* Configuration of AMD's processors that kernels adjust without asking whether it is there, since the
 * family always has it: reads as zero, writes have no effect. */
static bool is_amd_configuration(uint32_t index)
{
	static const uint32_t registers[] = {
		0xc0010010, /* SYSCFG */
		0xc0010015, /* HWCR */
		0xc001001f, /* NB_CFG */
		0xc0010055, /* interrupt pending and C1E */
		0xc0010112, /* TSEG base */
		0xc0010113, /* TSEG mask */
		0xc0011020, /* LS_CFG */
		0xc0011021, /* IC_CFG */
		0xc0011022, /* DC_CFG */
		0xc0011023, /* BU_CFG */
		0xc0011029, /* DE_CFG */
	};

	if (index >> 16 != 0xc001 || !identity_is_amd())
		return false;
	if (index <= 0xc0010007) /* four performance counters: they do not count */
		return true;
	for (unsigned int i = 0; i < array_size(registers); i++) {
		if (registers[i] == index)
			return true;
	}
	return false;
}

static bool read_constant(uint32_t index, uint64_t *ret)
{
	if (is_amd_configuration(index)) {
		*ret = 0;
		return true;
	}
	switch (index) {
	case MSR_PLATFORM_ID:
	case MSR_MCG_CAP:
	case MSR_MICROCODE:
		*ret = 0;
		return true;
	case MSR_FEATURE_CONTROL:
		*ret = 1; /* locked, nothing allowed */
		return true;
	case MSR_MTRR_CAP:
		*ret = 0x508; /* 8 variable, the fixed ones, write combining */
		return true;
	default:
		return false;
	}
}

/* While a state is saved or loaded the clock stands still (cpu.h). */
static uint64_t host_tsc(const struct soft *c)
{
	return c->vm->vm.moment_tsc ? c->vm->vm.moment_tsc : __rdtsc();
}

bool msr_read(struct soft *c, uint32_t index, uint64_t *ret)
{
	const struct plain *p = find(index);

	if (p) {
		*ret = *field(c, p);
		return true;
	}
	if (is_machines(index))
		return machine_read_msr(c, index, ret);
	if (index >= MSR_MTRR_BASE0 && index <= MSR_MTRR_LAST)
		return read_variable_mtrr(c, index, ret);
	switch (index) {
	case MSR_TSC:
		*ret = host_tsc(c) + c->vcpu.tsc_offset;
		return true;
	case MSR_TSC_ADJUST:
		*ret = c->msrs.tsc_adjust;
		return true;
	case MSR_APIC_BASE:
		if (!machine_read_msr(c, index, ret))
			*ret = c->apic_base;
		return true;
	case (uint32_t)MSR_EFER:
		*ret = c->efer;
		return true;
	case (uint32_t)MSR_FS_BASE:
		*ret = c->segments[CPU_FS].base;
		return true;
	case (uint32_t)MSR_GS_BASE:
		*ret = c->segments[CPU_GS].base;
		return true;
	case MSR_PAT:
		*ret = c->msrs.pat;
		return true;
	default:
		return read_constant(index, ret) || kvmclock_read(c, index, ret);
	}
}

static bool write_efer(struct soft *c, uint64_t value)
{
	if (value & ~(uint64_t)EFER_KNOWN || ((value ^ c->efer) & EFER_LME && c->cr0 & CR0_PG))
		return false;
	c->efer = (value & ~(uint64_t)EFER_LMA) | (c->efer & EFER_LMA);
	soft_flush_tlb(c); /* NXE changes what is reserved */
	soft_update_mode(c);
	return true;
}

static bool write_pat(struct soft *c, uint64_t value)
{
	for (unsigned int i = 0; i < 8; i++) {
		unsigned int type = value >> i * 8 & 0xff;

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	c->msrs.pat = value;
	return true;
}

static bool write_base(struct soft *c, enum cpu_segment_name name, uint64_t value)
{
	if (!is_canonical(value))
		return false;
	c->segments[name].base = value;
	soft_update_mode(c);
	return true;
}

static bool write_variable_mtrr(struct soft *c, uint32_t index, uint64_t value)
{
	unsigned int i = (index - MSR_MTRR_BASE0) / 2;

	*(index & 1 ? &c->msrs.mtrr_mask[i] : &c->msrs.mtrr_base[i]) = value;
	return true;
}

static bool write_apic_base(struct soft *c, uint64_t value)
{
	if (c->vm->vm.client->ops->msr_write && !machine_write_msr(c, MSR_APIC_BASE, value))
		return false;
	c->apic_base = value;
	return true;
}

bool msr_write(struct soft *c, uint32_t index, uint64_t value)
{
	const struct plain *p = find(index);

	if (p) {
		if (p->canonical && !is_canonical(value))
			return false;
		*field(c, p) = value;
		return true;
	}
	if (is_machines(index))
		return machine_write_msr(c, index, value);
	if (index >= MSR_MTRR_BASE0 && index <= MSR_MTRR_LAST)
		return write_variable_mtrr(c, index, value);
	switch (index) {
	case MSR_TSC: {
		uint64_t offset = value - __rdtsc();

		c->msrs.tsc_adjust += offset - c->vcpu.tsc_offset;
		c->vcpu.tsc_offset = offset;
		return true;
	}
	case MSR_TSC_ADJUST:
		c->vcpu.tsc_offset += value - c->msrs.tsc_adjust;
		c->msrs.tsc_adjust = value;
		return true;
	case MSR_APIC_BASE:
		return write_apic_base(c, value);
	case (uint32_t)MSR_EFER:
		return write_efer(c, value);
	case (uint32_t)MSR_FS_BASE:
		return write_base(c, CPU_FS, value);
	case (uint32_t)MSR_GS_BASE:
		return write_base(c, CPU_GS, value);
	case MSR_PAT:
		return write_pat(c, value);
	case MSR_MICROCODE:
		return true;
	default:
		return is_amd_configuration(index) || kvmclock_write(c, index, value);
	}
}

/* Beyond the plain ones. */
static const uint32_t others[] = {MSR_TSC, MSR_TSC_ADJUST, MSR_PAT, KVMCLOCK_WALL,
				  KVMCLOCK_SYSTEM_TIME};

unsigned int msr_save(struct soft *c, struct cpu_msr *msrs, unsigned int max)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < array_size(plain) && n < max; i++)
		msrs[n++] = (struct cpu_msr){plain[i].index, *field(c, &plain[i])};
	for (uint32_t i = MSR_MTRR_BASE0; i <= MSR_MTRR_LAST && n < max; i++, n++) {
		msrs[n].index = i;
		(void)read_variable_mtrr(c, i, &msrs[n].value);
	}
	for (unsigned int i = 0; i < array_size(others) && n < max; i++) {
		msrs[n].index = others[i];
		if (msr_read(c, others[i], &msrs[n].value))
			n++;
	}
	return n;
}

bool msr_load(struct soft *c, const struct cpu_msr *msr)
{
	if (msr->index == MSR_TSC) { /* without a trace in TSC_ADJUST, which is loaded by itself */
		c->vcpu.tsc_offset = msr->value - host_tsc(c);
		return true;
	}
	if (msr->index == MSR_TSC_ADJUST) {
		c->msrs.tsc_adjust = msr->value;
		return true;
	}
	if (msr->index == KVMCLOCK_WALL) { /* the guest was told when it asked */
		c->msrs.wall_clock = msr->value;
		return true;
	}
	return !is_machines(msr->index) && msr_write(c, msr->index, msr->value);
}
