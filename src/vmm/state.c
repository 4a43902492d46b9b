/* state: see state.h. */
#include "vmm/state.h"

#include <errno.h>
#include <string.h>

void state_begin(struct state_writer *out, const char *name, uint32_t instance, uint32_t version)
{
	size_t length = strlen(name);

	state_put_u8(out, (uint8_t)length);
	state_put(out, name, length);
	state_put_u32(out, instance);
	state_put_u32(out, version);
	out->section = out->data.len;
	state_put_u32(out, 0);
}

void state_end(struct state_writer *out)
{
	uint32_t length = (uint32_t)(out->data.len - out->section - sizeof(length));

	memcpy(out->data.data + out->section, &length, sizeof(length));
}

void state_put(struct state_writer *out, const void *data, size_t size)
{
	buf_add(&out->data, data, size);
}

void state_put_u8(struct state_writer *out, uint8_t value)
{
	state_put(out, &value, sizeof(value));
}

void state_put_u16(struct state_writer *out, uint16_t value)
{
	state_put(out, &value, sizeof(value));
}

void state_put_u32(struct state_writer *out, uint32_t value)
{
	state_put(out, &value, sizeof(value));
}

void state_put_u64(struct state_writer *out, uint64_t value)
{
	state_put(out, &value, sizeof(value));
}

int state_find(const void *data, size_t size, const char *name, uint32_t instance,
	       struct state_reader *ret)
{
	struct state_reader in = {.next = data, .end = (const uint8_t *)data + size};

	while (in.next < in.end) {
		char found[256] = "";
		uint32_t number, version, length;

		state_get(&in, found, state_get_u8(&in));
		number = state_get_u32(&in);
		version = state_get_u32(&in);
		length = state_get_u32(&in);
		if (in.bad || length > (size_t)(in.end - in.next))
			return -EINVAL;
		if (number == instance && strcmp(found, name) == 0) {
			*ret = (struct state_reader){
				.next = in.next, .end = in.next + length, .version = version};
			return 0;
		}
		in.next += length;
	}
	return -ENOENT;
}

void state_get(struct state_reader *in, void *ret, size_t size)
{
	if (in->bad || size > (size_t)(in->end - in->next)) {
		memset(ret, 0, size);
		in->bad = true;
		return;
	}
	memcpy(ret, in->next, size);
	in->next += size;
}

uint8_t state_get_u8(struct state_reader *in)
{
	uint8_t value;

	state_get(in, &value, sizeof(value));
	return value;
}

uint16_t state_get_u16(struct state_reader *in)
{
	uint16_t value;

	state_get(in, &value, sizeof(value));
	return value;
}

uint32_t state_get_u32(struct state_reader *in)
{
	uint32_t value;

	state_get(in, &value, sizeof(value));
	return value;
}

uint64_t state_get_u64(struct state_reader *in)
{
	uint64_t value;

	state_get(in, &value, sizeof(value));
	return value;
}

int64_t state_get_elapsed_ns(struct state_reader *in)
{
	uint64_t value = state_get_u64(in);

	if (value > INT64_MAX / 2) {
		in->bad = true;
		return 0;
	}
	return (int64_t)value;
}

int state_finish(const struct state_reader *in)
{
	return in->bad || in->next != in->end ? -EINVAL : 0;
}
