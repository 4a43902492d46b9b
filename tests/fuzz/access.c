/*
 * access: what a guest does to the devices of a world (world.h), and what the host does meanwhile. Beside single
 * accesses there is a driver that knows how a virtio device is set up and how chains are offered to it: from
 * random accesses alone hardly any would come that far.
 */
#include <errno.h>
#include <linux/if_packet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "base/sock.h"
#include "vmm/chip/pci.h"
#include "vmm/virtio/virtio.h"
#include "world.h"

#define IOAPIC UINT64_C(0xfec00000)

enum {
	WINDOW = 0x8000, /* of a virtio device */
	PACKETS_MAX = 8, /* that come back at once */
	/* Registers of a virtio device (Virtio 1.2, 4.1.4.3). */
	FEATURE_SELECT = 0x08,
	FEATURE = 0x0c,
	STATUS = 0x14,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_AREAS = 0x20,
	MSIX_TABLE = 0x3000,
	/* Where a queue's areas are in guest memory; two devices have the same. */
	QUEUE_MEMORY = 0x400,
	DRIVER_AREA = 0x100,
	DEVICE_AREA = 0x200,
	INDIRECT_TABLE = 0x300,
	BUFFERS = 0x8000,
	CHAIN_MAX = 4,
};

enum kind {
	PORT_WRITE,
	PORT_READ,
	WINDOW_WRITE,
	WINDOW_READ,
	CONFIG_WRITE,
	IOAPIC_WRITE,
	HOST,
	MEMORY_WRITE,
	SET_UP,
	PUSH,
	APIC_WRITE,
	APIC_READ,
	MSR_WRITE,
	MSR_READ,
	OTHER_WRITE,
	HOST_DOES,
	KINDS,
};

/* As it is in memory (Virtio 1.2, 2.7.5 and 2.8.13). */
struct descriptor {
	uint64_t address;
	uint32_t length;
	union {
		struct {
			uint16_t flags, next;
		} split;
		struct {
			uint16_t id, flags;
		} packed;
	};
};

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAILABLE = 1 << 7, USED = 1 << 15 };

/* ---- the host ---- */

/* The machine's end is soon full. */
static void make_pair(int pair[2])
{
	const int small = 1; /* the kernel makes it larger */

	if (sock_pair(SOCK_STREAM | SOCK_NONBLOCK, pair) < 0 ||
	    setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) < 0)
		abort();
}

static void keep_peer(struct world *w, int fd)
{
	fd_close(&w->peers[w->next_peer]);
	w->peers[w->next_peer] = fd;
	w->next_peer = (w->next_peer + 1) % (PEERS_MAX - 1); /* the last is a port's */
}

static void answer_broker(struct world *w)
{
	struct vsock_message message;
	int pair[2];

	if (recv(w->broker, &message, sizeof(message), 0) != sizeof(message))
		return;
	message.kind = VSOCK_MESSAGE_CONNECTED;
	make_pair(pair);
	/* It may have no room: the device reads as many messages as it likes. */
	(void)!sock_send_fds(w->broker, &message, sizeof(message), &pair[1], 1);
	fd_close(&pair[1]);
	keep_peer(w, pair[0]);
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

/* ---- the guest's driver ---- */

static void put(struct world *w, unsigned int which, unsigned int offset, unsigned int size,
		uint64_t value)
{
	bus_write(&w->board.mmio, PCI_WINDOW_START + (uint64_t)which * WINDOW + offset, size,
		  value);
}

static uint32_t queue_memory(unsigned int which, unsigned int queue)
{
	return ((which % 4) * QUEUES_MAX + queue) * QUEUE_MEMORY;
}

static void set_up_queue(struct world *w, unsigned int which, unsigned int queue, unsigned int size)
{
	uint32_t at = queue_memory(which, queue);
	const uint32_t areas[] = {at, at + DRIVER_AREA, at + DEVICE_AREA};

	put(w, which, QUEUE_SELECT, 2, queue);
	put(w, which, QUEUE_SIZE, 2, size);
	put(w, which, QUEUE_VECTOR, 2, queue);
	for (unsigned int i = 0; i < array_size(areas); i++) {
		put(w, which, QUEUE_AREAS + 8 * i, 4, areas[i]);
		put(w, which, QUEUE_AREAS + 8 * i + 4, 4, 0);
	}
	put(w, which, QUEUE_ENABLE, 2, 1);
	w->pushed[which][queue] = 0;
}

/* Interrupts by messages, one for each vector. */
static void set_up_msix(struct world *w, unsigned int which, uint64_t config)
{
	const struct pci_function *pci = &w->virtio[which]->pci;

	for (unsigned int i = 0; i < pci->msix_count; i++) {
		put(w, which, MSIX_TABLE + 16 * i, 4, 0xfee00000);
		put(w, which, MSIX_TABLE + 16 * i + 8, 4, 0x40 + i);
		put(w, which, MSIX_TABLE + 16 * i + 12, 4, 0);
	}
	bus_write(&w->board.mmio, config + pci->msix_capability + 2, 2, 0x8000);
}

/* As 3.1.1 says; the value has the features. */
static void set_up(struct world *w, unsigned int which, const struct access *a)
{
	const struct virtio *v = w->virtio[which];
	uint64_t config = PCI_ECAM_START + ((which + 1) << 15); /* slot 0 is the host's */
	uint64_t features = (a->value | 1ull << VIRTIO_FEATURE_VERSION_1) & v->offered;

	bus_write(&w->board.mmio, config + 4, 2, 6); /* memory accesses, its own too */
	if (a->address & 1)
		set_up_msix(w, which, config);
	put(w, which, STATUS, 1, 0);
	put(w, which, STATUS, 1, 3);
	for (unsigned int half = 0; half < 2; half++) {
		put(w, which, FEATURE_SELECT, 4, half);
		put(w, which, FEATURE, 4, features >> 32 * half & UINT32_MAX);
	}
	put(w, which, STATUS, 1, 0xb);
	for (unsigned int i = 0; i < v->queue_count && i < QUEUES_MAX; i++)
		set_up_queue(w, which, i, 2u << a->size % 4);
	put(w, which, STATUS, 1, 0xf);
}

/* What the value says: how many buffers (2 bits), which are written (4), their sizes (6), where (15). */
static unsigned int make_chain(struct world *w, const struct access *a, struct descriptor *chain)
{
	static const uint32_t sizes[] = {16, 1, 12, 44, 56, 512, 1526, 4096};
	unsigned int count = 1 + a->value % CHAIN_MAX;

	for (unsigned int i = 0; i < count; i++) {
		uint32_t size = sizes[a->value >> (i ? 11 : 8) & 7];

		chain[i] = (struct descriptor){
			.address = BUFFERS + (a->value >> 16 & 0x7ff0) + i * 0x40u, .length = size};
		chain[i].split.flags = a->value >> (2 + i) & 1 ? WRITE : 0;
	}
	memcpy(w->board.memory->host + chain[0].address, (const uint8_t *)&a->value + 4, 4);
	return count;
}

static void push_split(struct world *w, const struct queue *q, uint32_t at, uint16_t *pushed,
		       const struct descriptor *chain, unsigned int count)
{
	uint8_t *memory = w->board.memory->host + at, *ring = memory + DRIVER_AREA;
	uint16_t first = *pushed % q->size, idx = (uint16_t)(*pushed / CHAIN_MAX + 1);

	for (unsigned int i = 0; i < count; i++) {
		struct descriptor d = chain[i];

		if (i + 1 < count)
			d.split.flags |= NEXT;
		d.split.next = (uint16_t)((first + i + 1) % q->size);
		memcpy(memory + (first + i) % q->size * sizeof(d), &d, sizeof(d));
	}
	memcpy(ring + 4 + (idx - 1) % q->size * 2, &first, 2);
	memcpy(ring + 2, &idx, 2);
	*pushed = (uint16_t)(*pushed + CHAIN_MAX);
}

static void push_packed(struct world *w, const struct queue *q, uint32_t at, uint16_t *pushed,
			const struct descriptor *chain, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++, ++*pushed) {
		struct descriptor d = chain[i];
		uint16_t flags = d.split.flags;

		flags |= *pushed / q->size % 2 ? USED : AVAILABLE;
		if (i + 1 < count)
			flags |= NEXT;
		d.packed.id = (uint16_t)(*pushed % q->size);
		d.packed.flags = flags;
		memcpy(w->board.memory->host + at + *pushed % q->size * sizeof(d), &d, sizeof(d));
	}
}

/* When the driver wants to be told of what is given back: when a place is used that is among the next ones. */
static void want_event(struct world *w, const struct queue *q, uint32_t at, uint16_t pushed,
		       const struct access *a)
{
	uint8_t *driver = w->board.memory->host + at + DRIVER_AREA;
	uint16_t place = (uint16_t)(pushed + a->size / 16 % 4), event[2] = {place, 2};

	if (q->packed)
		event[0] = (uint16_t)(place % q->size | (place / q->size % 2 ? 0 : 1 << 15));
	memcpy(q->packed ? driver : driver + 4 + 2 * q->size, event, q->packed ? 4 : 2);
}

/* Puts a chain into a table of its own, and becomes the one descriptor that leads there. */
static void make_indirect(struct world *w, const struct queue *q, uint32_t table,
			  struct descriptor *chain, unsigned int count)
{
	const struct descriptor one = {.address = table,
				       .length = (uint32_t)(count * sizeof(*chain)),
				       .split.flags = INDIRECT};

	for (unsigned int i = 0; i < count; i++) {
		uint16_t flags = chain[i].split.flags;

		if (q->packed) {
			chain[i].packed.flags = flags;
		} else {
			chain[i].split.flags = (uint16_t)(flags | (i + 1 < count ? NEXT : 0));
			chain[i].split.next = (uint16_t)(i + 1);
		}
	}
	memcpy(w->board.memory->host + table, chain, one.length);
	chain[0] = one;
}

/* Offers a chain, through a table of its own if the address says so. */
static void push(struct world *w, unsigned int which, const struct access *a)
{
	unsigned int queue = a->address % QUEUES_MAX, count;
	struct descriptor chain[CHAIN_MAX];
	const struct queue *q = &w->virtio[which]->queues[queue];
	uint32_t at = queue_memory(which, queue);
	uint16_t *pushed = &w->pushed[which][queue];

	if (queue >= w->virtio[which]->queue_count || q->size < 2 || q->size > 16)
		return;
	count = make_chain(w, a, chain);
	if (a->address & QUEUES_MAX) {
		make_indirect(w, q, at + INDIRECT_TABLE, chain, count);
		count = 1;
	}
	if (a->size & 8)
		want_event(w, q, at, q->packed ? *pushed : *pushed / CHAIN_MAX, a);
	if (q->packed)
		push_packed(w, q, at, pushed, chain, count);
	else
		push_split(w, q, at, pushed, chain, count);
}

/* ---- what is done ---- */

/* Somebody on the host wants to be connected with the guest. */
static void attach(struct world *w, uint32_t port)
{
	struct vsock_message message = {.kind = VSOCK_MESSAGE_ATTACH, .port = port};
	int pair[2];

	make_pair(pair);
	(void)!sock_send_fds(w->broker, &message, sizeof(message), &pair[1], 1);
	fd_close(&pair[1]);
	keep_peer(w, pair[0]);
}

static void do_as_host(struct world *w, const struct access *a)
{
	struct balloon_statistics statistics;

	switch (a->address % 9) {
	case 0:
		virtio_balloon_set(w->balloon, a->value);
		break;
	case 1:
		virtio_balloon_get(w->balloon, &statistics);
		break;
	case 2:
		(void)serial_receive(w->serial, &a->value, sizeof(a->value));
		break;
	case 3:
		(void)virtio_console_receive(w->console, &a->value, sizeof(a->value));
		break;
	case 4:
		virtio_console_resize(w->console, (uint16_t)a->value, (uint16_t)(a->value >> 16));
		break;
	case 5:
		acpi_pm_power_button(w->pm);
		break;
	case 6:
		acpi_pm_event(w->pm, ACPI_GPE_GENERATION);
		break;
	case 7:
		attach(w, (uint32_t)a->value);
		break;
	default:
		fd_close(&w->peers[a->value % PEERS_MAX]);
	}
}

/* Windows that are no virtio device's. */
static void write_other(struct world *w, const struct access *a)
{
	static const uint64_t windows[] = {WORLD_FLASH, 0xff000000, PCI_ECAM_START};

	bus_write(&w->board.mmio, windows[a->size / 4 % array_size(windows)] + a->address,
		  1u << (a->size & 3), a->value);
	(void)bus_read(&w->board.mmio, windows[a->size / 4 % array_size(windows)] + a->address,
		       1u << (a->size & 3));
}

static uint32_t msr_of(const struct access *a)
{
	return a->size & 8 ? a->address : 0x800u + (a->address & 0xff); /* the x2APIC's */
}

static void access_cpu(struct world *w, const struct access *a)
{
	unsigned int cpu = a->size & 1;
	uint64_t value;

	switch (a->kind % KINDS) {
	case APIC_WRITE:
		irqchip_apic_write(w->irqchip, cpu, a->address & 0xff0, (uint32_t)a->value);
		irqchip_set_cr8(w->irqchip, cpu, (uint8_t)(a->value >> 32 & 15));
		break;
	case APIC_READ:
		(void)irqchip_apic_read(w->irqchip, cpu, a->address & 0xff0);
		(void)irqchip_get_cr8(w->irqchip, cpu);
		(void)irqchip_acknowledge(w->irqchip, cpu);
		break;
	case MSR_WRITE:
		if (irqchip_is_msr(msr_of(a)))
			(void)irqchip_write_msr(w->irqchip, cpu, msr_of(a), a->value);
		break;
	default:
		if (irqchip_is_msr(msr_of(a)))
			(void)irqchip_read_msr(w->irqchip, cpu, msr_of(a), &value);
	}
}

/* A register through configuration space (Virtio 1.2, 4.1.4.9). */
static void access_indirectly(struct world *w, unsigned int which, const struct access *a)
{
	uint64_t cap = PCI_ECAM_START + ((which + 1) << 15) + w->virtio[which]->window_capability;

	bus_write(&w->board.mmio, cap + 8, 4, a->address);
	bus_write(&w->board.mmio, cap + 12, 4, 1u << (a->size & 3));
	bus_write(&w->board.mmio, cap + 16, 4, a->value);
	(void)bus_read(&w->board.mmio, cap + 16, 4);
}

static void perform(struct world *w, const struct access *a)
{
	unsigned int size = 1u << (a->size & 3), which = a->kind / KINDS % w->virtio_count;
	uint64_t window = PCI_WINDOW_START + (uint64_t)which * WINDOW + (a->address & (WINDOW - 1));

	switch (a->kind % KINDS) {
	case PORT_WRITE:
		bus_write(&w->board.ports, a->address, size > 4 ? 4 : size, a->value);
		break;
	case PORT_READ:
		(void)bus_read(&w->board.ports, a->address, size > 4 ? 4 : size);
		break;
	case WINDOW_WRITE:
		if (a->size & 8)
			access_indirectly(w, which, a);
		else
			bus_write(&w->board.mmio, window, size, a->value);
		break;
	case WINDOW_READ:
		(void)bus_read(&w->board.mmio, window, size);
		break;
	case CONFIG_WRITE:
		bus_write(&w->board.mmio, PCI_ECAM_START + a->address, size, a->value);
		break;
	case IOAPIC_WRITE:
		bus_write(&w->board.mmio, IOAPIC + (a->address & 0xff), 4, a->value);
		(void)bus_read(&w->board.mmio, IOAPIC + 0x10, 4);
		break;
	case HOST:
		run_host(w);
		break;
	case MEMORY_WRITE:
		memcpy(w->board.memory->host + a->address, &a->value, sizeof(a->value));
		break;
	case SET_UP:
		set_up(w, which, a);
		break;
	case PUSH:
		push(w, which, a);
		break;
	case OTHER_WRITE:
		write_other(w, a);
		break;
	case HOST_DOES:
		do_as_host(w, a);
		break;
	default:
		access_cpu(w, a);
	}
}

/* As the device's loop would, which for a disk is another thread's. */
static void serve_one(struct world *w, struct virtio *virtio)
{
	bool own_loop = virtio_loop(virtio) != w->board.loop, wake = false, rung = false;

	device_lock(&virtio->device);
	for (unsigned int i = 0; i < virtio->queue_count && virtio_is_active(virtio); i++) {
		struct queue *queue = &virtio->queues[i];

		if (queue_available(queue) && own_loop) {
			virtio_ring(virtio, i);
			rung = true;
		} else if (queue->ready && virtio->ops->notify && !own_loop) {
			virtio->ops->notify(virtio, i);
		}
		wake |= virtio->ops->wake && queue_available(queue);
	}
	device_unlock(&virtio->device);
	if (wake)
		virtio->ops->wake(virtio);
	if (rung)
		world_let_disks_look(w);
}

static void serve(struct world *w)
{
	for (unsigned int i = 0; i < w->virtio_count; i++)
		serve_one(w, w->virtio[i]);
}

void world_perform(struct world *w, const struct access *a)
{
	perform(w, a);
	serve(w);
}
