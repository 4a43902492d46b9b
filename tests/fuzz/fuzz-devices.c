/*
 * fuzz-devices: a hostile guest before all devices (world.h): the input is a list of accesses.
 */
#include <string.h>

#include "world.h"

enum { ACCESSES_MAX = 400 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world world;
	struct access a;

	if (!world.count)
		world_build(&world);
	world_reset(&world);
	for (unsigned int i = 0; i < ACCESSES_MAX && size >= sizeof(a); i++) {
		memcpy(&a, data, sizeof(a));
		data += sizeof(a);
		size -= sizeof(a);
		world_perform(&world, &a);
	}
	return 0;
}
