/*
 * state: the form in which devices and CPUs save themselves: little-endian fields, one behind the
 * other, in sections that carry a name, an instance, a version and a length.
 *
 *     section: u8 name_length, name, u32 instance, u32 version, u32 length, then `length` bytes
 *
 * Reading never fails half-way: what is beyond the end of a section reads as zero and marks the reader
 * bad, so that a load function reads all of its fields, checks them, and asks once at the end.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

struct state_writer {
	struct buf data;
	size_t section; /* where the open section's length stands */
};

void state_begin(struct state_writer *out, const char *name, uint32_t instance, uint32_t version);
void state_end(struct state_writer *out);
void state_put(struct state_writer *out, const void *data, size_t size);
void state_put_u8(struct state_writer *out, uint8_t value);
void state_put_u16(struct state_writer *out, uint16_t value);
void state_put_u32(struct state_writer *out, uint32_t value);
void state_put_u64(struct state_writer *out, uint64_t value);

struct state_reader {
	const uint8_t *next, *end;
	uint32_t version; /* of the section */
	bool bad;
};

/* Finds a section in `data`. -ENOENT, -EINVAL (a damaged file). */
int state_find(const void *data, size_t size, const char *name, uint32_t instance,
	       struct state_reader *ret) must_check;
void state_get(struct state_reader *in, void *ret, size_t size);
uint8_t state_get_u8(struct state_reader *in);
uint16_t state_get_u16(struct state_reader *in);
uint32_t state_get_u32(struct state_reader *in);
uint64_t state_get_u64(struct state_reader *in);
/* Nanoseconds for which something has been going on: more than a century and a half is no such time. */
int64_t state_get_elapsed_ns(struct state_reader *in);
/* 0 if every field was there and nothing is left over, else -EINVAL. */
int state_finish(const struct state_reader *in) must_check;
