/* The socket device, spoken to as a guest's driver would and as programs of the host do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sock.h"
#include "base/str.h"
#include "driver.h"
#include "vmm/virtio/vsock_priv.h"

#include <cmocka.h>

enum {
	RX = 0,
	TX = 1,
	EVENT = 2,
	CID = 42,
	GUEST_PORT = 5000,
	HOST_PORT = 1234,
	HEADER = sizeof(struct vsock_header),
	CREDIT = 4096,
	NOTHING_SENT = -1,
};

struct fixture {
	struct driver_board board;
	struct driver driver;
	struct virtio *virtio;
	char directory[32];
	char *path;
	int broker; /* the other end */
	unsigned int next_tx;
	struct vsock_header last; /* from the device */
	uint8_t *data;
};

static void refill(struct fixture *f, unsigned int slot)
{
	driver_offer(&f->driver, RX, slot, 0, DRIVER_BUFFER);
}

static void start(struct fixture *f, bool with_broker)
{
	struct vsock_config config = {.cid = CID, .listen_fd = -1, .broker_fd = -1};
	int pair[2];

	driver_board_init(&f->board);
	strcpy(f->directory, "/tmp/test-vsock-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	f->path = str_format("%s/v", f->directory);
	f->broker = -1;
	if (with_broker) {
		assert_int_equal(sock_pair(SOCK_SEQPACKET | SOCK_NONBLOCK, pair), 0);
		f->broker = pair[0];
		config.broker_fd = pair[1];
	} else {
		config.path = f->path;
		config.listen_fd = sock_listen(AT_FDCWD, f->path, SOCK_STREAM | SOCK_NONBLOCK);
		assert_true(config.listen_fd >= 0);
	}
	assert_int_equal(virtio_vsock_create(&f->board.board, &config, &f->virtio), 0);
	driver_start(&f->driver, &f->board, f->virtio);
	for (unsigned int i = 0; i < DRIVER_SLOTS; i++)
		refill(f, i);
	driver_offer(&f->driver, EVENT, 0, 0, 8);
}

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	start(f, false);
	*state = f;
	return 0;
}

static int set_up_broker(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	start(f, true);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	fd_close(&f->broker);
	assert_int_equal(tree_remove(AT_FDCWD, f->directory, NULL), 0);
	own_mem_release(&f->path);
	own_mem_release(&f->data);
	own_mem_release(&f);
	return 0;
}

/* The next packet from the device: its operation, or NOTHING_SENT. */
static int receive(struct fixture *f)
{
	uint32_t written = 0;
	int slot = NOTHING_SENT;

	for (unsigned int i = 0; i < 20 && slot < 0; i++) {
		slot = driver_used(&f->driver, RX, &written);
		if (slot < 0)
			driver_serve(&f->driver);
	}
	if (slot < 0)
		return NOTHING_SENT;
	memcpy(&f->last, driver_in(&f->driver, RX, (unsigned int)slot), HEADER);
	own_mem_release(&f->data);
	f->data = mem_copy(driver_in(&f->driver, RX, (unsigned int)slot) + HEADER,
			   f->last.length + 1);
	assert_int_equal(written, HEADER + f->last.length);
	assert_int_equal(f->last.dst_cid, CID);
	refill(f, (unsigned int)slot);
	return f->last.op;
}

static void send_as(struct fixture *f, struct vsock_header header, const void *data, uint32_t size)
{
	unsigned int slot = f->next_tx++ % DRIVER_SLOTS;

	header.src_cid = header.src_cid ? header.src_cid : CID;
	header.dst_cid = VSOCK_CID_HOST;
	header.type = VSOCK_TYPE_STREAM;
	header.buf_alloc = CREDIT;
	memcpy(driver_out(&f->driver, TX, slot), &header, HEADER);
	if (size)
		memcpy(driver_out(&f->driver, TX, slot) + HEADER, data, size);
	driver_offer(&f->driver, TX, slot, HEADER + size, 0);
	assert_int_equal(driver_wait(&f->driver, TX, NULL), slot);
}

static void send_packet(struct fixture *f, uint32_t host_port, enum vsock_op op, uint32_t flags,
			const void *data, uint32_t size)
{
	send_as(f,
		(struct vsock_header){.src_port = GUEST_PORT,
				      .dst_port = host_port,
				      .op = op,
				      .flags = flags,
				      .length = size},
		data, size);
}

static int dial(struct fixture *f, const char *hello)
{
	int fd = sock_connect(AT_FDCWD, f->path, SOCK_STREAM | SOCK_NONBLOCK);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, hello, strlen(hello)), strlen(hello));
	return fd;
}

/* A connection from the host that the guest has accepted; the greeting has been read. */
static int connect_in(struct fixture *f, uint32_t *ret_port)
{
	int fd = dial(f, "CONNECT 5000\n");
	char line[32] = "", want[32];

	assert_int_equal(receive(f), VSOCK_OP_REQUEST);
	assert_int_equal(f->last.dst_port, GUEST_PORT);
	*ret_port = f->last.src_port;
	send_packet(f, *ret_port, VSOCK_OP_RESPONSE, 0, NULL, 0);
	driver_serve(&f->driver);
	snprintf(want, sizeof(want), "OK %u\n", *ret_port);
	assert_int_equal(read(fd, line, sizeof(line)), strlen(want));
	assert_string_equal(line, want);
	return fd;
}

static void host_connects_and_data_flows_both_ways(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = connect_in(f, &port);
	char text[16] = "";

	assert_int_equal(write(fd, "from the host", 13), 13);
	assert_int_equal(receive(f), VSOCK_OP_RW);
	assert_int_equal(f->last.length, 13);
	assert_memory_equal(f->data, "from the host", 13);
	send_packet(f, port, VSOCK_OP_RW, 0, "from the guest", 14);
	assert_int_equal(read(fd, text, sizeof(text)), 14);
	assert_memory_equal(text, "from the guest", 14);
	fd_close(&fd);
}

static void what_follows_the_greeting_belongs_to_the_stream(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f, "CONNECT 5000\nearly");

	assert_int_equal(receive(f), VSOCK_OP_REQUEST);
	assert_int_equal(receive(f), NOTHING_SENT);
	send_packet(f, f->last.src_port, VSOCK_OP_RESPONSE, 0, NULL, 0);
	assert_int_equal(receive(f), VSOCK_OP_RW);
	assert_int_equal(f->last.length, 5);
	assert_memory_equal(f->data, "early", 5);
	fd_close(&fd);
}

static void nonsense_instead_of_a_greeting_is_hung_up_on(void **state)
{
	static const char *const lines[] = {"HELLO\n", "CONNECT x\n", "CONNECT 4294967296\n",
					    "CONNECT\n", "CONNECT 1                          "};
	struct fixture *f = *state;

	for (unsigned int i = 0; i < array_size(lines); i++) {
		int fd = dial(f, lines[i]);
		char c;
		ssize_t n;

		driver_serve(&f->driver);
		n = read(fd, &c, 1);
		if (n > 0 || (n < 0 && errno != ECONNRESET))
			fail_msg("\"%s\" was not hung up on", lines[i]);
		fd_close(&fd);
	}
	assert_int_equal(receive(f), NOTHING_SENT);
}

static void a_refusal_of_the_guest_closes(void **state)
{
	struct fixture *f = *state;
	int fd = dial(f, "CONNECT 5000\n");
	char c;

	assert_int_equal(receive(f), VSOCK_OP_REQUEST);
	send_packet(f, f->last.src_port, VSOCK_OP_RST, 0, NULL, 0);
	assert_int_equal(read(fd, &c, 1), 0);
	fd_close(&fd);
}

static int connect_out(struct fixture *f, int *ret_listener)
{
	own_mem char *path = str_format("%s_%u", f->path, HOST_PORT);
	int fd;

	*ret_listener = sock_listen(AT_FDCWD, path, SOCK_STREAM | SOCK_NONBLOCK);
	assert_true(*ret_listener >= 0);
	send_packet(f, HOST_PORT, VSOCK_OP_REQUEST, 0, NULL, 0);
	assert_int_equal(receive(f), VSOCK_OP_RESPONSE);
	assert_int_equal(f->last.src_port, HOST_PORT);
	assert_int_equal(f->last.dst_port, GUEST_PORT);
	fd = accept4(*ret_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static void guest_connects_to_the_socket_of_its_port(void **state)
{
	struct fixture *f = *state;
	own_fd int listener = -1;
	own_fd int fd = connect_out(f, &listener);
	char text[8] = "";

	send_packet(f, HOST_PORT, VSOCK_OP_RW, 0, "hello", 5);
	assert_int_equal(read(fd, text, sizeof(text)), 5);
	assert_string_equal(text, "hello");
}

static void guest_is_refused_where_nobody_listens(void **state)
{
	struct fixture *f = *state;

	send_packet(f, HOST_PORT, VSOCK_OP_REQUEST, 0, NULL, 0);
	assert_int_equal(receive(f), VSOCK_OP_RST);
	assert_int_equal(f->last.src_port, HOST_PORT);
	assert_int_equal(f->last.dst_port, GUEST_PORT);
}

static void packets_without_a_connection_are_answered_with_a_reset(void **state)
{
	struct fixture *f = *state;

	send_packet(f, 7, VSOCK_OP_RW, 0, "x", 1);
	assert_int_equal(receive(f), VSOCK_OP_RST);
	send_packet(f, 7, VSOCK_OP_RST, 0, NULL, 0); /* but a reset is not, else it never ends */
	assert_int_equal(receive(f), NOTHING_SENT);
	send_as(f,
		(struct vsock_header){.src_cid = CID + 1,
				      .src_port = 1,
				      .dst_port = HOST_PORT,
				      .op = VSOCK_OP_CREDIT_UPDATE},
		NULL, 0);
	driver_serve(&f->driver);
	assert_true(driver_used(&f->driver, RX, NULL) >= 0);
}

static void the_guests_credit_is_respected(void **state)
{
	struct fixture *f = *state;
	uint32_t port, total = 0;
	int fd = connect_in(f, &port), op;
	static uint8_t data[3 * CREDIT];

	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	while ((op = receive(f)) == VSOCK_OP_RW)
		total += f->last.length;
	assert_int_equal(total, CREDIT);
	assert_int_equal(op, VSOCK_OP_CREDIT_REQUEST);
	send_as(f,
		(struct vsock_header){.src_port = GUEST_PORT,
				      .dst_port = port,
				      .op = VSOCK_OP_CREDIT_UPDATE,
				      .fwd_cnt = 1000},
		NULL, 0);
	for (total = 0; receive(f) == VSOCK_OP_RW;)
		total += f->last.length;
	assert_int_equal(total, 1000);
	fd_close(&fd);
}

/* Asks how much the device has forwarded; what it had said before comes first. */
static void hear_credit(struct fixture *f, uint32_t *forwarded)
{
	int op;

	send_packet(f, HOST_PORT, VSOCK_OP_CREDIT_REQUEST, 0, NULL, 0);
	while ((op = receive(f)) != NOTHING_SENT)
		assert_int_equal(op, VSOCK_OP_CREDIT_UPDATE);
	*forwarded = f->last.fwd_cnt;
}

/* Sends to a host that does not read, as much as the device allows. */
static uint32_t fill(struct fixture *f, uint32_t *ret_forwarded)
{
	static uint8_t data[32 << 10];
	uint32_t sent = 0, forwarded = 0, credit = VSOCK_BUFFER_SIZE;

	for (;;) {
		if (sent - forwarded + sizeof(data) > credit)
			hear_credit(f, &forwarded);
		if (sent - forwarded + sizeof(data) > credit)
			break;
		for (unsigned int i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)((sent + i) * 7 >> 3);
		send_packet(f, HOST_PORT, VSOCK_OP_RW, 0, data, sizeof(data));
		sent += sizeof(data);
	}
	*ret_forwarded = forwarded;
	return sent;
}

static void what_the_host_does_not_read_yet_is_kept(void **state)
{
	struct fixture *f = *state;
	own_fd int listener = -1;
	own_fd int fd = connect_out(f, &listener);
	uint32_t forwarded, sent = fill(f, &forwarded), got = 0;
	uint8_t data[5000];
	ssize_t n;

	assert_int_equal(f->last.buf_alloc, VSOCK_BUFFER_SIZE);
	send_packet(f, HOST_PORT, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_SEND, NULL, 0);
	while ((n = read(fd, data, sizeof(data))) != 0) {
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			driver_serve(&f->driver);
			continue;
		}
		for (ssize_t i = 0; i < n; i++, got++)
			if (data[i] != (uint8_t)(got * 7 >> 3))
				fail_msg("byte %u differs", got);
	}
	assert_int_equal(got, sent);
}

static void who_sends_more_than_allowed_is_reset(void **state)
{
	struct fixture *f = *state;
	own_fd int listener = -1;
	own_fd int fd = connect_out(f, &listener);
	uint32_t forwarded, sent = fill(f, &forwarded);
	static uint8_t data[64 << 10];

	send_packet(f, HOST_PORT, VSOCK_OP_RW, 0, data, VSOCK_BUFFER_SIZE - (sent - forwarded) + 1);
	assert_int_equal(receive(f), VSOCK_OP_RST);
}

static void the_hosts_half_close_is_told_and_the_other_half_works(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = connect_in(f, &port);
	char text[8] = "";

	assert_int_equal(write(fd, "bye", 3), 3);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(receive(f), VSOCK_OP_RW);
	assert_int_equal(receive(f), VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->last.flags, VSOCK_SHUT_SEND);
	send_packet(f, port, VSOCK_OP_RW, 0, "answer", 6);
	assert_int_equal(read(fd, text, sizeof(text)), 6);
	send_packet(f, port, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_BOTH, NULL, 0);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	assert_int_equal(receive(f), VSOCK_OP_RST);
	fd_close(&fd);
}

static void the_guests_half_close_is_an_end_for_the_host(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = connect_in(f, &port);
	char text[8] = "";

	send_packet(f, port, VSOCK_OP_RW, 0, "last", 4);
	send_packet(f, port, VSOCK_OP_SHUTDOWN, VSOCK_SHUT_SEND, NULL, 0);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_int_equal(read(fd, text, sizeof(text)), 0);
	assert_int_equal(receive(f), VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->last.flags, VSOCK_SHUT_RECEIVE);
	assert_int_equal(write(fd, "still", 5), 5);
	assert_int_equal(receive(f), VSOCK_OP_RW);
	assert_int_equal(f->last.length, 5);
	fd_close(&fd);
	assert_int_equal(receive(f), VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->last.flags, VSOCK_SHUT_BOTH);
}

static void a_host_that_vanishes_shuts_both_halves(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = connect_in(f, &port);

	fd_close(&fd);
	assert_int_equal(receive(f), VSOCK_OP_SHUTDOWN);
	assert_int_equal(f->last.flags, VSOCK_SHUT_BOTH);
	send_packet(f, port, VSOCK_OP_RST, 0, NULL, 0);
	send_packet(f, port, VSOCK_OP_RW, 0, "x", 1);
	assert_int_equal(receive(f), VSOCK_OP_RST);
}

static void many_connections_do_not_mix(void **state)
{
	enum { COUNT = 100 };
	struct fixture *f = *state;
	int fds[COUNT];
	uint32_t ports[COUNT];

	for (unsigned int i = 0; i < COUNT; i++)
		fds[i] = connect_in(f, &ports[i]);
	for (unsigned int i = 0; i < COUNT; i++) {
		uint8_t c = (uint8_t)i;

		assert_int_equal(write(fds[i], &c, 1), 1);
		assert_int_equal(receive(f), VSOCK_OP_RW);
		assert_int_equal(f->last.src_port, ports[i]);
		assert_int_equal(f->data[0], i);
	}
	for (unsigned int i = 0; i < COUNT; i++) {
		uint8_t c = (uint8_t)i;

		send_packet(f, ports[i], VSOCK_OP_RW, 0, &c, 1);
		c = 255;
		assert_int_equal(read(fds[i], &c, 1), 1);
		assert_int_equal(c, i);
		fd_close(&fds[i]);
	}
}

static void a_packet_shorter_than_it_says_breaks_the_device(void **state)
{
	struct fixture *f = *state;
	struct vsock_header header = {.src_cid = CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .type = VSOCK_TYPE_STREAM,
				      .op = VSOCK_OP_RW,
				      .length = 10};

	memcpy(driver_out(&f->driver, TX, 0), &header, HEADER);
	driver_offer(&f->driver, TX, 0, HEADER + 9, 0);
	driver_serve(&f->driver);
	assert_true(driver_needs_reset(&f->driver));
}

static void a_buffer_without_room_for_a_header_breaks_the_device(void **state)
{
	struct fixture *f = *state;

	/* After those that are good. */
	for (unsigned int i = 0; i < DRIVER_SLOTS; i++) {
		send_packet(f, 7 + i, VSOCK_OP_RW, 0, NULL, 0);
		assert_int_equal(driver_wait(&f->driver, RX, NULL), i);
	}
	driver_offer(&f->driver, RX, 0, 0, HEADER - 1);
	send_packet(f, 7, VSOCK_OP_RW, 0, NULL, 0);
	driver_serve(&f->driver);
	assert_true(driver_needs_reset(&f->driver));
}

static void packets_of_another_sender_touch_no_connection(void **state)
{
	struct fixture *f = *state;
	own_fd int listener = -1;
	own_fd int fd = connect_out(f, &listener);
	char c;

	send_as(f,
		(struct vsock_header){.src_cid = CID + 1,
				      .src_port = GUEST_PORT,
				      .dst_port = HOST_PORT,
				      .op = VSOCK_OP_RW,
				      .length = 1},
		"x", 1);
	driver_serve(&f->driver);
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, EAGAIN);
}

/* What answers are due is kept for a while; then nothing more is heard until they have been taken. */
static void a_guest_that_takes_no_answers_is_not_heard(void **state)
{
	enum { ALL = DRIVER_SLOTS + VSOCK_RESETS_MAX };
	struct fixture *f = *state;
	struct vsock_header header = {.src_cid = CID,
				      .dst_cid = VSOCK_CID_HOST,
				      .type = VSOCK_TYPE_STREAM,
				      .op = VSOCK_OP_RW};

	for (header.dst_port = 0; header.dst_port <= ALL; header.dst_port++) {
		unsigned int slot = header.dst_port % DRIVER_SLOTS;

		memcpy(driver_out(&f->driver, TX, slot), &header, HEADER);
		driver_offer(&f->driver, TX, slot, HEADER, 0);
		driver_serve(&f->driver);
		assert_int_equal(driver_used(&f->driver, TX, NULL),
				 header.dst_port < ALL ? (int)slot : -1);
	}
	/* All are answered, in their order. */
	for (uint32_t port = 0; port <= ALL; port++) {
		assert_int_equal(receive(f), VSOCK_OP_RST);
		assert_int_equal(f->last.src_port, port);
	}
	assert_int_equal(driver_wait(&f->driver, TX, NULL), ALL % DRIVER_SLOTS);
}

static void a_reset_of_the_driver_closes_all(void **state)
{
	struct fixture *f = *state;
	uint32_t port;
	int fd = connect_in(f, &port);
	char c;

	driver_reset(&f->driver);
	assert_int_equal(read(fd, &c, 1), 0);
	fd_close(&fd);
	/* Nobody is there: a caller is hung up on rather than kept waiting. */
	fd = dial(f, "CONNECT 5000\n");
	driver_serve(&f->driver);
	assert_true(read(fd, &c, 1) <= 0);
	fd_close(&fd);
}

static void after_a_load_the_driver_is_told_that_its_connections_are_gone(void **state)
{
	struct fixture *f = *state;
	struct device *device = &f->virtio->device;
	struct state_writer out = {0};
	struct state_reader in;
	uint32_t port, written = 0, event = 99;
	int fd = connect_in(f, &port);
	char c;

	state_begin(&out, "vsock", 0, 1);
	device->ops->save(device, &out);
	state_end(&out);
	assert_int_equal(state_find(out.data.data, out.data.len, "vsock", 0, &in), 0);
	assert_int_equal(device->ops->load(device, &in), 0);
	assert_int_equal(driver_wait(&f->driver, EVENT, &written), 0);
	memcpy(&event, driver_in(&f->driver, EVENT, 0), sizeof(event));
	assert_int_equal(written, 4);
	assert_int_equal(event, 0); /* VIRTIO_VSOCK_EVENT_TRANSPORT_RESET */
	assert_int_equal(read(fd, &c, 1), 0);
	fd_close(&fd);
	fd = connect_in(f, &port); /* and new ones can be made */
	fd_close(&fd);
	buf_release(&out.data);
}

static void hear_broker(struct fixture *f, struct vsock_message *ret)
{
	driver_serve(&f->driver);
	assert_int_equal(recv(f->broker, ret, sizeof(*ret), 0), sizeof(*ret));
}

static void the_broker_makes_the_guests_connections(void **state)
{
	struct fixture *f = *state;
	struct vsock_message message;
	int pair[2];
	char text[8] = "";

	send_packet(f, HOST_PORT, VSOCK_OP_REQUEST, 0, NULL, 0);
	hear_broker(f, &message);
	assert_int_equal(message.kind, VSOCK_MESSAGE_CONNECT);
	assert_int_equal(message.port, HOST_PORT);
	assert_int_equal(sock_pair(SOCK_STREAM | SOCK_NONBLOCK, pair), 0);
	message.kind = VSOCK_MESSAGE_CONNECTED;
	assert_int_equal(sock_send_fds(f->broker, &message, sizeof(message), &pair[1], 1), 0);
	fd_close(&pair[1]);
	assert_int_equal(receive(f), VSOCK_OP_RESPONSE);
	send_packet(f, HOST_PORT, VSOCK_OP_RW, 0, "hi", 2);
	assert_int_equal(read(pair[0], text, sizeof(text)), 2);
	fd_close(&pair[0]);
}

static void the_guest_has_so_many_connections_and_no_more(void **state)
{
	struct fixture *f = *state;
	struct vsock_message message;

	for (uint32_t port = 1; port <= VSOCK_CONNECTIONS_MAX; port++) {
		send_packet(f, port, VSOCK_OP_REQUEST, 0, NULL, 0);
		assert_int_equal(recv(f->broker, &message, sizeof(message), 0), sizeof(message));
		assert_int_equal(message.port, port);
	}
	send_packet(f, HOST_PORT, VSOCK_OP_REQUEST, 0, NULL, 0);
	assert_int_equal(receive(f), VSOCK_OP_RST);
	assert_int_equal(f->last.src_port, HOST_PORT);
	assert_int_equal(recv(f->broker, &message, sizeof(message), 0), -1);
}

/* Before the other side has accepted there is nobody to send to. */
static void data_that_comes_too_early_is_reset(void **state)
{
	struct fixture *f = *state;
	struct vsock_message message;

	send_packet(f, HOST_PORT, VSOCK_OP_REQUEST, 0, NULL, 0);
	hear_broker(f, &message);
	send_packet(f, HOST_PORT, VSOCK_OP_RW, 0, "x", 1);
	assert_int_equal(receive(f), VSOCK_OP_RST);
}

static void the_broker_may_refuse(void **state)
{
	struct fixture *f = *state;
	struct vsock_message message;

	send_packet(f, HOST_PORT, VSOCK_OP_REQUEST, 0, NULL, 0);
	hear_broker(f, &message);
	message.kind = VSOCK_MESSAGE_CONNECTED;
	assert_int_equal(sock_send_fds(f->broker, &message, sizeof(message), NULL, 0), 0);
	assert_int_equal(receive(f), VSOCK_OP_RST);
}

static void the_broker_may_attach_a_socket_to_the_guest(void **state)
{
	struct fixture *f = *state;
	struct vsock_message message = {.kind = VSOCK_MESSAGE_ATTACH, .port = GUEST_PORT};
	int pair[2];

	assert_int_equal(sock_pair(SOCK_STREAM | SOCK_NONBLOCK, pair), 0);
	assert_int_equal(sock_send_fds(f->broker, &message, sizeof(message), &pair[1], 1), 0);
	fd_close(&pair[1]);
	assert_int_equal(write(pair[0], "first", 5), 5);
	assert_int_equal(receive(f), VSOCK_OP_REQUEST);
	assert_int_equal(f->last.dst_port, GUEST_PORT);
	send_packet(f, f->last.src_port, VSOCK_OP_RESPONSE, 0, NULL, 0);
	assert_int_equal(receive(f),
			 VSOCK_OP_RW); /* no greeting: the first bytes are the stream's */
	assert_memory_equal(f->data, "first", 5);
	fd_close(&pair[0]);
}

static void a_cid_of_somebody_else_is_refused(void **state)
{
	struct fixture *f = *state;
	struct vsock_config config = {.listen_fd = -1, .broker_fd = -1};
	struct virtio *virtio;

	for (config.cid = 0; config.cid <= 2; config.cid++)
		assert_int_equal(virtio_vsock_create(&f->board.board, &config, &virtio), -EINVAL);
	config.cid = UINT32_MAX;
	assert_int_equal(virtio_vsock_create(&f->board.board, &config, &virtio), -EINVAL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define CASE_BROKER(name) cmocka_unit_test_setup_teardown(name, set_up_broker, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(host_connects_and_data_flows_both_ways),
		CASE(what_follows_the_greeting_belongs_to_the_stream),
		CASE(nonsense_instead_of_a_greeting_is_hung_up_on),
		CASE(a_refusal_of_the_guest_closes),
		CASE(guest_connects_to_the_socket_of_its_port),
		CASE(guest_is_refused_where_nobody_listens),
		CASE(packets_without_a_connection_are_answered_with_a_reset),
		CASE(the_guests_credit_is_respected),
		CASE(what_the_host_does_not_read_yet_is_kept),
		CASE(who_sends_more_than_allowed_is_reset),
		CASE(the_hosts_half_close_is_told_and_the_other_half_works),
		CASE(the_guests_half_close_is_an_end_for_the_host),
		CASE(a_host_that_vanishes_shuts_both_halves),
		CASE(many_connections_do_not_mix),
		CASE(a_packet_shorter_than_it_says_breaks_the_device),
		CASE(a_buffer_without_room_for_a_header_breaks_the_device),
		CASE(packets_of_another_sender_touch_no_connection),
		CASE(a_guest_that_takes_no_answers_is_not_heard),
		CASE(a_reset_of_the_driver_closes_all),
		CASE(after_a_load_the_driver_is_told_that_its_connections_are_gone),
		CASE(a_cid_of_somebody_else_is_refused),
		CASE_BROKER(the_broker_makes_the_guests_connections),
		CASE_BROKER(the_guest_has_so_many_connections_and_no_more),
		CASE_BROKER(data_that_comes_too_early_is_reset),
		CASE_BROKER(the_broker_may_refuse),
		CASE_BROKER(the_broker_may_attach_a_socket_to_the_guest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
