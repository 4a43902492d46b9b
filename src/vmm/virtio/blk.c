/*
 * blk: the block device (Virtio 1.2, 5.2) in front of a disk (disk/disk.h).
 *
 * A request is { u32 type, u32 reserved, u64 sector } out, data in or out, one status byte in. How they
 * are cut into segments is the driver's choice: nothing here relies on it. Reads and writes go between
 * the disk and guest memory without a copy.
 *
 * All queues are served by one thread, which is that of all disks. Reads and flushes of a plain file go
 * through io_uring where the host has it: they wait for the medium, and the thread must not. Writes end in
 * the host's page cache, so they are done at once, as is all that takes no part of this (docs/disks.md has
 * the figures). The device is not locked meanwhile; `busy` counts requests that have been taken and not
 * given back, and a reset waits for them.
 */
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "vmm/disk/uring.h"
#include "vmm/virtio/devices.h"

enum {
	F_SEG_MAX = 2,
	F_READ_ONLY = 5,
	F_BLOCK_SIZE = 6,
	F_FLUSH = 9,
	F_QUEUES = 12,
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
	DEPTH = 64, /* requests that are under way at once */
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

/* A request that is under way. */
struct job {
	struct job *next; /* of those that are free */
	unsigned int queue;
	struct request request;
	struct queue_chain chain;
};

struct blk {
	struct virtio virtio;
	struct disk *disk;
	struct config config;
	pthread_cond_t idle; /* busy is 0 */
	unsigned int busy;
	bool holding;       /* somebody waits for that: nothing new begins */
	struct uring *ring; /* NULL: the host has none */
	struct loop_source *ring_source;
	unsigned int under_way; /* in the ring */
	struct job *free_jobs;
	uint64_t starved; /* a bit for each queue that has found no place in the ring */
};

static struct blk *blk_of(struct virtio *v)
{
	return container_of(v, struct blk, virtio);
}

static bool in_range(const struct blk *self, uint64_t sector, uint64_t count)
{
	return sector <= self->config.capacity && count <= self->config.capacity - sector;
}

/* The size of the data of a read or write, if it is well-formed: bytes or -EIO. */
static int64_t transfer_size(const struct blk *self, const struct request *request,
			     const struct queue_chain *chain)
{
	bool in = request->type == TYPE_IN;
	uint64_t size = in ? chain->in_bytes - 1 : chain->out_bytes - sizeof(*request);

	if (size % SECTOR || !in_range(self, request->sector, size / SECTOR) ||
	    (!in && self->disk->read_only))
		return -EIO;
	return (int64_t)size;
}

static int read_write(struct blk *self, const struct request *request,
		      const struct queue_chain *chain)
{
	bool in = request->type == TYPE_IN;
	int64_t size = transfer_size(self, request, chain);
	struct iovec parts[QUEUE_SEGMENTS_MAX];
	unsigned int count;

	if (size < 0)
		return -EIO;
	count = queue_slice(chain, in, in ? 0 : sizeof(*request), (size_t)size, parts);
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

static int clear_ranges(struct blk *self, const struct request *request,
			const struct queue_chain *chain)
{
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

static int get_id(const struct blk *self, const struct queue_chain *chain)
{
	char id[ID_SIZE + 1] = "";

	snprintf(id, sizeof(id), "berth-disk-%u", self->virtio.device.instance);
	queue_copy_in(chain, 0, id, ID_SIZE);
	return 0;
}

/* 5.2.6.2: to a driver that does not flush, what is written is on the medium when it is told so. */
static int change(struct blk *self, const struct request *request, const struct queue_chain *chain)
{
	int rc = request->type == TYPE_OUT ? read_write(self, request, chain)
					   : clear_ranges(self, request, chain);

	if (rc == 0 && !virtio_has(&self->virtio, F_FLUSH))
		rc = self->disk->ops->flush(self->disk);
	return rc;
}

static int execute(struct blk *self, const struct request *request, const struct queue_chain *chain)
{
	switch (request->type) {
	case TYPE_IN:
		return read_write(self, request, chain);
	case TYPE_FLUSH:
		return self->disk->ops->flush(self->disk);
	case TYPE_GET_ID:
		return get_id(self, chain);
	case TYPE_OUT:
	case TYPE_DISCARD:
	case TYPE_WRITE_ZEROES:
		return change(self, request, chain);
	}
	return -EOPNOTSUPP;
}

/* Gives a request back; locked. */
static void finish(struct blk *self, struct job *job, int rc)
{
	const struct queue_chain *chain = &job->chain;
	bool in = job->request.type == TYPE_IN || job->request.type == TYPE_GET_ID;
	uint8_t status = rc == 0             ? STATUS_OK
			 : rc == -EOPNOTSUPP ? STATUS_UNSUPPORTED
					     : STATUS_IO_ERROR;

	queue_copy_in(chain, chain->in_bytes - 1, &status, sizeof(status));
	virtio_give(&self->virtio, job->queue, chain, in ? (uint32_t)chain->in_bytes : 1);
	job->next = self->free_jobs;
	self->free_jobs = job;
	if (--self->busy == 0)
		pthread_cond_broadcast(&self->idle);
}

/* Takes the next request of a queue; locked. NULL: there is none. */
static struct job *take_job(struct blk *self, unsigned int queue)
{
	struct virtio *v = &self->virtio;
	struct job *job = self->free_jobs;

	if (!job)
		job = self->free_jobs = mem_new(sizeof(*job));
	if (self->holding || !virtio_take(v, queue, &job->chain))
		return NULL;
	if (queue_copy_out(&job->chain, 0, &job->request, sizeof(job->request)) <
		    sizeof(job->request) ||
	    job->chain.in_bytes < 1 || job->chain.in_bytes > UINT32_MAX) {
		virtio_fail(v, "a request without header or status");
		return NULL;
	}
	self->free_jobs = job->next;
	job->queue = queue;
	self->busy++;
	return job;
}

/* --- the ring -------------------------------------------------------------------------------------- */

static struct iovec *last_segment(struct queue_chain *chain)
{
	return &chain->segments[chain->out_count + chain->in_count - 1];
}

/* Whether a request is one for the ring. A read that is alone is done at once, which costs less: nobody waits
 * behind it. */
static bool suits_ring(const struct blk *self, struct job *job)
{
	if (!self->ring || self->disk->plain_fd < 0)
		return false;
	if (job->request.type == TYPE_FLUSH)
		return true;
	if (self->under_way == 0 && !queue_available(&self->virtio.queues[job->queue]))
		return false;
	return job->request.type == TYPE_IN && last_segment(&job->chain)->iov_len > 0 &&
	       transfer_size(self, &job->request, &job->chain) > 0;
}

/* It is under way until the ring says that it is done; the machine does not stand still before. */
static void put_in_ring(struct blk *self, struct job *job)
{
	struct queue_chain *chain = &job->chain;
	unsigned int count = chain->in_count;

	if (job->request.type == TYPE_FLUSH) {
		uring_flush(self->ring, self->disk->plain_fd, job);
	} else {
		/* The last byte is the status. */
		if (--last_segment(chain)->iov_len == 0)
			count--;
		uring_read(self->ring, self->disk->plain_fd, chain->segments + chain->out_count,
			   count, job->request.sector * SECTOR, job);
	}
	self->under_way++;
	gate_stay(&self->virtio.board->gate);
}

/* Begins what is in the ring; locked, but not meanwhile. */
static void start_ring(struct blk *self, unsigned int wait)
{
	int rc;

	if (!self->ring || (!uring_has_prepared(self->ring) && wait == 0))
		return;
	device_unlock(&self->virtio.device);
	while ((rc = uring_submit(self->ring, wait)) == -EAGAIN || rc == -EBUSY)
		sched_yield(); /* the kernel is short of memory for a moment */
	if (rc < 0)
		log_warn("disk %u: io_uring: %s", self->virtio.device.instance, strerror(-rc));
	device_lock(&self->virtio.device);
}

/* Gives back what the ring has done; locked. Returns which queues have got something. */
static uint64_t drain_ring(struct blk *self)
{
	struct uring_done done;
	uint64_t queues = 0;

	while (self->ring && uring_take(self->ring, &done)) {
		struct job *job = done.tag;
		int rc = done.result < 0 ? done.result : 0;

		if (job->request.type == TYPE_IN) {
			last_segment(&job->chain)->iov_len++;
			/* Cut short, or interrupted: once more, and whole. */
			if (rc != 0 || (uint64_t)done.result != job->chain.in_bytes - 1)
				rc = read_write(self, &job->request, &job->chain);
		}
		queues |= 1ull << job->queue;
		finish(self, job, rc);
		self->under_way--;
		gate_leave(&self->virtio.board->gate);
	}
	return queues;
}

/* Tells the driver of what drain_ring has given back, and goes on where there was no place; locked. */
static void tell(struct blk *self, uint64_t queues)
{
	uint64_t starved = self->under_way < DEPTH ? self->starved : 0;

	self->starved &= ~starved;
	for (unsigned int i = 0; i < self->virtio.queue_count; i++) {
		if (queues >> i & 1)
			virtio_signal(&self->virtio, i);
		if (starved >> i & 1)
			virtio_ring(&self->virtio, i);
	}
}

static void on_done(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void *data)
{
	struct blk *self = data;

	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	device_lock(&self->virtio.device);
	tell(self, drain_ring(self));
	device_unlock(&self->virtio.device);
}

/* --- requests -------------------------------------------------------------------------------------- */

/* Takes what waits in the queue, but no more than it has places: the thread has other disks. What the host has
 * in memory is done at once. */
static void blk_notify(struct virtio *v, unsigned int queue)
{
	struct blk *self = blk_of(v);

	for (unsigned int i = 0; i < QUEUE_SIZE && self->under_way < DEPTH; i++) {
		struct job *job = take_job(self, queue);
		int rc;

		if (!job)
			break;
		if (suits_ring(self, job)) {
			put_in_ring(self, job);
			continue;
		}
		start_ring(self, 0);
		device_unlock(&v->device);
		rc = execute(self, &job->request, &job->chain);
		device_lock(&v->device);
		finish(self, job, rc);
	}
	if (self->under_way == DEPTH)
		self->starved |= 1ull << queue;
	start_ring(self, 0);
	tell(self, drain_ring(self));
}

/* Returns when nothing is under way, and nothing begins until `holding` is taken back; locked. */
static void wait_idle(struct blk *self)
{
	self->holding = true;
	while (self->busy)
		pthread_cond_wait(&self->idle, &self->virtio.device.lock);
}

static void blk_reset(struct virtio *v)
{
	struct blk *self = blk_of(v);

	v->status = 0;
	wait_idle(self);
	self->holding = false;
	self->starved = 0;
}

static void blk_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&blk_of(v)->config + offset, size);
}

static void blk_destroy(struct virtio *v)
{
	struct blk *self = blk_of(v);

	device_lock(&v->device);
	/* Its thread has ended. */
	while (self->under_way) {
		start_ring(self, 1);
		drain_ring(self);
	}
	device_unlock(&v->device);
	loop_remove(self->ring_source);
	virtio_release(v);
	uring_destroy(self->ring);
	if (self->disk)
		disk_close(self->disk);
	while (self->free_jobs) {
		struct job *job = self->free_jobs;

		self->free_jobs = job->next;
		own_mem_release(&job);
	}
	pthread_cond_destroy(&self->idle);
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
	.is_disk = true,
	.notify = blk_notify,
	.reset = blk_reset,
	.save = blk_save,
	.load = blk_load,
	.destroy = blk_destroy,
};

static void open_ring(struct blk *self)
{
	int rc = uring_create(DEPTH, &self->ring);

	if (rc == 0)
		rc = loop_add_io(virtio_loop(&self->virtio), uring_fd(self->ring), EPOLLIN, on_done,
				 self, &self->ring_source);
	if (rc == 0)
		return;
	log_debug("disk %u: no io_uring: %s", self->virtio.device.instance, strerror(-rc));
	uring_destroy(take(self->ring));
}

int virtio_blk_create(struct board *board, unsigned int instance, struct disk *disk,
		      unsigned int queues, struct virtio **ret)
{
	struct blk *self = mem_new(sizeof(*self));
	uint64_t features = VIRTIO_BIT(F_SEG_MAX) | VIRTIO_BIT(F_BLOCK_SIZE) | VIRTIO_BIT(F_FLUSH) |
			    VIRTIO_BIT(F_DISCARD) | VIRTIO_BIT(F_WRITE_ZEROES);
	int rc;

	queues = queues < BLK_QUEUES_MAX ? queues : BLK_QUEUES_MAX;
	self->config = (struct config){.capacity = disk->size_bytes / SECTOR,
				       .seg_max = SEGMENTS_MAX,
				       .block_size = SECTOR,
				       .queues = (uint16_t)queues,
				       .discard_sectors_max = RANGE_SECTORS_MAX,
				       .discard_ranges_max = RANGES_MAX,
				       .discard_alignment = 4096 / SECTOR,
				       .zeroes_sectors_max = RANGE_SECTORS_MAX,
				       .zeroes_ranges_max = RANGES_MAX,
				       .zeroes_may_unmap = 1};
	pthread_cond_init(&self->idle, NULL);
	if (disk->read_only)
		features |= VIRTIO_BIT(F_READ_ONLY);
	if (queues > 1)
		features |= VIRTIO_BIT(F_QUEUES);
	rc = virtio_init(&self->virtio, &ops, board, instance, queues, QUEUE_SIZE, features);
	if (rc < 0)
		return rc;
	open_ring(self);
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

	device_lock(&v->device);
	if (disk->read_only && !self->disk->read_only) {
		device_unlock(&v->device);
		return -EACCES;
	}
	wait_idle(self);
	disk_close(self->disk);
	self->disk = disk;
	self->holding = false;
	if (self->config.capacity != disk->size_bytes / SECTOR) {
		self->config.capacity = disk->size_bytes / SECTOR;
		virtio_config_changed(v);
	}
	for (unsigned int i = 0; i < v->queue_count; i++)
		virtio_ring(v, i);
	device_unlock(&v->device);
	return 0;
}
