/*
 * fuzz-virtqueue: a hostile driver. The input is where the queue's areas are, and then guest memory,
 * which the walk over it must never leave (the sanitizer watches) nor follow for ever.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/virtio/queue.h"

enum { MEMORY = 1 << 20, COPIED_MAX = 1 << 16 };

struct setup {
	uint16_t size, flags;
	uint32_t descriptors, driver, device;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drain(struct queue *queue)
{
	static struct queue_chain chain;
	static uint8_t copy[4096];

	for (unsigned int i = 0; i < 1000 && queue_pop(queue, &chain) > 0; i++) {
		if (chain.out_count + chain.in_count > QUEUE_SEGMENTS_MAX)
			abort();
		queue_copy_out(&chain, i, copy, sizeof(copy));
		queue_copy_in(&chain, 0, copy, chain.in_bytes < 16 ? chain.in_bytes : 16);
		if (queue_push(queue, &chain, 16) < 0)
			return;
		queue_wants_signal(queue);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct memory *memory;
	struct queue queue = {0};
	struct setup setup;

	if (!memory && memory_create(MEMORY, &memory, NULL) < 0)
		abort();
	if (size < sizeof(setup))
		return 0;
	memcpy(&setup, data, sizeof(setup));
	data += sizeof(setup);
	size -= sizeof(setup);
	memset(memory->host, 0, COPIED_MAX);
	memcpy(memory->host, data, size < COPIED_MAX ? size : COPIED_MAX);
	queue.memory = memory;
	queue_reset(&queue, setup.size);
	queue.packed = setup.flags & 1;
	queue.event_index = setup.flags & 2;
	/* Most inputs are to get past the checks: the areas lie where the input's bytes are. */
	queue.descriptors = setup.descriptors & (setup.flags & 4 ? UINT32_MAX : 0xfff0);
	queue.driver = setup.driver & (setup.flags & 4 ? UINT32_MAX : 0xfffc);
	queue.device = setup.device & (setup.flags & 4 ? UINT32_MAX : 0xfffc);
	if (queue_check(&queue) < 0)
		return 0;
	queue.ready = true;
	queue_set_doorbell(&queue, true);
	drain(&queue);
	return 0;
}
