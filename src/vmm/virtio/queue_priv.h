/* queue_priv: between queue.c and the two forms of rings. */
#pragma once

#include "vmm/virtio/queue.h"

enum {
	QUEUE_DESCRIPTOR_NEXT = 1,
	QUEUE_DESCRIPTOR_WRITE = 2,
	QUEUE_DESCRIPTOR_INDIRECT = 4,
	/* An indirect table is not bound by the ring's size; a longer one would break V2 anyway. */
	QUEUE_INDIRECT_MAX = QUEUE_SEGMENTS_MAX,
};

/* The copy of a descriptor of either form. */
struct queue_descriptor {
	uint64_t address;
	uint32_t length;
	uint16_t flags;
	uint16_t next; /* split */
	uint16_t id;   /* packed */
};

/* Adds one buffer to a chain, checked (V1, V2). -EINVAL. */
int queue_add_segment(const struct queue *queue, struct queue_chain *chain,
		      const struct queue_descriptor *descriptor) must_check;

/* A form of ring. */
struct queue_ring {
	int (*check)(const struct queue *queue);
	bool (*available)(const struct queue *queue);
	int (*pop)(struct queue *queue, struct queue_chain *ret);
	void (*unpop)(struct queue *queue, const struct queue_chain *chain);
	int (*fill)(struct queue *queue, uint16_t id, uint32_t written, unsigned int place);
	int (*flush)(struct queue *queue, unsigned int places);
	bool (*wants_signal)(const struct queue *queue);
	void (*set_doorbell)(struct queue *queue, bool wanted);
};
extern const struct queue_ring queue_split, queue_packed;
