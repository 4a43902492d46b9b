/* pflash: see pflash.h. There is no waiting: whatever is asked for has been done when the guest looks. The file
 * follows at once, on the device thread. */
#include "vmm/chip/pflash.h"

#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "vmm/wake.h"

enum {
	READ_ARRAY = 0xff,
	READ_STATUS = 0x70,
	CLEAR_STATUS = 0x50,
	PROGRAM = 0x10,
	PROGRAM_ALSO = 0x40,
	ERASE = 0x20,
	ERASE_CONFIRM = 0xd0,
	STATUS_READY = 1 << 7,
	ERASED = 0xff,
};

enum mode { MODE_ARRAY, MODE_STATUS, MODE_PROGRAM, MODE_ERASE };

struct pflash {
	struct device device;
	uint64_t size;
	uint8_t *data;
	int fd;
	struct wake wake;
	bool *changed; /* for each block */
	bool keep;
	enum mode mode;
	uint8_t status;
};

static struct pflash *self_of(struct device *device)
{
	return container_of(device, struct pflash, device);
}

static uint64_t pflash_read(struct device *device, unsigned int region, uint64_t offset,
			    unsigned int size)
{
	const struct pflash *self = self_of(device);
	uint64_t value = 0;

	(void)region;
	if (self->mode != MODE_ARRAY)
		return self->status;
	memcpy(&value, self->data + offset, size);
	return value;
}

/* Puts changed blocks into the file. */
static void store(struct pflash *self)
{
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && self->keep && at < self->size; at += PFLASH_BLOCK) {
		if (!self->changed[at / PFLASH_BLOCK])
			continue;
		self->changed[at / PFLASH_BLOCK] = false;
		rc = fd_write_full_at(self->fd, self->data + at, PFLASH_BLOCK, (off_t)at);
	}
	if (rc == 0)
		return;
	self->keep = false;
	log_warn("the firmware's variables cannot be kept any more: %s", strerror(-rc));
}

static void on_changed(struct device *device)
{
	store(self_of(device));
}

/* A vCPU's thread, which we are called on, may not write files. */
static void note_change(struct pflash *self, uint64_t offset)
{
	self->changed[offset / PFLASH_BLOCK] = true;
	wake_up(&self->wake);
}

/* A bit can only be cleared; an erased block has them all set. */
static void program(struct pflash *self, uint64_t offset, unsigned int size, uint64_t value)
{
	for (unsigned int i = 0; i < size; i++)
		self->data[offset + i] &= (uint8_t)(value >> 8 * i);
	note_change(self, offset);
	note_change(self, offset + size - 1); /* it may be in the next block */
}

static void erase(struct pflash *self, uint64_t offset)
{
	offset &= ~(uint64_t)(PFLASH_BLOCK - 1);
	memset(self->data + offset, ERASED, PFLASH_BLOCK);
	note_change(self, offset);
}

/* By a status of 0 after it was cleared firmware tells a flash chip from RAM and ROM. */
static enum mode command(struct pflash *self, uint8_t byte)
{
	switch (byte) {
	case READ_STATUS:
		return MODE_STATUS;
	case CLEAR_STATUS:
		self->status = 0;
		return MODE_ARRAY;
	case PROGRAM:
	case PROGRAM_ALSO:
		return MODE_PROGRAM;
	case ERASE:
		return MODE_ERASE;
	default:
		return MODE_ARRAY;
	}
}

static void pflash_write(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size, uint64_t value)
{
	struct pflash *self = self_of(device);

	(void)region;
	switch (self->mode) {
	case MODE_PROGRAM:
		program(self, offset, size, value);
		self->mode = MODE_STATUS;
		self->status = STATUS_READY;
		return;
	case MODE_ERASE:
		if ((uint8_t)value == ERASE_CONFIRM)
			erase(self, offset);
		self->mode = MODE_STATUS;
		self->status = STATUS_READY;
		return;
	case MODE_ARRAY:
	case MODE_STATUS:
		self->mode = command(self, (uint8_t)value);
		return;
	}
}

static void pflash_reset(struct device *device)
{
	self_of(device)->mode = MODE_ARRAY;
	self_of(device)->status = STATUS_READY;
}

/* Its bytes are a file's; machines with it are not saved. */
static void pflash_save(struct device *device, struct state_writer *out)
{
	state_put_u8(out, (uint8_t)self_of(device)->mode);
	state_put_u8(out, self_of(device)->status);
}

static int pflash_load(struct device *device, struct state_reader *in)
{
	uint8_t mode = state_get_u8(in);

	self_of(device)->mode = mode <= MODE_ERASE ? (enum mode)mode : MODE_ARRAY;
	self_of(device)->status = state_get_u8(in);
	return state_finish(in);
}

static void pflash_destroy(struct device *device)
{
	struct pflash *self = self_of(device);

	if (self->fd >= 0)
		store(self);
	wake_release(&self->wake);
	fd_close(&self->fd);
	own_mem_release(&self->data);
	own_mem_release(&self->changed);
	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "pflash",
	.read = pflash_read,
	.write = pflash_write,
	.reset = pflash_reset,
	.save = pflash_save,
	.load = pflash_load,
	.destroy = pflash_destroy,
};

struct device *pflash_device(struct pflash *self)
{
	return &self->device;
}

int pflash_create(struct board *board, gpa_t gpa, uint64_t size, int fd, bool keep,
		  struct pflash **ret)
{
	struct pflash *self;
	ssize_t n;
	int rc;

	if (size == 0 || size > PFLASH_SIZE_MAX || size % PFLASH_BLOCK != 0)
		return -EINVAL;
	self = mem_new(sizeof(*self));
	self->size = size;
	self->data = mem_new(size);
	self->changed = mem_new_array(size / PFLASH_BLOCK, sizeof(*self->changed));
	self->keep = keep;
	self->fd = -1;
	device_init(&self->device, &ops, 0);
	n = fd_read_full_at(fd, self->data, size, 0);
	rc = n < 0 ? (int)n : (uint64_t)n != size ? -EIO : 0;
	if (rc == 0)
		rc = wake_init(&self->wake, board->loop, &self->device, on_changed);
	if (rc == 0)
		rc = bus_add(&board->mmio, gpa, size, &self->device, 0);
	if (rc < 0) {
		pflash_destroy(&self->device);
		return rc;
	}
	self->fd = fd;
	*ret = self;
	return 0;
}
