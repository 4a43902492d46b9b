/*
 * blk: the block device (Virtio 1.2, 5.2) on a raw file or block device.
 *
 * A request is { u32 type, u32 reserved, u64 sector } out, data in or out, one status byte in. How they
 * are cut into segments is the driver's choice: nothing here relies on it. Reads and writes go between
 * the file and guest memory without a copy.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

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
	int fd;
	bool read_only;
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

/* Moves a whole vector, over short transfers. */
static int transfer(int fd, bool in, struct iovec *parts, unsigned int count, off_t offset)
{
	while (count > 0) {
		ssize_t n = in ? preadv(fd, parts, (int)count, offset)
			       : pwritev(fd, parts, (int)count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += n;
		for (; count > 0 && (size_t)n >= parts->iov_len; parts++, count--)
			n -= (ssize_t)parts->iov_len;
		if (count > 0) {
			parts->iov_base = (uint8_t *)parts->iov_base + n;
			parts->iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int read_write(struct blk *self, const struct request *request)
{
	const struct queue_chain *chain = &self->virtio.chain;
	bool in = request->type == TYPE_IN;
	uint64_t size = in ? chain->in_bytes - 1 : chain->out_bytes - sizeof(*request);
	struct iovec parts[QUEUE_SEGMENTS_MAX];
	unsigned int count;

	if (size % SECTOR || !in_range(self, request->sector, size / SECTOR) ||
	    (!in && self->read_only))
		return -EIO;
	count = queue_slice(chain, in, in ? 0 : sizeof(*request), size, parts);
	return transfer(self->fd, in, parts, count, (off_t)(request->sector * SECTOR));
}

/* Neither every file system nor every device can do either: what cannot be released stays, which a
 * discard allows, and zeroes can always be written. */
static int write_zeroes(const struct blk *self, off_t offset, off_t size)
{
	static const uint8_t zeroes[64 << 10];

	while (size > 0) {
		size_t part = size < (off_t)sizeof(zeroes) ? (size_t)size : sizeof(zeroes);
		ssize_t n = pwrite(self->fd, zeroes, part, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += n;
		size -= n;
	}
	return 0;
}

static int clear_range(const struct blk *self, uint32_t type, const struct range *range)
{
	off_t offset = (off_t)(range->sector * SECTOR), size = (off_t)range->count * SECTOR;
	bool punch = type == TYPE_DISCARD || (range->flags & UNMAP);
	int mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	if (!in_range(self, range->sector, range->count) || range->count > RANGE_SECTORS_MAX)
		return -EIO;
	if (type == TYPE_DISCARD ? range->flags != 0 : (range->flags & ~(uint32_t)UNMAP) != 0)
		return -EOPNOTSUPP;
	if (size == 0 || fallocate(self->fd, mode, offset, size) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != ENODEV && errno != EINVAL)
		return -errno;
	return type == TYPE_DISCARD ? 0 : write_zeroes(self, offset, size);
}

static int clear_ranges(struct blk *self, const struct request *request)
{
	const struct queue_chain *chain = &self->virtio.chain;
	uint64_t size = chain->out_bytes - sizeof(*request);
	struct range ranges[RANGES_MAX];
	int rc = 0;

	if (self->read_only || size == 0 || size % sizeof(ranges[0]) || size > sizeof(ranges))
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
		return fdatasync(self->fd) < 0 ? -errno : 0;
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
	fd_close(&self->fd);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-blk"),
	.type = 2,
	.pci_class = 0x01800000,
	.config_size = sizeof(struct config),
	.read_config = blk_read_config,
	.notify = blk_notify,
	.destroy = blk_destroy,
};

static int size_of(int fd, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret_bytes) < 0 ? -errno : 0;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

int virtio_blk_create(struct board *board, unsigned int instance, int fd, bool read_only,
		      struct virtio **ret)
{
	struct blk *self = mem_new(sizeof(*self));
	uint64_t size = 0, features = VIRTIO_BIT(F_SEG_MAX) | VIRTIO_BIT(F_BLOCK_SIZE) |
				      VIRTIO_BIT(F_FLUSH) | VIRTIO_BIT(F_DISCARD) |
				      VIRTIO_BIT(F_WRITE_ZEROES);
	int rc = size_of(fd, &size);

	self->fd = -1; /* the caller's until all has gone well */
	self->read_only = read_only;
	self->config = (struct config){.capacity = size / SECTOR,
				       .seg_max = SEGMENTS_MAX,
				       .block_size = SECTOR,
				       .queues = 1,
				       .discard_sectors_max = RANGE_SECTORS_MAX,
				       .discard_ranges_max = RANGES_MAX,
				       .discard_alignment = 4096 / SECTOR,
				       .zeroes_sectors_max = RANGE_SECTORS_MAX,
				       .zeroes_ranges_max = RANGES_MAX,
				       .zeroes_may_unmap = 1};
	if (read_only)
		features |= VIRTIO_BIT(F_READ_ONLY);
	if (rc == 0)
		rc = virtio_init(&self->virtio, &ops, board, instance, 1, QUEUE_SIZE, features);
	else
		own_mem_release(&self);
	if (rc < 0)
		return rc;
	self->fd = fd;
	*ret = &self->virtio;
	return 0;
}
