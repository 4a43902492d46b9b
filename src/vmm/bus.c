/* bus: see bus.h. The lock only covers the table: it is let go before the device is called, whose own
 * lock is taken instead, so that a slow device holds up only those who talk to it. */
#include "vmm/bus.h"

#include <errno.h>
#include <string.h>

void bus_init(struct bus *bus)
{
	memset(bus, 0, sizeof(*bus));
	pthread_rwlock_init(&bus->lock, NULL);
}

void bus_release(struct bus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
}

/* The index of the first range that ends at or behind `address`. */
static unsigned int lower_bound(const struct bus *bus, uint64_t address)
{
	unsigned int low = 0, high = bus->count;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (bus->ranges[middle].last < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert(struct bus *bus, const struct bus_range *range)
{
	unsigned int i = lower_bound(bus, range->start);

	if (i < bus->count && bus->ranges[i].start <= range->last)
		return -EEXIST;
	if (bus->count == BUS_RANGES_MAX)
		return -ENOSPC;
	memmove(&bus->ranges[i + 1], &bus->ranges[i], (bus->count - i) * sizeof(bus->ranges[0]));
	bus->ranges[i] = *range;
	bus->count++;
	return 0;
}

int bus_add(struct bus *bus, uint64_t start, uint64_t size, struct device *device,
	    unsigned int region)
{
	struct bus_range range = {
		.start = start, .last = start + size - 1, .device = device, .region = region};
	int rc;

	if (!size || range.last < start)
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	rc = insert(bus, &range);
	pthread_rwlock_unlock(&bus->lock);
	return rc;
}

void bus_remove(struct bus *bus, const struct device *device, unsigned int region)
{
	pthread_rwlock_wrlock(&bus->lock);
	for (unsigned int i = 0; i < bus->count; i++) {
		if (bus->ranges[i].device != device || bus->ranges[i].region != region)
			continue;
		bus->count--;
		memmove(&bus->ranges[i], &bus->ranges[i + 1],
			(bus->count - i) * sizeof(bus->ranges[0]));
		break;
	}
	pthread_rwlock_unlock(&bus->lock);
}

static bool find(struct bus *bus, uint64_t address, unsigned int size, struct bus_range *ret)
{
	unsigned int i;
	bool found;

	pthread_rwlock_rdlock(&bus->lock);
	i = lower_bound(bus, address);
	found = i < bus->count && bus->ranges[i].start <= address &&
		size - 1 <= bus->ranges[i].last - address;
	if (found)
		*ret = bus->ranges[i];
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned int size)
{
	uint64_t mask = size == 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
	struct bus_range range;
	uint64_t value;

	if (!find(bus, address, size, &range))
		return mask;
	device_lock(range.device);
	value = range.device->ops->read(range.device, range.region, address - range.start, size);
	device_unlock(range.device);
	return value & mask;
}

void bus_write(struct bus *bus, uint64_t address, unsigned int size, uint64_t value)
{
	uint64_t mask = size == 8 ? UINT64_MAX : (1ull << (size * 8)) - 1;
	struct bus_range range;

	if (!find(bus, address, size, &range))
		return;
	if (range.device->ops->ring && range.device->ops->ring(range.device, address - range.start))
		return;
	device_lock(range.device);
	range.device->ops->write(range.device, range.region, address - range.start, size,
				 value & mask);
	device_unlock(range.device);
}
