/* protobuf: see protobuf.h. */
#include "oci/protobuf.h"

#include <errno.h>
#include <string.h>

enum wire_type { WIRE_NUMBER = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

static void add_varint(struct buf *b, uint64_t value)
{
	for (; value >= 0x80; value >>= 7)
		buf_add_char(b, (char)(value | 0x80));
	buf_add_char(b, (char)value);
}

void protobuf_add_number(struct buf *b, unsigned int field, int64_t value)
{
	add_varint(b, (uint64_t)field << 3 | WIRE_NUMBER);
	add_varint(b, (uint64_t)value);
}

void protobuf_add_bytes(struct buf *b, unsigned int field, const void *data, size_t len)
{
	add_varint(b, (uint64_t)field << 3 | WIRE_BYTES);
	add_varint(b, len);
	buf_add(b, data, len);
}

void protobuf_add_string(struct buf *b, unsigned int field, const char *text)
{
	if (text != NULL)
		protobuf_add_bytes(b, field, text, strlen(text));
}

static int read_varint(struct protobuf_reader *r, uint64_t *ret)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64 && r->len > 0; shift += 7) {
		const uint8_t byte = *r->data++;

		r->len--;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = value;
			return 0;
		}
	}
	return -EBADMSG;
}

static int read_fixed(struct protobuf_reader *r, size_t size, int64_t *ret)
{
	uint64_t value = 0;

	if (r->len < size)
		return -EBADMSG;
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)r->data[i] << 8 * i;
	r->data += size;
	r->len -= size;
	*ret = (int64_t)value;
	return 0;
}

int protobuf_next(struct protobuf_reader *r, struct protobuf_field *ret)
{
	struct protobuf_field field = {0};
	uint64_t key, value = 0;
	int rc = 0;

	if (r->len == 0)
		return 0;
	if (read_varint(r, &key) < 0 || key >> 3 == 0 || key >> 3 > INT32_MAX)
		return -EBADMSG;
	field.number = (unsigned int)(key >> 3);
	switch (key & 7) {
	case WIRE_NUMBER:
		rc = read_varint(r, &value);
		field.value = (int64_t)value;
		break;
	case WIRE_FIXED64:
		rc = read_fixed(r, 8, &field.value);
		break;
	case WIRE_FIXED32:
		rc = read_fixed(r, 4, &field.value);
		break;
	case WIRE_BYTES:
		rc = read_varint(r, &value);
		if (rc < 0 || value > r->len)
			return -EBADMSG;
		field.data = r->data;
		field.len = (size_t)value;
		r->data += value;
		r->len -= value;
		break;
	default:
		return -EBADMSG;
	}
	if (rc < 0)
		return rc;
	*ret = field;
	return 1;
}
