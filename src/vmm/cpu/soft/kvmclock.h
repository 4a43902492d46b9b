/*
 * kvmclock: the paravirtual clock that guests know from KVM: a page that tells how to turn the
 * time-stamp counter into nanoseconds. It saves the guest its calibration and gives it a clock source
 * that costs no exit.
 */
#pragma once

#include "vmm/cpu/soft/soft_priv.h"

enum { KVMCLOCK_WALL = 0x4b564d00, KVMCLOCK_SYSTEM_TIME = 0x4b564d01 };

bool kvmclock_read(struct soft *c, uint32_t index, uint64_t *ret);
bool kvmclock_write(struct soft *c, uint32_t index, uint64_t value);
