/*
 * device: what everything that hangs on a bus has in common.
 *
 * A device embeds `struct device`, and its ops recover the whole with container_of. Each device has a
 * lock of its own: the bus takes it around read and write, the device thread takes it around what it
 * does for the device (timers, queues, host descriptors). The ops are called with the lock held.
 *
 * Lock order: the PCI host's device lock, a device's lock, then one of the leaves (bus, interrupt
 * controller, timers), none of which calls back into a device while it is held.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "base/mem.h"
#include "vmm/state.h"

struct device;

struct device_ops {
	const char *name;
	/* `region` is the number given to bus_add, `offset` counts from its start, `size` is 1, 2, 4 or
	 * 8. Nothing a guest does is an error: what is not there reads as all ones or zero. */
	uint64_t (*read)(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size);
	void (*write)(struct device *device, unsigned int region, uint64_t offset,
		      unsigned int size, uint64_t value);
	/* Takes a write that needs no lock (a doorbell), so that nobody waits for who has it: true. NULL: there
	 * is none. The lock is not held. */
	bool (*ring)(struct device *device, uint64_t offset);
	/* Back to the state after power on. */
	void (*reset)(struct device *device);
	/* The whole state that a guest can see. load gets what save wrote and checks it as foreign
	 * input: 0 or -EINVAL; the device is then of no more use. */
	void (*save)(struct device *device, struct state_writer *out);
	int (*load)(struct device *device, struct state_reader *in) must_check;
	/* Releases everything, the structure itself too. */
	void (*destroy)(struct device *device);
};

struct device {
	const struct device_ops *ops;
	unsigned int instance; /* tells devices of one name apart, in snapshots and in warnings */
	pthread_mutex_t lock;
};

static inline void device_init(struct device *device, const struct device_ops *ops,
			       unsigned int instance)
{
	device->ops = ops;
	device->instance = instance;
	pthread_mutex_init(&device->lock, NULL);
}

static inline void device_lock(struct device *device)
{
	pthread_mutex_lock(&device->lock);
}

static inline void device_unlock(struct device *device)
{
	pthread_mutex_unlock(&device->lock);
}
