/*
 * msr: model-specific registers. Those of the local APIC are the machine's.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

/* false: #GP. */
bool msr_read(struct soft *c, uint32_t index, uint64_t *ret);
bool msr_write(struct soft *c, uint32_t index, uint64_t value);

/* The MSRs that are a vCPU's state beyond what `struct cpu_state` names. Returns how many. */
unsigned int msr_save(struct soft *c, struct cpu_msr *msrs, unsigned int max);
/* false: unknown, or a value it cannot have. */
bool msr_load(struct soft *c, const struct cpu_msr *msr);
