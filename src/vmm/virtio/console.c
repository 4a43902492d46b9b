/*
 * console: the console device (Virtio 1.2, 5.3) with one terminal, and its size.
 */
#include <string.h>

#include "base/file.h"
#include "vmm/virtio/devices.h"

enum {
	F_SIZE = 0,
	QUEUE_RECEIVE = 0,
	QUEUE_TRANSMIT = 1,
	QUEUES = 2,
	QUEUE_SIZE = 64,
};

struct __attribute__((packed)) config {
	uint16_t columns, rows;
	uint32_t ports_max, emergency_write;
};

struct console {
	struct virtio virtio;
	struct input *input;
	int out_fd;
	struct config config;
};

static struct console *console_of(struct virtio *v)
{
	return container_of(v, struct console, virtio);
}

static void transmit(struct console *self)
{
	struct virtio *v = &self->virtio;

	while (virtio_pop(v, QUEUE_TRANSMIT)) {
		const struct queue_chain *chain = &v->chain;

		/* A reader that has gone must not stop the guest. */
		for (unsigned int i = 0; i < chain->out_count && self->out_fd >= 0; i++)
			if (fd_write_full(self->out_fd, chain->segments[i].iov_base,
					  chain->segments[i].iov_len) < 0)
				self->out_fd = -1;
		virtio_push(v, QUEUE_TRANSMIT, 0);
	}
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
	while (done < size && virtio_pop(v, QUEUE_RECEIVE)) {
		size_t part =
			queue_copy_in(&v->chain, 0, (const uint8_t *)data + done, size - done);

		virtio_push(v, QUEUE_RECEIVE, (uint32_t)part);
		done += part;
	}
	if (done > 0)
		virtio_signal(v, QUEUE_RECEIVE);
	queue_set_doorbell(&v->queues[QUEUE_RECEIVE], true);
	if (done < size && queue_available(&v->queues[QUEUE_RECEIVE]))
		input_wake(console_of(v)->input);
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

static void console_destroy(struct virtio *v)
{
	struct console *self = console_of(v);

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
	.destroy = console_destroy,
};

int virtio_console_create(struct board *board, int out_fd, struct input *input, struct virtio **ret)
{
	struct console *self = mem_new(sizeof(*self));
	int rc;

	self->out_fd = out_fd;
	self->input = input;
	self->config = (struct config){.columns = 80, .rows = 25, .ports_max = 1};
	rc = virtio_init(&self->virtio, &ops, board, 0, QUEUES, QUEUE_SIZE, VIRTIO_BIT(F_SIZE));
	if (rc < 0)
		return rc;
	*ret = &self->virtio;
	return 0;
}
