/*
 * transfer: far jumps, calls and returns, INT, IRET, SYSCALL and SYSENTER with their returns: everything
 * that can change the code segment or the privilege level.
 */
#pragma once

#include "vmm/cpu/soft/decode.h"

enum decoded decode_far(uint32_t mode, const struct instruction *in, struct op *op);
