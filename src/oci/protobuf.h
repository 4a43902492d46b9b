/*
 * protobuf: the wire format of Protocol Buffers, as much as talking to CRIU takes: a message is a row of
 * fields, each a key (number << 3 | type) followed by a variable-length number or by a length and bytes.
 *
 * Writing appends to a buffer; a message within a message is a buffer of its own, added as bytes.
 * Reading goes field by field, over bytes that stay the caller's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

void protobuf_add_number(struct buf *b, unsigned int field, int64_t value);
void protobuf_add_bytes(struct buf *b, unsigned int field, const void *data, size_t len);
/* NULL: nothing is added. */
void protobuf_add_string(struct buf *b, unsigned int field, const char *text);

struct protobuf_field {
	unsigned int number;
	int64_t value;    /* of a number */
	const void *data; /* of bytes; NULL: it is a number */
	size_t len;
};

struct protobuf_reader {
	const uint8_t *data;
	size_t len;
};

/* The next field. 1; 0 at the end; -EBADMSG for what is no message. Numbers of fixed width are read as well. */
int protobuf_next(struct protobuf_reader *r, struct protobuf_field *ret) must_check;
