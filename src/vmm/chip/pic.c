/* pic: see pic.h. */
#include "vmm/chip/pic.h"

#include <string.h>

enum {
	ICW1_INIT = 0x10,
	ICW1_SINGLE = 0x02,
	ICW1_LEVEL = 0x08,
	ICW1_ICW4 = 0x01,
	ICW4_AEOI = 0x02,
	ICW4_NESTED = 0x10,
	OCW3_SELECT = 0x08,
	CASCADE = 2,
};

void pic_reset(struct pic *pic)
{
	memset(pic, 0, sizeof(*pic));
	for (unsigned int i = 0; i < 2; i++) {
		pic->half[i].lowest = 7;
		pic->half[i].imr = 0xff;
	}
}

/* The priority of the highest bit set in `bits`, 0 being the highest; 8 if none is. */
static unsigned int priority_of(const struct pic_half *h, uint8_t bits)
{
	for (unsigned int p = 0; p < 8; p++)
		if (bits & (1u << ((h->lowest + 1 + p) & 7)))
			return p;
	return 8;
}

/* The input that would interrupt now, or -1. */
static int pending_input(const struct pic_half *h, bool master)
{
	unsigned int wanted = priority_of(h, h->irr & (uint8_t)~h->imr);
	uint8_t served = h->isr;

	if (wanted == 8)
		return -1;
	if (h->special_mask)
		served &= (uint8_t)~h->imr;
	/* In special fully nested mode a second request of the slave may interrupt the first. */
	if (h->nested && master)
		served &= (uint8_t) ~(1u << CASCADE);
	if (wanted >= priority_of(h, served))
		return -1;
	return (int)((h->lowest + 1 + wanted) & 7);
}

static void set_input(struct pic_half *h, unsigned int input, bool level)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (h->level & bit) {
		h->irr = level ? h->irr | bit : h->irr & (uint8_t)~bit;
	} else if (!level) {
		h->irr &= (uint8_t)~bit;
	} else if (!(h->lines & bit)) {
		h->irr |= bit;
	}
	h->lines = level ? h->lines | bit : h->lines & (uint8_t)~bit;
}

static void update_cascade(struct pic *pic)
{
	bool level = pending_input(&pic->half[1], false) >= 0;

	/* The slave's output is looked at as a level: it stays up while anything waits there. */
	struct pic_half *master = &pic->half[0];
	uint8_t bit = 1u << CASCADE;

	master->irr = level ? master->irr | bit : master->irr & (uint8_t)~bit;
}

void pic_set_line(struct pic *pic, unsigned int line, bool level)
{
	/* The 8259 forgets an edge whose line falls before the acknowledge; a pulse from a timer would
	 * be lost then. As chipsets do, an edge is latched: only level-triggered inputs follow. */
	struct pic_half *h = &pic->half[line >> 3];
	uint8_t latched = h->irr & (uint8_t)~h->level;

	set_input(h, line & 7, level);
	h->irr |= latched;
	update_cascade(pic);
}

bool pic_pending(const struct pic *pic)
{
	return pending_input(&pic->half[0], true) >= 0;
}

static void acknowledge_input(struct pic_half *h, unsigned int input)
{
	uint8_t bit = (uint8_t)(1u << input);

	if (!(h->level & bit))
		h->irr &= (uint8_t)~bit;
	if (!h->auto_eoi)
		h->isr |= bit;
	else if (h->rotate_on_aeoi)
		h->lowest = (uint8_t)input;
}

uint8_t pic_acknowledge(struct pic *pic)
{
	struct pic_half *master = &pic->half[0], *slave = &pic->half[1];
	int input = pending_input(master, true);
	uint8_t vector;

	if (input < 0)
		return master->base + 7; /* spurious */
	acknowledge_input(master, (unsigned int)input);
	if (input != CASCADE) {
		vector = master->base + (uint8_t)input;
	} else {
		input = pending_input(slave, false);
		if (input >= 0)
			acknowledge_input(slave, (unsigned int)input);
		vector = slave->base + (uint8_t)(input < 0 ? 7 : input);
	}
	update_cascade(pic);
	return vector;
}

static void initialise(struct pic_half *h, uint8_t value)
{
	uint8_t level = h->level, lines = h->lines;

	memset(h, 0, sizeof(*h));
	h->level = level;
	h->lines = lines;
	h->irr = lines & level;
	h->lowest = 7;
	h->need_icw4 = value & ICW1_ICW4;
	h->init = 2;
}

/* OCW2: end of interrupt and rotation (bits 7-5), for one input (bits 2-0) or the highest served. */
static void end_of_interrupt(struct pic_half *h, uint8_t value)
{
	unsigned int command = value >> 5, input = value & 7, priority;

	switch (command) {
	case 0:
	case 4:
		h->rotate_on_aeoi = command == 4;
		break;
	case 1:
	case 5:
		priority = priority_of(h, h->isr);
		if (priority == 8)
			break;
		input = (h->lowest + 1 + priority) & 7;
		h->isr &= (uint8_t) ~(1u << input);
		if (command == 5)
			h->lowest = (uint8_t)input;
		break;
	case 3:
	case 7:
		h->isr &= (uint8_t) ~(1u << input);
		if (command == 7)
			h->lowest = (uint8_t)input;
		break;
	case 6:
		h->lowest = (uint8_t)input;
		break;
	}
}

static void write_command(struct pic_half *h, uint8_t value)
{
	if (value & ICW1_INIT) {
		initialise(h, value);
	} else if (value & OCW3_SELECT) {
		if (value & 0x04)
			h->poll = true;
		if (value & 0x02)
			h->read_isr = value & 0x01;
		if (value & 0x40)
			h->special_mask = value & 0x20;
	} else {
		end_of_interrupt(h, value);
	}
}

static void write_data(struct pic_half *h, uint8_t value)
{
	switch (h->init) {
	case 0:
		h->imr = value;
		break;
	case 2:
		h->base = value & 0xf8;
		h->init = 3;
		break;
	case 3: /* the cascade's wiring is what it is on a PC */
		h->init = h->need_icw4 ? 4 : 0;
		break;
	case 4:
		h->auto_eoi = value & ICW4_AEOI;
		h->nested = value & ICW4_NESTED;
		h->init = 0;
		break;
	}
}

static uint8_t read_half(struct pic_half *h, bool data, bool master)
{
	int input;

	if (h->poll) {
		h->poll = false;
		input = pending_input(h, master);
		if (input < 0)
			return 0;
		acknowledge_input(h, (unsigned int)input);
		return 0x80 | (uint8_t)input;
	}
	if (data)
		return h->imr;
	return h->read_isr ? h->isr : h->irr;
}

uint8_t pic_read(struct pic *pic, uint16_t port)
{
	unsigned int half = port >= 0x4d0 ? port & 1 : port >= 0xa0;
	uint8_t value;

	if (port >= 0x4d0)
		return pic->half[half].level;
	value = read_half(&pic->half[half], port & 1, half == 0);
	update_cascade(pic);
	return value;
}

void pic_write(struct pic *pic, uint16_t port, uint8_t value)
{
	unsigned int half = port >= 0x4d0 ? port & 1 : port >= 0xa0;
	struct pic_half *h = &pic->half[half];

	if (port >= 0x4d0)
		h->level = value & (half ? 0xde : 0xf8); /* 0, 1, 2, 8 and 13 are always edges */
	else if (port & 1)
		write_data(h, value);
	else
		write_command(h, value);
	update_cascade(pic);
}

void pic_save(const struct pic *pic, struct state_writer *out)
{
	for (unsigned int i = 0; i < 2; i++) {
		const struct pic_half *h = &pic->half[i];
		const uint8_t fields[] = {
			h->irr,  h->isr,          h->imr,      h->lines,          h->level,
			h->base, h->init,         h->lowest,   h->need_icw4,      h->read_isr,
			h->poll, h->special_mask, h->auto_eoi, h->rotate_on_aeoi, h->nested};

		state_put(out, fields, sizeof(fields));
	}
}

void pic_load(struct pic *pic, struct state_reader *in)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct pic_half *h = &pic->half[i];

		h->irr = state_get_u8(in);
		h->isr = state_get_u8(in);
		h->imr = state_get_u8(in);
		h->lines = state_get_u8(in);
		h->level = state_get_u8(in);
		h->base = state_get_u8(in);
		h->init = state_get_u8(in);
		h->lowest = state_get_u8(in) & 7;
		h->need_icw4 = state_get_u8(in);
		h->read_isr = state_get_u8(in);
		h->poll = state_get_u8(in);
		h->special_mask = state_get_u8(in);
		h->auto_eoi = state_get_u8(in);
		h->rotate_on_aeoi = state_get_u8(in);
		h->nested = state_get_u8(in);
	}
}
