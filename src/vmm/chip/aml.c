/* aml: see aml.h. */
#include "vmm/chip/aml.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

enum {
	OP_NAME = 0x08,
	OP_BYTE = 0x0a,
	OP_WORD = 0x0b,
	OP_DWORD = 0x0c,
	OP_STRING = 0x0d,
	OP_QWORD = 0x0e,
	OP_SCOPE = 0x10,
	OP_BUFFER = 0x11,
	OP_PACKAGE = 0x12,
	OP_METHOD = 0x14,
	OP_DUAL_NAME = 0x2e,
	OP_MULTI_NAME = 0x2f,
	OP_EXTENDED = 0x5b,
	OP_DEVICE = 0x82,
	OP_NOTIFY = 0x86,
	SEGMENT = 4,
};

static void put8(struct aml *aml, uint8_t value)
{
	buf_add(&aml->code, &value, sizeof(value));
}

static void put16(struct aml *aml, uint16_t value)
{
	buf_add(&aml->code, &value, sizeof(value));
}

static void put32(struct aml *aml, uint32_t value)
{
	buf_add(&aml->code, &value, sizeof(value));
}

static void put64(struct aml *aml, uint64_t value)
{
	buf_add(&aml->code, &value, sizeof(value));
}

/* 20.2.2 */
static void put_name(struct aml *aml, const char *name)
{
	size_t segments;

	if (*name == '\\')
		put8(aml, (uint8_t)*name++);
	segments = (strlen(name) + 1) / (SEGMENT + 1);
	if (segments == 2) {
		put8(aml, OP_DUAL_NAME);
	} else if (segments > 2) {
		put8(aml, OP_MULTI_NAME);
		put8(aml, (uint8_t)segments);
	} else if (segments == 0) {
		put8(aml, 0);
	}
	for (size_t i = 0; i < segments; i++)
		buf_add(&aml->code, name + i * (SEGMENT + 1), SEGMENT);
}

static void open_term(struct aml *aml)
{
	assert(aml->depth < AML_DEPTH_MAX);
	aml->open[aml->depth++] = aml->code.len;
}

/* 20.2.4: the length counts itself. Bits 7-6 of the first byte tell how many bytes follow it. */
static size_t encode_length(size_t body, uint8_t out[4])
{
	size_t size = body + 1 < 1u << 6    ? 1
		      : body + 2 < 1u << 12 ? 2
		      : body + 3 < 1u << 20 ? 3
					    : 4;
	size_t length = body + size;

	if (size == 1) {
		out[0] = (uint8_t)length;
		return 1;
	}
	out[0] = (uint8_t)((size - 1) << 6 | (length & 0xf));
	for (size_t i = 1; i < size; i++)
		out[i] = (uint8_t)(length >> (4 + 8 * (i - 1)));
	return size;
}

void aml_close(struct aml *aml)
{
	size_t at, body, size;
	uint8_t length[4];

	assert(aml->depth > 0);
	at = aml->open[--aml->depth];
	body = aml->code.len - at;
	size = encode_length(body, length);
	buf_add(&aml->code, length, size); /* makes room */
	memmove(aml->code.data + at + size, aml->code.data + at, body);
	memcpy(aml->code.data + at, length, size);
}

void aml_open_scope(struct aml *aml, const char *name)
{
	put8(aml, OP_SCOPE);
	open_term(aml);
	put_name(aml, name);
}

void aml_open_device(struct aml *aml, const char *name)
{
	put8(aml, OP_EXTENDED);
	put8(aml, OP_DEVICE);
	open_term(aml);
	put_name(aml, name);
}

void aml_open_method(struct aml *aml, const char *name, unsigned int arguments)
{
	put8(aml, OP_METHOD);
	open_term(aml);
	put_name(aml, name);
	put8(aml, (uint8_t)arguments);
}

void aml_open_package(struct aml *aml, uint8_t elements)
{
	put8(aml, OP_PACKAGE);
	open_term(aml);
	put8(aml, elements);
}

void aml_name(struct aml *aml, const char *name)
{
	put8(aml, OP_NAME);
	put_name(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
	if (value <= 1) {
		put8(aml, (uint8_t)value);
	} else if (value <= UINT8_MAX) {
		put8(aml, OP_BYTE);
		put8(aml, (uint8_t)value);
	} else if (value <= UINT16_MAX) {
		put8(aml, OP_WORD);
		put16(aml, (uint16_t)value);
	} else if (value <= UINT32_MAX) {
		put8(aml, OP_DWORD);
		put32(aml, (uint32_t)value);
	} else {
		put8(aml, OP_QWORD);
		put64(aml, value);
	}
}

void aml_string(struct aml *aml, const char *text)
{
	put8(aml, OP_STRING);
	buf_add(&aml->code, text, strlen(text) + 1);
}

static uint32_t hex_digit(char c)
{
	return (uint32_t)(isdigit((unsigned char)c) ? c - '0' : c - 'A' + 10);
}

/* 19.3.4: three letters of five bits and four hexadecimal digits, big-endian. */
void aml_eisa_id(struct aml *aml, const char *id)
{
	uint32_t value = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
			 (uint32_t)(id[2] - '@') << 16 | hex_digit(id[3]) << 12 |
			 hex_digit(id[4]) << 8 | hex_digit(id[5]) << 4 | hex_digit(id[6]);

	put8(aml, OP_DWORD);
	put32(aml, __builtin_bswap32(value));
}

void aml_notify(struct aml *aml, const char *name, uint8_t value)
{
	put8(aml, OP_NOTIFY);
	put_name(aml, name);
	aml_integer(aml, value);
}

/* 6.4: resource descriptors. A template is a buffer; its size stands before its bytes, too, and is
 * written as a word so that it can be filled in. */
void aml_open_resources(struct aml *aml)
{
	put8(aml, OP_BUFFER);
	open_term(aml);
	put8(aml, OP_WORD);
	put16(aml, 0);
}

void aml_close_resources(struct aml *aml)
{
	size_t at = aml->open[aml->depth - 1] + 1;
	uint16_t size;

	put16(aml, 0x0079); /* end tag, no checksum */
	size = (uint16_t)(aml->code.len - at - sizeof(size));
	memcpy(aml->code.data + at, &size, sizeof(size));
	aml_close(aml);
}

void aml_io(struct aml *aml, uint16_t first, uint8_t count)
{
	put8(aml, 0x47);
	put8(aml, 1); /* decodes 16 bits */
	put16(aml, first);
	put16(aml, first);
	put8(aml, 1);
	put8(aml, count);
}

void aml_irq(struct aml *aml, unsigned int line)
{
	put8(aml, 0x22);
	put16(aml, (uint16_t)(1u << line));
}

void aml_memory_fixed(struct aml *aml, uint32_t start, uint32_t size)
{
	put8(aml, 0x86);
	put16(aml, 9);
	put8(aml, 1); /* writable */
	put32(aml, start);
	put32(aml, size);
}

enum { RANGE_MEMORY = 0, RANGE_IO = 1, RANGE_BUS = 2, RANGE_FIXED = 0x0c };

void aml_bus_range(struct aml *aml, uint16_t first, uint16_t last)
{
	const uint16_t fields[] = {0, first, last, 0, (uint16_t)(last - first + 1)};

	put8(aml, 0x88);
	put16(aml, 13);
	put8(aml, RANGE_BUS);
	put8(aml, RANGE_FIXED);
	put8(aml, 0);
	buf_add(&aml->code, fields, sizeof(fields));
}

void aml_io_range(struct aml *aml, uint16_t first, uint16_t last)
{
	const uint16_t fields[] = {0, first, last, 0, (uint16_t)(last - first + 1)};

	put8(aml, 0x88);
	put16(aml, 13);
	put8(aml, RANGE_IO);
	put8(aml, RANGE_FIXED);
	put8(aml, 3); /* the entire range */
	buf_add(&aml->code, fields, sizeof(fields));
}

void aml_memory_range(struct aml *aml, uint32_t first, uint32_t last)
{
	const uint32_t fields[] = {0, first, last, 0, last - first + 1};

	put8(aml, 0x87);
	put16(aml, 23);
	put8(aml, RANGE_MEMORY);
	put8(aml, RANGE_FIXED);
	put8(aml, 1); /* writable, not cached */
	buf_add(&aml->code, fields, sizeof(fields));
}

void aml_memory_range64(struct aml *aml, uint64_t first, uint64_t last)
{
	const uint64_t fields[] = {0, first, last, 0, last - first + 1};

	put8(aml, 0x8a);
	put16(aml, 43);
	put8(aml, RANGE_MEMORY);
	put8(aml, RANGE_FIXED);
	put8(aml, 1);
	buf_add(&aml->code, fields, sizeof(fields));
}
