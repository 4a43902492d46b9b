/*
 * fpu: see the header. The guest's x87 registers are loaded into the host's when the first x87 or MMX
 * instruction executes and stay there until something wants to see them. The instruction and operand
 * pointers that the host keeps are addresses of ours; the guest sees those that we note (native.c).
 */
#include "vmm/cpu/soft/fpu.h"

#include <errno.h>
#include <immintrin.h>
#include <string.h>

#include "vmm/cpu/soft/identity.h"

/* Offsets in the FXSAVE image. */
enum {
	FX_FCW = 0,
	FX_FSW = 2,
	FX_FTW = 4,
	FX_FOP = 6,
	FX_FIP = 8,
	FX_FDP = 16,
	FX_MXCSR = 24,
	FX_MXCSR_MASK = 28,
	FX_ST0 = 32,
	FX_XMM0 = 160,
};

const struct op *fpu_enter(struct soft *c, const struct op *op)
{
	uint32_t mxcsr = _mm_getcsr();

	memcpy(c->fx + FX_MXCSR, &mxcsr, 4);
	__asm__ volatile("fxrstor64 %0" : : "m"(c->fx));
	c->fpu_live = 1;
	return op;
}

void fpu_sync(struct soft *c)
{
	if (c->fpu_live)
		__asm__ volatile("fxsave64 %0" : "=m"(c->fx));
	memcpy(c->fx + FX_FIP, &c->fpu_ip, 8);
	memcpy(c->fx + FX_FDP, &c->fpu_dp, 8);
	memcpy(c->fx + FX_FOP, &c->fpu_opcode, 2);
}

void fpu_leave(struct soft *c)
{
	if (!c->fpu_live)
		return;
	fpu_sync(c);
	__asm__ volatile("fninit");
	c->fpu_live = 0;
}

void fpu_forget(struct soft *c)
{
	if (c->fpu_live)
		__asm__ volatile("fnclex; fninit");
	c->fpu_live = 0;
	memcpy(&c->fpu_ip, c->fx + FX_FIP, 8);
	memcpy(&c->fpu_dp, c->fx + FX_FDP, 8);
	memcpy(&c->fpu_opcode, c->fx + FX_FOP, 2);
	c->fpu_opcode &= 0x7ff;
}

uint32_t fpu_mxcsr_mask(void)
{
	_Alignas(16) uint8_t image[512] = {0};
	uint32_t mask;

	__asm__ volatile("fxsave64 %0" : "=m"(image));
	memcpy(&mask, image + FX_MXCSR_MASK, 4);
	return mask ? mask : 0xffbf;
}

void fpu_init_x87(struct soft *c)
{
	static const uint16_t fcw = 0x37f;

	fpu_forget(c);
	memset(c->fx, 0, FX_XMM0);
	memcpy(c->fx + FX_FCW, &fcw, 2);
	c->fpu_ip = c->fpu_dp = c->fpu_opcode = 0;
}

void fpu_reset(struct soft *c)
{
	static const uint16_t fcw = 0x40;

	fpu_init_x87(c);
	memcpy(c->fx + FX_FCW, &fcw, 2);
	c->mxcsr = 0x1f80;
}

void fpu_get_xsave(struct soft *c, uint8_t *area)
{
	uint64_t components = identity_xcr0();
	uint32_t mask = fpu_mxcsr_mask();

	fpu_sync(c);
	memset(area, 0, CPU_XSAVE_SIZE);
	memcpy(area, c->fx, FX_XMM0);
	memcpy(area + FX_MXCSR, &c->mxcsr, 4);
	memcpy(area + FX_MXCSR_MASK, &mask, 4);
	for (unsigned int i = 0; i < 16; i++) {
		memcpy(area + FX_XMM0 + i * 16, c->vec[i], 16);
		memcpy(area + XSAVE_AVX + i * 16, c->vec[i] + 16, 16);
	}
	memcpy(area + XSAVE_HEADER, &components, 8);
}

int fpu_set_xsave(struct soft *c, const uint8_t *area)
{
	uint64_t components;
	uint32_t mxcsr;

	memcpy(&components, area + XSAVE_HEADER, 8);
	memcpy(&mxcsr, area + FX_MXCSR, 4);
	if (components & ~identity_xcr0() || mxcsr & ~fpu_mxcsr_mask())
		return -EINVAL;
	fpu_reset(c);
	memset(c->vec, 0, sizeof(c->vec));
	if (components & XSTATE_X87) {
		memcpy(c->fx, area, FX_XMM0);
		fpu_forget(c);
	}
	if (components & (XSTATE_SSE | XSTATE_AVX))
		c->mxcsr = mxcsr;
	for (unsigned int i = 0; i < 16; i++) {
		if (components & XSTATE_SSE)
			memcpy(c->vec[i], area + FX_XMM0 + i * 16, 16);
		if (components & XSTATE_AVX)
			memcpy(c->vec[i] + 16, area + XSAVE_AVX + i * 16, 16);
	}
	return 0;
}
