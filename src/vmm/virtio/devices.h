/* devices: the virtio devices, each one file. A create function makes the device; the caller puts it on
 * the PCI host. 0 or -errno. */
#pragma once

#include "vmm/disk/disk.h"
#include "vmm/input.h"
#include "vmm/share/share.h"
#include "vmm/virtio/virtio.h"

/* Entropy. */
int virtio_rng_create(struct board *board, struct virtio **ret) must_check;

/* A disk, which it takes unless it fails, with a queue for each of `queues` vCPUs, up to the limit. */
enum { BLK_QUEUES_MAX = 16 };
int virtio_blk_create(struct board *board, unsigned int instance, struct disk *disk,
		      unsigned int queues, struct virtio **ret) must_check;

/* What the guest wrote is on the medium, and the image complete, on return. */
int virtio_blk_flush(struct virtio *virtio) must_check;
/* Puts another disk, which it takes unless it fails, in the place of the device's; the driver is told if
 * the size changes. On the device thread. -EACCES: it can only be read, but the driver may write. */
int virtio_blk_replace(struct virtio *virtio, struct disk *disk) must_check;

/* A console with one terminal: what the guest writes goes to `out_fd`; input comes by
 * virtio_console_receive, which takes up to `size` bytes and returns how many the guest had room for;
 * `input` is woken when it has room again. */
int virtio_console_create(struct board *board, int out_fd, struct input *input,
			  struct virtio **ret) must_check;
size_t virtio_console_receive(struct virtio *virtio, const void *data, size_t size);
/* Tells the guest the terminal's size. */
void virtio_console_resize(struct virtio *virtio, uint16_t columns, uint16_t rows);

/* A network card on a tap with virtio headers: one descriptor (non-blocking) for each pair of queues.
 * They are taken unless it fails. */
enum { NET_PAIRS_MAX = 8 };
int virtio_net_create(struct board *board, unsigned int instance, const int *fds,
		      unsigned int pairs, const uint8_t mac[static 6],
		      struct virtio **ret) must_check;

/* Stream sockets between guest and host (Virtio 1.2, 5.10), each a Unix socket here; see vsock.c. */
struct vsock_config {
	uint64_t cid; /* the guest's address: 3 to 4294967294 */
	/* Where the guest's connections to port N go: the socket <path>_N. NULL: only by the broker. */
	const char *path;
	/* A listening, non-blocking Unix stream socket for connections to the guest, or -1. Taken unless
	 * creating fails, as is the next one. */
	int listen_fd;
	/* A Unix SOCK_SEQPACKET socket to somebody who makes connections, for a machine that has no paths;
	 * or -1. Each message is one struct vsock_message, with a socket where it says so. */
	int broker_fd;
};

enum vsock_message_kind {
	VSOCK_MESSAGE_CONNECT = 1,   /* to the broker: the guest wants `port` of the host */
	VSOCK_MESSAGE_CONNECTED = 2, /* its answer, with the same id and the connected, non-blocking
				      * socket; without one the guest is refused */
	VSOCK_MESSAGE_ATTACH =
		3, /* to the machine: connect this (non-blocking) socket with `port` of
				      * the guest; it is closed if the guest refuses */
};

struct vsock_message {
	uint32_t kind, port;
	uint64_t id;
};

int virtio_vsock_create(struct board *board, const struct vsock_config *config,
			struct virtio **ret) must_check;

/* Puts other taps, as many as there are, in the place of a card's. They are taken unless it fails: -EINVAL
 * for another number of them. On the device thread. */
int virtio_net_replace(struct virtio *virtio, const int *fds, unsigned int pairs) must_check;

/* A directory of the host (Virtio 1.2, 5.11), which the guest mounts by its tag. The directory is taken
 * unless creating fails. Nothing is served before virtio_fs_start has started two threads, which call
 * `confine` (unless it is NULL) before they begin. */
int virtio_fs_create(struct board *board, unsigned int instance, const char *tag,
		     const struct share_config *config, struct virtio **ret,
		     struct error *err) must_check;
int virtio_fs_start(struct virtio *virtio, int (*confine)(struct error *err),
		    struct error *err) must_check;

/* The memory balloon (Virtio 1.2, 5.5): always there, empty until somebody asks for memory. */
enum balloon_statistic {
	BALLOON_SWAP_IN,
	BALLOON_SWAP_OUT,
	BALLOON_MAJOR_FAULTS,
	BALLOON_MINOR_FAULTS,
	BALLOON_FREE_MEMORY,
	BALLOON_TOTAL_MEMORY,
	BALLOON_AVAILABLE_MEMORY,
	BALLOON_DISK_CACHES,
	BALLOON_HUGE_ALLOCATIONS,
	BALLOON_HUGE_FAILURES,
	BALLOON_STATISTICS,
};

struct balloon_statistics {
	uint64_t wanted_bytes, actual_bytes; /* size of the balloon */
	uint64_t released_bytes; /* given back so far, by any way; pages count anew each time */
	unsigned int known;      /* a bit for each of the guest's numbers that is there */
	uint64_t values[BALLOON_STATISTICS]; /* counts, or bytes of memory */
};

int virtio_balloon_create(struct board *board, struct virtio **ret) must_check;
/* Asks the guest to give back (or to take again) so much that `bytes` are given back in all. */
void virtio_balloon_set(struct virtio *virtio, uint64_t bytes);
/* What is known, and asks the guest for new numbers: they are there the next time. */
void virtio_balloon_get(struct virtio *virtio, struct balloon_statistics *ret);

/* Named ports of a console device (Virtio 1.2, 5.3); see ports.c. */
enum { PORTS_MAX = 16 };

/* With neither descriptor a port exists and nobody is at its other end. */
struct port_config {
	const char *name;
	bool is_terminal; /* the guest may run a terminal on it (hvc) */
	int listen_fd;    /* a listening, non-blocking Unix stream socket, or -1 */
	int fd;           /* an open descriptor, non-blocking unless it is a plain file, or -1 */
};

/* The descriptors are taken unless it fails. -EINVAL for a number of ports that cannot be. */
int virtio_ports_create(struct board *board, const struct port_config *configs, unsigned int count,
			struct virtio **ret) must_check;
