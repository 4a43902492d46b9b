/* driver: see driver.h. */
#include "driver.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/virtio/virtio_priv.h"

#include <cmocka.h>

/* Guest memory of a queue: table, driver area, device area, then the slots' buffers. */
enum {
	QUEUE_AREA = 4 << 20,
	AREA_DRIVER = 0x1000,
	AREA_DEVICE = 0x2000,
	AREA_INDIRECT = 0x3000, /* a table for each slot */
	INDIRECT_TABLE = 64,
	AREA_BUFFERS = 0x10000,
	NEXT = 1,
	WRITE = 2,
	INDIRECT = 4,
	RING = 2 * DRIVER_SLOTS, /* the size of a queue */
	PACKED_AVAIL = 1 << 7,
	PACKED_USED = 1 << 15,
	SERVE_MS = 2,
	WAIT_MS = 1000,
};

struct descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags, next;
};

struct packed_descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t id, flags;
};

static void on_power(struct board *board, enum board_power what, int exit_code)
{
	(void)exit_code;
	container_of(board, struct driver_board, board)->power = what;
}

static void on_written(struct board *board, gpa_t gpa, uint64_t size)
{
	assert_non_null(memory_at(board->memory, gpa, size));
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

static void set_line(struct irq *irq, unsigned int line, bool level)
{
	(void)irq;
	(void)line;
	(void)level;
}

static void send_msi(struct irq *irq, uint64_t address, uint32_t data)
{
	(void)address;
	(void)data;
	container_of(irq, struct driver_board, irq)->interrupts++;
}

static const struct irq_ops irq_ops = {.set_line = set_line, .send_msi = send_msi};

void driver_board_init(struct driver_board *board)
{
	*board = (struct driver_board){.board.ops = &board_ops, .irq.ops = &irq_ops};
	board->board.irq = &board->irq;
	bus_init(&board->board.ports);
	bus_init(&board->board.mmio);
	assert_int_equal(timer_queue_init(&board->board.timers), 0);
	assert_int_equal(loop_create(&board->board.loop), 0);
	assert_int_equal(memory_create(DRIVER_MEMORY, &board->board.memory, NULL), 0);
}

void driver_board_release(struct driver_board *board)
{
	loop_destroy(board->board.loop);
	timer_queue_release(&board->board.timers);
	bus_release(&board->board.ports);
	bus_release(&board->board.mmio);
	memory_destroy(board->board.memory);
}

static void write_register(struct driver *d, uint32_t offset, unsigned int size, uint64_t value)
{
	struct device *device = &d->virtio->device;

	device_lock(device);
	device->ops->write(device, 0, offset, size, value);
	device_unlock(device);
}

uint64_t driver_read(struct driver *d, uint32_t offset, unsigned int size)
{
	struct device *device = &d->virtio->device;
	uint64_t value;

	device_lock(device);
	value = device->ops->read(device, 0, offset, size);
	device_unlock(device);
	return value;
}

bool driver_needs_reset(struct driver *d)
{
	return driver_read(d, 0x14, 1) & STATUS_NEEDS_RESET;
}

static gpa_t area(unsigned int queue)
{
	return (gpa_t)queue * QUEUE_AREA;
}

void driver_start(struct driver *d, struct driver_board *board, struct virtio *virtio)
{
	driver_start_with(d, board, virtio, 0);
}

void driver_start_with(struct driver *d, struct driver_board *board, struct virtio *virtio,
		       uint64_t rings)
{
	uint64_t choice = VIRTIO_BIT(VIRTIO_FEATURE_PACKED) |
			  VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX) |
			  VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT);
	uint64_t features = (virtio->offered & ~choice) | (rings & choice);

	*d = (struct driver){.board = board,
			     .virtio = virtio,
			     .packed = rings & VIRTIO_BIT(VIRTIO_FEATURE_PACKED),
			     .event_index = rings & VIRTIO_BIT(VIRTIO_FEATURE_EVENT_INDEX),
			     .indirect = rings & VIRTIO_BIT(VIRTIO_FEATURE_INDIRECT)};
	write_register(d, 0x14, 1, 0);
	write_register(d, 0x14, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
	for (unsigned int half = 0; half < 2; half++) {
		write_register(d, 0x08, 4, half);
		write_register(d, 0x0c, 4, (uint32_t)(features >> 32 * half));
	}
	write_register(d, 0x14, 1, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
	assert_true(driver_read(d, 0x14, 1) & STATUS_FEATURES_OK);
	for (unsigned int i = 0; i < virtio->queue_count && i < DRIVER_QUEUES; i++) {
		memset(memory_at(board->board.memory, area(i), AREA_BUFFERS), 0, AREA_BUFFERS);
		write_register(d, 0x16, 2, i);
		write_register(d, 0x18, 2, RING);
		write_register(d, 0x20, 8, area(i));
		write_register(d, 0x28, 8, area(i) + AREA_DRIVER);
		write_register(d, 0x30, 8, area(i) + AREA_DEVICE);
		write_register(d, 0x1c, 2, 1);
		assert_int_equal(driver_read(d, 0x1c, 2), 1);
	}
	write_register(d, 0x14, 1,
		       STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK);
	driver_serve(d);
}

void driver_reset(struct driver *d)
{
	write_register(d, 0x14, 1, 0);
	driver_serve(d);
}

static gpa_t buffer(unsigned int queue, unsigned int slot, bool in)
{
	return area(queue) + AREA_BUFFERS + (gpa_t)DRIVER_BUFFER * (2 * slot + in);
}

uint8_t *driver_out(struct driver *d, unsigned int queue, unsigned int slot)
{
	return memory_at(d->board->board.memory, buffer(queue, slot, false), DRIVER_BUFFER);
}

uint8_t *driver_in(struct driver *d, unsigned int queue, unsigned int slot)
{
	return memory_at(d->board->board.memory, buffer(queue, slot, true), DRIVER_BUFFER);
}

/* The descriptors of a slot: one or two. */
static unsigned int describe(unsigned int queue, unsigned int slot, uint32_t out, uint32_t in,
			     struct descriptor ret[2])
{
	unsigned int count = 0;

	if (out > 0 || in == 0)
		ret[count++] = (struct descriptor){buffer(queue, slot, false), out, 0, 0};
	if (in > 0)
		ret[count++] = (struct descriptor){buffer(queue, slot, true), in, WRITE, 0};
	if (count == 2)
		ret[0].flags = NEXT;
	return count;
}

/* 2.7.5.3, 2.8.7: moves the descriptors of a slot into a table of its own, and describes that instead. In a
 * packed ring's table only the order says what follows, and only WRITE counts. */
static unsigned int make_indirect(struct driver *d, unsigned int queue, unsigned int slot,
				  struct descriptor descriptors[2], unsigned int count)
{
	gpa_t at = area(queue) + AREA_INDIRECT + INDIRECT_TABLE * slot;
	uint8_t *table = memory_at(d->board->board.memory, at, INDIRECT_TABLE);

	for (unsigned int i = 0; i < count; i++) {
		const struct descriptor *from = &descriptors[i];

		if (d->packed)
			((struct packed_descriptor *)(void *)table)[i] = (struct packed_descriptor){
				from->address, from->length, 0xffff, from->flags & WRITE};
		else
			((struct descriptor *)(void *)table)[i] = (struct descriptor){
				from->address, from->length, from->flags, (uint16_t)(i + 1)};
	}
	descriptors[0] =
		(struct descriptor){at, count * (uint32_t)sizeof(*descriptors), INDIRECT, 0};
	return 1;
}

/* 2.7: true if the device wants to be told. */
static bool offer_split(struct driver *d, unsigned int queue, unsigned int slot,
			const struct descriptor *descriptors, unsigned int count)
{
	struct memory *memory = d->board->board.memory;
	struct descriptor *table = memory_at(memory, area(queue), AREA_DRIVER);
	uint16_t *avail = memory_at(memory, area(queue) + AREA_DRIVER, AREA_DRIVER);
	const uint16_t *used = memory_at(memory, area(queue) + AREA_DEVICE, AREA_DRIVER);
	uint16_t head = (uint16_t)(2 * slot), before = d->queues[queue].avail;

	memcpy(&table[head], descriptors, count * sizeof(*descriptors));
	table[head].next = (uint16_t)(head + 1);
	avail[2 + before % RING] = head;
	d->queues[queue].avail++;
	__atomic_store_n(&avail[1], d->queues[queue].avail, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return d->event_index ? used[2 + 4 * RING] == before : !(used[0] & 1);
}

static uint16_t packed_flags(uint16_t n, bool used)
{
	bool wrap = n / RING % 2 == 0;

	return (wrap ? PACKED_AVAIL : 0) | (wrap == used ? PACKED_USED : 0);
}

/* 2.8: the first descriptor's flags are written last. */
static bool offer_packed(struct driver *d, unsigned int queue, unsigned int slot,
			 const struct descriptor *descriptors, unsigned int count)
{
	struct memory *memory = d->board->board.memory;
	struct packed_descriptor *ring = memory_at(memory, area(queue), AREA_DRIVER);
	const uint16_t *wanted = memory_at(memory, area(queue) + AREA_DEVICE, 4);
	uint16_t at = d->queues[queue].avail;

	for (unsigned int i = count; i-- > 0;) {
		uint16_t n = (uint16_t)(at + i);
		struct packed_descriptor *to = &ring[n % RING];

		to->address = descriptors[i].address;
		to->length = descriptors[i].length;
		to->id = (uint16_t)slot;
		__atomic_store_n(&to->flags, descriptors[i].flags | packed_flags(n, false),
				 __ATOMIC_RELEASE);
	}
	d->queues[queue].counts[slot] = (uint8_t)count;
	d->queues[queue].avail = (uint16_t)(at + count);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return wanted[1] != 1;
}

void driver_offer(struct driver *d, unsigned int queue, unsigned int slot, uint32_t out,
		  uint32_t in)
{
	struct descriptor descriptors[2];
	unsigned int count = describe(queue, slot, out, in, descriptors);

	assert_true(slot < DRIVER_SLOTS && out <= DRIVER_BUFFER && in <= DRIVER_BUFFER);
	if (d->indirect)
		count = make_indirect(d, queue, slot, descriptors, count);
	if (d->packed ? offer_packed(d, queue, slot, descriptors, count)
		      : offer_split(d, queue, slot, descriptors, count))
		write_register(d, WINDOW_NOTIFY + NOTIFY_STEP * queue, 2, queue);
}

static int used_split(struct driver *d, unsigned int queue, uint32_t *ret_written)
{
	uint8_t *used = memory_at(d->board->board.memory, area(queue) + AREA_DEVICE, AREA_DRIVER);
	uint16_t *avail = memory_at(d->board->board.memory, area(queue) + AREA_DRIVER, AREA_DRIVER);
	uint32_t entry[2];

	if (__atomic_load_n((uint16_t *)(void *)(used + 2), __ATOMIC_ACQUIRE) ==
	    d->queues[queue].seen)
		return -1;
	memcpy(entry, used + 4 + 8 * (d->queues[queue].seen++ % RING), sizeof(entry));
	avail[2 + RING] = d->queues[queue].seen; /* used_event: tell of the next */
	*ret_written = entry[1];
	return (int)entry[0] / 2;
}

static int used_packed(struct driver *d, unsigned int queue, uint32_t *ret_written)
{
	const struct packed_descriptor *ring =
		memory_at(d->board->board.memory, area(queue), AREA_DRIVER);
	uint16_t n = d->queues[queue].seen;
	const struct packed_descriptor *from = &ring[n % RING];

	if ((__atomic_load_n(&from->flags, __ATOMIC_ACQUIRE) & (PACKED_AVAIL | PACKED_USED)) !=
	    packed_flags(n, true))
		return -1;
	assert_true(from->id < DRIVER_SLOTS);
	d->queues[queue].seen = (uint16_t)(n + d->queues[queue].counts[from->id]);
	*ret_written = from->length;
	return from->id;
}

int driver_used(struct driver *d, unsigned int queue, uint32_t *ret_written)
{
	uint32_t written;
	int slot = d->packed ? used_packed(d, queue, &written) : used_split(d, queue, &written);

	if (slot >= 0 && ret_written)
		*ret_written = written;
	return slot;
}

static void stop(struct loop *loop, struct loop_source *source, void *data)
{
	(void)data;
	loop_remove(source);
	loop_stop(loop, 0);
}

void driver_serve(struct driver *d)
{
	struct loop *loop = d->board->board.loop;
	struct loop_source *source;

	assert_int_equal(loop_add_timer(loop, SERVE_MS, stop, NULL, &source), 0);
	assert_int_equal(loop_run(loop), 0);
}

int driver_wait(struct driver *d, unsigned int queue, uint32_t *ret_written)
{
	for (unsigned int i = 0; i < WAIT_MS / SERVE_MS; i++) {
		int slot = driver_used(d, queue, ret_written);

		if (slot >= 0)
			return slot;
		driver_serve(d);
	}
	return -1;
}
