/*
 * balloon: the memory balloon (Virtio 1.2, 5.5). What the guest gives back, because it was asked to
 * (inflate) or because it has it free (reporting), is given back to the host at once; what it takes again
 * is there as soon as it is touched.
 *
 * The statistics queue holds one buffer of the driver's with its numbers, which come anew when the buffer
 * is returned. It is read where it lies: a device that is saved holds nothing.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "vmm/virtio/devices.h"

enum {
	F_STATISTICS = 1,
	F_DEFLATE_ON_OOM = 2,
	F_REPORTING = 5,
	QUEUE_INFLATE = 0,
	QUEUE_DEFLATE = 1,
	QUEUE_STATISTICS = 2,
	/* The specification's fourth is for hints, which are not offered; Linux and others count only
	 * queues that are there. */
	QUEUE_REPORTING = 3,
	QUEUES = 4,
	QUEUE_SIZE = 128,
	PAGE_SHIFT = 12,
	PAGES_AT_ONCE = 1024,
	PAGES_MAX = 16 << 10, /* of a request: drivers have 256 to 1024 */
	OFFSET_ACTUAL = 4,    /* of the configuration's field that the driver writes */
};

struct __attribute__((packed)) config {
	uint32_t pages, actual;
	uint32_t hint_id, poison;
};

struct __attribute__((packed)) statistic {
	uint16_t tag;
	uint64_t value;
};

struct balloon {
	struct virtio virtio;
	struct config config;
	uint64_t released_bytes;
	struct balloon_statistics statistics;
};

static struct balloon *balloon_of(struct virtio *v)
{
	return container_of(v, struct balloon, virtio);
}

/* Gives a range back; what is read there afterwards is zeroes, or what a snapshot has there. The CPUs are
 * told, as if it had been written. */
static void release(struct balloon *self, gpa_t gpa, uint64_t size)
{
	struct board *board = self->virtio.board;
	void *host = memory_at(board->memory, gpa, size);

	if (!host || size == 0)
		return;
	if (madvise(host, size, board->memory->is_private ? MADV_DONTNEED : MADV_REMOVE) < 0)
		return;
	board->ops->written(board, gpa, size);
	self->released_bytes += size;
}

/* The pages of one request, neighbours together. */
static void inflate(struct balloon *self)
{
	const struct queue_chain *chain = &self->virtio.chain;
	uint32_t pages[PAGES_AT_ONCE];
	size_t offset = 0, n;

	while ((n = queue_copy_out(chain, offset, pages, sizeof(pages)) / sizeof(pages[0])) > 0) {
		for (size_t i = 0; i < n;) {
			size_t run = 1;

			while (i + run < n && pages[i + run] == pages[i] + run)
				run++;
			release(self, (gpa_t)pages[i] << PAGE_SHIFT, (uint64_t)run << PAGE_SHIFT);
			i += run;
		}
		offset += n * sizeof(pages[0]);
	}
}

static void report(struct balloon *self)
{
	const struct queue_chain *chain = &self->virtio.chain;

	for (unsigned int i = chain->out_count; i < chain->out_count + chain->in_count; i++)
		release(self, chain->addresses[i], chain->segments[i].iov_len);
}

static void read_statistics(struct balloon *self)
{
	const struct queue_chain *chain = &self->virtio.chain;
	struct statistic one;

	self->statistics.known = 0;
	for (size_t offset = 0; queue_copy_out(chain, offset, &one, sizeof(one)) == sizeof(one) &&
				offset < BALLOON_STATISTICS * sizeof(one);
	     offset += sizeof(one)) {
		if (one.tag >= BALLOON_STATISTICS)
			continue;
		self->statistics.values[one.tag] = one.value;
		self->statistics.known |= 1u << one.tag;
	}
}

static void balloon_notify(struct virtio *v, unsigned int queue)
{
	struct balloon *self = balloon_of(v);

	while (virtio_pop(v, queue)) {
		switch (queue) {
		case QUEUE_INFLATE:
			if (v->chain.out_bytes > PAGES_MAX * sizeof(uint32_t)) {
				virtio_fail(v, "more pages than one request may have");
				return;
			}
			inflate(self);
			break;
		case QUEUE_REPORTING:
			report(self);
			break;
		case QUEUE_STATISTICS:
			read_statistics(self);
			queue_unpop(&v->queues[queue], &v->chain);
			return;
		}
		virtio_push(v, queue, 0);
	}
}

void virtio_balloon_set(struct virtio *v, uint64_t bytes)
{
	struct balloon *self = balloon_of(v);
	uint64_t pages = bytes >> PAGE_SHIFT, all = v->board->memory->size_bytes >> PAGE_SHIFT;

	device_lock(&v->device);
	self->config.pages = (uint32_t)(pages < all ? pages : all);
	virtio_config_changed(v);
	device_unlock(&v->device);
}

void virtio_balloon_get(struct virtio *v, struct balloon_statistics *ret)
{
	struct balloon *self = balloon_of(v);

	device_lock(&v->device);
	*ret = self->statistics;
	ret->wanted_bytes = (uint64_t)self->config.pages << PAGE_SHIFT;
	ret->actual_bytes = (uint64_t)self->config.actual << PAGE_SHIFT;
	ret->released_bytes = self->released_bytes;
	/* The buffer goes back to the driver, which brings it with new numbers. */
	if (virtio_has(v, F_STATISTICS) && v->queues[QUEUE_STATISTICS].ready &&
	    virtio_pop(v, QUEUE_STATISTICS)) {
		virtio_push(v, QUEUE_STATISTICS, 0);
		virtio_signal(v, QUEUE_STATISTICS);
	}
	device_unlock(&v->device);
}

static void balloon_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&balloon_of(v)->config + offset, size);
}

static void balloon_write_config(struct virtio *v, uint32_t offset, const void *data,
				 unsigned int size)
{
	if (offset == OFFSET_ACTUAL && size == sizeof(uint32_t))
		memcpy(&balloon_of(v)->config.actual, data, size);
}

static void balloon_reset(struct virtio *v)
{
	struct balloon *self = balloon_of(v);

	/* What is wanted stays: a guest that starts anew is asked for it, too. */
	self->config.actual = 0;
	self->statistics = (struct balloon_statistics){0};
}

static void balloon_save(struct virtio *v, struct state_writer *out)
{
	const struct balloon *self = balloon_of(v);

	state_put_u32(out, self->config.pages);
	state_put_u32(out, self->config.actual);
}

static void balloon_load(struct virtio *v, struct state_reader *in)
{
	struct balloon *self = balloon_of(v);

	self->config.pages = state_get_u32(in);
	self->config.actual = state_get_u32(in);
}

static void balloon_destroy(struct virtio *v)
{
	struct balloon *self = balloon_of(v);

	virtio_release(v);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-balloon"),
	.type = 5,
	.pci_class = 0x00ff0000,
	.config_size = sizeof(struct config),
	.read_config = balloon_read_config,
	.write_config = balloon_write_config,
	.notify = balloon_notify,
	.reset = balloon_reset,
	.save = balloon_save,
	.load = balloon_load,
	.destroy = balloon_destroy,
};

int virtio_balloon_create(struct board *board, struct virtio **ret)
{
	struct balloon *self = mem_new(sizeof(*self));
	int rc = virtio_init(&self->virtio, &ops, board, 0, QUEUES, QUEUE_SIZE,
			     VIRTIO_BIT(F_STATISTICS) | VIRTIO_BIT(F_DEFLATE_ON_OOM) |
				     VIRTIO_BIT(F_REPORTING));

	if (rc < 0)
		return rc;
	*ret = &self->virtio;
	return 0;
}
