/*
 * serial: see chips.h. A 16550A without modem (National Semiconductor PC16550D data sheet).
 *
 * Output is collected and written at a line's end, when a millisecond has passed, or when the buffer is
 * full. Nobody waits for who reads it: while it cannot be written, the transmitter is busy for the guest once
 * the buffer is full, as on a slow line, and what the guest sends nevertheless is lost.
 */
#include "vmm/chip/chips.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "vmm/output.h"

enum {
	PORT = 0x3f8,
	PORTS = 8,
	REG_DATA = 0,
	REG_IER = 1,
	REG_IIR_FCR = 2,
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCRATCH = 7,
	IER_RECEIVE = 1 << 0,
	IER_TRANSMIT = 1 << 1,
	IIR_NONE = 1,
	IIR_TRANSMIT = 2,
	IIR_RECEIVE = 4,
	IIR_FIFO = 0xc0,
	FCR_ENABLE = 1 << 0,
	FCR_CLEAR_RECEIVE = 1 << 1,
	LCR_DLAB = 1 << 7,
	MCR_DTR = 1 << 0,
	MCR_RTS = 1 << 1,
	MCR_OUT1 = 1 << 2,
	MCR_OUT2 = 1 << 3, /* lets the interrupt through on a PC */
	MCR_LOOP = 1 << 4,
	LSR_DATA = 1 << 0,
	LSR_EMPTY = 3 << 5,
	MSR_CTS = 1 << 4,
	MSR_DSR = 1 << 5,
	MSR_RI = 1 << 6,
	MSR_DCD = 1 << 7,
	FIFO_SIZE = 16,
	OUT_SIZE = 8192,
	FLUSH_NS = 1000000,
	RETRY_NS = 10000000, /* of a reader that does not take what there is */
};

struct serial {
	struct device device;
	struct board *board;
	struct input *input;
	struct timer flush;
	struct output output;
	bool blocked; /* it has not taken all of it; the timer tries again */
	uint8_t ier, fcr, lcr, mcr, scratch;
	uint16_t divisor;
	bool transmit_pending; /* the "transmitter empty" interrupt has not been read yet */
	uint8_t fifo[FIFO_SIZE];
	unsigned int fifo_count;
	size_t out_count;
	char out[OUT_SIZE];
};

/* Whether the transmitter is ready for what it says it takes at once. */
static bool has_room(const struct serial *self)
{
	return OUT_SIZE - self->out_count >= FIFO_SIZE;
}

static void flush(struct serial *self)
{
	bool had_room = has_room(self);
	size_t n = output_write(&self->output, self->out, self->out_count);

	self->out_count -= n;
	memmove(self->out, self->out + n, self->out_count);
	self->blocked = self->out_count > 0;
	if (self->blocked)
		timer_set(&self->board->timers, &self->flush, clock_monotonic_ns() + RETRY_NS);
	if (!had_room && has_room(self))
		self->transmit_pending = true;
}

static uint8_t interrupt_id(const struct serial *self)
{
	if (self->fifo_count && (self->ier & IER_RECEIVE))
		return IIR_RECEIVE;
	if (self->transmit_pending && (self->ier & IER_TRANSMIT))
		return IIR_TRANSMIT;
	return IIR_NONE;
}

static void update_line(struct serial *self)
{
	irq_set_line(self->board->irq, IRQ_SERIAL,
		     interrupt_id(self) != IIR_NONE && (self->mcr & MCR_OUT2));
}

static void flush_timer(struct timer *timer)
{
	struct serial *self = container_of(timer, struct serial, flush);

	device_lock(&self->device);
	flush(self);
	update_line(self);
	device_unlock(&self->device);
}

static void transmit(struct serial *self, uint8_t value)
{
	if (self->mcr & MCR_LOOP) {
		if (self->fifo_count < FIFO_SIZE)
			self->fifo[self->fifo_count++] = value;
	} else if (self->out_count < OUT_SIZE) {
		if (!self->out_count)
			timer_set(&self->board->timers, &self->flush,
				  clock_monotonic_ns() + FLUSH_NS);
		self->out[self->out_count++] = (char)value;
		if (!self->blocked && (value == '\n' || !has_room(self)))
			flush(self);
	}
	self->transmit_pending = has_room(self);
}

static uint8_t receive(struct serial *self)
{
	uint8_t value = self->fifo[0];

	if (!self->fifo_count)
		return 0;
	memmove(self->fifo, self->fifo + 1, --self->fifo_count);
	if (self->fifo_count == 0)
		input_wake(self->input);
	return value;
}

static uint8_t modem_status(const struct serial *self)
{
	if (!(self->mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (self->mcr & MCR_RTS ? MSR_CTS : 0) | (self->mcr & MCR_DTR ? MSR_DSR : 0) |
	       (self->mcr & MCR_OUT1 ? MSR_RI : 0) | (self->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static uint64_t serial_read(struct device *device, unsigned int region, uint64_t offset,
			    unsigned int size)
{
	struct serial *self = container_of(device, struct serial, device);
	uint8_t value = 0xff;

	(void)region;
	(void)size;
	switch (offset) {
	case REG_DATA:
		value = self->lcr & LCR_DLAB ? (uint8_t)self->divisor : receive(self);
		break;
	case REG_IER:
		value = self->lcr & LCR_DLAB ? self->divisor >> 8 : self->ier;
		break;
	case REG_IIR_FCR:
		value = interrupt_id(self);
		if (value == IIR_TRANSMIT)
			self->transmit_pending = false;
		if (self->fcr & FCR_ENABLE)
			value |= IIR_FIFO;
		break;
	case REG_LCR:
		value = self->lcr;
		break;
	case REG_MCR:
		value = self->mcr;
		break;
	case REG_LSR:
		value = (has_room(self) ? LSR_EMPTY : 0) | (self->fifo_count ? LSR_DATA : 0);
		break;
	case REG_MSR:
		value = modem_status(self);
		break;
	case REG_SCRATCH:
		value = self->scratch;
		break;
	}
	update_line(self);
	return value;
}

static void serial_write(struct device *device, unsigned int region, uint64_t offset,
			 unsigned int size, uint64_t value64)
{
	struct serial *self = container_of(device, struct serial, device);
	uint8_t value = (uint8_t)value64;

	(void)region;
	(void)size;
	switch (offset) {
	case REG_DATA:
		if (self->lcr & LCR_DLAB)
			self->divisor = (self->divisor & 0xff00) | value;
		else
			transmit(self, value);
		break;
	case REG_IER:
		if (self->lcr & LCR_DLAB) {
			self->divisor = (uint16_t)((self->divisor & 0xff) | value << 8);
			break;
		}
		/* Switching it on raises it at once, if the transmitter is empty. */
		if ((value & IER_TRANSMIT) && !(self->ier & IER_TRANSMIT))
			self->transmit_pending = has_room(self);
		self->ier = value & 0xf;
		break;
	case REG_IIR_FCR:
		self->fcr = value & 0xc9;
		if (value & FCR_CLEAR_RECEIVE)
			self->fifo_count = 0;
		break;
	case REG_LCR:
		self->lcr = value;
		break;
	case REG_MCR:
		self->mcr = value & 0x1f;
		break;
	case REG_SCRATCH:
		self->scratch = value;
		break;
	}
	update_line(self);
}

size_t serial_receive(struct serial *self, const void *data, size_t size)
{
	unsigned int room;

	device_lock(&self->device);
	room = FIFO_SIZE - self->fifo_count;
	if (size > room)
		size = room;
	memcpy(self->fifo + self->fifo_count, data, size);
	self->fifo_count += (unsigned int)size;
	update_line(self);
	device_unlock(&self->device);
	return size;
}

static void serial_reset(struct device *device)
{
	struct serial *self = container_of(device, struct serial, device);

	flush(self);
	self->ier = self->fcr = self->lcr = self->scratch = 0;
	self->mcr = MCR_OUT2;
	self->divisor = 12;
	self->transmit_pending = false;
	self->fifo_count = 0;
	update_line(self);
}

static void serial_save(struct device *device, struct state_writer *out)
{
	struct serial *self = container_of(device, struct serial, device);

	flush(self);
	state_put_u8(out, self->ier);
	state_put_u8(out, self->fcr);
	state_put_u8(out, self->lcr);
	state_put_u8(out, self->mcr);
	state_put_u8(out, self->scratch);
	state_put_u16(out, self->divisor);
	/* What is not written yet is ours to write: the copy's transmitter is empty. */
	state_put_u8(out, self->transmit_pending || !has_room(self));
	state_put_u32(out, self->fifo_count);
	state_put(out, self->fifo, sizeof(self->fifo));
}

static int serial_load(struct device *device, struct state_reader *in)
{
	struct serial *self = container_of(device, struct serial, device);

	self->ier = state_get_u8(in) & 0xf;
	self->fcr = state_get_u8(in);
	self->lcr = state_get_u8(in);
	self->mcr = state_get_u8(in) & 0x1f;
	self->scratch = state_get_u8(in);
	self->divisor = state_get_u16(in);
	self->transmit_pending = state_get_u8(in);
	self->fifo_count = state_get_u32(in);
	state_get(in, self->fifo, sizeof(self->fifo));
	if (self->fifo_count > FIFO_SIZE)
		return -EINVAL;
	update_line(self);
	return state_finish(in);
}

static void serial_destroy(struct device *device)
{
	struct serial *self = container_of(device, struct serial, device);

	timer_set(&self->board->timers, &self->flush, TIMER_NEVER);
	output_drain(&self->output, self->out, self->out_count);
	output_release(&self->output);
	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "serial",
	.read = serial_read,
	.write = serial_write,
	.reset = serial_reset,
	.save = serial_save,
	.load = serial_load,
	.destroy = serial_destroy,
};

int serial_create(struct board *board, int out_fd, struct input *input, struct serial **ret)
{
	struct serial *self = mem_new(sizeof(*self));

	self->board = board;
	self->input = input;
	output_init(&self->output, out_fd);
	timer_init(&self->flush, flush_timer);
	device_init(&self->device, &ops, 0);
	*ret = self;
	return bus_add(&board->ports, PORT, PORTS, &self->device, 0);
}

struct device *serial_device(struct serial *serial)
{
	return &serial->device;
}
