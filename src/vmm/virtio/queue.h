/*
 * queue: a virtqueue, split or packed (Virtio 1.2, 2.7 and 2.8), as the device sees it.
 *
 * Everything in it is the driver's, and hostile until checked. A descriptor is copied out of guest
 * memory once, and what has been checked is the copy. Anything that makes no sense breaks the queue:
 * from then on it gives -EINVAL, and the device asks the driver for a reset.
 *
 * A plain value, guarded by the device's lock.
 *
 * Invariants
 *   V1  every segment of a chain lies wholly in guest memory.
 *   V2  a chain has at most QUEUE_SEGMENTS_MAX segments, and readable ones come before writable ones.
 *   V3  walking a chain ends: no more descriptors are looked at than the table has.
 *   V4  no more chains are under way (popped, not given back) than the ring has places, so that a device
 *       may keep what it has popped.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "vmm/memory.h"
#include "vmm/state.h"

enum {
	QUEUE_SIZE_MAX = 256,
	QUEUE_SEGMENTS_MAX = 260,
	QUEUE_NO_VECTOR = 0xffff,
};

struct queue {
	const struct memory *memory;
	uint16_t size; /* 1 to QUEUE_SIZE_MAX; a power of two if split */
	uint16_t vector;
	bool ready, broken;
	bool packed, event_index;          /* negotiated */
	gpa_t descriptors, driver, device; /* the three areas */

	uint16_t next_avail; /* split: a running number; packed: a place in the ring */
	uint16_t next_used;
	bool avail_wrap, used_wrap; /* packed */
	uint16_t signalled;         /* next_used when the driver was last told (event index) */
	bool signalled_wrap, signalled_valid;
	uint32_t unsignalled; /* places given back since then */
	uint32_t popped;      /* chains, a running number: places come back to where they were */
};

/* A chain of buffers: first what the driver says ("out"), then where the answer goes ("in"). */
struct queue_chain {
	uint16_t id;
	uint16_t descriptors; /* how many places of a packed ring it takes */
	unsigned int out_count, in_count;
	uint64_t out_bytes, in_bytes;
	struct iovec segments[QUEUE_SEGMENTS_MAX]; /* out_count, then in_count */
	gpa_t addresses[QUEUE_SEGMENTS_MAX];
};

/* The state after a reset, with the largest size that is allowed. */
void queue_reset(struct queue *queue, uint16_t size);
/* Checks what the driver has set up, when it enables the queue. -EINVAL. */
int queue_check(const struct queue *queue) must_check;

/* Takes the next chain: 1; 0 if there is none; -EINVAL if the queue is broken. */
int queue_pop(struct queue *queue, struct queue_chain *ret) must_check;
/* Puts back the chain that was popped last: the next pop gives it again. */
void queue_unpop(struct queue *queue, const struct queue_chain *chain);
/* As if no chain had been popped since `before` was a copy of the queue; nothing may have been given back
 * or filled in since. */
void queue_rewind(struct queue *queue, const struct queue *before);
/* Whether the driver has made something available: a hint, nothing is checked. */
bool queue_available(const struct queue *queue);
/* Gives a chain to the driver with `written` bytes of answer. 0, -EINVAL. */
int queue_push(struct queue *queue, const struct queue_chain *chain, uint32_t written);
/* The same for several chains that must become visible at once (a packet in several buffers): each is
 * filled in by its id, with `place` counting chains (split) or descriptors (packed) before it; then
 * flushed. What has been filled in cannot be put back: in a packed ring it overwrites what was offered. */
int queue_fill(struct queue *queue, uint16_t id, uint32_t written, unsigned int place);
int queue_flush(struct queue *queue, unsigned int places);
/* Whether the driver wants to be told of what was pushed since it was told last. */
bool queue_wants_signal(struct queue *queue);
/* Asks the driver to ring the doorbell for chains to come, or not to. After asking for it the queue
 * must be looked at once more. Chains that are left in it do not count as chains to come. */
void queue_set_doorbell(struct queue *queue, bool wanted);

/* Copies between a chain and memory of ours, `offset` bytes into its out or in part. The number of
 * bytes copied: less than `size` at the chain's end. */
size_t queue_copy_out(const struct queue_chain *chain, size_t offset, void *data, size_t size);
size_t queue_copy_in(const struct queue_chain *chain, size_t offset, const void *data, size_t size);
/* The out or in part from `offset` on, at most `size` bytes of it. `ret` has room for
 * QUEUE_SEGMENTS_MAX elements. Returns their number. */
unsigned int queue_slice(const struct queue_chain *chain, bool in, size_t offset, size_t size,
			 struct iovec *ret);

void queue_save(const struct queue *queue, struct state_writer *out);
void queue_load(struct queue *queue, struct state_reader *in);
