/* vsock_conn: see vsock_priv.h. One connection: a Unix socket on this side, packets on the other. */
#include "vmm/virtio/vsock_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sock.h"
#include "base/str.h"

enum { LINE_MAX_BYTES = 32 };

static struct vsock_conn **bucket_of(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	return &vsock->buckets[(host_port * 31 + guest_port) % VSOCK_BUCKETS];
}

struct vsock_conn *vsock_conn_find(struct vsock *vsock, uint32_t host_port, uint32_t guest_port)
{
	struct vsock_conn *conn = *bucket_of(vsock, host_port, guest_port);

	while (conn && (conn->host_port != host_port || conn->guest_port != guest_port))
		conn = conn->next_in_bucket;
	return conn;
}

static void enter_table(struct vsock_conn *conn)
{
	struct vsock_conn **bucket = bucket_of(conn->vsock, conn->host_port, conn->guest_port);

	conn->next_in_bucket = *bucket;
	*bucket = conn;
}

static void leave_table(struct vsock_conn *conn)
{
	struct vsock_conn **at = bucket_of(conn->vsock, conn->host_port, conn->guest_port);

	while (*at && *at != conn)
		at = &(*at)->next_in_bucket;
	if (*at)
		*at = conn->next_in_bucket;
}

static void leave_ready(struct vsock_conn *conn)
{
	struct vsock *vsock = conn->vsock;
	struct vsock_conn **at = &vsock->ready_first;

	if (!conn->listed)
		return;
	while (*at != conn)
		at = &(*at)->next_ready;
	*at = conn->next_ready;
	if (!conn->next_ready)
		vsock->ready_end = at;
	conn->listed = false;
}

void vsock_conn_free(struct vsock_conn *conn)
{
	struct vsock *vsock = conn->vsock;

	leave_table(conn);
	leave_ready(conn);
	if (conn->previous)
		conn->previous->next = conn->next;
	else
		vsock->conns = conn->next;
	if (conn->next)
		conn->next->previous = conn->previous;
	vsock->conn_count--;
	loop_remove(conn->source);
	fd_close(&conn->fd);
	free(conn->buffer);
	free(conn);
}

/* Nothing more can be written: what waits is dropped, and counts as delivered. */
static void go_deaf(struct vsock_conn *conn)
{
	conn->deaf = true;
	conn->forwarded += (uint32_t)conn->count;
	conn->count = conn->start = 0;
	own_mem_release(&conn->buffer);
	conn->buffer = NULL;
}

/* Tells the guest that there is room, once half of what it may send ahead is used up: it may wait. */
static void offer_credit(struct vsock_conn *conn)
{
	if (conn->received - conn->forwarded_told > VSOCK_BUFFER_SIZE / 2 &&
	    conn->forwarded != conn->forwarded_told)
		conn->pending |= VSOCK_PENDING_CREDIT;
}

static unsigned int ring_parts(const struct vsock_conn *conn, struct iovec parts[2])
{
	size_t first = VSOCK_BUFFER_SIZE - conn->start;

	if (first > conn->count)
		first = conn->count;
	parts[0] = (struct iovec){conn->buffer + conn->start, first};
	parts[1] = (struct iovec){conn->buffer, conn->count - first};
	return conn->count > first ? 2 : 1;
}

/* Writes to the socket without waiting and without a signal. The count, 0 if it is full, -errno. */
static ssize_t write_some(const struct vsock_conn *conn, struct iovec *parts, unsigned int count)
{
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
	ssize_t n;

	do
		n = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n < 0 ? (errno == EAGAIN ? 0 : -errno) : n;
}

static void flush(struct vsock_conn *conn)
{
	while (conn->count > 0) {
		struct iovec parts[2];
		ssize_t n = write_some(conn, parts, ring_parts(conn, parts));

		if (n < 0)
			go_deaf(conn);
		if (n <= 0)
			break;
		conn->start = (conn->start + (size_t)n) % VSOCK_BUFFER_SIZE;
		conn->count -= (size_t)n;
		conn->forwarded += (uint32_t)n;
	}
	if (conn->count == 0) {
		own_mem_release(&conn->buffer);
		conn->buffer = NULL;
		if (conn->shut_received & VSOCK_SHUT_SEND)
			shutdown(conn->fd, SHUT_WR);
	}
	offer_credit(conn);
}

/* S3: the caller has checked that there is room. */
static void keep(struct vsock_conn *conn, const struct iovec *parts, unsigned int count,
		 size_t skip)
{
	if (!conn->buffer)
		conn->buffer = mem_new(VSOCK_BUFFER_SIZE);
	for (unsigned int i = 0; i < count; i++) {
		const uint8_t *from = parts[i].iov_base;
		size_t size = parts[i].iov_len, part = skip < size ? skip : size;

		skip -= part;
		from += part;
		size -= part;
		while (size > 0) {
			size_t at = (conn->start + conn->count) % VSOCK_BUFFER_SIZE;

			part = VSOCK_BUFFER_SIZE - at;
			if (part > size)
				part = size;
			memcpy(conn->buffer + at, from, part);
			conn->count += part;
			from += part;
			size -= part;
		}
	}
}

static void take_data(struct vsock_conn *conn, uint32_t size)
{
	struct iovec parts[QUEUE_SEGMENTS_MAX];
	ssize_t n = 0;
	unsigned int count;

	if (size > VSOCK_BUFFER_SIZE - (conn->received - conn->forwarded) ||
	    (conn->shut_received & VSOCK_SHUT_SEND)) {
		conn->pending |= VSOCK_PENDING_RST; /* more than it was allowed to */
		return;
	}
	conn->received += size;
	count = queue_slice(&conn->vsock->virtio.chain, false, sizeof(struct vsock_header), size,
			    parts);
	if (!conn->deaf && conn->count == 0 && size > 0)
		n = write_some(conn, parts, count);
	if (n < 0)
		go_deaf(conn);
	if (conn->deaf) {
		conn->forwarded += size;
	} else {
		conn->forwarded += (uint32_t)n;
		if ((uint32_t)n < size)
			keep(conn, parts, count, (size_t)n);
	}
	offer_credit(conn);
}

static void greet(struct vsock_conn *conn)
{
	char line[LINE_MAX_BYTES];
	int n = snprintf(line, sizeof(line), "OK %u\n", conn->host_port);

	if (conn->greets && send(conn->fd, line, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n)
		conn->pending |= VSOCK_PENDING_RST;
}

static void take_shutdown(struct vsock_conn *conn, uint32_t flags)
{
	conn->shut_received |= flags & VSOCK_SHUT_BOTH;
	if (conn->shut_received & VSOCK_SHUT_RECEIVE) {
		conn->ended = true;
		shutdown(conn->fd, SHUT_RD);
	}
	flush(conn);
}

/* The guest knows it no more. What it had sent before it closed in order is still delivered. */
static void take_reset(struct vsock_conn *conn)
{
	if (conn->count == 0 || !(conn->shut_received & VSOCK_SHUT_SEND)) {
		vsock_conn_free(conn);
		return;
	}
	leave_table(conn);
	leave_ready(conn);
	conn->state = VSOCK_DRAINING;
}

void vsock_conn_packet(struct vsock_conn *conn, const struct vsock_header *header)
{
	conn->peer_alloc = header->buf_alloc;
	conn->peer_forwarded = header->fwd_cnt;
	if (header->op == VSOCK_OP_RST) {
		take_reset(conn);
		return;
	}
	if (conn->state == VSOCK_REQUESTED && header->op == VSOCK_OP_RESPONSE) {
		conn->state = VSOCK_OPEN;
		conn->readable = true;
		greet(conn);
	} else if (conn->state != VSOCK_OPEN) {
		conn->pending |= VSOCK_PENDING_RST; /* too early for anything else */
	} else if (header->op == VSOCK_OP_RW) {
		take_data(conn, header->length);
	} else if (header->op == VSOCK_OP_SHUTDOWN) {
		take_shutdown(conn, header->flags);
	} else if (header->op == VSOCK_OP_CREDIT_REQUEST) {
		conn->pending |= VSOCK_PENDING_CREDIT;
	} else if (header->op != VSOCK_OP_CREDIT_UPDATE) {
		conn->pending |= VSOCK_PENDING_RST;
	}
	vsock_ready(conn);
}

/* "CONNECT <port>\n". 1 with the port, 0 if the line is not complete, -errno. What follows belongs to
 * the stream, so nothing behind the line may be read. */
static int read_hello(int fd, uint32_t *ret_port)
{
	char line[LINE_MAX_BYTES + 1] = "", *end;
	ssize_t n = recv(fd, line, LINE_MAX_BYTES, MSG_PEEK | MSG_DONTWAIT);
	const char *port = str_after(line, "CONNECT ");
	uint64_t value;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	end = memchr(line, '\n', (size_t)n);
	if (!end)
		return n == LINE_MAX_BYTES ? -EINVAL : 0;
	n = end + 1 - line;
	*end = '\0';
	if (!port || str_to_uint(port, UINT32_MAX, &value) < 0)
		return -EINVAL;
	if (recv(fd, line, (size_t)n, MSG_DONTWAIT) != n)
		return -EIO;
	*ret_port = (uint32_t)value;
	return 1;
}

void vsock_conn_request(struct vsock_conn *conn, uint32_t guest_port)
{
	struct vsock *vsock = conn->vsock;

	conn->guest_port = guest_port;
	do
		conn->host_port = vsock->next_port++;
	while (vsock_conn_find(vsock, conn->host_port, guest_port));
	conn->state = VSOCK_REQUESTED;
	enter_table(conn);
	conn->pending |= VSOCK_PENDING_REQUEST;
	vsock_ready(conn);
}

static void hear_hello(struct vsock_conn *conn)
{
	uint32_t port = 0;
	int rc = read_hello(conn->fd, &port);

	if (rc == 0)
		return;
	if (rc < 0) {
		vsock_conn_free(conn);
		return;
	}
	conn->greets = true;
	vsock_conn_request(conn, port);
}

static void on_socket(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct vsock_conn *conn = data;
	struct vsock *vsock = conn->vsock;
	struct device *device = &vsock->virtio.device;

	(void)loop;
	(void)source;
	(void)fd;
	device_lock(device);
	if (vsock->must_drop) {
		/* The driver has been reset; whoever comes next drops all. */
	} else if (conn->state == VSOCK_HELLO) {
		hear_hello(conn);
	} else {
		if (events & (EPOLLHUP | EPOLLERR))
			conn->hung_up = true;
		if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP))
			conn->readable = true;
		if (conn->count > 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)))
			flush(conn);
		if (conn->state == VSOCK_DRAINING) {
			if (conn->count == 0)
				vsock_conn_free(conn);
		} else {
			vsock_ready(conn);
		}
	}
	vsock_pump(vsock);
	device_unlock(device);
}

static int watch(struct vsock_conn *conn)
{
	return loop_add_io(conn->vsock->virtio.board->loop, conn->fd,
			   EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_socket, conn,
			   &conn->source);
}

struct vsock_conn *vsock_conn_new(struct vsock *vsock, enum vsock_state state, int fd)
{
	struct vsock_conn *conn;

	if (vsock->conn_count == VSOCK_CONNECTIONS_MAX) {
		fd_close(&fd);
		return NULL;
	}
	conn = mem_new(sizeof(*conn));
	conn->vsock = vsock;
	conn->state = state;
	conn->fd = fd;
	conn->id = vsock->next_id++;
	conn->next = vsock->conns;
	if (conn->next)
		conn->next->previous = conn;
	vsock->conns = conn;
	vsock->conn_count++;
	if (fd >= 0 && watch(conn) < 0) {
		vsock_conn_free(conn);
		return NULL;
	}
	return conn;
}

void vsock_conn_opened(struct vsock_conn *conn)
{
	conn->state = VSOCK_OPEN;
	conn->readable = true;
	conn->pending |= watch(conn) < 0 ? VSOCK_PENDING_RST : VSOCK_PENDING_RESPONSE;
}

static int ask_broker(struct vsock_conn *conn, uint32_t host_port)
{
	struct vsock_message message = {
		.kind = VSOCK_MESSAGE_CONNECT, .port = host_port, .id = conn->id};
	ssize_t n = send(conn->vsock->broker_fd, &message, sizeof(message),
			 MSG_NOSIGNAL | MSG_DONTWAIT);

	conn->state = VSOCK_BROKERED;
	return n == (ssize_t)sizeof(message) ? 0 : -EIO;
}

static int connect_path(struct vsock_conn *conn, uint32_t host_port)
{
	own_mem char *path = str_format("%s_%u", conn->vsock->path, host_port);

	/* A Unix socket is connected at once, or its listener has too many waiting. */
	conn->fd = sock_connect(AT_FDCWD, path, SOCK_STREAM | SOCK_NONBLOCK);
	if (conn->fd < 0)
		return conn->fd;
	vsock_conn_opened(conn);
	return 0;
}

bool vsock_conn_accept(struct vsock *vsock, uint32_t host_port, uint32_t guest_port,
		       const struct vsock_header *header)
{
	struct vsock_conn *conn = vsock_conn_new(vsock, VSOCK_OPEN, -1);
	int rc;

	if (!conn)
		return false;
	conn->host_port = host_port;
	conn->guest_port = guest_port;
	conn->peer_alloc = header->buf_alloc;
	conn->peer_forwarded = header->fwd_cnt;
	enter_table(conn);
	rc = vsock->broker_fd >= 0 ? ask_broker(conn, host_port)
	     : vsock->path         ? connect_path(conn, host_port)
				   : -ECONNREFUSED;
	if (rc < 0) {
		log_debug("vsock: port %u, which the guest wants: %s", host_port, strerror(-rc));
		vsock_conn_free(conn);
		return false;
	}
	vsock_ready(conn);
	return true;
}

static uint32_t credit_of(const struct vsock_conn *conn)
{
	uint32_t used = conn->sent - conn->peer_forwarded;

	return used < conn->peer_alloc ? conn->peer_alloc - used : 0;
}

/* Reads from the socket into the chain, behind the header. true: there is a packet of data. */
static bool read_data(struct vsock_conn *conn, const struct queue_chain *chain,
		      struct vsock_header *ret)
{
	struct iovec parts[QUEUE_SEGMENTS_MAX];
	uint64_t size = chain->in_bytes - sizeof(*ret);
	uint32_t credit = credit_of(conn);
	unsigned int count;
	ssize_t n;

	if (conn->state != VSOCK_OPEN || conn->ended || !conn->readable || size == 0)
		return false;
	if (credit == 0) {
		/* The guest tells when it has room again; asked, it tells at once what it has. */
		if (!conn->asked)
			conn->pending |= VSOCK_PENDING_ASK;
		conn->asked = true;
		return false;
	}
	conn->asked = false;
	size = size < credit ? size : credit;
	size = size < VSOCK_PACKET_MAX ? size : VSOCK_PACKET_MAX;
	count = queue_slice(chain, true, sizeof(*ret), size, parts);
	do
		n = readv(conn->fd, parts, (int)count);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		conn->sent += (uint32_t)n;
		ret->op = VSOCK_OP_RW;
		ret->length = (uint32_t)n;
		return true;
	}
	conn->readable = false;
	if (n == 0)
		conn->ended = true;
	else if (errno != EAGAIN)
		conn->pending |= VSOCK_PENDING_RST;
	return false;
}

/* Which directions are over, as far as we are concerned. */
static unsigned int shut_wanted(const struct vsock_conn *conn)
{
	bool done = conn->deaf || ((conn->shut_received & VSOCK_SHUT_SEND) && conn->count == 0) ||
		    (conn->ended && conn->hung_up);

	return (conn->ended ? (unsigned int)VSOCK_SHUT_SEND : 0u) |
	       (done ? (unsigned int)VSOCK_SHUT_RECEIVE : 0u);
}

static bool take_pending(struct vsock_conn *conn, enum vsock_pending bit)
{
	bool there = conn->pending & bit;

	conn->pending &= ~(unsigned int)bit;
	return there;
}

bool vsock_conn_next(struct vsock_conn *conn, const struct queue_chain *chain,
		     struct vsock_header *ret)
{
	if (take_pending(conn, VSOCK_PENDING_RST)) {
		ret->op = VSOCK_OP_RST;
		return true;
	}
	if (take_pending(conn, VSOCK_PENDING_REQUEST)) {
		ret->op = VSOCK_OP_REQUEST;
		return true;
	}
	if (take_pending(conn, VSOCK_PENDING_RESPONSE)) {
		ret->op = VSOCK_OP_RESPONSE;
		return true;
	}
	if (conn->state != VSOCK_OPEN)
		return false;
	if (conn->shut_received == VSOCK_SHUT_BOTH && conn->count == 0) {
		ret->op = VSOCK_OP_RST; /* 5.10.6.6: the answer to a full shutdown */
		return true;
	}
	if (read_data(conn, chain, ret))
		return true;
	if (take_pending(conn, VSOCK_PENDING_RST)) {
		ret->op = VSOCK_OP_RST;
		return true;
	}
	if (shut_wanted(conn) & ~conn->shut_sent) {
		conn->shut_sent |= shut_wanted(conn);
		ret->op = VSOCK_OP_SHUTDOWN;
		ret->flags = conn->shut_sent;
		return true;
	}
	if (take_pending(conn, VSOCK_PENDING_CREDIT)) {
		ret->op = VSOCK_OP_CREDIT_UPDATE;
		return true;
	}
	if (take_pending(conn, VSOCK_PENDING_ASK)) {
		ret->op = VSOCK_OP_CREDIT_REQUEST;
		return true;
	}
	return false;
}
