/*
 * zydis: the decoder library, loaded when the first software CPU is made.
 */
#pragma once

#include <Zydis/Zydis.h>

#include "base/error.h"
#include "vmm/cpu/soft/soft_priv.h"

struct instruction {
	ZydisDecodedInstruction info;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	const uint8_t *bytes;
};

enum decode_result { DECODE_OK, DECODE_MORE, DECODE_INVALID };

/* Loads the library. -ENOENT, -ENOSYS. */
int zydis_load(struct error *err) must_check;
/* Decodes one instruction of at most `size` bytes as `mode` (enum soft_mode) has it. DECODE_MORE: it
 * is longer than that. */
enum decode_result zydis_decode(uint32_t mode, const uint8_t *bytes, size_t size,
				struct instruction *ret);
/* For tests: "add eax, ecx". */
void zydis_format(const struct instruction *in, char *text, size_t size);

/* The byte offset of a general register operand in `struct soft`.regs; -1: not one. */
int zydis_gpr_offset(ZydisRegister reg);
/* Its number as encoded; -1 for none. */
static inline int zydis_gpr_number(ZydisRegister reg)
{
	int offset = zydis_gpr_offset(reg);

	return offset < 0 ? -1 : offset / 8;
}
