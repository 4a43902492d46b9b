/* debug_exit: see chips.h. What QEMU calls isa-debug-exit; CPU test kernels end with it. */
#include "vmm/chip/chips.h"

enum { PORT = 0xf4, PORTS = 4 };

struct debug_exit {
	struct device device;
	struct board *board;
};

static uint64_t debug_exit_read(struct device *device, unsigned int region, uint64_t offset,
				unsigned int size)
{
	(void)device;
	(void)region;
	(void)offset;
	(void)size;
	return 0;
}

static void debug_exit_write(struct device *device, unsigned int region, uint64_t offset,
			     unsigned int size, uint64_t value)
{
	struct debug_exit *self = container_of(device, struct debug_exit, device);

	(void)region;
	(void)size;
	if (offset == 0)
		self->board->ops->power(self->board, BOARD_EXIT, (int)((value * 2 + 1) & 0xff));
}

static void debug_exit_reset(struct device *device)
{
	(void)device;
}

static void debug_exit_save(struct device *device, struct state_writer *out)
{
	(void)device;
	(void)out;
}

static int debug_exit_load(struct device *device, struct state_reader *in)
{
	(void)device;
	return state_finish(in);
}

static void debug_exit_destroy(struct device *device)
{
	struct debug_exit *self = container_of(device, struct debug_exit, device);

	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "debug-exit",
	.read = debug_exit_read,
	.write = debug_exit_write,
	.reset = debug_exit_reset,
	.save = debug_exit_save,
	.load = debug_exit_load,
	.destroy = debug_exit_destroy,
};

int debug_exit_create(struct board *board, struct device **ret)
{
	struct debug_exit *self = mem_new(sizeof(*self));

	self->board = board;
	device_init(&self->device, &ops, 0);
	*ret = &self->device;
	return bus_add(&board->ports, PORT, PORTS, &self->device, 0);
}
