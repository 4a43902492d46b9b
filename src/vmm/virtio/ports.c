/*
 * ports: a console device (Virtio 1.2, 5.3) with named ports, each a stream of bytes between a file of the
 * guest's (/dev/virtio-ports/NAME) and something of the host's: a Unix socket with one caller at a time,
 * or an open descriptor (a terminal, a file).
 *
 *     queues   0, 1 port 0 to and from the guest; 2, 3 control; 4, 5 port 1; and so on
 *     control  { u32 port; u16 event; u16 value } and, with a name, the name
 *
 * Nothing is buffered here: what the guest has no room for stays with the kernel, and what the host's
 * side does not take stays in the guest's queue, at `done` bytes into its first chain.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/str.h"
#include "vmm/virtio/devices.h"

enum {
	F_MULTIPORT = 1,
	QUEUE_SIZE = 64,
	CONTROL_TO_GUEST = 2,
	CONTROL_FROM_GUEST = 3,
	BURST = 64, /* buffers that are filled at once: the device thread has others to serve, too */
	MESSAGES_MAX = 128, /* for the guest; with more it is not keeping up, or hostile */
	EVENT_DEVICE_READY = 0,
	EVENT_PORT_ADD = 1,
	EVENT_PORT_READY = 3,
	EVENT_CONSOLE_PORT = 4,
	EVENT_PORT_OPEN = 6,
	EVENT_PORT_NAME = 7,
};

struct __attribute__((packed)) config {
	uint16_t columns, rows;
	uint32_t ports_max, emergency_write;
};

struct message {
	uint32_t port;
	uint16_t event, value;
};

struct port {
	struct ports *ports;
	unsigned int index;
	char *name;
	bool is_terminal;
	int listen_fd, fd; /* fd: -1 while nobody has called */
	struct loop_source *listen_source, *source;
	bool guest_open;
	bool starved; /* the guest has no room: not read */
	bool blocked; /* the host's side has no room: waited for */
	uint64_t done;
};

struct ports {
	struct virtio virtio;
	struct config config;
	unsigned int count;
	struct port port[PORTS_MAX];
	unsigned int first, waiting; /* of messages, a ring */
	struct message messages[MESSAGES_MAX];
};

static struct ports *ports_of(struct virtio *v)
{
	return container_of(v, struct ports, virtio);
}

static unsigned int queue_to_guest(const struct port *port)
{
	return port->index ? 2 * port->index + 2 : 0;
}

static unsigned int queue_from_guest(const struct port *port)
{
	return queue_to_guest(port) + 1;
}

/* Sends messages as far as the guest has room for them. */
static void send_messages(struct ports *self)
{
	struct virtio *v = &self->virtio;

	while (self->waiting && virtio_pop(v, CONTROL_TO_GUEST)) {
		const struct message *message = &self->messages[self->first];
		size_t size = queue_copy_in(&v->chain, 0, message, sizeof(*message));

		if (message->event == EVENT_PORT_NAME) {
			const char *name = self->port[message->port].name;

			size += queue_copy_in(&v->chain, size, name, strlen(name));
		}
		virtio_push(v, CONTROL_TO_GUEST, (uint32_t)size);
		self->first = (self->first + 1) % MESSAGES_MAX;
		self->waiting--;
	}
	virtio_signal(v, CONTROL_TO_GUEST);
}

static void tell(struct ports *self, unsigned int port, uint16_t event, uint16_t value)
{
	if (self->waiting == MESSAGES_MAX)
		return;
	self->messages[(self->first + self->waiting++) % MESSAGES_MAX] =
		(struct message){.port = port, .event = event, .value = value};
}

static void watch(struct port *port)
{
	uint32_t events = (port->starved ? 0u : (uint32_t)EPOLLIN) |
			  (port->blocked ? (uint32_t)EPOLLOUT : 0u);

	if (port->source)
		(void)!loop_set_events(port->source, events);
}

/* The caller has gone. */
static void hang_up(struct port *port)
{
	loop_remove(take(port->source));
	if (port->listen_fd < 0)
		return; /* a descriptor of ours stays, for what can still be done with it */
	fd_close(&port->fd);
	port->blocked = port->starved = false;
	tell(port->ports, port->index, EVENT_PORT_OPEN, 0);
}

/* What of the host's fits into the guest's buffers. */
static void receive(struct port *port)
{
	struct virtio *v = &port->ports->virtio;
	unsigned int queue = queue_to_guest(port);

	for (unsigned int i = 0; i < BURST; i++) {
		ssize_t n;

		port->starved = !port->guest_open || !virtio_pop_room(v, queue);
		if (port->starved)
			break;
		n = v->chain.in_bytes == 0 ? 0
					   : readv(port->fd, v->chain.segments + v->chain.out_count,
						   (int)v->chain.in_count);
		if (n <= 0) {
			bool later = n < 0 && (errno == EAGAIN || errno == EINTR);

			queue_unpop(&v->queues[queue], &v->chain);
			if (!later)
				hang_up(port);
			break;
		}
		virtio_push(v, queue, (uint32_t)n);
	}
	watch(port);
	virtio_signal(v, queue);
}

/* What the guest has written; without anybody to read it, it is gone, as with a terminal's line. */
static void transmit(struct port *port)
{
	struct virtio *v = &port->ports->virtio;
	unsigned int queue = queue_from_guest(port);

	port->blocked = false;
	while (virtio_pop(v, queue)) {
		struct iovec parts[QUEUE_SEGMENTS_MAX];
		unsigned int count =
			queue_slice(&v->chain, false, port->done, v->chain.out_bytes, parts);
		ssize_t n = port->fd < 0 || count == 0 ? 0 : writev(port->fd, parts, (int)count);

		/* Nobody may be looking at a terminal. */
		if (n < 0 && (errno == EAGAIN || errno == EINTR) && port->source &&
		    !port->is_terminal)
			n = 0;
		else if (n < 0 || port->fd < 0)
			n = (ssize_t)(v->chain.out_bytes - port->done);
		port->done += (uint64_t)n;
		if (port->done < v->chain.out_bytes) {
			queue_unpop(&v->queues[queue], &v->chain);
			port->blocked = true;
			break;
		}
		port->done = 0;
		virtio_push(v, queue, 0);
	}
	watch(port);
	virtio_signal(v, queue);
}

static void take_control(struct ports *self)
{
	struct virtio *v = &self->virtio;

	while (virtio_pop(v, CONTROL_FROM_GUEST)) {
		struct message message = {0};
		struct port *port = NULL;

		(void)queue_copy_out(&v->chain, 0, &message, sizeof(message));
		virtio_push(v, CONTROL_FROM_GUEST, 0);
		if (message.event == EVENT_DEVICE_READY && message.value)
			for (unsigned int i = 0; i < self->count; i++)
				tell(self, i, EVENT_PORT_ADD, 0);
		if (message.port < self->count)
			port = &self->port[message.port];
		if (port && message.event == EVENT_PORT_READY && message.value) {
			if (port->is_terminal)
				tell(self, port->index, EVENT_CONSOLE_PORT, 1);
			tell(self, port->index, EVENT_PORT_NAME, 1);
			if (port->fd >= 0)
				tell(self, port->index, EVENT_PORT_OPEN, 1);
		}
		if (port && message.event == EVENT_PORT_OPEN) {
			port->guest_open = message.value;
			if (port->guest_open && port->source)
				receive(port);
		}
	}
}

static void ports_notify(struct virtio *v, unsigned int queue)
{
	struct ports *self = ports_of(v);
	unsigned int index = queue < 2 ? 0 : queue / 2 - 1;
	struct port *port = &self->port[index];

	if (queue == CONTROL_FROM_GUEST)
		take_control(self);
	else if (queue != CONTROL_TO_GUEST && queue % 2)
		transmit(port);
	else if (queue != CONTROL_TO_GUEST && port->starved && port->source)
		receive(port);
	send_messages(self);
}

static void on_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		     void *data)
{
	struct port *port = data;
	struct virtio *v = &port->ports->virtio;

	(void)loop;
	(void)source;
	(void)fd;
	device_lock(&v->device);
	if (virtio_is_active(v) && (events & EPOLLOUT))
		transmit(port);
	if (virtio_is_active(v) && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && !port->starved) {
		receive(port);
	} else if (!virtio_is_active(v)) {
		port->starved = true;
		watch(port);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		hang_up(port);
	}
	send_messages(port->ports);
	device_unlock(&v->device);
}

static int attach(struct port *port, int fd)
{
	int rc = loop_add_io(port->ports->virtio.board->loop, fd, EPOLLIN, on_ready, port,
			     &port->source);

	return rc == -EPERM ? 0 : rc; /* a plain file is always ready to be written */
}

/* While the guest has no room for what the caller says, its going is not noticed. */
static void notice_gone(struct port *port)
{
	char c;

	if (port->fd >= 0 && port->starved && recv(port->fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		hang_up(port);
}

static void on_call(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void *data)
{
	struct port *port = data;
	struct virtio *v = &port->ports->virtio;
	int caller = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)loop;
	(void)source;
	(void)events;
	if (caller < 0)
		return;
	device_lock(&v->device);
	notice_gone(port);
	if (port->fd >= 0 || attach(port, caller) < 0) {
		fd_close(&caller); /* somebody else is speaking */
	} else {
		port->fd = caller;
		port->starved = false;
		if (virtio_is_active(v)) {
			tell(port->ports, port->index, EVENT_PORT_OPEN, 1);
			send_messages(port->ports);
		}
	}
	device_unlock(&v->device);
}

static void ports_reset(struct virtio *v)
{
	struct ports *self = ports_of(v);

	self->first = self->waiting = 0;
	for (unsigned int i = 0; i < self->count; i++) {
		self->port[i].guest_open = false;
		self->port[i].done = 0;
	}
}

/* Messages that have not been sent and the callers are not saved: after a load each port that the guest
 * has open is told again whether somebody is there. */
static void ports_save(struct virtio *v, struct state_writer *out)
{
	const struct ports *self = ports_of(v);

	state_put_u32(out, self->count);
	for (unsigned int i = 0; i < self->count; i++) {
		state_put_u8(out, self->port[i].guest_open);
		state_put_u64(out, self->port[i].done);
	}
}

static void ports_load(struct virtio *v, struct state_reader *in)
{
	struct ports *self = ports_of(v);

	in->bad |= state_get_u32(in) != self->count;
	for (unsigned int i = 0; i < self->count && !in->bad; i++) {
		self->port[i].guest_open = state_get_u8(in);
		self->port[i].done = state_get_u64(in);
		tell(self, i, EVENT_PORT_OPEN, self->port[i].fd >= 0);
	}
}

static void ports_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&ports_of(v)->config + offset, size);
}

static void ports_destroy(struct virtio *v)
{
	struct ports *self = ports_of(v);

	for (unsigned int i = 0; i < self->count; i++) {
		struct port *port = &self->port[i];

		loop_remove(port->source);
		loop_remove(port->listen_source);
		fd_close(&port->fd);
		fd_close(&port->listen_fd);
		own_mem_release(&port->name);
	}
	virtio_release(v);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-ports"),
	.type = 3,
	.pci_class = 0x07800000,
	.config_size = sizeof(struct config),
	.read_config = ports_read_config,
	.notify = ports_notify,
	.reset = ports_reset,
	.save = ports_save,
	.load = ports_load,
	.destroy = ports_destroy,
};

static int open_port(struct ports *self, unsigned int i, const struct port_config *config)
{
	struct port *port = &self->port[i];
	int rc = 0;

	*port = (struct port){.ports = self,
			      .index = i,
			      .name = str_copy(config->name),
			      .is_terminal = config->is_terminal,
			      .listen_fd = -1,
			      .fd = -1};
	self->count = i + 1;
	if (config->listen_fd >= 0)
		rc = loop_add_io(self->virtio.board->loop, config->listen_fd, EPOLLIN, on_call,
				 port, &port->listen_source);
	else if (config->fd >= 0)
		rc = attach(port, config->fd);
	return rc;
}

int virtio_ports_create(struct board *board, const struct port_config *configs, unsigned int count,
			struct virtio **ret)
{
	struct ports *self;
	int rc;

	if (count == 0 || count > PORTS_MAX)
		return -EINVAL;
	self = mem_new(sizeof(*self));
	self->config.ports_max = count;
	rc = virtio_init(&self->virtio, &ops, board, 0, 2 * count + 2, QUEUE_SIZE,
			 VIRTIO_BIT(F_MULTIPORT));
	if (rc < 0)
		return rc;
	for (unsigned int i = 0; i < count && rc == 0; i++)
		rc = open_port(self, i, &configs[i]);
	if (rc < 0) {
		ports_destroy(&self->virtio);
		return rc;
	}
	/* From here on the descriptors are the device's. */
	for (unsigned int i = 0; i < count; i++) {
		self->port[i].listen_fd = configs[i].listen_fd;
		self->port[i].fd = configs[i].listen_fd >= 0 ? -1 : configs[i].fd;
	}
	*ret = &self->virtio;
	return 0;
}
