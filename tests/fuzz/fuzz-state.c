/*
 * fuzz-state: a hostile snapshot of devices: what a guest that has done something leaves in them is saved,
 * changed, and loaded into the same devices; if they take it, the guest goes on. What is not changed they must
 * take. The input's first two bytes are how many changes there are, and how many accesses come before them; the
 * rest is a list of both. Odd first bytes cut the section of the first change short.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

enum { ACCESSES_MAX = 200, CHANGES_MAX = 32, REFUSED_MAX = 32 };

struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool next(struct fuzz_input *in, struct access *ret)
{
	if (in->size < sizeof(*ret))
		return false;
	memcpy(ret, in->data, sizeof(*ret));
	in->data += sizeof(*ret);
	in->size -= sizeof(*ret);
	return true;
}

static void perform(struct world *w, struct fuzz_input *in, unsigned int count)
{
	struct access a;

	for (unsigned int i = 0; i < count && next(in, &a); i++)
		world_perform(w, &a);
}

/* Saves a device, and loads it with the changes that are meant for it. Without one it must take what it is. */
static int reload(struct device *device, unsigned int number, const struct access *changes,
		  unsigned int count, bool cut)
{
	static const uint8_t none[1];
	struct state_writer out = {0};
	struct state_reader in;
	const uint8_t *start;
	bool changed = false;
	size_t length;
	int rc;

	device_lock(device);
	device->ops->save(device, &out);
	length = out.data.len;
	for (unsigned int i = 0; i < count; i++) {
		const struct access *a = &changes[i];
		size_t at = length ? a->address % length : 0, n = 1ul << (a->size & 3);

		if (a->kind % DEVICES_MAX != number || !length)
			continue;
		memcpy(out.data.data + at, &a->value, length - at < n ? length - at : n);
		changed = true;
	}
	if (cut && count && changes[0].kind % DEVICES_MAX == number && length)
		length = changes[0].address % length;
	start = length ? (const uint8_t *)out.data.data : none;
	in = (struct state_reader){.next = start, .end = start + length, .version = 1};
	rc = device->ops->load(device, &in);
	if (rc < 0 && !changed)
		abort();
	device_unlock(device);
	buf_release(&out.data);
	return rc;
}

/* The file's sections themselves are whatever they are. */
static void look_for_sections(const uint8_t *data, size_t size)
{
	struct state_reader in;

	if (state_find(data, size, "cpu", 0, &in) == 0)
		(void)state_get_u64(&in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	static unsigned int refused;
	struct access changes[CHANGES_MAX];
	struct fuzz_input in = {data + 2, size - 2};
	unsigned int count = 0;

	if (size < 2)
		return 0;
	look_for_sections(data, size);
	if (!world.count)
		world_build(&world);
	world_reset(&world);
	while (count < (data[0] / 2) % CHANGES_MAX && next(&in, &changes[count]))
		count++;
	perform(&world, &in, data[1] % ACCESSES_MAX);
	for (unsigned int i = 0; i < world.count; i++) {
		if (reload(world.devices[i], i, changes, count, data[0] & 1) == 0)
			continue;
		/* Of no more use (device.h). That a reset makes it as new is more than is promised, but
		 * holds, and to make a world takes longer than all else. */
		if (++refused % REFUSED_MAX == 0)
			world_release(&world);
		return 0;
	}
	perform(&world, &in, ACCESSES_MAX);
	return 0;
}
