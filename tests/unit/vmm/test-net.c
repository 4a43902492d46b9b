/* The network card on a real tap, in a network namespace of its own, with every form of rings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "driver.h"
#include "vmm/virtio/devices.h"

#include <cmocka.h>

enum {
	RECEIVE = 0,
	TRANSMIT = 1,
	CONTROL = 2,
	HEADER = sizeof(struct virtio_net_hdr_v1),
	MTU = 9000,
	ETHERTYPE = 0x88b5, /* for experiments */
	ROOM = 1600,        /* in each receive buffer */
};

struct fixture {
	struct driver_board board;
	struct virtio *virtio;
	struct driver driver;
	int wire; /* the tap's other side */
};

static bool have_net; /* false: namespaces or taps are forbidden here */

static const uint64_t rings[] = {
	0,
	VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
	VIRTIO_BIT(VIRTIO_FEATURE_PACKED),
	VIRTIO_BIT(VIRTIO_FEATURE_PACKED) | VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) | VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) | VIRTIO_BIT(VIRTIO_FEATURE_PACKED),
	VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT) | VIRTIO_BIT(VIRTIO_FEATURE_PACKED) |
		VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
};

static unsigned int failed_reads;

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size);

ssize_t __wrap_read(int fd, void *data, size_t size)
{
	ssize_t n = __real_read(fd, data, size);

	failed_reads += n < 0 && errno != EAGAIN;
	return n;
}

static int open_tap(unsigned int pairs, int *ret_taps)
{
	struct ifreq request;
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
	int wire;

	for (unsigned int i = 0; i < pairs; i++) {
		request = (struct ifreq){.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
							      (pairs > 1 ? IFF_MULTI_QUEUE : 0))};
		snprintf(request.ifr_name, sizeof(request.ifr_name), "tap0");
		ret_taps[i] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (ret_taps[i] < 0 || ioctl(ret_taps[i], TUNSETIFF, &request) < 0)
			return -errno;
	}
	wire = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETHERTYPE));
	assert_true(wire >= 0);
	request.ifr_mtu = MTU;
	assert_int_equal(ioctl(wire, SIOCSIFMTU, &request), 0);
	request.ifr_flags = IFF_UP | IFF_NOARP;
	assert_int_equal(ioctl(wire, SIOCSIFFLAGS, &request), 0);
	assert_int_equal(ioctl(wire, SIOCGIFINDEX, &request), 0);
	address.sll_ifindex = request.ifr_ifindex;
	assert_int_equal(bind(wire, (struct sockaddr *)&address, sizeof(address)), 0);
	return wire;
}

static struct fixture *set_up_pairs(uint64_t form, unsigned int pairs)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct fixture *f = mem_new(sizeof(*f));
	int taps[NET_PAIRS_MAX];

	f->wire = open_tap(pairs, taps);
	assert_true(f->wire >= 0);
	driver_board_init(&f->board);
	assert_int_equal(virtio_net_create(&f->board.board, 0, taps, pairs, mac, &f->virtio), 0);
	driver_start_with(&f->driver, &f->board, f->virtio, form);
	return f;
}

static struct fixture *set_up(uint64_t form)
{
	return set_up_pairs(form, 1);
}

static void tear_down(struct fixture *f)
{
	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	close(f->wire);
	own_mem_release(&f);
}

static void make_frame(uint8_t *frame, size_t size, unsigned int seed)
{
	const struct ether_header header = {.ether_dhost = {2, 0, 0, 0, 0, 1},
					    .ether_shost = {2, 0, 0, 0, 0, 2},
					    .ether_type = htons(ETHERTYPE)};

	memcpy(frame, &header, sizeof(header));
	for (size_t i = sizeof(header); i < size; i++)
		frame[i] = (uint8_t)(seed + i * 7 + i / 256);
}

static void put_on_wire(struct fixture *f, size_t size, unsigned int seed)
{
	uint8_t frame[MTU];

	make_frame(frame, size, seed);
	assert_int_equal(send(f->wire, frame, size, 0), size);
}

/* Takes a packet out of the receive queue and compares it. false: there is none. */
static bool receive(struct fixture *f, size_t size, unsigned int seed, unsigned int *ret_slots)
{
	uint8_t frame[MTU], got[HEADER + MTU + ROOM];
	struct virtio_net_hdr_v1 header;
	size_t have = 0;

	*ret_slots = 0;
	do {
		uint32_t written;
		int slot = driver_used(&f->driver, RECEIVE, &written);

		if (slot < 0) {
			assert_int_equal(have, 0); /* all or nothing */
			return false;
		}
		assert_true(written <= ROOM);
		memcpy(got + have, driver_in(&f->driver, RECEIVE, (unsigned int)slot), written);
		have += written;
		++*ret_slots;
	} while (have < HEADER + size);
	memcpy(&header, got, sizeof(header));
	make_frame(frame, size, seed);
	assert_int_equal(have, HEADER + size);
	assert_int_equal(header.num_buffers, *ret_slots);
	assert_memory_equal(got + HEADER, frame, size);
	return true;
}

/* Buffers come one at a time, some before the packet does: it arrives as soon as they suffice. */
static void packet_waits_for_room(uint64_t form)
{
	enum { SIZE = 4 * ROOM, NEED = 5 };
	struct fixture *f = set_up(form);
	unsigned int slot = 0, slots;

	for (unsigned int turn = 0; turn < 60; turn++) {
		for (unsigned int early = turn % NEED; early > 0; early--)
			driver_offer(&f->driver, RECEIVE, slot++ % DRIVER_SLOTS, 0, ROOM);
		driver_serve(&f->driver);
		put_on_wire(f, SIZE, turn);
		driver_serve(&f->driver);
		for (unsigned int late = NEED - turn % NEED; late > 0; late--) {
			assert_false(receive(f, SIZE, turn, &slots));
			driver_offer(&f->driver, RECEIVE, slot++ % DRIVER_SLOTS, 0, ROOM);
			driver_serve(&f->driver);
		}
		assert_true(receive(f, SIZE, turn, &slots));
		assert_int_equal(slots, NEED);
	}
	assert_false(driver_needs_reset(&f->driver));
	tear_down(f);
}

static void a_packet_waits_for_room(void **state)
{
	(void)state;
	for (size_t i = 0; have_net && i < array_size(rings); i++)
		packet_waits_for_room(rings[i]);
	if (!have_net)
		skip();
}

static void what_is_transmitted_is_on_the_wire(void **state)
{
	(void)state;
	for (size_t i = 0; have_net && i < array_size(rings); i++) {
		struct fixture *f = set_up(rings[i]);
		uint8_t frame[MTU], got[MTU];

		for (unsigned int n = 0; n < 300; n++) {
			size_t size = 60 + n * 29 % 8000;
			uint8_t *out = driver_out(&f->driver, TRANSMIT, n % DRIVER_SLOTS);

			make_frame(frame, size, n);
			memset(out, 0, HEADER);
			memcpy(out + HEADER, frame, size);
			driver_offer(&f->driver, TRANSMIT, n % DRIVER_SLOTS,
				     (uint32_t)(HEADER + size), 0);
			assert_int_equal(driver_wait(&f->driver, TRANSMIT, NULL), n % DRIVER_SLOTS);
			assert_int_equal(recv(f->wire, got, sizeof(got), 0), size);
			assert_memory_equal(got, frame, size);
		}
		tear_down(f);
	}
	if (!have_net)
		skip();
}

/* A UDP packet to one of many ports, so that it may come by any of a tap's queues. */
static void put_udp_on_wire(struct fixture *f, uint16_t port)
{
	struct __attribute__((packed)) {
		struct ether_header ether;
		struct iphdr ip;
		struct udphdr udp;
		uint8_t data[20];
	} frame = {
		.ether = {.ether_dhost = {2, 0, 0, 0, 0, 1}, .ether_type = htons(ETHERTYPE_IP)},
		.ip = {.version = 4,
		       .ihl = 5,
		       .ttl = 64,
		       .protocol = IPPROTO_UDP,
		       .tot_len = htons(sizeof(frame) - sizeof(frame.ether)),
		       .saddr = htonl(0x0a000001),
		       .daddr = htonl(0x0a000002)},
		.udp = {.source = htons(port), .dest = htons(port), .len = htons(28)},
	};

	assert_int_equal(send(f->wire, &frame, sizeof(frame), 0), sizeof(frame));
}

/* Firmware's drivers, and any before it has asked for more, look into the first pair only. */
static void all_packets_come_by_the_pairs_that_the_driver_uses(void **state)
{
	enum { PORTS = 8 * DRIVER_SLOTS };
	struct fixture *f;
	unsigned int got = 0;

	(void)state;
	if (!have_net)
		skip();
	f = set_up_pairs(0, 2);
	for (unsigned int slot = 0; slot < DRIVER_SLOTS; slot++)
		driver_offer(&f->driver, RECEIVE, slot, 0, ROOM);
	for (unsigned int port = 1; port <= PORTS; port++) {
		int slot;

		put_udp_on_wire(f, (uint16_t)port);
		driver_serve(&f->driver);
		while ((slot = driver_used(&f->driver, RECEIVE, NULL)) >= 0) {
			driver_offer(&f->driver, RECEIVE, (unsigned int)slot, 0, ROOM);
			got++;
		}
	}
	assert_int_equal(got, PORTS);
	tear_down(f);
}

static void delete_tap(void)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} request = {
		.header = {.nlmsg_len = sizeof(request),
			   .nlmsg_type = RTM_DELLINK,
			   .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		.link = {.ifi_index = (int)if_nametoindex("tap0")},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		uint8_t more[1024];
	} answer;

	assert_true(fd >= 0);
	assert_int_equal(send(fd, &request, sizeof(request), 0), sizeof(request));
	assert_true(recv(fd, &answer, sizeof(answer), 0) > 0);
	assert_int_equal(answer.error.error, 0);
	close(fd);
}

/* The device thread does not turn round and round because somebody has deleted it. */
static void a_tap_that_is_deleted_is_let_go(void **state)
{
	struct fixture *f;

	(void)state;
	if (!have_net)
		skip();
	f = set_up(0);
	driver_offer(&f->driver, RECEIVE, 0, 0, ROOM);
	driver_serve(&f->driver);
	delete_tap();
	failed_reads = 0;
	for (unsigned int i = 0; i < 10; i++)
		driver_serve(&f->driver);
	assert_int_equal(failed_reads, 1);
	driver_offer(&f->driver, TRANSMIT, 0, HEADER + 60, 0);
	assert_int_equal(driver_wait(&f->driver, TRANSMIT, NULL), 0);
	tear_down(f);
}

/* A buffer that holds nothing, and one that does not hold a packet's header. */
static void receive_buffers_without_room_break_the_device(void **state)
{
	static const uint32_t sizes[] = {0, HEADER - 1};

	(void)state;
	for (size_t i = 0; have_net && i < array_size(sizes); i++) {
		struct fixture *f = set_up(0);

		driver_offer(&f->driver, RECEIVE, 0, 1, sizes[i]);
		driver_serve(&f->driver);
		put_on_wire(f, 100, 0);
		driver_serve(&f->driver);
		assert_true(driver_needs_reset(&f->driver));
		tear_down(f);
	}
	if (!have_net)
		skip();
}

static void pairs_that_are_none_are_refused(void **state)
{
	static const uint16_t counts[] = {0, 2, 8, 0xffff};
	struct fixture *f;

	(void)state;
	if (!have_net)
		skip();
	f = set_up(0);
	for (size_t i = 0; i < array_size(counts); i++) {
		uint8_t *out = driver_out(&f->driver, CONTROL, 0);

		out[0] = VIRTIO_NET_CTRL_MQ;
		out[1] = VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET;
		memcpy(out + 2, &counts[i], sizeof(counts[i]));
		driver_offer(&f->driver, CONTROL, 0, 4, 1);
		assert_int_equal(driver_wait(&f->driver, CONTROL, NULL), 0);
		assert_int_equal(driver_in(&f->driver, CONTROL, 0)[0], VIRTIO_NET_ERR);
	}
	tear_down(f);
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/* As root a network namespace; else in a user namespace. */
static bool enter_namespace(void)
{
	char map[32];

	snprintf(map, sizeof(map), "0 %u 1", (unsigned int)getuid());
	if (unshare(CLONE_NEWNET) == 0)
		return true;
	return unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 &&
	       write_file("/proc/self/setgroups", "deny") && write_file("/proc/self/uid_map", map);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_packet_waits_for_room),
		cmocka_unit_test(what_is_transmitted_is_on_the_wire),
		cmocka_unit_test(receive_buffers_without_room_break_the_device),
		cmocka_unit_test(pairs_that_are_none_are_refused),
		cmocka_unit_test(all_packets_come_by_the_pairs_that_the_driver_uses),
		cmocka_unit_test(a_tap_that_is_deleted_is_let_go),
	};

	/* The host's kernel is to say nothing by itself. */
	have_net = enter_namespace() && access("/dev/net/tun", R_OK | W_OK) == 0 &&
		   (access("/proc/sys/net/ipv6", F_OK) < 0 ||
		    write_file("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1"));
	if (!have_net)
		fprintf(stderr, "no network namespace or no /dev/net/tun: the network card is NOT "
				"tested\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
