/*
 * identity: what the software CPU says of itself: what the host has and we pass on, and what we are.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

/* ret: EAX, EBX, ECX, EDX. */
void identity_cpuid(struct soft *c, uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);
/* The bits that XCR0 may have. */
uint64_t identity_xcr0(void);
/* Whether the guest is told that its CPU is one of AMD's. Asks the host each time: CPUID is slow there. */
bool identity_is_amd(void);
