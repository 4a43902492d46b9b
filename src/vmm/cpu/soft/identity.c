/* identity: see the header. The vendor is the host's, since code that looks at the vendor then meets the
 * instructions' behaviour that it expects: they are executed by the host. */
#include "vmm/cpu/soft/identity.h"

#include <cpuid.h>
#include <string.h>

#include "vmm/cpu/soft/feature.h"
#include "vmm/cpu/soft/fpu.h"
#include "vmm/cpu/soft/mmu.h"

enum { EAX, EBX, ECX, EDX };
enum { APIC_BASE_ENABLE = 1 << 11 };
enum { LEAF_MAX = 0x16, LEAF_EXTENDED_MAX = (int)0x80000008, LEAF_HYPERVISOR = 0x40000000 };

uint64_t identity_xcr0(void)
{
	return feature_host() & FEATURE_AVX ? XSTATE_X87 | XSTATE_SSE | XSTATE_AVX
					    : XSTATE_X87 | XSTATE_SSE;
}

static uint32_t bit(unsigned int feature, unsigned int n)
{
	return (feature_host() & feature) == feature ? 1u << n : 0;
}

static void basic(uint32_t r[4])
{
	uint32_t host[4] = {0};

	__cpuid(0, host[0], host[1], host[2], host[3]);
	r[EAX] = LEAF_MAX;
	memcpy(r + 1, host + 1, 3 * sizeof(*r));
}

bool identity_is_amd(void)
{
	uint32_t a, b, c, d;

	__cpuid(0, a, b, c, d);
	return b == signature_AMD_ebx;
}

/* Family 15, model 107, stepping 1 of AMD and family 6, model 94 of Intel say "64-bit, nothing to work
 * round" to guests; real models would make them look for that model's errata and MSRs. */
static uint32_t signature(void)
{
	return identity_is_amd() ? 0x00060fb1 : 0x000506e3;
}

static void features(const struct soft *c, uint32_t r[4])
{
	r[EAX] = signature();
	r[EBX] = c->vcpu.index << 24 | c->vm->vcpus << 16 | 8 << 8;
	r[ECX] = bit(FEATURE_SSE3, 0) | bit(FEATURE_PCLMUL, 1) | bit(FEATURE_SSSE3, 9) |
		 bit(FEATURE_FMA, 12) | 1u << 13 /* CMPXCHG16B */ | 1u << 17 /* PCID */ |
		 bit(FEATURE_SSE41, 19) | bit(FEATURE_SSE42, 20) | bit(FEATURE_MOVBE, 22) |
		 bit(FEATURE_POPCNT, 23) | bit(FEATURE_AES, 25) | bit(FEATURE_AVX, 26) |
		 bit(FEATURE_AVX, 28) | bit(FEATURE_F16C, 29) | bit(FEATURE_RDRAND, 30) |
		 1u << 31 /* hypervisor */;
	if (c->vm->vm.client->ops->msr_read)
		r[ECX] |= 1u << 21 | 1u << 24; /* x2APIC, TSC deadline */
	if (c->cr4 & CR4_OSXSAVE)
		r[ECX] |= 1u << 27;
	/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT CLFSH MMX FXSR SSE SSE2 */
	r[EDX] = 0x0788fbfdu & ~(1u << 17);
	r[EDX] |= 1u << 3 | 1u << 2;
	if (!(c->apic_base & APIC_BASE_ENABLE))
		r[EDX] &= ~(1u << 9);
	if (c->vm->vcpus > 1)
		r[EDX] |= 1u << 28;
	r[EDX] |= 1u << 16;
}

static void extended_features(uint32_t subleaf, uint32_t r[4])
{
	if (subleaf != 0)
		return;
	r[EBX] = 1u << 0 /* FSGSBASE */ | 1u << 1 /* TSC_ADJUST */ | bit(FEATURE_BMI1, 3) |
		 bit(FEATURE_AVX2, 5) | 1u << 7 /* SMEP */ | bit(FEATURE_BMI2, 8) |
		 1u << 9 /* ERMS */ | 1u << 10 /* INVPCID */ | bit(FEATURE_RDSEED, 18) |
		 bit(FEATURE_ADX, 19) | 1u << 20 /* SMAP */ | 1u << 23 /* CLFLUSHOPT */ |
		 bit(FEATURE_SHA, 29);
	r[ECX] = 1u << 2 /* UMIP */ | 1u << 22 /* RDPID */;
	r[EDX] = 1u << 4 /* short REP MOVS */;
}

static void topology(const struct soft *c, uint32_t subleaf, uint32_t r[4])
{
	unsigned int shift = 0;

	while (1u << shift < c->vm->vcpus)
		shift++;
	r[ECX] = subleaf & 0xff;
	r[EDX] = c->vcpu.index;
	if (subleaf == 0) { /* one thread a core */
		r[EBX] = 1;
		r[ECX] |= 1 << 8;
	} else if (subleaf == 1) {
		r[EAX] = shift;
		r[EBX] = c->vm->vcpus;
		r[ECX] |= 2 << 8;
	}
}

static void xsave(const struct soft *c, uint32_t subleaf, uint32_t r[4])
{
	if (!(feature_host() & FEATURE_AVX))
		return;
	if (subleaf == 0) {
		r[EAX] = (uint32_t)identity_xcr0();
		r[EBX] = c->xcr0 & XSTATE_AVX ? XSAVE_END : XSAVE_AVX;
		r[ECX] = XSAVE_END;
	} else if (subleaf == 1) {
		r[EAX] = 1; /* XSAVEOPT */
	} else if (subleaf == 2) {
		r[EAX] = XSAVE_END - XSAVE_AVX;
		r[EBX] = XSAVE_AVX;
	}
}

static void hypervisor(struct soft *c, uint32_t leaf, uint32_t r[4])
{
	if (leaf == LEAF_HYPERVISOR) {
		r[EAX] = LEAF_HYPERVISOR + 0x10;
		memcpy(r + 1, "KVMKVMKVM\0\0\0", 12);
	} else if (leaf == LEAF_HYPERVISOR + 1) {
		/* kvm-clock, no delay on port 0x80, the clock's stable flag */
		r[EAX] = 1u << 3 | 1u << 1 | 1u << 24;
	} else if (leaf == LEAF_HYPERVISOR + 0x10) {
		r[EAX] = c->vm->vm.tsc_khz;
		r[EBX] = 1000000; /* the local APIC's timer: 1 GHz */
	}
}

static void extended(struct soft *c, uint32_t leaf, uint32_t r[4])
{
	static const char name[48] = "berth software CPU";

	switch (leaf & 0xff) {
	case 0:
		basic(r);
		r[EAX] = (uint32_t)LEAF_EXTENDED_MAX;
		break;
	case 1:
		r[EAX] = signature();
		r[ECX] = 1u << 0 /* LAHF */ | bit(FEATURE_LZCNT, 5) | 1u << 8 /* PREFETCHW */;
		/* SYSCALL, NX, 1 GiB pages, RDTSCP, long mode */
		r[EDX] = 1u << 11 | 1u << 20 | 1u << 26 | 1u << 27 | 1u << 29;
		break;
	case 2:
	case 3:
	case 4:
		memcpy(r, name + ((leaf & 0xff) - 2) * 16, 16);
		break;
	case 7:
		r[EDX] = 1u << 8; /* the TSC never stops */
		break;
	case 8:
		r[EAX] = PHYSICAL_BITS | 48 << 8;
		r[EBX] = bit(FEATURE_AMD, 2); /* XSaveErPtr: see ops_fpu.c */
		r[ECX] = c->vm->vcpus - 1;
		break;
	}
}

void identity_cpuid(struct soft *c, uint32_t leaf, uint32_t subleaf, uint32_t ret[4])
{
	memset(ret, 0, 4 * sizeof(*ret));
	if (leaf >> 16 == 0x8000) {
		if (leaf <= (uint32_t)LEAF_EXTENDED_MAX)
			extended(c, leaf, ret);
		return;
	}
	if (leaf >> 16 == LEAF_HYPERVISOR >> 16) {
		hypervisor(c, leaf, ret);
		return;
	}
	switch (leaf) {
	case 0:
		basic(ret);
		break;
	case 1:
		features(c, ret);
		break;
	case 6:
		ret[EAX] = 1u << 2; /* the local APIC's timer never stops */
		break;
	case 7:
		extended_features(subleaf, ret);
		break;
	case 0xb:
		topology(c, subleaf, ret);
		break;
	case 0xd:
		xsave(c, subleaf, ret);
		break;
	case 0x15: /* crystal 1 MHz; TSC = crystal * khz / 1000 */
		ret[EAX] = 1000;
		ret[EBX] = c->vm->vm.tsc_khz;
		ret[ECX] = 1000000;
		break;
	case 0x16:
		ret[EAX] = c->vm->vm.tsc_khz / 1000;
		ret[EBX] = ret[EAX];
		break;
	}
}
