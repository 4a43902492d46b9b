/*
 * queue_split: Virtio 1.2, 2.7.
 *
 *     descriptor table   size * { u64 address, u32 length, u16 flags, u16 next }
 *     available ring     u16 flags, u16 index, u16 ring[size], u16 used_event
 *     used ring          u16 flags, u16 index, { u32 id, u32 length }[size], u16 avail_event
 */
#include <errno.h>
#include <string.h>

#include "vmm/virtio/queue_priv.h"

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct used {
	uint32_t id, length;
};

enum {
	AVAIL_NO_INTERRUPT = 1,
	USED_NO_NOTIFY = 1,
	RING_INDEX = 2,
	RING_ENTRIES = 4,
	EVENT_TRIES = 64, /* a driver that offers faster than we look harms itself only */
};

static uint16_t *avail_at(const struct queue *q, uint64_t offset)
{
	return memory_at(q->memory, q->driver + offset, sizeof(uint16_t));
}

static uint16_t *used_at(const struct queue *q, uint64_t offset)
{
	return memory_at(q->memory, q->device + offset, sizeof(uint16_t));
}

static uint64_t used_event_offset(const struct queue *q)
{
	return RING_ENTRIES + 2ull * q->size;
}

static uint64_t avail_event_offset(const struct queue *q)
{
	return RING_ENTRIES + sizeof(struct used) * (uint64_t)q->size;
}

static int check(const struct queue *q)
{
	if ((q->size & (q->size - 1)) || q->descriptors % 16 || q->driver % 2 || q->device % 4)
		return -EINVAL;
	if (!memory_at(q->memory, q->descriptors, sizeof(struct descriptor) * (uint64_t)q->size) ||
	    !memory_at(q->memory, q->driver, used_event_offset(q) + 2) ||
	    !memory_at(q->memory, q->device, avail_event_offset(q) + 2))
		return -EINVAL;
	return 0;
}

/* Copies descriptor `i` of the table at `table` out of guest memory. */
static int read_descriptor(const struct queue *q, gpa_t table, uint32_t i,
			   struct queue_descriptor *ret)
{
	struct descriptor d;

	if (memory_read(q->memory, table + sizeof(d) * (uint64_t)i, &d, sizeof(d)) < 0)
		return -EINVAL;
	*ret = (struct queue_descriptor){
		.address = d.address, .length = d.length, .flags = d.flags, .next = d.next};
	return 0;
}

/* Follows a chain from descriptor `i` of a table of `size`. Its last one may be an indirect table. */
static int walk(const struct queue *q, gpa_t table, uint32_t size, uint32_t i, bool indirect,
		struct queue_chain *chain)
{
	struct queue_descriptor d;

	for (uint32_t seen = 0; seen < size; seen++) {
		int rc = i < size ? read_descriptor(q, table, i, &d) : -EINVAL;

		if (rc < 0)
			return rc;
		if (d.flags & QUEUE_DESCRIPTOR_INDIRECT) {
			uint32_t count = d.length / sizeof(struct descriptor);

			if (indirect || (d.flags & QUEUE_DESCRIPTOR_NEXT) || count == 0 ||
			    d.length % sizeof(struct descriptor) || count > QUEUE_INDIRECT_MAX)
				return -EINVAL;
			return walk(q, d.address, count, 0, true, chain);
		}
		rc = queue_add_segment(q, chain, &d);
		if (rc < 0)
			return rc;
		if (!(d.flags & QUEUE_DESCRIPTOR_NEXT))
			return 0;
		i = d.next;
	}
	return -EINVAL; /* V3: it loops */
}

/*
 * The event is the next chain that the driver will offer, not the next one that we take: if chains are
 * left in the ring, the driver has passed that, and would not ring for those behind. One that it offers
 * between the two looks may have gone by unnoticed, so the event follows it.
 */
static void set_event(uint16_t *event, const uint16_t *index)
{
	uint16_t seen = __atomic_load_n(index, __ATOMIC_ACQUIRE);

	for (unsigned int i = 0; i < EVENT_TRIES; i++) {
		uint16_t now;

		__atomic_store_n(event, seen, __ATOMIC_RELAXED);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		now = __atomic_load_n(index, __ATOMIC_ACQUIRE);
		if (now == seen)
			return;
		seen = now;
	}
}

static void set_doorbell(struct queue *q, bool wanted)
{
	uint16_t *flags = used_at(q, 0), *event = used_at(q, avail_event_offset(q));
	const uint16_t *index = avail_at(q, RING_INDEX);

	if (!flags || !event || !index)
		return;
	if (!q->event_index)
		__atomic_store_n(flags, wanted ? 0 : USED_NO_NOTIFY, __ATOMIC_RELAXED);
	else if (wanted) /* else it stays behind, and the driver does not pass it */
		set_event(event, index);
}

static bool available(const struct queue *q)
{
	const uint16_t *index = avail_at(q, RING_INDEX);

	return index && __atomic_load_n(index, __ATOMIC_ACQUIRE) != q->next_avail;
}

static int pop(struct queue *q, struct queue_chain *ret)
{
	const uint16_t *index = avail_at(q, RING_INDEX), *entry;
	uint16_t waiting;
	int rc;

	if (!index)
		return -EINVAL;
	waiting = (uint16_t)(__atomic_load_n(index, __ATOMIC_ACQUIRE) - q->next_avail);
	if (waiting == 0)
		return 0;
	/* V4: what is under way lies between next_used and next_avail. */
	if ((uint16_t)(q->next_avail + waiting - q->next_used) > q->size)
		return -EINVAL;
	entry = avail_at(q, RING_ENTRIES + 2ull * (q->next_avail & (q->size - 1)));
	if (!entry)
		return -EINVAL;
	ret->id = __atomic_load_n(entry, __ATOMIC_RELAXED);
	ret->descriptors = 1;
	rc = walk(q, q->descriptors, q->size, ret->id, false, ret);
	if (rc < 0)
		return rc;
	q->next_avail++;
	return 1;
}

static void unpop(struct queue *q, const struct queue_chain *chain)
{
	(void)chain;
	q->next_avail--;
}

static int fill(struct queue *q, uint16_t id, uint32_t written, unsigned int place)
{
	struct used used = {.id = id, .length = written};
	uint64_t i = (uint16_t)(q->next_used + place) & (q->size - 1);

	return memory_write(q->memory, q->device + RING_ENTRIES + sizeof(used) * i, &used,
			    sizeof(used));
}

static int flush(struct queue *q, unsigned int places)
{
	uint16_t *index = used_at(q, RING_INDEX);

	if (!index)
		return -EINVAL;
	q->next_used = (uint16_t)(q->next_used + places);
	__atomic_store_n(index, q->next_used, __ATOMIC_RELEASE);
	return 0;
}

static bool wants_signal(const struct queue *q)
{
	const uint16_t *flags = avail_at(q, 0), *event = avail_at(q, used_event_offset(q));

	if (!flags || !event)
		return false;
	if (!q->event_index)
		return !(__atomic_load_n(flags, __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
	if (!q->signalled_valid)
		return true;
	/* 2.7.7.2: has used_event been passed since? */
	return (uint16_t)(q->next_used - __atomic_load_n(event, __ATOMIC_RELAXED) - 1) <
	       (uint16_t)(q->next_used - q->signalled);
}

const struct queue_ring queue_split = {
	.check = check,
	.available = available,
	.pop = pop,
	.unpop = unpop,
	.fill = fill,
	.flush = flush,
	.wants_signal = wants_signal,
	.set_doorbell = set_doorbell,
};
