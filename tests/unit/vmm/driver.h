/*
 * driver: a board without a machine and a small driver for virtio devices on it, so that devices can be
 * tested without a guest. The driver speaks to the device through its registers and queues, as a guest
 * would: it rings only when the device wants it. Every queue has SLOTS slots, and slot i of a queue is a
 * chain of its own: one buffer out, one in.
 */
#pragma once

#include "vmm/virtio/virtio.h"

enum {
	DRIVER_MEMORY = 32 << 20,
	DRIVER_SLOTS = 16,
	DRIVER_QUEUES = 8,
	DRIVER_BUFFER = 72 << 10, /* room for what goes out, and as much for what comes in */
};

struct driver_board {
	struct board board;
	struct irq irq;
	unsigned int interrupts;
	enum board_power power;
};

struct driver {
	struct driver_board *board;
	struct virtio *virtio;
	bool packed, event_index, indirect;
	struct {
		uint16_t avail, seen; /* running numbers: of chains, packed: of descriptors */
		uint8_t counts[DRIVER_SLOTS]; /* packed: descriptors of a slot that is offered */
	} queues[DRIVER_QUEUES];
};

void driver_board_init(struct driver_board *board);
void driver_board_release(struct driver_board *board);

/* Negotiates everything that the device offers but packed rings, event indexes and indirect descriptors, sets
 * its queues up and starts it. */
void driver_start(struct driver *driver, struct driver_board *board, struct virtio *virtio);
/* The same, with those of the three that `rings` has the bits of (VIRTIO_BIT). */
void driver_start_with(struct driver *driver, struct driver_board *board, struct virtio *virtio,
		       uint64_t rings);
void driver_reset(struct driver *driver);
uint64_t driver_read(struct driver *driver, uint32_t offset, unsigned int size);
bool driver_needs_reset(struct driver *driver);

/* The buffers of a slot. */
uint8_t *driver_out(struct driver *driver, unsigned int queue, unsigned int slot);
uint8_t *driver_in(struct driver *driver, unsigned int queue, unsigned int slot);
/* Offers a slot with that many bytes out and in, and rings if the device wants that. */
void driver_offer(struct driver *driver, unsigned int queue, unsigned int slot, uint32_t out,
		  uint32_t in);
/* The next slot that the device has given back, with what it says it has written; -1: none. */
int driver_used(struct driver *driver, unsigned int queue, uint32_t *ret_written);
/* Lets the device thread's loop run for a moment. */
void driver_serve(struct driver *driver);
/* Serves until the device gives a slot of the queue back, or a second has passed (-1). */
int driver_wait(struct driver *driver, unsigned int queue, uint32_t *ret_written);
