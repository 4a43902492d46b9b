/*
 * ops_string: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS, with REP. Where both operands are plain memory a
 * repeated one works page by page; after every page, and after every element otherwise, requests are
 * looked at with the registers as the CPU would show them.
 */
#pragma once

#include "vmm/cpu/soft/decode.h"

enum decoded decode_string(uint32_t mode, const struct instruction *in, struct op *op);
/* The segment of a source operand that may be overridden. */
void string_segment(const struct instruction *in, struct op *op);
