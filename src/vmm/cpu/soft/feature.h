/*
 * feature: which instruction sets the software CPU offers, and what the guest must have enabled.
 */
#pragma once

#include "vmm/cpu/soft/native.h"

enum feature_check {
	FEATURE_OTHER,       /* offered; a function in C must know it */
	FEATURE_NATIVE,      /* offered; generated code may execute it */
	FEATURE_MISSING,     /* #UD */
	FEATURE_UNAVAILABLE, /* #NM */
};

enum feature_check feature_check(uint32_t mode, const struct instruction *in,
				 enum native_kind *ret_kind);
/* What the host has and we pass on. */
enum feature {
	FEATURE_AVX = 1 << 0,
	FEATURE_AVX2 = 1 << 1,
	FEATURE_FMA = 1 << 2,
	FEATURE_F16C = 1 << 3,
	FEATURE_AES = 1 << 4,
	FEATURE_PCLMUL = 1 << 5,
	FEATURE_SHA = 1 << 6,
	FEATURE_BMI1 = 1 << 7,
	FEATURE_BMI2 = 1 << 8,
	FEATURE_LZCNT = 1 << 9,
	FEATURE_ADX = 1 << 10,
	FEATURE_RDRAND = 1 << 11,
	FEATURE_RDSEED = 1 << 12,
	FEATURE_MOVBE = 1 << 13,
	FEATURE_POPCNT = 1 << 14,
	FEATURE_SSE3 = 1 << 15,
	FEATURE_SSSE3 = 1 << 16,
	FEATURE_SSE41 = 1 << 17,
	FEATURE_SSE42 = 1 << 18,
	FEATURE_AMD = 1 << 19, /* what AMD has and Intel has not */
	FEATURE_ALWAYS = 1 << 30,
};

/* Finds out once; cheap afterwards. */
unsigned int feature_host(void);
/* The `i`-th of the instruction sets that the CPU knows, as far as this host has what it needs; 0: it has not.
 * -1: there are no more. */
int feature_set(unsigned int i);
