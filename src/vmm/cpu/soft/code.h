/*
 * code: memory for generated host code, mapped twice from one memfd: once writable, once executable
 * (W^X). Pieces are position-independent and interned: the same bytes are stored once.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum { CODE_SLOTS = 1 << 16 };

struct code {
	uint8_t *write, *exec;
	size_t size, used;
	uint32_t count;
	struct code_slot {
		uint32_t hash, offset, length;
	} * slots; /* open addressing */
};

int code_open(struct code *code, size_t size, struct error *err) must_check;
void code_close(struct code *code);
/* The executable address of a copy of these bytes, NULL if the memory is full. */
void *code_intern(struct code *code, const uint8_t *bytes, size_t length);
/* Forgets everything. */
void code_reset(struct code *code);

static inline int code_contains(const struct code *code, uint64_t address)
{
	return address - (uint64_t)(uintptr_t)code->exec < code->size;
}
