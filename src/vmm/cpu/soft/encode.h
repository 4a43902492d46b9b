/*
 * encode: one guest instruction as host code, with its operands where generated code keeps them.
 */
#pragma once

#include "vmm/cpu/soft/emit.h"
#include "vmm/cpu/soft/zydis.h"

/* Appends the instruction: a memory operand becomes [r10], general operands become r8 (ModRM.reg), r9
 * (ModRM.rm, opcode), r11 (VEX.vvvv); vector, MMX and x87 registers stay. false: cannot be expressed. */
bool encode_instruction(struct emit *e, const struct instruction *in, bool is_general);
