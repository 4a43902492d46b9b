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
#include <signal.h>
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
#include "vmm/chip/fw_cfg.h"
#include "vmm/chip/pflash.h"

enum {
	MEMORY = 1 << 20,
	DISK = 1 << 20,
	CARD_PAIRS = 2, /* of queues */
	FLASH = 2 * PFLASH_BLOCK,
	CPUS = 2,
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
	int rc = irqchip_create(CPUS, &w->host, &w->board.timers, &w->board.ports, &w->board.mmio,
				&irqchip);

	w->irqchip = irqchip;
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
	w->pm = pm;
	rc = pci_host_create(&w->board, PCI_HOST_GENERIC, &w->pci);
	keep(w, rc, pci_host_device(w->pci));
}

/* What only some machines have. */
static void build_rest(struct world *w)
{
	struct serial *serial = NULL;
	struct fw_cfg *fw_cfg = NULL;
	struct pflash *pflash = NULL;
	struct device *device = NULL;
	int file = memfd_create("flash", MFD_CLOEXEC), rc;

	if (file < 0 || ftruncate(file, FLASH) < 0)
		abort();
	rc = serial_create(&w->board, -1, &w->input, &serial);
	keep(w, rc, serial_device(serial));
	w->serial = serial;
	rc = debug_exit_create(&w->board, &device);
	keep(w, rc, device);
	rc = test_device_create(&w->board, &device);
	keep(w, rc, device);
	rc = fw_cfg_create(&w->board, &fw_cfg);
	keep(w, rc, fw_cfg_device(fw_cfg));
	fw_cfg_set_u16(fw_cfg, FW_CFG_CPUS, CPUS);
	fw_cfg_set_file(fw_cfg, "etc/file", "contents", 8);
	rc = pflash_create(&w->board, WORLD_FLASH, FLASH, file, true, &pflash);
	keep(w, rc, pflash_device(pflash));
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

/* An empty directory that has no name any more. */
static void build_share(struct world *w)
{
	char path[] = "/dev/shm/fuzz-world-XXXXXX";
	struct share_config config = {.cache = SHARE_CACHE_ALWAYS};
	struct virtio *virtio = NULL;
	int rc;

	if (!mkdtemp(path))
		abort();
	config.directory_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rmdir(path);
	rc = virtio_fs_create(&w->board, 0, "share", &config, &virtio, NULL);
	if (rc == 0)
		rc = virtio_fs_start(virtio, NULL, NULL);
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
	w->balloon = virtio;
	keep_virtio(w, rc, virtio);
	ports[1].fd = memfd_create("port", MFD_CLOEXEC);
	if (sock_pair(SOCK_STREAM | SOCK_NONBLOCK, broker) < 0)
		abort();
	ports[0].fd = broker[1];
	w->peers[PEERS_MAX - 1] = broker[0];
	rc = virtio_ports_create(&w->board, ports, 2, &virtio);
	keep_virtio(w, rc, virtio);
	rc = virtio_console_create(&w->board, -1, &w->input, &virtio);
	w->console = virtio;
	keep_virtio(w, rc, virtio);
	build_share(w);
	build_card(w);
}

static void on_end(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		   void *data)
{
	(void)source, (void)fd, (void)events, (void)data;
	loop_stop(loop, 0);
}

static void on_look(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void *data)
{
	struct world *w = data;
	uint64_t count;

	(void)loop, (void)source, (void)events;
	if (read(fd, &count, sizeof(count)) == sizeof(count))
		sem_post(&w->looked);
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
	w->look = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	sem_init(&w->looked, 0, 0);
	if (w->end < 0 || w->look < 0 ||
	    loop_add_io(w->board.disk_loop, w->end, EPOLLIN, on_end, NULL, &source) < 0 ||
	    loop_add_io(w->board.disk_loop, w->look, EPOLLIN, on_look, w, &source) < 0 ||
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

void world_let_disks_look(struct world *w)
{
	const uint64_t one = 1;

	if (write(w->look, &one, sizeof(one)) != sizeof(one))
		abort();
	sem_wait(&w->looked);
}

void world_build(struct world *w)
{
	w->board.ops = &board_ops;
	w->host.ops = &host_ops;
	signal(SIGPIPE, SIG_IGN); /* as in a machine's process */
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
	build_rest(w);
	start_disks(w);
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
	fd_close(&w->look);
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
	memset(w->pushed, 0, sizeof(w->pushed));
}
