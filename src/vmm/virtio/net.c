/*
 * net: the network device (Virtio 1.2, 5.1) on a tap.
 *
 * The tap speaks the same header before every packet as the driver does (12 bytes, with checksum and
 * segmentation offload), so packets pass through as they are. Queues: receive and transmit of each
 * pair in turn, then the control queue. Each pair has a tap descriptor of its own.
 */
#include <errno.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <linux/virtio_net.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vmm/virtio/devices.h"

enum {
	HEADER = sizeof(struct virtio_net_hdr_v1),
	PACKET_MAX = HEADER + 65550,
	QUEUE_SIZE = QUEUE_SIZE_MAX,
	/* Packets that are received at once: the device thread has others to serve, too. */
	BURST = 64,
};

struct net_pair {
	struct net *net;
	unsigned int index;
	int fd;
	bool watching;
	struct loop_source *source;
	/* A packet that found no room; waiting_size 0: none. */
	uint8_t *waiting;
	size_t waiting_size;
};

/* A receive buffer that has been filled. */
struct net_filled {
	uint16_t id, places;
	uint32_t size;
};

struct net {
	struct virtio virtio;
	struct virtio_net_config config;
	unsigned int pair_count, active_pairs;
	struct net_pair pairs[NET_PAIRS_MAX];
	struct net_filled filled[QUEUE_SIZE];
	uint8_t packet[PACKET_MAX];
};

_Static_assert(NET_PAIRS_MAX * 2 + 1 <= VIRTIO_QUEUES_MAX, "a queue each way and control");

static struct net *net_of(struct virtio *v)
{
	return container_of(v, struct net, virtio);
}

static void watch(struct net_pair *pair, bool on)
{
	if (pair->source && pair->watching != on &&
	    loop_set_events(pair->source, on ? EPOLLIN : 0) == 0)
		pair->watching = on;
}

/* The number of buffers stands in the header of the first one: written when it is known. */
static void set_buffer_count(const struct queue_chain *first, uint16_t count)
{
	queue_copy_in(first, offsetof(struct virtio_net_hdr_v1, num_buffers), &count,
		      sizeof(count));
}

/* Gives the first `count` filled buffers to the driver, all at once. */
static void give_filled(struct net *self, unsigned int queue, unsigned int count)
{
	struct virtio *v = &self->virtio;
	struct queue *q = &v->queues[queue];
	unsigned int places = 0;
	int rc = 0;

	for (unsigned int i = 0; i < count && rc == 0; i++) {
		rc = queue_fill(q, self->filled[i].id, self->filled[i].size, places);
		places += self->filled[i].places;
		v->bytes_in += self->filled[i].size;
	}
	v->requests++;
	if (rc < 0 || queue_flush(q, places) < 0)
		virtio_fail(v, "a queue outside of memory");
}

/* Gives a packet to the driver, in several buffers if it likes that. false: no room now. */
static bool deliver(struct net *self, unsigned int queue, const uint8_t *packet, size_t size)
{
	struct virtio *v = &self->virtio;
	struct queue *q = &v->queues[queue];
	bool merge = virtio_has(v, VIRTIO_NET_F_MRG_RXBUF);
	struct queue before = *q;
	struct queue_chain first;
	unsigned int count = 0;
	size_t done = 0;

	/* A packet that is too long for a driver that takes one buffer is cut, as a wire would lose it. */
	do {
		size_t part;

		if (!virtio_take(v, queue, &v->chain)) {
			/* All or nothing: as if none had been taken. */
			queue_rewind(q, &before);
			return !virtio_is_active(v);
		}
		part = queue_copy_in(&v->chain, 0, packet + done, size - done);
		if (part == 0 || (count == 0 && part < HEADER)) {
			virtio_fail(v, "a receive buffer without room");
			return true;
		}
		virtio_written(v, &v->chain, part);
		done += part;
		if (count == 0 && done < size && merge)
			first = v->chain;
		self->filled[count++] = (struct net_filled){
			v->chain.id, q->packed ? v->chain.descriptors : 1, (uint32_t)part};
	} while (done < size && merge && count < QUEUE_SIZE);
	set_buffer_count(count > 1 ? &first : &v->chain, (uint16_t)count);
	give_filled(self, queue, count);
	return true;
}

/* Looks once more after the driver has been told to ring for more room. */
static bool deliver_or_wait(struct net_pair *pair, const uint8_t *packet, size_t size)
{
	struct net *self = pair->net;
	unsigned int queue = 2 * pair->index;

	if (deliver(self, queue, packet, size))
		return true;
	queue_set_doorbell(&self->virtio.queues[queue], true);
	return queue_available(&self->virtio.queues[queue]) && deliver(self, queue, packet, size);
}

static void keep_waiting(struct net_pair *pair, size_t size)
{
	pair->waiting = mem_new(size);
	memcpy(pair->waiting, pair->net->packet, size);
	pair->waiting_size = size;
}

static void drop_waiting(struct net_pair *pair)
{
	own_mem_release(&pair->waiting);
	pair->waiting = NULL;
	pair->waiting_size = 0;
}

/* What the tap has, as far as the driver has room: then the tap is watched no more, until it rings. */
static void receive(struct net_pair *pair)
{
	struct net *self = pair->net;
	bool room = true;

	if (pair->waiting_size) {
		room = deliver_or_wait(pair, pair->waiting, pair->waiting_size);
		if (room)
			drop_waiting(pair);
	}
	for (unsigned int i = 0; i < BURST && room && virtio_is_active(&self->virtio); i++) {
		ssize_t n = read(pair->fd, self->packet, sizeof(self->packet));

		/* The tap has been deleted: it would say so without end. */
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			loop_remove(take(pair->source));
		if (n <= HEADER)
			break;
		room = deliver_or_wait(pair, self->packet, (size_t)n);
		if (!room)
			keep_waiting(pair, (size_t)n);
	}
	watch(pair, room);
	virtio_signal(&self->virtio, 2 * pair->index);
}

static void on_readable(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			void *data)
{
	struct net_pair *pair = data;
	struct virtio *v = &pair->net->virtio;

	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	device_lock(&v->device);
	/* While the driver is not there the tap's own queue holds what comes. */
	if (virtio_is_active(v) && v->queues[2 * pair->index].ready)
		receive(pair);
	else
		watch(pair, false);
	device_unlock(&v->device);
}

static void transmit(struct net *self, unsigned int queue)
{
	struct virtio *v = &self->virtio;
	int fd = self->pairs[queue / 2].fd;

	while (virtio_pop(v, queue)) {
		ssize_t n;

		do
			n = writev(fd, v->chain.segments, (int)v->chain.out_count);
		while (n < 0 && errno == EINTR);
		/* What the tap does not take is lost, as on a wire. */
		virtio_push(v, queue, 0);
	}
}

/* The kernel only spreads packets over attached queues: the driver looks into no others. */
static void attach_pairs(struct net *self)
{
	for (unsigned int i = 0; i < self->pair_count && self->pair_count > 1; i++) {
		struct ifreq request = {.ifr_flags = i < self->active_pairs ? IFF_ATTACH_QUEUE
									    : IFF_DETACH_QUEUE};

		(void)ioctl(self->pairs[i].fd, TUNSETQUEUE, &request);
	}
}

static uint8_t set_pairs(struct net *self)
{
	uint16_t pairs = 0;

	if (queue_copy_out(&self->virtio.chain, 2, &pairs, sizeof(pairs)) < sizeof(pairs) ||
	    pairs < 1 || pairs > self->pair_count)
		return VIRTIO_NET_ERR;
	self->active_pairs = pairs;
	attach_pairs(self);
	return VIRTIO_NET_OK;
}

static void control(struct net *self, unsigned int queue)
{
	struct virtio *v = &self->virtio;

	while (virtio_pop(v, queue)) {
		struct virtio_net_ctrl_hdr header = {0};
		uint8_t answer = VIRTIO_NET_ERR;

		if (queue_copy_out(&v->chain, 0, &header, sizeof(header)) == sizeof(header) &&
		    header.class == VIRTIO_NET_CTRL_MQ &&
		    header.cmd == VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET)
			answer = set_pairs(self);
		virtio_push(v, queue, (uint32_t)queue_copy_in(&v->chain, 0, &answer, 1));
	}
}

static void net_notify(struct virtio *v, unsigned int queue)
{
	struct net *self = net_of(v);
	unsigned int control_queue = virtio_has(v, VIRTIO_NET_F_MQ) ? 2 * self->pair_count : 2;

	if (queue == control_queue) {
		control(self, queue);
	} else if (queue / 2 >= self->pair_count) {
		return;
	} else if (queue % 2) {
		transmit(self, queue);
	} else {
		receive(&self->pairs[queue / 2]);
	}
}

/* What the tap may hand us is what the driver can take, and where it looks for it. */
static void net_activate(struct virtio *v)
{
	struct net *self = net_of(v);
	unsigned long offload = 0;

	if (virtio_has(v, VIRTIO_NET_F_GUEST_CSUM))
		offload |= TUN_F_CSUM;
	if (virtio_has(v, VIRTIO_NET_F_GUEST_TSO4))
		offload |= TUN_F_TSO4;
	if (virtio_has(v, VIRTIO_NET_F_GUEST_TSO6))
		offload |= TUN_F_TSO6;
	if (virtio_has(v, VIRTIO_NET_F_GUEST_ECN))
		offload |= TUN_F_TSO_ECN;
	for (unsigned int i = 0; i < self->pair_count; i++)
		(void)ioctl(self->pairs[i].fd, TUNSETOFFLOAD, offload);
	attach_pairs(self);
}

static void net_reset(struct virtio *v)
{
	struct net *self = net_of(v);

	self->active_pairs = 1;
	for (unsigned int i = 0; i < self->pair_count; i++)
		drop_waiting(&self->pairs[i]);
}

static void net_save(struct virtio *v, struct state_writer *out)
{
	state_put_u32(out, net_of(v)->active_pairs);
}

static void net_load(struct virtio *v, struct state_reader *in)
{
	struct net *self = net_of(v);
	uint32_t pairs = state_get_u32(in);

	in->bad |= pairs < 1 || pairs > self->pair_count;
	self->active_pairs = in->bad ? 1 : pairs;
}

static void net_read_config(struct virtio *v, uint32_t offset, void *ret, unsigned int size)
{
	memcpy(ret, (const uint8_t *)&net_of(v)->config + offset, size);
}

static void net_destroy(struct virtio *v)
{
	struct net *self = net_of(v);

	for (unsigned int i = 0; i < self->pair_count; i++) {
		loop_remove(self->pairs[i].source);
		fd_close(&self->pairs[i].fd);
		drop_waiting(&self->pairs[i]);
	}
	virtio_release(v);
	own_mem_release(&self);
}

static const struct virtio_ops ops = {
	.device = VIRTIO_DEVICE_OPS("virtio-net"),
	.type = 1,
	.pci_class = 0x02000000,
	.config_size = 12, /* up to and with the MTU */
	.read_config = net_read_config,
	.notify = net_notify,
	.activate = net_activate,
	.reset = net_reset,
	.save = net_save,
	.load = net_load,
	.destroy = net_destroy,
};

static int watch_taps(struct net *self, struct board *board, const int *fds)
{
	struct loop_source *sources[NET_PAIRS_MAX] = {NULL};
	int rc = 0, size = HEADER;

	for (unsigned int i = 0; i < self->pair_count && rc == 0; i++) {
		struct net_pair *pair = &self->pairs[i];

		pair->net = self;
		pair->index = i;
		rc = ioctl(fds[i], TUNSETVNETHDRSZ, &size) < 0
			     ? -errno
			     : loop_add_io(board->loop, fds[i], EPOLLIN, on_readable, pair,
					   &sources[i]);
	}
	for (unsigned int i = 0; i < self->pair_count; i++) {
		struct net_pair *pair = &self->pairs[i];

		if (rc < 0) {
			loop_remove(sources[i]);
			continue;
		}
		loop_remove(pair->source);
		fd_close(&pair->fd);
		pair->source = sources[i];
		pair->fd = fds[i];
		pair->watching = true;
	}
	return rc;
}

int virtio_net_replace(struct virtio *v, const int *fds, unsigned int pairs)
{
	struct net *self = net_of(v);
	int rc;

	if (pairs != self->pair_count)
		return -EINVAL;
	device_lock(&v->device);
	rc = watch_taps(self, v->board, fds);
	if (rc == 0)
		net_activate(v);
	device_unlock(&v->device);
	return rc;
}

int virtio_net_create(struct board *board, unsigned int instance, const int *fds,
		      unsigned int pairs, const uint8_t mac[static 6], struct virtio **ret)
{
	struct net *self = mem_new(sizeof(*self));
	uint64_t features =
		VIRTIO_BIT(VIRTIO_NET_F_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) |
		VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) |
		VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN) |
		VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) |
		VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) |
		VIRTIO_BIT(VIRTIO_NET_F_STATUS) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ);
	int rc;

	if (pairs > 1)
		features |= VIRTIO_BIT(VIRTIO_NET_F_MQ);
	memcpy(self->config.mac, mac, sizeof(self->config.mac));
	self->config.status = VIRTIO_NET_S_LINK_UP;
	self->config.max_virtqueue_pairs = (uint16_t)pairs;
	self->pair_count = pairs;
	for (unsigned int i = 0; i < NET_PAIRS_MAX; i++)
		self->pairs[i].fd = -1;
	rc = virtio_init(&self->virtio, &ops, board, instance, 2 * pairs + 1, QUEUE_SIZE, features);
	if (rc < 0)
		return rc;
	rc = watch_taps(self, board, fds);
	if (rc < 0) {
		net_destroy(&self->virtio);
		return rc;
	}
	*ret = &self->virtio;
	return 0;
}
