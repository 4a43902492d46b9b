/*
 * vsock_priv: between vsock.c (queues and packets) and vsock_conn.c (connections and their sockets).
 * Everything here runs on the device thread with the device locked.
 *
 * Invariants
 *   S1  a connection is in the table exactly while the guest may know it: from its request on, until
 *       either side has reset it.
 *   S2  a connection is in the ready list exactly if `listed` is set; whoever gives it something to
 *       send puts it there.
 *   S3  what the guest may send (buf_alloc less what has not been forwarded) always fits into `buffer`.
 */
#pragma once

#include "vmm/virtio/devices.h"
#include "vmm/wake.h"

#define VSOCK_CID_HOST 2ull

enum {
	VSOCK_CONNECTIONS_MAX = 1024,
	VSOCK_BUCKETS = 256,
	VSOCK_BUFFER_SIZE = 128 << 10, /* what a guest may send ahead on one connection */
	VSOCK_PACKET_MAX = 64 << 10,
	VSOCK_RESETS_MAX = 64,
};

enum vsock_op {
	VSOCK_OP_REQUEST = 1,
	VSOCK_OP_RESPONSE = 2,
	VSOCK_OP_RST = 3,
	VSOCK_OP_SHUTDOWN = 4,
	VSOCK_OP_RW = 5,
	VSOCK_OP_CREDIT_UPDATE = 6,
	VSOCK_OP_CREDIT_REQUEST = 7,
};

enum { VSOCK_TYPE_STREAM = 1 };
enum vsock_shutdown { VSOCK_SHUT_RECEIVE = 1, VSOCK_SHUT_SEND = 2, VSOCK_SHUT_BOTH = 3 };

/* Virtio 1.2, 5.10.6 */
struct __attribute__((packed)) vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t length;
	uint16_t type, op;
	uint32_t flags;
	uint32_t buf_alloc, fwd_cnt;
};

enum vsock_state {
	VSOCK_HELLO,     /* the host's side has not said yet which port it wants */
	VSOCK_REQUESTED, /* the guest has to answer */
	VSOCK_BROKERED,  /* the broker has to answer */
	VSOCK_OPEN,
	VSOCK_DRAINING, /* gone for the guest; what it had sent still goes to the host */
};

enum vsock_pending {
	VSOCK_PENDING_REQUEST = 1,
	VSOCK_PENDING_RESPONSE = 2,
	VSOCK_PENDING_RST = 4, /* the last one: the connection ends with it */
	VSOCK_PENDING_CREDIT = 8,
	VSOCK_PENDING_ASK = 16, /* for credit */
};

struct vsock_conn {
	struct vsock *vsock;
	struct vsock_conn *next, *previous; /* of all */
	struct vsock_conn *next_in_bucket;
	struct vsock_conn *next_ready;
	bool listed;
	enum vsock_state state;
	uint64_t id; /* for the broker */
	uint32_t host_port, guest_port;
	int fd;
	struct loop_source *source;
	bool greets;   /* the host's side expects a line when the guest has accepted */
	bool readable; /* the socket may have something */
	bool ended;    /* nothing more comes from the socket */
	bool deaf;     /* nothing more goes into the socket */
	bool asked;    /* for credit, since there was some */
	bool hung_up;  /* the host's side is gone for both directions */
	unsigned int pending;
	unsigned int shut_sent, shut_received; /* enum vsock_shutdown */
	uint32_t sent, peer_alloc, peer_forwarded;
	uint32_t received, forwarded, forwarded_told;
	uint8_t *buffer; /* a ring of VSOCK_BUFFER_SIZE bytes, while there is something in it */
	size_t start, count;
};

struct vsock_reset {
	uint64_t dst_cid, src_cid;
	uint32_t dst_port, src_port;
	uint16_t type;
};

struct vsock {
	struct virtio virtio;
	uint64_t cid;
	char *path;
	int listen_fd, broker_fd;
	struct wake wake;
	struct loop_source *listen_source, *broker_source;
	bool must_drop;      /* the driver has been reset: all connections go */
	bool transport_lost; /* the driver has to be told that its connections are gone */
	bool blocked;        /* packets wait in the transmit queue for room in `resets` */
	uint64_t next_id;
	uint32_t next_port;
	unsigned int conn_count;
	struct vsock_conn *conns;
	struct vsock_conn *buckets[VSOCK_BUCKETS];
	struct vsock_conn *ready_first, **ready_end;
	unsigned int reset_first, reset_count;
	struct vsock_reset resets[VSOCK_RESETS_MAX]; /* for packets without a connection */
};

/* vsock.c: sends to the guest whatever is ready, as far as it has buffers. */
void vsock_pump(struct vsock *vsock);
/* Puts a connection into the ready list. */
void vsock_ready(struct vsock_conn *conn);

/* vsock_conn.c */
/* A connection on the socket `fd` (or -1: to come), which it takes. NULL if there are too many; the
 * socket is closed then. */
struct vsock_conn *vsock_conn_new(struct vsock *vsock, enum vsock_state state, int fd);
void vsock_conn_free(struct vsock_conn *conn);
struct vsock_conn *vsock_conn_find(struct vsock *vsock, uint32_t host_port, uint32_t guest_port);
/* A request of the guest's for a port of the host. false: it is refused. */
bool vsock_conn_accept(struct vsock *vsock, uint32_t host_port, uint32_t guest_port,
		       const struct vsock_header *header);
/* A packet of the guest's, other than a request; its data is in virtio.chain behind the header. */
void vsock_conn_packet(struct vsock_conn *conn, const struct vsock_header *header);
/* Fills in op, flags and length of the next packet for the guest; data goes into `chain` behind the
 * header. false: there is none now. With VSOCK_OP_RST the connection has to be freed. */
bool vsock_conn_next(struct vsock_conn *conn, const struct queue_chain *chain,
		     struct vsock_header *ret);
/* The host's side is connected: conn->fd. */
void vsock_conn_opened(struct vsock_conn *conn);
/* Asks the guest for a connection to its port. */
void vsock_conn_request(struct vsock_conn *conn, uint32_t guest_port);
