/*
 * console: the console device (Virtio 1.2, 5.3) with one terminal, and its size. What its reader does not take
 * stays in the queue, and the guest waits; nobody else does.
 */
#include <string.h>

#include "base/clock.h"
#include "vmm/output.h"
#include "vmm/virtio/devices.h"

enum {
	F_SIZE = 0,
	QUEUE_RECEIVE = 0,
	QUEUE_TRANSMIT = 1,
	QUEUES = 2,
	QUEUE_SIZE = 64,
	RETRY_NS = 10000000, /* of a reader that does not take what there is */
};

struct __attribute__((packed)) config {
	uint16_t columns, rows;
	uint32_t ports_max, emergency_write;
};

struct console {
	struct virtio virtio;
	struct input *input;
	struct output output;
	struct timer retry;
	uint32_t written; /* of the chain that is first in the queue */
	struct config config;
};

static struct console *console_of(struct virtio *v)
{
	return container_of(v, struct console, virtio);
}

/* What is left of the chain. true: it has all been taken. */
static bool write_out(struct console *self)
{
	const struct queue_chain *chain = &self->virtio.chain;
	struct iovec parts[QUEUE_SEGMENTS_MAX];
	unsigned int count =
		queue_slice(chain, false, self->written, chain->out_bytes - self->written, parts);

	for (unsigned int i = 0; i < count; i++) {
		size_t n = output_write(&self->output, parts[i].iov_base, parts[i].iov_len);

		self->written += (uint32_t)n;
		if (n < parts[i].iov_len)
			return false;
	}
	return true;
}

static void transmit(struct console *self)
{
	struct virtio *v = &self->virtio;

	while (virtio_pop(v, QUEUE_TRANSMIT)) {
		if (v->chain.out_bytes > UINT32_MAX || self->written > v->chain.out_bytes) {
			virtio_fail(v, "a text that is longer than memory, or changed");
			return;
		}
		if (!write_out(self)) {
			queue_unpop(&v->queues[QUEUE_TRANSMIT], &v->chain);
			timer_set(&v->board->timers, &self->retry, clock_monotonic_ns() + RETRY_NS);
			return;
		}
		self->written = 0;
		virtio_push(v, QUEUE_TRANSMIT, 0);
	}
}

static void on_retry(struct timer *timer)
{
	struct console *self = container_of(timer, struct console, retry);

	virtio_ring(&self->virtio, QUEUE_TRANSMIT);
}

static void console_notify(struct virtio *v, unsigned int queue)
{
	struct console *self = console_of(v);

	if (queue == QUEUE_TRANSMIT)
		transmit(self);
	else
		input_wake(self->input); /* there is room */
}

size_t virtio_console_receive(struct virtio *v, const void *data, size_t size)
{
	size_t done = 0;

	device_lock(&v->device);
	while (done < size && virtio_pop_room(v, QUEUE_RECEIVE)) {
		size_t part =
			queue_copy_in(&v->chain, 0, (const uint8_t *)data + done, size - done);

		virtio_push(v, QUEUE_RECEIVE, (uint32_t)part);
		done += part;
	}
	if (done > 0)
		virtio_signal(v, QUEUE_RECEIVE);
	device_unlock(&v->device);
	return done;
}

void virtio_console_resize(struct virtio *v, uint16_t columns, uint16_t rows)
{
	struct console *self = console_of(v);

	device_lock(&v->device);
	self->config.columns = columns;
	self->config.rows = rows;
	virtio_config_changed(v);
	device_unlock(&v->device);
}

static void console_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&console_of(v)->config + offset, size);
}

static void console_reset(struct virtio *v)
{
	console_of(v)->written = 0;
}

static void console_save(struct virtio *v, struct state_writer *out)
{
	state_put_u32(out, console_of(v)->written);
}

static void console_load(struct virtio *v, struct state_reader *in)
{
	console_of(v)->written = state_get_u32(in);
}

static void console_destroy(struct virtio *v)
{
	struct console *self = console_of(v);

	timer_set(&v->board->timers, &self->retry, TIMER_NEVER);
	output_release(&self->output);
	virtio_release(v);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-console"),
	.type = 3,
	.pci_class = 0x07800000,
	.config_size = sizeof(struct config),
	.read_config = console_read_config,
	.notify = console_notify,
	.reset = console_reset,
	.save = console_save,
	.load = console_load,
	.destroy = console_destroy,
};

int virtio_console_create(struct board *board, int out_fd, struct input *input, struct virtio **ret)
{
	struct console *self = mem_new(sizeof(*self));
	int rc;

	output_init(&self->output, out_fd);
	timer_init(&self->retry, on_retry);
	self->input = input;
	self->config = (struct config){.columns = 80, .rows = 25, .ports_max = 1};
	rc = virtio_init(&self->virtio, &ops, board, 0, QUEUES, QUEUE_SIZE, VIRTIO_BIT(F_SIZE));
	if (rc < 0)
		return rc;
	*ret = &self->virtio;
	return 0;
}
