/*
 * state: the vCPU's state as the plain value of cpu.h.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

int soft_get_state(struct vcpu *vcpu, struct cpu_state *ret_state);
int soft_set_state(struct vcpu *vcpu, const struct cpu_state *state);
