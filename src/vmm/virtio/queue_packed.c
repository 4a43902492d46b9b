/*
 * queue_packed: Virtio 1.2, 2.8. One ring of descriptors that driver and device both write:
 *
 *     { u64 address, u32 length, u16 id, u16 flags }
 *
 * The flags AVAIL and USED tell whose a descriptor is, by comparison with a wrap counter that each side
 * turns over at the ring's end. The other two areas are event suppression, { u16 offset and wrap,
 * u16 flags }.
 */
#include <errno.h>
#include <string.h>

#include "vmm/virtio/queue_priv.h"

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t id, flags;
};

struct suppression {
	uint16_t offset_wrap, flags;
};

enum {
	FLAG_AVAIL = 1 << 7,
	FLAG_USED = 1 << 15,
	EVENT_ENABLE = 0,
	EVENT_DISABLE = 1,
	EVENT_OFFSET = 2,
	OFFSET_WRAP = 1 << 15,
};

static int check(const struct queue *q)
{
	if (q->descriptors % 16 || q->driver % 4 || q->device % 4)
		return -EINVAL;
	if (!memory_at(q->memory, q->descriptors, sizeof(struct descriptor) * (uint64_t)q->size) ||
	    !memory_at(q->memory, q->driver, sizeof(struct suppression)) ||
	    !memory_at(q->memory, q->device, sizeof(struct suppression)))
		return -EINVAL;
	return 0;
}

static struct descriptor *at(const struct queue *q, uint16_t i)
{
	return memory_at(q->memory, q->descriptors + sizeof(struct descriptor) * i,
			 sizeof(struct descriptor));
}

static void advance(const struct queue *q, uint16_t *place, bool *wrap, unsigned int by)
{
	unsigned int next = *place + by;

	if (next >= q->size) {
		next -= q->size;
		*wrap = !*wrap;
	}
	*place = (uint16_t)next;
}

static int walk_indirect(const struct queue *q, const struct queue_descriptor *table,
			 struct queue_chain *chain)
{
	uint32_t count = table->length / sizeof(struct descriptor);

	if (count == 0 || count > QUEUE_INDIRECT_MAX || table->length % sizeof(struct descriptor))
		return -EINVAL;
	for (uint32_t i = 0; i < count; i++) {
		struct descriptor d;
		struct queue_descriptor copy;
		int rc = memory_read(q->memory, table->address + sizeof(d) * (uint64_t)i, &d,
				     sizeof(d));

		if (rc < 0)
			return -EINVAL;
		copy = (struct queue_descriptor){
			.address = d.address,
			.length = d.length,
			.flags = d.flags & QUEUE_DESCRIPTOR_WRITE, /* the only one that counts */
		};
		rc = queue_add_segment(q, chain, &copy);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Copies the descriptor at `i` out. 1, or 0 if it is not available. */
static int read_descriptor(const struct queue *q, uint16_t i, bool wrap,
			   struct queue_descriptor *ret)
{
	const struct descriptor *from = at(q, i);
	struct descriptor d;
	uint16_t flags;

	if (!from)
		return -EINVAL;
	flags = __atomic_load_n(&from->flags, __ATOMIC_ACQUIRE);
	if (!!(flags & FLAG_AVAIL) != wrap || !!(flags & FLAG_USED) == wrap)
		return 0;
	memcpy(&d, from, sizeof(d));
	*ret = (struct queue_descriptor){
		.address = d.address, .length = d.length, .flags = flags, .id = d.id};
	return 1;
}

static bool available(const struct queue *q)
{
	struct queue_descriptor d;

	return read_descriptor(q, q->next_avail, q->avail_wrap, &d) == 1;
}

/* How many places the chains have that are under way. */
static unsigned int under_way(const struct queue *q)
{
	return (q->avail_wrap == q->used_wrap ? 0u : q->size) + q->next_avail - q->next_used;
}

static int pop(struct queue *q, struct queue_chain *ret)
{
	uint16_t place = q->next_avail;
	bool wrap = q->avail_wrap;
	struct queue_descriptor d;
	unsigned int seen = 0;
	int rc;

	do {
		/* The first decides: a chain is made available as a whole. */
		rc = read_descriptor(q, place, wrap, &d);
		if (rc <= 0)
			return rc < 0 || seen ? -EINVAL : 0;
		if (under_way(q) + seen >= q->size)
			return -EINVAL; /* V3, V4 */
		if ((d.flags & QUEUE_DESCRIPTOR_INDIRECT) &&
		    (seen || (d.flags & QUEUE_DESCRIPTOR_NEXT)))
			return -EINVAL;
		rc = d.flags & QUEUE_DESCRIPTOR_INDIRECT ? walk_indirect(q, &d, ret)
							 : queue_add_segment(q, ret, &d);
		if (rc < 0)
			return rc;
		advance(q, &place, &wrap, 1);
		seen++;
	} while (d.flags & QUEUE_DESCRIPTOR_NEXT);
	/* The buffer's id stands in the last descriptor (2.8.6). */
	ret->id = d.id;
	ret->descriptors = (uint16_t)seen;
	q->next_avail = place;
	q->avail_wrap = wrap;
	return 1;
}

static void unpop(struct queue *q, const struct queue_chain *chain)
{
	if (q->next_avail < chain->descriptors) {
		q->next_avail = (uint16_t)(q->next_avail + q->size);
		q->avail_wrap = !q->avail_wrap;
	}
	q->next_avail = (uint16_t)(q->next_avail - chain->descriptors);
}

/* The flags of the first are written by the flush, so that the driver sees all or none. */
static int fill(struct queue *q, uint16_t id, uint32_t written, unsigned int place)
{
	uint16_t i = q->next_used;
	bool wrap = q->used_wrap;
	struct descriptor *to;

	advance(q, &i, &wrap, place);
	to = at(q, i);
	if (!to)
		return -EINVAL;
	to->id = id;
	to->length = written;
	if (place > 0)
		__atomic_store_n(&to->flags, wrap ? FLAG_AVAIL | FLAG_USED : 0, __ATOMIC_RELEASE);
	return 0;
}

static int flush(struct queue *q, unsigned int places)
{
	struct descriptor *first = at(q, q->next_used);

	if (!first || places > q->size)
		return -EINVAL;
	__atomic_store_n(&first->flags, q->used_wrap ? FLAG_AVAIL | FLAG_USED : 0,
			 __ATOMIC_RELEASE);
	advance(q, &q->next_used, &q->used_wrap, places);
	return 0;
}

static bool wants_signal(const struct queue *q)
{
	const struct suppression *from = memory_at(q->memory, q->driver, sizeof(*from));
	uint16_t offset_wrap, flags, offset, last = q->signalled;

	if (!from)
		return false;
	flags = __atomic_load_n(&from->flags, __ATOMIC_ACQUIRE);
	offset_wrap = __atomic_load_n(&from->offset_wrap, __ATOMIC_RELAXED);
	if (flags == EVENT_DISABLE)
		return false;
	if (flags != EVENT_OFFSET || !q->event_index || !q->signalled_valid)
		return true;
	/* As with split rings, on places made monotonous: what lies before the ring's last turn is a
	 * ring's length lower. */
	offset = offset_wrap & (OFFSET_WRAP - 1);
	if (!!(offset_wrap & OFFSET_WRAP) != q->used_wrap)
		offset = (uint16_t)(offset - q->size);
	if (q->signalled_wrap != q->used_wrap)
		last = (uint16_t)(last - q->size);
	return (uint16_t)(q->next_used - offset - 1) < (uint16_t)(q->next_used - last);
}

static void set_doorbell(struct queue *q, bool wanted)
{
	struct suppression *to = memory_at(q->memory, q->device, sizeof(*to));

	if (to)
		__atomic_store_n(&to->flags, wanted ? EVENT_ENABLE : EVENT_DISABLE,
				 __ATOMIC_RELAXED);
}

const struct queue_ring queue_packed = {
	.check = check,
	.available = available,
	.pop = pop,
	.unpop = unpop,
	.fill = fill,
	.flush = flush,
	.wants_signal = wants_signal,
	.set_doorbell = set_doorbell,
};
