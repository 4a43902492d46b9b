/*
 * bus: which device answers at which address. A machine has two: I/O ports and memory-mapped I/O.
 *
 * Any thread may call. Ranges come and go at run time, when a guest moves a PCI window.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "base/error.h"
#include "vmm/device.h"

enum { BUS_RANGES_MAX = 128 };

struct bus_range {
	uint64_t start, last; /* inclusive */
	struct device *device;
	unsigned int region;
};

struct bus {
	pthread_rwlock_t lock;
	unsigned int count;
	struct bus_range ranges[BUS_RANGES_MAX]; /* sorted, disjoint */
};

void bus_init(struct bus *bus);
void bus_release(struct bus *bus);

/* Lets `device` answer at [start, start + size) under the number `region`. -EEXIST if part of it is
 * taken, -ENOSPC if the table is full, -EINVAL for an empty range or one that wraps. */
int bus_add(struct bus *bus, uint64_t start, uint64_t size, struct device *device,
	    unsigned int region) must_check;
/* Takes the range of that device and number away, if it is there. */
void bus_remove(struct bus *bus, const struct device *device, unsigned int region);

/* Where nobody answers: reads are all ones, writes go nowhere. An access that leaves its range is
 * treated so too. `size` is 1, 2, 4 or 8. */
uint64_t bus_read(struct bus *bus, uint64_t address, unsigned int size);
void bus_write(struct bus *bus, uint64_t address, unsigned int size, uint64_t value);
