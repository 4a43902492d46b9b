/*
 * virtio: what every virtio device shares: the PCI transport (Virtio 1.2, 4.1, modern only), feature
 * negotiation, the device's status, its queues and their doorbells.
 *
 * A device embeds struct virtio and fills in an ops table. All hooks but `wake` are called with the device locked;
 * `notify` and `activate` on the device thread (or that of the disks), the others on a vCPU's. `notify` may
 * unlock it meanwhile.
 */
#pragma once

#include "vmm/chip/pci.h"
#include "vmm/virtio/queue.h"

enum { VIRTIO_QUEUES_MAX = 34 };

enum virtio_feature {
	VIRTIO_FEATURE_INDIRECT = 28,
	VIRTIO_FEATURE_EVENT_INDEX = 29,
	VIRTIO_FEATURE_VERSION_1 = 32,
	VIRTIO_FEATURE_PACKED = 34,
};
#define VIRTIO_BIT(n) (1ull << (n))

struct virtio;

struct virtio_ops {
	struct device_ops device; /* VIRTIO_DEVICE_OPS(name) */
	uint16_t type;            /* the device id of chapter 5 */
	uint32_t pci_class;       /* class, subclass, interface: bits 31-8 */
	uint32_t config_size;
	bool is_disk; /* served by the thread of the disks */
	/* Reads and writes of the device's own configuration; `offset` + `size` is within config_size.
	 * NULL: there is nothing to write. */
	void (*read_config)(struct virtio *virtio, uint32_t offset, void *ret, unsigned int size);
	void (*write_config)(struct virtio *virtio, uint32_t offset, const void *data,
			     unsigned int size);
	/* The driver has made something available in this queue, or may have. NULL: see `wake`. */
	void (*notify)(struct virtio *virtio, unsigned int queue);
	/* The same for a device with threads of its own, which look for themselves. The device is not locked, but
	 * has been: who wakes finds the lock free, and nobody misses it between looking and waiting. Or NULL. */
	void (*wake)(struct virtio *virtio);
	/* The driver is ready; NULL: not interested. Also after a load. */
	void (*activate)(struct virtio *virtio);
	/* The driver wants a fresh device; NULL: nothing to forget. */
	void (*reset)(struct virtio *virtio);
	/* The state beyond what the transport saves; NULL: none. */
	void (*save)(struct virtio *virtio, struct state_writer *out);
	void (*load)(struct virtio *virtio, struct state_reader *in);
	/* Releases what the device holds and itself. */
	void (*destroy)(struct virtio *virtio);
};

struct virtio_doorbell {
	struct virtio *virtio;
	unsigned int queue;
	int fd; /* an eventfd, watched by the device thread */
	bool in_kernel;
	struct loop_source *source;
};

struct virtio {
	struct device device;
	struct pci_function pci;
	const struct virtio_ops *ops;
	struct board *board;
	uint64_t offered, accepted; /* feature bits */
	uint32_t offered_select, accepted_select;
	uint8_t status, generation, isr;
	uint16_t config_vector, selected;
	bool activate_pending;
	gpa_t notify_at;                /* where the doorbells are; 0: nowhere */
	unsigned int window_capability; /* VIRTIO_PCI_CAP_PCI_CFG */
	unsigned int queue_count;
	uint16_t queue_size;
	struct queue queues[VIRTIO_QUEUES_MAX];
	struct virtio_doorbell doorbells[VIRTIO_QUEUES_MAX];
	struct queue_chain chain; /* room for the one that is being worked on */
	struct queue *serving;    /* whose doorbell is being served, or NULL */
	uint32_t turn_end;        /* of this one: a value of `popped` */
	bool config_news; /* set by load: the driver finds another configuration than it knew */
	unsigned int warnings;                  /* of a driver that broke the rules */
	uint64_t requests, bytes_out, bytes_in; /* chains answered, and what was in them */
};

/* Whether a device is a virtio device, and as what. */
bool virtio_is(const struct device *device);
struct virtio *virtio_of_device(struct device *device);

/* The loop of the thread that serves the device. */
struct loop *virtio_loop(const struct virtio *virtio);

/* The device_ops of every virtio device, but for its name. */
uint64_t virtio_device_read(struct device *device, unsigned int region, uint64_t offset,
			    unsigned int size);
void virtio_device_write(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size, uint64_t value);
bool virtio_device_ring(struct device *device, uint64_t offset);
void virtio_device_reset(struct device *device);
void virtio_device_save(struct device *device, struct state_writer *out);
int virtio_device_load(struct device *device, struct state_reader *in) must_check;
void virtio_device_destroy(struct device *device);
#define VIRTIO_DEVICE_OPS(device_name)                                                             \
	{                                                                                          \
		.name = device_name, .read = virtio_device_read, .write = virtio_device_write,     \
		.ring = virtio_device_ring, .reset = virtio_device_reset,                          \
		.save = virtio_device_save, .load = virtio_device_load,                            \
		.destroy = virtio_device_destroy                                                   \
	}

/* Sets up an embedded virtio with `queues` queues of up to `size` entries and the device's own feature
 * bits (the transport's are added). On failure destroy has been called. */
int virtio_init(struct virtio *virtio, const struct virtio_ops *ops, struct board *board,
		unsigned int instance, unsigned int queues, uint16_t size,
		uint64_t features) must_check;
/* Undoes it; the first thing that a destroy hook does. */
void virtio_release(struct virtio *virtio);

bool virtio_has(const struct virtio *virtio, unsigned int feature);
/* The driver has finished its set-up. */
bool virtio_is_active(const struct virtio *virtio);
/* The next chain of a queue, in virtio->chain: true, or false if there is none (then the driver will
 * ring again), or `notify` of this queue has had its turn (then it is called again, when others have had
 * theirs). A broken queue makes the device ask for a reset. */
bool virtio_pop(struct virtio *virtio, unsigned int queue);
/* The same for a queue in which the driver offers room for what the host has: if there is none, the driver
 * is told to ring, and it is looked at once more. */
bool virtio_pop_room(struct virtio *virtio, unsigned int queue);
/* Gives virtio->chain back with `written` bytes of answer. */
void virtio_push(struct virtio *virtio, unsigned int queue, uint32_t written);
/* The same with a chain of the caller's, for devices that have several in work or put some back, and without
 * turns: the caller sees to it that others have theirs. */
bool virtio_take(struct virtio *virtio, unsigned int queue, struct queue_chain *ret);
void virtio_give(struct virtio *virtio, unsigned int queue, const struct queue_chain *chain,
		 uint32_t written);
/* Tells the CPUs that `size` bytes of the chain's in part have been written (cpu.h, C3). */
void virtio_written(struct virtio *virtio, const struct queue_chain *chain, uint64_t size);
/* Interrupts if the driver wants to know what was pushed. */
void virtio_signal(struct virtio *virtio, unsigned int queue);
/* The device's configuration has changed. */
void virtio_config_changed(struct virtio *virtio);
/* The driver has done what it must not: nothing more happens until it resets the device. */
void virtio_fail(struct virtio *virtio, const char *why);
/* Lets the device thread look at a queue as if its doorbell had rung. Any thread. */
void virtio_ring(struct virtio *virtio, unsigned int queue);
