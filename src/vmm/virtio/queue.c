/* queue: see queue.h. What both forms share; the rings are in queue_split.c and queue_packed.c. */
#include <errno.h>
#include <string.h>

#include "vmm/virtio/queue_priv.h"

static const struct queue_ring *ring_of(const struct queue *queue)
{
	return queue->packed ? &queue_packed : &queue_split;
}

void queue_reset(struct queue *queue, uint16_t size)
{
	const struct memory *memory = queue->memory;

	*queue = (struct queue){.memory = memory,
				.size = size,
				.vector = QUEUE_NO_VECTOR,
				.avail_wrap = true,
				.used_wrap = true};
}

int queue_check(const struct queue *queue)
{
	if (queue->size == 0 || queue->size > QUEUE_SIZE_MAX)
		return -EINVAL;
	return ring_of(queue)->check(queue);
}

int queue_add_segment(const struct queue *queue, struct queue_chain *chain,
		      const struct queue_descriptor *descriptor)
{
	unsigned int i = chain->out_count + chain->in_count;
	bool in = descriptor->flags & QUEUE_DESCRIPTOR_WRITE;
	void *host;

	if (i == QUEUE_SEGMENTS_MAX || (!in && chain->in_count))
		return -EINVAL;
	host = memory_at(queue->memory, descriptor->address, descriptor->length);
	if (!host)
		return -EINVAL;
	chain->segments[i] = (struct iovec){.iov_base = host, .iov_len = descriptor->length};
	chain->addresses[i] = descriptor->address;
	if (in) {
		chain->in_count++;
		chain->in_bytes += descriptor->length;
	} else {
		chain->out_count++;
		chain->out_bytes += descriptor->length;
	}
	return 0;
}

int queue_pop(struct queue *queue, struct queue_chain *ret)
{
	int rc;

	if (!queue->ready || queue->broken)
		return queue->broken ? -EINVAL : 0;
	ret->out_count = ret->in_count = 0;
	ret->out_bytes = ret->in_bytes = 0;
	rc = ring_of(queue)->pop(queue, ret);
	if (rc < 0)
		queue->broken = true;
	queue->popped += rc > 0;
	return rc;
}

bool queue_available(const struct queue *queue)
{
	return queue->ready && !queue->broken && ring_of(queue)->available(queue);
}

void queue_unpop(struct queue *queue, const struct queue_chain *chain)
{
	ring_of(queue)->unpop(queue, chain);
	queue->popped--;
}

void queue_rewind(struct queue *queue, const struct queue *before)
{
	queue->next_avail = before->next_avail;
	queue->avail_wrap = before->avail_wrap;
	queue->popped = before->popped;
}

int queue_fill(struct queue *queue, uint16_t id, uint32_t written, unsigned int place)
{
	return queue->broken ? -EINVAL : ring_of(queue)->fill(queue, id, written, place);
}

int queue_flush(struct queue *queue, unsigned int places)
{
	queue->unsignalled += queue->unsignalled < UINT16_MAX ? places : 0;
	return queue->broken ? -EINVAL : ring_of(queue)->flush(queue, places);
}

int queue_push(struct queue *queue, const struct queue_chain *chain, uint32_t written)
{
	int rc = queue_fill(queue, chain->id, written, 0);

	return rc < 0 ? rc : queue_flush(queue, queue->packed ? chain->descriptors : 1);
}

bool queue_wants_signal(struct queue *queue)
{
	bool wants;

	if (!queue->ready || queue->broken || queue->unsignalled == 0)
		return false;
	/* After a whole turn of the ring its places say no more whether the event lies between them. */
	if (queue->unsignalled >= queue->size)
		queue->signalled_valid = false;
	/* The driver says what it wants and then looks at the ring; we write to the ring first. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	wants = ring_of(queue)->wants_signal(queue);
	queue->signalled = queue->next_used;
	queue->signalled_wrap = queue->used_wrap;
	queue->signalled_valid = true;
	queue->unsignalled = 0;
	return wants;
}

void queue_set_doorbell(struct queue *queue, bool wanted)
{
	if (!queue->ready || queue->broken)
		return;
	ring_of(queue)->set_doorbell(queue, wanted);
	/* The driver must see this before we look at the ring again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

unsigned int queue_slice(const struct queue_chain *chain, bool in, size_t offset, size_t size,
			 struct iovec *ret)
{
	const struct iovec *from = chain->segments + (in ? chain->out_count : 0);
	unsigned int count = in ? chain->in_count : chain->out_count, n = 0;

	for (unsigned int i = 0; i < count && size > 0; i++) {
		size_t length = from[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size)
			length = size;
		ret[n++] = (struct iovec){.iov_base = (uint8_t *)from[i].iov_base + offset,
					  .iov_len = length};
		size -= length;
		offset = 0;
	}
	return n;
}

size_t queue_copy_out(const struct queue_chain *chain, size_t offset, void *data, size_t size)
{
	struct iovec slice[QUEUE_SEGMENTS_MAX];
	unsigned int n = queue_slice(chain, false, offset, size, slice);
	size_t done = 0;

	for (unsigned int i = 0; i < n; i++) {
		memcpy((uint8_t *)data + done, slice[i].iov_base, slice[i].iov_len);
		done += slice[i].iov_len;
	}
	return done;
}

size_t queue_copy_in(const struct queue_chain *chain, size_t offset, const void *data, size_t size)
{
	struct iovec slice[QUEUE_SEGMENTS_MAX];
	unsigned int n = queue_slice(chain, true, offset, size, slice);
	size_t done = 0;

	for (unsigned int i = 0; i < n; i++) {
		memcpy(slice[i].iov_base, (const uint8_t *)data + done, slice[i].iov_len);
		done += slice[i].iov_len;
	}
	return done;
}

void queue_save(const struct queue *queue, struct state_writer *out)
{
	state_put_u16(out, queue->size);
	state_put_u16(out, queue->vector);
	state_put_u8(out, queue->ready);
	state_put_u8(out, queue->broken);
	state_put_u64(out, queue->descriptors);
	state_put_u64(out, queue->driver);
	state_put_u64(out, queue->device);
	state_put_u16(out, queue->next_avail);
	state_put_u16(out, queue->next_used);
	state_put_u8(out, queue->avail_wrap);
	state_put_u8(out, queue->used_wrap);
	state_put_u16(out, queue->signalled);
	state_put_u8(out, queue->signalled_wrap);
	state_put_u8(out, queue->signalled_valid);
}

void queue_load(struct queue *queue, struct state_reader *in)
{
	queue->size = state_get_u16(in);
	queue->vector = state_get_u16(in);
	queue->ready = state_get_u8(in);
	queue->broken = state_get_u8(in);
	queue->descriptors = state_get_u64(in);
	queue->driver = state_get_u64(in);
	queue->device = state_get_u64(in);
	queue->next_avail = state_get_u16(in);
	queue->next_used = state_get_u16(in);
	queue->avail_wrap = state_get_u8(in);
	queue->used_wrap = state_get_u8(in);
	queue->signalled = state_get_u16(in);
	queue->signalled_wrap = state_get_u8(in);
	queue->signalled_valid = state_get_u8(in);
	if (queue->ready &&
	    (queue_check(queue) < 0 || (queue->packed && (queue->next_avail >= queue->size ||
							  queue->next_used >= queue->size))))
		in->bad = true;
}
