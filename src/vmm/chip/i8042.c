/* i8042: see chips.h. There is no keyboard: the controller answers its self-test, so that kernels that
 * probe for it are done quickly, and pulses the reset line, which is what they use it for. */
#include "vmm/chip/chips.h"

enum {
	REGION_DATA,
	REGION_COMMAND,
	REGION_FAST,
	STATUS_OUTPUT_FULL = 1 << 0,
	STATUS_SELF_TEST = 1 << 2,
	STATUS_COMMAND = 1 << 3,
	COMMAND_READ_CONFIG = 0x20,
	COMMAND_WRITE_CONFIG = 0x60,
	COMMAND_SELF_TEST = 0xaa,
	COMMAND_TEST_KEYBOARD = 0xab,
	COMMAND_RESET = 0xfe,
	FAST_RESET = 1 << 0,
};

struct i8042 {
	struct device device;
	struct board *board;
	uint8_t status, data, config;
	uint8_t expects; /* the command whose byte comes next at the data port */
};

static void answer(struct i8042 *self, uint8_t value)
{
	self->data = value;
	self->status |= STATUS_OUTPUT_FULL;
}

static void command(struct i8042 *self, uint8_t value)
{
	self->expects = 0;
	switch (value) {
	case COMMAND_READ_CONFIG:
		answer(self, self->config);
		break;
	case COMMAND_WRITE_CONFIG:
		self->expects = value;
		break;
	case COMMAND_SELF_TEST:
		answer(self, 0x55);
		break;
	case COMMAND_TEST_KEYBOARD:
		answer(self, 0x00);
		break;
	default:
		/* 0xf0-0xff pulse the output lines whose bits are clear; bit 0 is the reset. */
		if (value >= 0xf0 && !(value & 1))
			self->board->ops->power(self->board, BOARD_RESET, 0);
	}
}

static uint64_t i8042_read(struct device *device, unsigned int region, uint64_t offset,
			   unsigned int size)
{
	struct i8042 *self = container_of(device, struct i8042, device);

	(void)offset;
	(void)size;
	if (region == REGION_FAST)
		return 2; /* A20 is on */
	if (region == REGION_COMMAND)
		return self->status | STATUS_SELF_TEST;
	self->status &= (uint8_t)~STATUS_OUTPUT_FULL;
	return self->data;
}

static void i8042_write(struct device *device, unsigned int region, uint64_t offset,
			unsigned int size, uint64_t value)
{
	struct i8042 *self = container_of(device, struct i8042, device);

	(void)offset;
	(void)size;
	if (region == REGION_FAST) {
		if (value & FAST_RESET)
			self->board->ops->power(self->board, BOARD_RESET, 0);
	} else if (region == REGION_COMMAND) {
		self->status |= STATUS_COMMAND;
		command(self, (uint8_t)value);
	} else {
		self->status &= (uint8_t)~STATUS_COMMAND;
		if (self->expects == COMMAND_WRITE_CONFIG)
			self->config = (uint8_t)value;
		else
			answer(self, 0xfe); /* nobody there: resend */
		self->expects = 0;
	}
}

static void i8042_reset(struct device *device)
{
	struct i8042 *self = container_of(device, struct i8042, device);

	self->status = self->data = self->config = self->expects = 0;
}

static void i8042_save(struct device *device, struct state_writer *out)
{
	struct i8042 *self = container_of(device, struct i8042, device);

	state_put_u8(out, self->status);
	state_put_u8(out, self->data);
	state_put_u8(out, self->config);
	state_put_u8(out, self->expects);
}

static int i8042_load(struct device *device, struct state_reader *in)
{
	struct i8042 *self = container_of(device, struct i8042, device);

	self->status = state_get_u8(in);
	self->data = state_get_u8(in);
	self->config = state_get_u8(in);
	self->expects = state_get_u8(in);
	return state_finish(in);
}

static void i8042_destroy(struct device *device)
{
	struct i8042 *self = container_of(device, struct i8042, device);

	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "i8042",
	.read = i8042_read,
	.write = i8042_write,
	.reset = i8042_reset,
	.save = i8042_save,
	.load = i8042_load,
	.destroy = i8042_destroy,
};

int i8042_create(struct board *board, struct device **ret)
{
	struct i8042 *self = mem_new(sizeof(*self));
	int rc;

	self->board = board;
	device_init(&self->device, &ops, 0);
	*ret = &self->device;
	rc = bus_add(&board->ports, 0x60, 1, &self->device, REGION_DATA);
	if (rc == 0)
		rc = bus_add(&board->ports, 0x64, 1, &self->device, REGION_COMMAND);
	return rc < 0 ? rc : bus_add(&board->ports, 0x92, 1, &self->device, REGION_FAST);
}
