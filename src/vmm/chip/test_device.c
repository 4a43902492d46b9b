/*
 * test_device: see chips.h. The devices that public CPU test kernels expect beside the exit port, at the
 * addresses that QEMU's pc-testdev has given them: ports that keep what is written, ports that are
 * inputs of the IO-APIC, and a piece of memory that is a device, so that every access to it leaves
 * the CPU. (What they ask of the firmware configuration ports is in fw_cfg.c.)
 */
#include "vmm/chip/chips.h"

#include <errno.h>
#include <string.h>

enum {
	REGION_PORTS,
	REGION_FLUSH,
	REGION_BYTE_PORTS,
	REGION_LINES,
	REGION_MEMORY,

	PORTS = 0xe0,
	FLUSH = 0xe4, /* tells a hypervisor to drop its mapping of a page; nothing to do for us */
	BYTE_PORTS = 0xe8,
	LINES = 0x2000,
	MEMORY_SIZE = 0x10000,
};
#define MEMORY 0xff000000ull

struct test_device {
	struct device device;
	struct board *board;
	uint8_t latch[4];
	uint8_t memory[MEMORY_SIZE];
};

static struct test_device *self_of(struct device *device)
{
	return container_of(device, struct test_device, device);
}

static uint64_t get(const uint8_t *bytes, uint64_t limit, uint64_t offset, unsigned int size)
{
	uint64_t value = 0;

	if (offset + size <= limit)
		memcpy(&value, bytes + offset, size);
	return value;
}

static void put(uint8_t *bytes, uint64_t limit, uint64_t offset, unsigned int size, uint64_t value)
{
	if (offset + size <= limit)
		memcpy(bytes + offset, &value, size);
}

static uint64_t test_device_read(struct device *device, unsigned int region, uint64_t offset,
				 unsigned int size)
{
	struct test_device *self = self_of(device);

	switch (region) {
	case REGION_PORTS:
	case REGION_BYTE_PORTS:
		return get(self->latch, sizeof(self->latch), offset, size);
	case REGION_MEMORY:
		return get(self->memory, MEMORY_SIZE, offset, size);
	default:
		return 0;
	}
}

static void test_device_write(struct device *device, unsigned int region, uint64_t offset,
			      unsigned int size, uint64_t value)
{
	struct test_device *self = self_of(device);

	switch (region) {
	case REGION_PORTS:
	case REGION_BYTE_PORTS:
		put(self->latch, sizeof(self->latch), offset, size, value);
		break;
	case REGION_LINES:
		irq_set_line(self->board->irq, (unsigned int)offset, value != 0);
		break;
	case REGION_MEMORY:
		put(self->memory, MEMORY_SIZE, offset, size, value);
		break;
	}
}

static void test_device_reset(struct device *device)
{
	struct test_device *self = self_of(device);

	memset(self->latch, 0, sizeof(self->latch));
	memset(self->memory, 0, sizeof(self->memory));
}

static void test_device_save(struct device *device, struct state_writer *out)
{
	struct test_device *self = self_of(device);

	state_put(out, self->latch, sizeof(self->latch));
	state_put(out, self->memory, sizeof(self->memory));
}

static int test_device_load(struct device *device, struct state_reader *in)
{
	struct test_device *self = self_of(device);

	state_get(in, self->latch, sizeof(self->latch));
	state_get(in, self->memory, sizeof(self->memory));
	return state_finish(in);
}

static void test_device_destroy(struct device *device)
{
	struct test_device *self = self_of(device);

	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "test-device",
	.read = test_device_read,
	.write = test_device_write,
	.reset = test_device_reset,
	.save = test_device_save,
	.load = test_device_load,
	.destroy = test_device_destroy,
};

int test_device_create(struct board *board, struct device **ret)
{
	struct test_device *self = mem_new(sizeof(*self));
	const struct {
		uint64_t start, size;
		unsigned int region;
	} ports[] = {{PORTS, 4, REGION_PORTS},
		     {FLUSH, 4, REGION_FLUSH},
		     {BYTE_PORTS, 4, REGION_BYTE_PORTS},
		     {LINES, IRQ_LINES, REGION_LINES}};
	int rc = 0;

	self->board = board;
	device_init(&self->device, &ops, 0);
	*ret = &self->device;
	for (unsigned int i = 0; rc == 0 && i < array_size(ports); i++)
		rc = bus_add(&board->ports, ports[i].start, ports[i].size, &self->device,
			     ports[i].region);
	if (rc == 0)
		rc = bus_add(&board->mmio, MEMORY, MEMORY_SIZE, &self->device, REGION_MEMORY);
	return rc;
}
