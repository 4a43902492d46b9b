/* world: see the header. */
#include "world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "base/sock.h"

enum {
	MEMORY = 1 << 20,
	DISK = 1 << 20,
	KINDS = 8,
	WINDOW = 0x8000, /* of a virtio device */
	CARD_PAIRS = 2,  /* of queues */
	PACKETS_MAX = 8, /* that come back at once */
};

static void on_power(struct board *board, enum board_power what, int exit_code)
{
	(void)board;
	(void)what;
	(void)exit_code;
}

static void on_written(struct board *board, gpa_t gpa, uint64_t size)
{
	if (!memory_at(board->memory, gpa, size))
		abort();
}

static int add_doorbell(struct board *board, gpa_t gpa, int fd)
{
	(void)board;
	(void)gpa;
	(void)fd;
	return -ENOTSUP;
}

static const struct board_ops board_ops = {
	.power = on_power, .written = on_written, .add_doorbell = add_doorbell};

static void on_request(struct irqchip_host *host, unsigned int cpu, enum cpu_request request,
		       unsigned int argument)
{
	(void)host;
	(void)cpu;
	(void)request;
	(void)argument;
}

static uint64_t get_tsc(struct irqchip_host *host, unsigned int cpu, uint64_t *ret_khz)
{
	(void)host;
	(void)cpu;
	*ret_khz = 1000000;
	return 0;
}

static const struct irqchip_host_ops host_ops = {.request = on_request, .tsc = get_tsc};

static void keep(struct world *w, int rc, struct device *device)
{
	if (rc < 0)
		abort();
	w->devices[w->count++] = device;
}

static void keep_virtio(struct world *w, int rc, struct virtio *virtio)
{
	keep(w, rc, &virtio->device);
	w->virtio[w->virtio_count++] = virtio;
	if (pci_host_add(w->pci, &virtio->pci) < 0)
		abort();
}

static void build_chips(struct world *w)
{
	struct irqchip *irqchip = NULL;
	struct acpi_pm *pm = NULL;
	struct device *device = NULL;
	int rc = irqchip_create(2, &w->host, &w->board.timers, &w->board.ports, &w->board.mmio,
				&irqchip);

	keep(w, rc, irqchip_device(irqchip));
	w->board.irq = irqchip_irq(irqchip);
	rc = pit_create(&w->board, &device);
	keep(w, rc, device);
	rc = rtc_create(&w->board, &device);
	keep(w, rc, device);
	rc = i8042_create(&w->board, &device);
	keep(w, rc, device);
	rc = acpi_pm_create(&w->board, &pm);
	keep(w, rc, acpi_pm_device(pm));
	rc = pci_host_create(&w->board, PCI_HOST_GENERIC, &w->pci);
	keep(w, rc, pci_host_device(w->pci));
}

/* Once in a process. false: not allowed. */
static bool enter_namespace(void)
{
	static int entered = -1;

	if (entered < 0)
		entered = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
	return entered;
}

static int open_queue(void)
{
	struct ifreq request = {.ifr_name = "card",
				.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0 && ioctl(fd, TUNSETIFF, &request) < 0)
		fd_close(&fd);
	return fd;
}

/* A socket on the interface, which sees what the guest sends and sends what the guest sees. */
static int open_wire(void)
{
	struct ifreq request = {.ifr_name = "card", .ifr_flags = IFF_UP | IFF_NOARP};
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0 ||
	    ioctl(fd, SIOCGIFINDEX, &request) < 0)
		abort();
	address.sll_ifindex = request.ifr_ifindex;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	return fd;
}

/* Made once in a process: for worlds that are built and released thousands of times that takes too long. */
static const int *get_taps(int *ret_wire)
{
	static int fds[CARD_PAIRS] = {-1, -1}, wire = -1;
	static bool tried;

	if (!tried && enter_namespace())
		for (unsigned int i = 0; i < CARD_PAIRS; i++)
			fds[i] = open_queue();
	if (!tried && fds[CARD_PAIRS - 1] >= 0)
		wire = open_wire();
	else if (!tried)
		fprintf(stderr, "NO TAP CAN BE MADE HERE: the network card is left out\n");
	tried = true;
	*ret_wire = wire;
	return wire >= 0 ? fds : NULL;
}

static void build_card(struct world *w)
{
	static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	const int *taps = get_taps(&w->wire);
	struct virtio *virtio = NULL;
	int fds[CARD_PAIRS], rc;

	if (!taps)
		return;
	for (unsigned int i = 0; i < CARD_PAIRS; i++) {
		fds[i] = fcntl(taps[i], F_DUPFD_CLOEXEC, 0);
		if (fds[i] < 0)
			abort();
	}
	rc = virtio_net_create(&w->board, 0, fds, CARD_PAIRS, mac, &virtio);
	keep_virtio(w, rc, virtio);
}

static void build_virtio(struct world *w)
{
	int file = memfd_create("disk", MFD_CLOEXEC), broker[2], rc;
	struct vsock_config vsock = {.cid = 3, .listen_fd = -1};
	struct port_config ports[2] = {{.name = "socket", .listen_fd = -1},
				       {.name = "file", .listen_fd = -1, .is_terminal = true}};
	struct virtio *virtio = NULL;
	struct disk *disk = NULL;

	if (file < 0 || ftruncate(file, DISK) < 0 || disk_open_raw(file, false, &disk) < 0 ||
	    sock_pair(SOCK_SEQPACKET | SOCK_NONBLOCK, broker) < 0)
		abort();
	rc = virtio_rng_create(&w->board, &virtio);
	keep_virtio(w, rc, virtio);
	rc = virtio_blk_create(&w->board, 0, disk, 2, &virtio);
	keep_virtio(w, rc, virtio);
	w->broker = broker[0];
	vsock.broker_fd = broker[1];
	rc = virtio_vsock_create(&w->board, &vsock, &virtio);
	keep_virtio(w, rc, virtio);
	rc = virtio_balloon_create(&w->board, &virtio);
	keep_virtio(w, rc, virtio);
	ports[1].fd = memfd_create("port", MFD_CLOEXEC);
	if (sock_pair(SOCK_STREAM | SOCK_NONBLOCK, broker) < 0)
		abort();
	ports[0].fd = broker[1];
	w->peers[PEERS_MAX - 1] = broker[0];
	rc = virtio_ports_create(&w->board, ports, 2, &virtio);
	keep_virtio(w, rc, virtio);
	build_card(w);
}

static void on_end(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		   void *data)
{
	(void)source, (void)fd, (void)events, (void)data;
	loop_stop(loop, 0);
}

static void *disk_thread(void *data)
{
	struct world *w = data;

	if (loop_run(w->board.disk_loop) < 0)
		abort();
	return NULL;
}

static void start_disks(struct world *w)
{
	struct loop_source *source;

	w->end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->end < 0 ||
	    loop_add_io(w->board.disk_loop, w->end, EPOLLIN, on_end, NULL, &source) < 0 ||
	    pthread_create(&w->disk_thread, NULL, disk_thread, w) != 0)
		abort();
}

static void stop_disks(struct world *w)
{
	const uint64_t one = 1;

	if (write(w->end, &one, sizeof(one)) != sizeof(one))
		abort();
	pthread_join(w->disk_thread, NULL);
}

void world_build(struct world *w)
{
	w->board.ops = &board_ops;
	w->host.ops = &host_ops;
	for (unsigned int i = 0; i < PEERS_MAX; i++)
		w->peers[i] = -1;
	bus_init(&w->board.ports);
	bus_init(&w->board.mmio);
	if (timer_queue_init(&w->board.timers) < 0 || loop_create(&w->board.loop) < 0 ||
	    loop_create(&w->board.disk_loop) < 0 ||
	    memory_create(MEMORY, &w->board.memory, NULL) < 0)
		abort();
	build_chips(w);
	build_virtio(w);
	start_disks(w);
}

static void answer_broker(struct world *w)
{
	struct vsock_message message;
	int pair[2];

	if (recv(w->broker, &message, sizeof(message), 0) != sizeof(message))
		return;
	message.kind = VSOCK_MESSAGE_CONNECTED;
	if (sock_pair(SOCK_STREAM | SOCK_NONBLOCK, pair) < 0 ||
	    sock_send_fds(w->broker, &message, sizeof(message), &pair[1], 1) < 0)
		abort();
	fd_close(&pair[1]);
	fd_close(&w->peers[w->next_peer]);
	w->peers[w->next_peer] = pair[0];
	w->next_peer = (w->next_peer + 1) % (PEERS_MAX - 1); /* the last is a port's */
}

static void echo(const int *peers)
{
	char data[512];

	for (unsigned int i = 0; i < PEERS_MAX; i++) {
		ssize_t n = peers[i] < 0 ? 0 : read(peers[i], data, sizeof(data));

		if (n > 0)
			(void)!send(peers[i], data, (size_t)n, MSG_NOSIGNAL);
	}
}

/* What the guest has sent comes back to it; and there is always something to receive. */
static void send_packets(int wire)
{
	static uint8_t packet[2048] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
	struct sockaddr_ll from;
	socklen_t length = sizeof(from);

	if (wire < 0)
		return;
	(void)!send(wire, packet, 200, MSG_DONTWAIT);
	for (unsigned int i = 0; i < PACKETS_MAX; i++) {
		ssize_t n = recvfrom(wire, packet, sizeof(packet), MSG_DONTWAIT,
				     (struct sockaddr *)&from, &length);

		if (n < 0)
			break;
		if (from.sll_pkttype != PACKET_OUTGOING)
			(void)!send(wire, packet, (size_t)n, MSG_DONTWAIT);
	}
}

static void stop(struct loop *loop, struct loop_source *source, void *data)
{
	(void)data;
	loop_remove(source);
	loop_stop(loop, 0);
}

/* What the host does meanwhile. */
static void run_host(struct world *w)
{
	struct loop_source *source;

	answer_broker(w);
	echo(w->peers);
	send_packets(w->wire);
	timer_queue_run(&w->board.timers);
	if (loop_add_timer(w->board.loop, 0, stop, NULL, &source) < 0 ||
	    loop_run(w->board.loop) < 0)
		abort();
}

static void serve(struct world *w)
{
	for (unsigned int i = 0; i < w->virtio_count; i++) {
		struct virtio *virtio = w->virtio[i];

		device_lock(&virtio->device);
		for (unsigned int j = 0; j < virtio->queue_count; j++)
			if (virtio_is_active(virtio) && virtio->queues[j].ready)
				virtio->ops->notify(virtio, j);
		device_unlock(&virtio->device);
	}
}

static void perform(struct world *w, const struct access *a)
{
	unsigned int size = 1u << (a->size & 3);
	/* The windows of the virtio devices lie at the start of the range. */
	uint64_t window = PCI_WINDOW_START +
			  (uint64_t)(a->kind / KINDS % w->virtio_count) * WINDOW +
			  (a->address & (WINDOW - 1));

	switch (a->kind % KINDS) {
	case 0:
		bus_write(&w->board.ports, a->address, size > 4 ? 4 : size, a->value);
		break;
	case 1:
		(void)bus_read(&w->board.ports, a->address, size > 4 ? 4 : size);
		break;
	case 2:
		bus_write(&w->board.mmio, window, size, a->value);
		break;
	case 3:
		(void)bus_read(&w->board.mmio, window, size);
		break;
	case 4:
		bus_write(&w->board.mmio, PCI_ECAM_START + a->address, size, a->value);
		break;
	case 5:
		bus_write(&w->board.mmio, 0xfec00000 + (a->address & 0xff), 4, a->value);
		break;
	case 6:
		run_host(w);
		break;
	default:
		memcpy(w->board.memory->host + a->address, &a->value, sizeof(a->value));
	}
}

void world_release(struct world *w)
{
	world_reset(w); /* nothing is under way then */
	stop_disks(w);
	for (unsigned int i = w->count; i-- > 0;)
		w->devices[i]->ops->destroy(w->devices[i]);
	loop_destroy(w->board.loop);
	loop_destroy(w->board.disk_loop);
	fd_close(&w->end);
	timer_queue_release(&w->board.timers);
	bus_release(&w->board.ports);
	bus_release(&w->board.mmio);
	memory_destroy(w->board.memory);
	for (unsigned int i = 0; i < PEERS_MAX; i++)
		fd_close(&w->peers[i]);
	fd_close(&w->broker);
	memset(w, 0, sizeof(*w));
}

void world_reset(struct world *w)
{
	for (unsigned int i = 0; i < w->count; i++) {
		device_lock(w->devices[i]);
		w->devices[i]->ops->reset(w->devices[i]);
		device_unlock(w->devices[i]);
	}
	memset(w->board.memory->host, 0, 0x10008);
}

void world_perform(struct world *w, const struct access *a)
{
	perform(w, a);
	serve(w);
}
