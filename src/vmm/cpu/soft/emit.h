/*
 * emit: writes host instructions into a buffer. Only the few forms that generated code needs; every
 * memory operand is [register + displacement].
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { EMIT_MAX = 512 };

struct emit {
	uint8_t bytes[EMIT_MAX];
	unsigned int length;
};

enum host_register {
	HOST_RAX,
	HOST_RCX,
	HOST_RDX,
	HOST_RBX,
	HOST_RSP,
	HOST_RBP,
	HOST_RSI, /* the operation */
	HOST_RDI, /* the CPU */
	HOST_R8,  /* general operand of ModRM.reg */
	HOST_R9,  /* general operand of ModRM.rm or the opcode */
	HOST_R10, /* host address of the memory operand */
	HOST_R11, /* its linear address; then the general operand of VEX.vvvv */
};

static inline void emit_byte(struct emit *e, unsigned int byte)
{
	if (e->length < EMIT_MAX)
		e->bytes[e->length] = (uint8_t)byte;
	e->length++;
}

static inline void emit_bytes(struct emit *e, const void *bytes, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		emit_byte(e, ((const uint8_t *)bytes)[i]);
}

#define emit_literal(e, text) emit_bytes(e, text, sizeof(text) - 1)

static inline void emit_32(struct emit *e, uint32_t value)
{
	emit_bytes(e, &value, 4);
}

/* ModRM and displacement for [base + disp]; base is RSI, RDI or R10. */
static inline void emit_modrm(struct emit *e, unsigned int reg, unsigned int base, int32_t disp)
{
	if (disp >= -128 && disp <= 127) {
		emit_byte(e, 0x40 | (reg & 7) << 3 | (base & 7));
		emit_byte(e, (uint8_t)disp);
	} else {
		emit_byte(e, 0x80 | (reg & 7) << 3 | (base & 7));
		emit_32(e, (uint32_t)disp);
	}
}

/* `opcode` reg, [base + disp] with 64-bit operands. */
static inline void emit_op64(struct emit *e, unsigned int opcode, unsigned int reg,
			     unsigned int base, int32_t disp)
{
	emit_byte(e, 0x48 | (reg >> 3) << 2 | base >> 3);
	emit_byte(e, opcode);
	emit_modrm(e, reg, base, disp);
}

static inline void emit_load64(struct emit *e, unsigned int reg, unsigned int base, int32_t disp)
{
	emit_op64(e, 0x8b, reg, base, disp);
}

/* Stores the low `size` bytes of a register that is not a high byte; 4 bytes are stored as 8, since a
 * 32-bit result clears the upper half of a register. */
static inline void emit_store(struct emit *e, unsigned int size, unsigned int reg,
			      unsigned int base, int32_t disp)
{
	if (size == 2)
		emit_byte(e, 0x66);
	emit_byte(e, 0x40 | (size >= 4 ? 8 : 0) | (reg >> 3) << 2 | base >> 3);
	emit_byte(e, size == 1 ? 0x88 : 0x89);
	emit_modrm(e, reg, base, disp);
}

/* Patches the 8-bit or 32-bit displacement before `e->length` at `from`. */
static inline void emit_patch32(struct emit *e, unsigned int at, unsigned int target)
{
	int32_t distance = (int32_t)(target - (at + 4));

	if (at + 4 <= EMIT_MAX)
		memcpy(e->bytes + at, &distance, 4);
}

static inline bool emit_full(const struct emit *e)
{
	return e->length > EMIT_MAX;
}
