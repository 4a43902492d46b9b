/*
 * vsock: the socket device (Virtio 1.2, 5.10) without help from the host's kernel: each of the guest's
 * stream sockets is a Unix socket here.
 *
 *     host to guest   a program connects to the socket PATH and says "CONNECT <port>\n"; when the guest
 *                     has accepted, the answer is "OK <port of the host's side>\n". If it does not, the
 *                     connection is closed.
 *     guest to host   a connection to port N of CID 2 becomes one to the socket PATH_N.
 *
 * A machine in a jail has no paths: then the listening socket is handed in, and a broker outside makes
 * the connections (devices.h).
 *
 * A connection is put into the ready list when it has something for the guest, and served in turn, one
 * packet each, as long as the guest offers buffers. Sockets are watched edge-triggered, so a stalled
 * connection costs nothing.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sock.h"
#include "base/str.h"
#include "vmm/virtio/vsock_priv.h"

enum {
	F_STREAM = 0,
	QUEUE_RECEIVE = 0,
	QUEUE_TRANSMIT = 1,
	QUEUE_EVENT = 2,
	QUEUES = 3,
	QUEUE_SIZE = 128,
	BURST = 64, /* packets that are sent at once: the device thread has others to serve, too */
	EVENT_TRANSPORT_RESET = 0,
	FIRST_PORT = 1 << 30, /* of the host's sides of its own connections */
};

static struct vsock *vsock_of(struct virtio *v)
{
	return container_of(v, struct vsock, virtio);
}

void vsock_ready(struct vsock_conn *conn)
{
	struct vsock *self = conn->vsock;

	if (conn->listed)
		return;
	conn->listed = true;
	conn->next_ready = NULL;
	*self->ready_end = conn;
	self->ready_end = &conn->next_ready;
}

static struct vsock_conn *take_ready(struct vsock *self)
{
	struct vsock_conn *conn = self->ready_first;

	self->ready_first = conn->next_ready;
	if (!self->ready_first)
		self->ready_end = &self->ready_first;
	conn->listed = false;
	return conn;
}

static void send_packet(struct vsock *self, struct vsock_header *header)
{
	struct virtio *v = &self->virtio;

	queue_copy_in(&v->chain, 0, header, sizeof(*header));
	virtio_push(v, QUEUE_RECEIVE, (uint32_t)sizeof(*header) + header->length);
}

static void send_reset(struct vsock *self)
{
	const struct vsock_reset *reset = &self->resets[self->reset_first];
	struct vsock_header header = {.src_cid = reset->src_cid,
				      .dst_cid = reset->dst_cid,
				      .src_port = reset->src_port,
				      .dst_port = reset->dst_port,
				      .type = reset->type,
				      .op = VSOCK_OP_RST};

	self->reset_first = (self->reset_first + 1) % VSOCK_RESETS_MAX;
	self->reset_count--;
	send_packet(self, &header);
}

/* Sends one packet of the connection that is first in turn, into virtio.chain. */
static void send_next(struct vsock *self)
{
	struct virtio *v = &self->virtio;
	struct vsock_conn *conn = take_ready(self);
	struct vsock_header header = {.src_cid = VSOCK_CID_HOST,
				      .dst_cid = self->cid,
				      .src_port = conn->host_port,
				      .dst_port = conn->guest_port,
				      .type = VSOCK_TYPE_STREAM,
				      .buf_alloc = VSOCK_BUFFER_SIZE};

	if (!vsock_conn_next(conn, &v->chain, &header)) {
		queue_unpop(&v->queues[QUEUE_RECEIVE], &v->chain);
		return;
	}
	header.fwd_cnt = conn->forwarded;
	conn->forwarded_told = conn->forwarded;
	conn->pending &= ~(unsigned int)VSOCK_PENDING_CREDIT;
	send_packet(self, &header);
	if (header.op == VSOCK_OP_RST)
		vsock_conn_free(conn);
	else
		vsock_ready(conn); /* behind the others; it leaves the list when it has no more */
}

static bool has_work(const struct vsock *self)
{
	return self->reset_count || self->ready_first;
}

void vsock_pump(struct vsock *self)
{
	struct virtio *v = &self->virtio;
	unsigned int sent = 0;

	if (!virtio_is_active(v) || self->must_drop)
		return;
	while (has_work(self) && sent < BURST && virtio_pop_room(v, QUEUE_RECEIVE)) {
		sent++;
		if (v->chain.in_bytes < sizeof(struct vsock_header)) {
			virtio_fail(v, "a receive buffer without room for a header");
			break;
		}
		if (self->reset_count)
			send_reset(self);
		else
			send_next(self);
	}
	virtio_signal(v, QUEUE_RECEIVE);
	if (sent == BURST)
		virtio_ring(v, QUEUE_RECEIVE);
	if (self->blocked && self->reset_count < VSOCK_RESETS_MAX) {
		self->blocked = false;
		virtio_ring(v, QUEUE_TRANSMIT);
	}
}

/* What belongs to no connection is answered with a reset. There is room (transmit). */
static void refuse_packet(struct vsock *self, const struct vsock_header *header)
{
	unsigned int i = (self->reset_first + self->reset_count) % VSOCK_RESETS_MAX;

	if (header->op == VSOCK_OP_RST)
		return;
	self->resets[i] = (struct vsock_reset){.dst_cid = header->src_cid,
					       .src_cid = header->dst_cid,
					       .dst_port = header->src_port,
					       .src_port = header->dst_port,
					       .type = header->type};
	self->reset_count++;
}

static void take_packet(struct vsock *self, const struct vsock_header *header)
{
	struct vsock_conn *conn;

	if (header->type != VSOCK_TYPE_STREAM || header->dst_cid != VSOCK_CID_HOST ||
	    header->src_cid != self->cid) {
		refuse_packet(self, header);
		return;
	}
	conn = vsock_conn_find(self, header->dst_port, header->src_port);
	if (conn && header->op == VSOCK_OP_REQUEST) {
		/* The guest has forgotten the old one. */
		vsock_conn_free(conn);
		conn = NULL;
	}
	if (conn)
		vsock_conn_packet(conn, header);
	else if (header->op != VSOCK_OP_REQUEST ||
		 !vsock_conn_accept(self, header->dst_port, header->src_port, header))
		refuse_packet(self, header);
}

static void transmit(struct vsock *self)
{
	struct virtio *v = &self->virtio;

	for (;;) {
		struct vsock_header header;

		if (self->reset_count == VSOCK_RESETS_MAX) {
			self->blocked = true;
			break;
		}
		if (!virtio_pop(v, QUEUE_TRANSMIT))
			break;
		if (queue_copy_out(&v->chain, 0, &header, sizeof(header)) < sizeof(header) ||
		    header.length > v->chain.out_bytes - sizeof(header)) {
			virtio_fail(v, "a packet shorter than it says");
			return;
		}
		take_packet(self, &header);
		virtio_push(v, QUEUE_TRANSMIT, 0);
	}
}

static void drop_all(struct vsock *self)
{
	while (self->conns)
		vsock_conn_free(self->conns);
	self->reset_count = 0;
	self->blocked = self->must_drop = false;
}

/* 5.10.6.7: after a restore the connections of the other machine are gone, and the CID may be new. */
static void tell_transport_lost(struct vsock *self)
{
	struct virtio *v = &self->virtio;
	uint32_t event = EVENT_TRANSPORT_RESET;

	if (!self->transport_lost || !virtio_pop(v, QUEUE_EVENT))
		return;
	self->transport_lost = false;
	virtio_push(v, QUEUE_EVENT, (uint32_t)queue_copy_in(&v->chain, 0, &event, sizeof(event)));
	virtio_signal(v, QUEUE_EVENT);
}

static void vsock_notify(struct virtio *v, unsigned int queue)
{
	struct vsock *self = vsock_of(v);

	if (self->must_drop)
		drop_all(self);
	if (queue == QUEUE_EVENT)
		tell_transport_lost(self);
	else if (queue == QUEUE_TRANSMIT)
		transmit(self);
	vsock_pump(self);
}

static void on_wake(struct device *device)
{
	struct vsock *self = container_of(device, struct vsock, virtio.device);

	if (self->must_drop)
		drop_all(self);
}

/* On a vCPU's thread, where the loop's sources must not be touched. */
static void vsock_reset(struct virtio *v)
{
	struct vsock *self = vsock_of(v);

	self->must_drop = true;
	self->transport_lost = false;
	wake_up(&self->wake);
}

/* Is the driver there to take a new connection? */
static bool can_connect(struct vsock *self)
{
	if (self->must_drop)
		drop_all(self);
	return virtio_is_active(&self->virtio);
}

static void on_listen(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct vsock *self = data;
	int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)loop;
	(void)source;
	(void)events;
	if (client < 0)
		return;
	device_lock(&self->virtio.device);
	if (can_connect(self))
		vsock_conn_new(self, VSOCK_HELLO, client);
	else
		fd_close(&client);
	device_unlock(&self->virtio.device);
}

static struct vsock_conn *find_brokered(const struct vsock *self, uint64_t id)
{
	struct vsock_conn *conn = self->conns;

	while (conn && (conn->state != VSOCK_BROKERED || conn->id != id))
		conn = conn->next;
	return conn;
}

static void take_answer(struct vsock *self, const struct vsock_message *message, int fd)
{
	struct vsock_conn *conn = find_brokered(self, message->id);

	if (message->kind == VSOCK_MESSAGE_ATTACH && fd >= 0 && can_connect(self)) {
		conn = vsock_conn_new(self, VSOCK_REQUESTED, fd);
		if (conn)
			vsock_conn_request(conn, message->port);
		return;
	}
	if (!conn || message->kind != VSOCK_MESSAGE_CONNECTED || fd < 0) {
		fd_close(&fd);
		if (conn && message->kind == VSOCK_MESSAGE_CONNECTED)
			conn->pending |= VSOCK_PENDING_RST;
	} else {
		conn->fd = fd;
		vsock_conn_opened(conn);
	}
	if (conn)
		vsock_ready(conn);
}

static void on_broker(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct vsock *self = data;
	struct vsock_message message;
	int passed = -1;
	size_t count = 0;
	ssize_t n = sock_receive_fds(fd, &message, sizeof(message), &passed, 1, &count);

	(void)loop;
	(void)source;
	(void)events;
	if (n == -EAGAIN || n == -EINTR)
		return;
	device_lock(&self->virtio.device);
	if (n == (ssize_t)sizeof(message)) {
		take_answer(self, &message, count ? passed : -1);
		vsock_pump(self);
	} else if (n <= 0) {
		loop_remove(take(self->broker_source)); /* no more connections this way */
	}
	device_unlock(&self->virtio.device);
}

static void vsock_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&vsock_of(v)->cid + offset, size);
}

/* Connections do not outlive a snapshot; the driver is told so when it runs again. */
static void vsock_save(struct virtio *v, struct state_writer *out)
{
	state_put_u8(out, vsock_of(v)->transport_lost);
}

static void vsock_load(struct virtio *v, struct state_reader *in)
{
	(void)state_get_u8(in);
	vsock_of(v)->transport_lost = true;
}

static void vsock_destroy(struct virtio *v)
{
	struct vsock *self = vsock_of(v);

	drop_all(self);
	loop_remove(self->listen_source);
	loop_remove(self->broker_source);
	wake_release(&self->wake);
	fd_close(&self->listen_fd);
	fd_close(&self->broker_fd);
	virtio_release(v);
	own_mem_release(&self->path);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-vsock"),
	.type = 19,
	.pci_class = 0x02800000,
	.config_size = sizeof(uint64_t),
	.read_config = vsock_read_config,
	.notify = vsock_notify,
	.reset = vsock_reset,
	.save = vsock_save,
	.load = vsock_load,
	.destroy = vsock_destroy,
};

static int watch(struct vsock *self, struct board *board, const struct vsock_config *config)
{
	int rc = wake_init(&self->wake, board->loop, &self->virtio.device, on_wake);

	if (rc == 0 && config->listen_fd >= 0)
		rc = loop_add_io(board->loop, config->listen_fd, EPOLLIN, on_listen, self,
				 &self->listen_source);
	if (rc == 0 && config->broker_fd >= 0)
		rc = loop_add_io(board->loop, config->broker_fd, EPOLLIN, on_broker, self,
				 &self->broker_source);
	return rc;
}

int virtio_vsock_create(struct board *board, const struct vsock_config *config, struct virtio **ret)
{
	struct vsock *self;
	int rc;

	if (config->cid <= VSOCK_CID_HOST || config->cid >= UINT32_MAX)
		return -EINVAL;
	self = mem_new(sizeof(*self));
	self->cid = config->cid;
	self->path = config->path ? str_copy(config->path) : NULL;
	self->next_port = FIRST_PORT;
	self->ready_end = &self->ready_first;
	self->listen_fd = self->broker_fd = -1;
	rc = virtio_init(&self->virtio, &ops, board, 0, QUEUES, QUEUE_SIZE, VIRTIO_BIT(F_STREAM));
	if (rc < 0)
		return rc;
	rc = watch(self, board, config);
	if (rc < 0) {
		vsock_destroy(&self->virtio);
		return rc;
	}
	self->listen_fd = config->listen_fd;
	self->broker_fd = config->broker_fd;
	*ret = &self->virtio;
	return 0;
}
