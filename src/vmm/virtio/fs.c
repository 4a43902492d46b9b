/*
 * fs: the file system device (Virtio 1.2, 5.11): requests of the FUSE protocol, which share/ serves, on
 * two threads of its own, so that a slow file system of the host does not hold the other devices up.
 *
 * A worker takes a request under the device's lock, serves it without, and gives it back under the lock.
 * `busy` counts those in between; a reset waits for them. A request for a lock that somebody else has is
 * put aside and tried again: there is nobody to wake us, as the lock may be that of a program of the
 * host. The guest cannot interrupt it: Linux's driver does not send that it would like to.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "vmm/share/share.h"
#include "vmm/virtio/devices.h"

enum {
	QUEUE_URGENT = 0,
	QUEUE_REQUEST = 1,
	QUEUES = 2,
	QUEUE_SIZE = QUEUE_SIZE_MAX,
	WORKERS = 2,
	RETRY_FIRST_MS = 2,
	RETRY_MAX_MS = 50,
	NS_PER_MS = 1000000,
	NS_PER_S = 1000000000,
};

struct __attribute__((packed)) config {
	char tag[SHARE_TAG_MAX];
	uint32_t request_queues;
};

/* A request that waits for a lock. */
struct waiting {
	struct waiting *next;
	unsigned int queue;
	struct queue_chain chain;
};

struct fs_worker {
	struct fs *fs;
	pthread_t thread;
	bool started;
	struct queue_chain chain;
};

struct fs {
	struct virtio virtio;
	struct config config;
	struct share *share;
	pthread_cond_t wake; /* there is work, or the end */
	pthread_cond_t idle; /* busy is 0 */
	pthread_cond_t ready;
	bool stopping;
	bool must_reset; /* the driver has begun anew: all that it knew is to be forgotten */
	int (*confine)(struct error *err); /* what a worker does before it works; NULL: nothing */
	int thread_error;
	struct error error;
	unsigned int ready_count;
	unsigned int busy;
	unsigned int retry_ms;
	struct waiting *waiting; /* in the order of their coming */
	struct fs_worker workers[WORKERS];
};

static struct fs *fs_of(struct virtio *v)
{
	return container_of(v, struct fs, virtio);
}

static struct share_request request_of(const struct queue_chain *chain)
{
	return (struct share_request){
		.out = chain->segments,
		.out_count = chain->out_count,
		.out_bytes = chain->out_bytes,
		.in = chain->segments + chain->out_count,
		.in_count = chain->in_count,
		.in_bytes = chain->in_bytes,
	};
}

static void put_aside(struct fs *self, unsigned int queue, const struct queue_chain *chain)
{
	struct waiting *waiting = mem_new(sizeof(*waiting)), **at = &self->waiting;

	while (*at)
		at = &(*at)->next;
	waiting->queue = queue;
	waiting->chain = *chain;
	*at = waiting;
}

static void drop_waiting(struct fs *self)
{
	while (self->waiting) {
		struct waiting *waiting = self->waiting;

		self->waiting = waiting->next;
		free(waiting);
	}
}

static bool has_work(const struct fs *self)
{
	const struct virtio *v = &self->virtio;

	return self->must_reset ||
	       (virtio_is_active(v) && (queue_available(&v->queues[QUEUE_URGENT]) ||
					queue_available(&v->queues[QUEUE_REQUEST])));
}

/* Serves the worker's chain; locked before and after. */
static void serve(struct fs_worker *worker, struct share_thread *thread, unsigned int queue)
{
	struct fs *self = worker->fs;
	struct virtio *v = &self->virtio;
	struct share_request request = request_of(&worker->chain);
	int64_t size;
	bool more;

	self->busy++;
	more = has_work(self);
	device_unlock(&v->device);
	/* This one may take long: the next is the other worker's. */
	if (more)
		pthread_cond_signal(&self->wake);
	size = share_serve(thread, &request);
	device_lock(&v->device);
	if (size == -EAGAIN) {
		put_aside(self, queue, &worker->chain);
	} else if (size < 0) {
		virtio_fail(v, "a request that makes no sense");
	} else {
		virtio_give(v, queue, &worker->chain, (uint32_t)size);
		virtio_signal(v, queue);
	}
	if (--self->busy == 0)
		pthread_cond_broadcast(&self->idle);
}

/* Takes the request that has waited longest out of the list. */
static bool take_waiting(struct fs_worker *worker, unsigned int *ret_queue)
{
	struct waiting *waiting = worker->fs->waiting;

	if (!waiting)
		return false;
	worker->fs->waiting = waiting->next;
	worker->chain = waiting->chain;
	*ret_queue = waiting->queue;
	free(waiting);
	return true;
}

/* Everything in the queues; locked. true: there was something. */
static bool drain(struct fs_worker *worker, struct share_thread *thread)
{
	struct virtio *v = &worker->fs->virtio;
	bool any = false;

	for (unsigned int queue = QUEUE_URGENT; queue < QUEUES; queue++) {
		while (!worker->fs->stopping && virtio_take(v, queue, &worker->chain)) {
			queue_set_doorbell(&v->queues[queue], true);
			serve(worker, thread, queue);
			any = true;
		}
	}
	return any;
}

/* Waits for work. true: a request for a lock may be tried again. */
static bool wait_for_work(struct fs *self)
{
	pthread_mutex_t *lock = &self->virtio.device.lock;
	struct timespec until;
	int rc = 0;

	if (!self->waiting) {
		pthread_cond_wait(&self->wake, lock);
		return false;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)self->retry_ms * NS_PER_MS;
	until.tv_sec += until.tv_nsec / NS_PER_S;
	until.tv_nsec %= NS_PER_S;
	while (!self->stopping && !has_work(self) && rc != ETIMEDOUT)
		rc = pthread_cond_timedwait(&self->wake, lock, &until);
	return rc == ETIMEDOUT;
}

/* Those that wait now, each once; locked. */
static void retry(struct fs_worker *worker, struct share_thread *thread)
{
	struct fs *self = worker->fs;
	unsigned int count = 0, queue = 0;

	for (const struct waiting *waiting = self->waiting; waiting; waiting = waiting->next)
		count++;
	self->retry_ms = 2 * self->retry_ms < RETRY_MAX_MS ? 2 * self->retry_ms : RETRY_MAX_MS;
	while (count-- > 0 && !self->stopping && take_waiting(worker, &queue))
		serve(worker, thread, queue);
}

static void work(struct fs_worker *worker, struct share_thread *thread)
{
	struct fs *self = worker->fs;
	struct virtio *v = &self->virtio;

	device_lock(&v->device);
	while (!self->stopping) {
		bool again = false;

		if (!has_work(self))
			again = wait_for_work(self);
		device_unlock(&v->device);
		gate_enter(&v->board->gate);
		device_lock(&v->device);
		if (self->must_reset) {
			/* Nobody is busy: who is has passed here first. */
			self->must_reset = false;
			share_reset(self->share);
		}
		/* What has been done may have been the unlocking that others wait for. */
		if (drain(worker, thread)) {
			self->retry_ms = RETRY_FIRST_MS;
			again = true;
		}
		if (again)
			retry(worker, thread);
		device_unlock(&v->device);
		gate_leave(&v->board->gate);
		device_lock(&v->device);
	}
	device_unlock(&v->device);
}

static void *worker_thread(void *data)
{
	struct fs_worker *worker = data;
	struct fs *self = worker->fs;
	struct share_thread *thread = NULL;
	int rc = share_thread_create(self->share, &thread);

	if (rc == 0 && self->confine)
		rc = self->confine(&self->error);
	device_lock(&self->virtio.device);
	self->ready_count++;
	if (rc < 0)
		self->thread_error = rc;
	pthread_cond_broadcast(&self->ready);
	device_unlock(&self->virtio.device);
	if (rc == 0)
		work(worker, thread);
	share_thread_destroy(thread);
	return NULL;
}

static void fs_wake(struct virtio *v)
{
	pthread_cond_signal(&fs_of(v)->wake);
}

/* Returns when no request is being served. */
static void wait_idle(struct fs *self)
{
	while (self->busy)
		pthread_cond_wait(&self->idle, &self->virtio.device.lock);
}

static void fs_reset(struct virtio *v)
{
	struct fs *self = fs_of(v);

	if (!self->share)
		return;
	/* Nothing new begins: the status goes first. */
	v->status = 0;
	wait_idle(self);
	drop_waiting(self);
	/* By a worker: this is a vCPU's thread, which must not touch files. */
	self->must_reset = true;
	pthread_cond_signal(&self->wake);
}

/*
 *     u32 count of waiting requests
 *         { u8 queue; u16 id, descriptors; u32 out_count, in_count; { u64 address; u64 size } ... }
 *     the share
 */
static void fs_save(struct virtio *v, struct state_writer *out)
{
	struct fs *self = fs_of(v);
	uint32_t count = 0;

	wait_idle(self);
	for (const struct waiting *waiting = self->waiting; waiting; waiting = waiting->next)
		count++;
	state_put_u32(out, count);
	for (const struct waiting *waiting = self->waiting; waiting; waiting = waiting->next) {
		const struct queue_chain *chain = &waiting->chain;

		state_put_u8(out, (uint8_t)waiting->queue);
		state_put_u16(out, chain->id);
		state_put_u16(out, chain->descriptors);
		state_put_u32(out, chain->out_count);
		state_put_u32(out, chain->in_count);
		for (unsigned int i = 0; i < chain->out_count + chain->in_count; i++) {
			state_put_u64(out, chain->addresses[i]);
			state_put_u64(out, chain->segments[i].iov_len);
		}
	}
	share_save(self->share, out);
}

static bool load_waiting(struct fs *self, struct state_reader *in)
{
	static const struct queue_chain none;
	struct waiting *waiting = mem_new(sizeof(*waiting));
	struct queue_chain *chain = &waiting->chain;
	unsigned int queue = state_get_u8(in);

	*chain = none;
	chain->id = state_get_u16(in);
	chain->descriptors = state_get_u16(in);
	chain->out_count = state_get_u32(in);
	chain->in_count = state_get_u32(in);
	in->bad |= queue >= QUEUES || chain->out_count > QUEUE_SEGMENTS_MAX ||
		   chain->in_count > QUEUE_SEGMENTS_MAX - chain->out_count;
	for (unsigned int i = 0; !in->bad && i < chain->out_count + chain->in_count; i++) {
		struct iovec *segment = &chain->segments[i];

		chain->addresses[i] = state_get_u64(in);
		segment->iov_len = state_get_u64(in);
		segment->iov_base = memory_at(self->virtio.board->memory, chain->addresses[i],
					      segment->iov_len);
		in->bad |= !segment->iov_base;
		*(i < chain->out_count ? &chain->out_bytes : &chain->in_bytes) += segment->iov_len;
	}
	if (!in->bad)
		put_aside(self, queue, chain);
	free(waiting);
	return !in->bad;
}

static void fs_load(struct virtio *v, struct state_reader *in)
{
	struct fs *self = fs_of(v);
	uint32_t count = state_get_u32(in);

	in->bad |= count > QUEUES * QUEUE_SIZE; /* as many as the driver can have under way */
	while (count-- > 0 && !in->bad && load_waiting(self, in))
		;
	if (!in->bad)
		share_load(self->share, in);
	self->must_reset = false;
}

static void fs_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&fs_of(v)->config + offset, size);
}

static void fs_destroy(struct virtio *v)
{
	struct fs *self = fs_of(v);

	device_lock(&v->device);
	self->stopping = true;
	pthread_cond_broadcast(&self->wake);
	device_unlock(&v->device);
	for (unsigned int i = 0; i < WORKERS; i++)
		if (self->workers[i].started)
			pthread_join(self->workers[i].thread, NULL);
	virtio_release(v);
	drop_waiting(self);
	if (self->share)
		share_destroy(self->share);
	pthread_cond_destroy(&self->wake);
	pthread_cond_destroy(&self->idle);
	pthread_cond_destroy(&self->ready);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-fs"),
	.type = 26,
	.pci_class = 0x01800000,
	.config_size = sizeof(struct config),
	.read_config = fs_read_config,
	.wake = fs_wake,
	.reset = fs_reset,
	.save = fs_save,
	.load = fs_load,
	.destroy = fs_destroy,
};

static void init_conditions(struct fs *self)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&self->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_cond_init(&self->idle, NULL);
	pthread_cond_init(&self->ready, NULL);
}

int virtio_fs_start(struct virtio *v, int (*confine)(struct error *err), struct error *err)
{
	struct fs *self = fs_of(v);
	sigset_t all, before;
	unsigned int started = 0;
	int rc = 0;

	self->confine = confine;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned int i = 0; i < WORKERS && rc == 0; i++) {
		struct fs_worker *worker = &self->workers[i];

		worker->fs = self;
		rc = -pthread_create(&worker->thread, NULL, worker_thread, worker);
		worker->started = rc == 0;
		started += rc == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	device_lock(&v->device);
	while (self->ready_count < started)
		pthread_cond_wait(&self->ready, &v->device.lock);
	if (rc == 0)
		rc = self->thread_error;
	device_unlock(&v->device);
	if (rc < 0 && err)
		*err = self->error;
	return rc < 0 ? fail(err, rc, "start a share's threads") : 0;
}

int virtio_fs_create(struct board *board, unsigned int instance, const char *tag,
		     const struct share_config *config, struct virtio **ret, struct error *err)
{
	struct fs *self;
	size_t length = strlen(tag);
	int rc;

	if (length == 0 || length > SHARE_TAG_MAX)
		return refuse(err, -EINVAL, "a share's tag has 1 to %d bytes", SHARE_TAG_MAX);
	self = mem_new(sizeof(*self));
	self->retry_ms = RETRY_FIRST_MS;
	self->config.request_queues = QUEUES - 1;
	memcpy(self->config.tag, tag, length);
	init_conditions(self);
	rc = virtio_init(&self->virtio, &ops, board, instance, QUEUES, QUEUE_SIZE, 0);
	if (rc < 0)
		return fail(err, rc, "create a share's device");
	rc = share_create(config, &self->share, err);
	if (rc < 0) {
		fs_destroy(&self->virtio);
		return rc;
	}
	*ret = &self->virtio;
	return 0;
}
