/*
 * blk: the block device (Virtio 1.2, 5.2) in front of a disk (disk/disk.h).
 *
 * A request is { u32 type, u32 reserved, u64 sector } out, data in or out, one status byte in. How they
 * are cut into segments is the driver's choice: nothing here relies on it. Reads and writes go between
 * the disk and guest memory without a copy.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/virtio/devices.h"

enum {
	F_SEG_MAX = 2,
	F_READ_ONLY = 5,
	F_BLOCK_SIZE = 6,
	F_FLUSH = 9,
	F_WRITE_CACHE = 11,
	F_DISCARD = 13,
	F_WRITE_ZEROES = 14,
	TYPE_IN = 0,
	TYPE_OUT = 1,
	TYPE_FLUSH = 4,
	TYPE_GET_ID = 8,
	TYPE_DISCARD = 11,
	TYPE_WRITE_ZEROES = 13,
	STATUS_OK = 0,
	STATUS_IO_ERROR = 1,
	STATUS_UNSUPPORTED = 2,
	SECTOR = 512,
	ID_SIZE = 20,
	QUEUE_SIZE = QUEUE_SIZE_MAX,
	SEGMENTS_MAX = 254, /* of data in a request */
	RANGES_MAX = 64,    /* of a discard or write-zeroes request */
	RANGE_SECTORS_MAX = 1 << 22,
	UNMAP = 1,
};

struct request {
	uint32_t type, reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t count, flags;
};

struct __attribute__((packed)) config {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t block_size;
	uint8_t physical_exponent, alignment_offset;
	uint16_t min_io;
	uint32_t opt_io;
	uint8_t write_cache, unused;
	uint16_t queues;
	uint32_t discard_sectors_max, discard_ranges_max, discard_alignment;
	uint32_t zeroes_sectors_max, zeroes_ranges_max;
	uint8_t zeroes_may_unmap, unused2[3];
};

struct blk {
	struct virtio virtio;
	struct disk *disk;
	struct config config;
};

static struct blk *blk_of(struct virtio *v)
{
	return container_of(v, struct blk, virtio);
}

static bool in_range(const struct blk *self, uint64_t sector, uint64_t count)
{
	return sector <= self->config.capacity && count <= self->config.capacity - sector;
}

static int read_write(struct blk *self, const struct request *request)
{
	const struct queue_chain *chain = &self->virtio.chain;
	bool in = request->type == TYPE_IN;
	uint64_t size = in ? chain->in_bytes - 1 : chain->out_bytes - sizeof(*request);
	struct iovec parts[QUEUE_SEGMENTS_MAX];
	unsigned int count;

	if (size % SECTOR || !in_range(self, request->sector, size / SECTOR) ||
	    (!in && self->disk->read_only))
		return -EIO;
	count = queue_slice(chain, in, in ? 0 : sizeof(*request), size, parts);
	return in ? self->disk->ops->read(self->disk, parts, count, request->sector * SECTOR)
		  : self->disk->ops->write(self->disk, parts, count, request->sector * SECTOR);
}

static int clear_range(struct blk *self, uint32_t type, const struct range *range)
{
	struct disk *disk = self->disk;
	uint64_t offset = range->sector * SECTOR, size = (uint64_t)range->count * SECTOR;

	if (!in_range(self, range->sector, range->count) || range->count > RANGE_SECTORS_MAX)
		return -EIO;
	if (type == TYPE_DISCARD ? range->flags != 0 : (range->flags & ~(uint32_t)UNMAP) != 0)
		return -EOPNOTSUPP;
	if (size == 0)
		return 0;
	return type == TYPE_DISCARD ? disk->ops->discard(disk, offset, size)
				    : disk->ops->zero(disk, offset, size, range->flags & UNMAP);
}

static int clear_ranges(struct blk *self, const struct request *request)
{
	const struct queue_chain *chain = &self->virtio.chain;
	uint64_t size = chain->out_bytes - sizeof(*request);
	struct range ranges[RANGES_MAX];
	int rc = 0;

	if (self->disk->read_only || size == 0 || size % sizeof(ranges[0]) || size > sizeof(ranges))
		return -EIO;
	queue_copy_out(chain, sizeof(*request), ranges, size);
	for (unsigned int i = 0; i < size / sizeof(ranges[0]) && rc == 0; i++)
		rc = clear_range(self, request->type, &ranges[i]);
	return rc;
}

static int get_id(struct blk *self)
{
	char id[ID_SIZE + 1] = "";

	snprintf(id, sizeof(id), "berth-disk-%u", self->virtio.device.instance);
	queue_copy_in(&self->virtio.chain, 0, id, ID_SIZE);
	return 0;
}

static int execute(struct blk *self, const struct request *request)
{
	switch (request->type) {
	case TYPE_IN:
	case TYPE_OUT:
		return read_write(self, request);
	case TYPE_FLUSH:
		return self->disk->ops->flush(self->disk);
	case TYPE_GET_ID:
		return get_id(self);
	case TYPE_DISCARD:
	case TYPE_WRITE_ZEROES:
		return clear_ranges(self, request);
	}
	return -EOPNOTSUPP;
}

static void blk_notify(struct virtio *v, unsigned int queue)
{
	struct blk *self = blk_of(v);

	while (virtio_pop(v, queue)) {
		const struct queue_chain *chain = &v->chain;
		struct request request;
		uint8_t status;
		bool in;
		int rc;

		if (queue_copy_out(chain, 0, &request, sizeof(request)) < sizeof(request) ||
		    chain->in_bytes < 1 || chain->in_bytes > UINT32_MAX) {
			virtio_fail(v, "a request without header or status");
			return;
		}
		rc = execute(self, &request);
		status = rc == 0 ? STATUS_OK
				 : (rc == -EOPNOTSUPP ? STATUS_UNSUPPORTED : STATUS_IO_ERROR);
		queue_copy_in(chain, chain->in_bytes - 1, &status, sizeof(status));
		in = request.type == TYPE_IN || request.type == TYPE_GET_ID;
		virtio_push(v, queue, in ? (uint32_t)chain->in_bytes : 1);
	}
}

static void blk_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&blk_of(v)->config + offset, size);
}

static void blk_destroy(struct virtio *v)
{
	struct blk *self = blk_of(v);

	virtio_release(v);
	if (self->disk)
		disk_close(self->disk);
	own_mem_release(&self);
}

static void blk_save(struct virtio *v, struct state_writer *out)
{
	state_put_u64(out, blk_of(v)->config.capacity);
}

/* Another disk than that of the snapshot is told to the driver as a change of its size. */
static void blk_load(struct virtio *v, struct state_reader *in)
{
	v->config_news = state_get_u64(in) != blk_of(v)->config.capacity;
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-blk"),
	.type = 2,
	.pci_class = 0x01800000,
	.config_size = sizeof(struct config),
	.read_config = blk_read_config,
	.notify = blk_notify,
	.save = blk_save,
	.load = blk_load,
	.destroy = blk_destroy,
};

int virtio_blk_create(struct board *board, unsigned int instance, struct disk *disk,
		      struct virtio **ret)
{
	struct blk *self = mem_new(sizeof(*self));
	uint64_t features = VIRTIO_BIT(F_SEG_MAX) | VIRTIO_BIT(F_BLOCK_SIZE) | VIRTIO_BIT(F_FLUSH) |
			    VIRTIO_BIT(F_DISCARD) | VIRTIO_BIT(F_WRITE_ZEROES);
	int rc;

	self->config = (struct config){.capacity = disk->size_bytes / SECTOR,
				       .seg_max = SEGMENTS_MAX,
				       .block_size = SECTOR,
				       .queues = 1,
				       .discard_sectors_max = RANGE_SECTORS_MAX,
				       .discard_ranges_max = RANGES_MAX,
				       .discard_alignment = 4096 / SECTOR,
				       .zeroes_sectors_max = RANGE_SECTORS_MAX,
				       .zeroes_ranges_max = RANGES_MAX,
				       .zeroes_may_unmap = 1};
	if (disk->read_only)
		features |= VIRTIO_BIT(F_READ_ONLY);
	rc = virtio_init(&self->virtio, &ops, board, instance, 1, QUEUE_SIZE, features);
	if (rc < 0)
		return rc;
	self->disk = disk;
	*ret = &self->virtio;
	return 0;
}

int virtio_blk_flush(struct virtio *v)
{
	struct blk *self = blk_of(v);
	int rc;

	device_lock(&v->device);
	rc = self->disk->ops->flush(self->disk);
	device_unlock(&v->device);
	return rc;
}

int virtio_blk_replace(struct virtio *v, struct disk *disk)
{
	struct blk *self = blk_of(v);

	if (disk->read_only && !self->disk->read_only)
		return -EACCES;
	device_lock(&v->device);
	disk_close(self->disk);
	self->disk = disk;
	if (self->config.capacity != disk->size_bytes / SECTOR) {
		self->config.capacity = disk->size_bytes / SECTOR;
		virtio_config_changed(v);
	}
	device_unlock(&v->device);
	return 0;
}
