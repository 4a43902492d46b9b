/* ioapic: see ioapic.h. */
#include "vmm/chip/ioapic.h"

#include <string.h>

#define ENTRY_STATUS (1ull << 12)
#define ENTRY_REMOTE_IRR (1ull << 14)
#define ENTRY_LEVEL (1ull << 15)
#define ENTRY_MASKED (1ull << 16)
#define ENTRY_READ_ONLY (ENTRY_STATUS | ENTRY_REMOTE_IRR)
#define ENTRY_USED 0xff0000000001ffffull

enum {
	WINDOW_SELECT = 0x00,
	WINDOW_DATA = 0x10,
	WINDOW_EOI = 0x40,
	REG_ID = 0,
	REG_VERSION = 1,
	REG_ARBITRATION = 2,
	REG_ENTRIES = 0x10,
	VERSION = 0x20, /* with an EOI register */
};

void ioapic_reset(struct ioapic *ioapic)
{
	ioapic->id = ioapic->select = 0;
	ioapic->pending = 0;
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->entries[pin] = ENTRY_MASKED;
}

static void deliver(struct ioapic *ioapic, unsigned int pin)
{
	uint64_t *entry = &ioapic->entries[pin];
	uint32_t bit = 1u << pin;
	struct lapic_message message = {
		.vector = (uint8_t)*entry,
		.delivery = (*entry >> 8) & 7,
		.logical = *entry & (1 << 11),
		.level = *entry & ENTRY_LEVEL,
		.destination = *entry >> 56,
	};

	if (*entry & ENTRY_MASKED || !(ioapic->pending & bit))
		return;
	if (message.level) {
		if (*entry & ENTRY_REMOTE_IRR)
			return;
		*entry |= ENTRY_REMOTE_IRR;
	} else {
		ioapic->pending &= ~bit;
	}
	ioapic->send(ioapic, &message);
}

void ioapic_set_line(struct ioapic *ioapic, unsigned int pin, bool level)
{
	uint32_t bit = 1u << pin;
	bool rises = level && !(ioapic->lines & bit);

	ioapic->lines = level ? ioapic->lines | bit : ioapic->lines & ~bit;
	if (ioapic->entries[pin] & ENTRY_LEVEL)
		ioapic->pending = level ? ioapic->pending | bit : ioapic->pending & ~bit;
	else if (rises)
		ioapic->pending |= bit;
	deliver(ioapic, pin);
}

void ioapic_end(struct ioapic *ioapic, uint8_t vector)
{
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t *entry = &ioapic->entries[pin];

		if ((uint8_t)*entry != vector || !(*entry & ENTRY_LEVEL))
			continue;
		*entry &= ~ENTRY_REMOTE_IRR;
		deliver(ioapic, pin);
	}
}

static void write_entry(struct ioapic *ioapic, unsigned int index, uint32_t value)
{
	unsigned int pin = index / 2;
	uint64_t *entry = &ioapic->entries[pin];
	uint64_t before = *entry, after;

	if (index & 1)
		after = (uint32_t)before | (uint64_t)value << 32;
	else
		after = (before & ~(uint64_t)UINT32_MAX) | value;
	after = (after & ENTRY_USED & ~ENTRY_READ_ONLY) | (before & ENTRY_READ_ONLY);
	if (!(after & ENTRY_LEVEL))
		after &= ~ENTRY_REMOTE_IRR;
	*entry = after;
	if (after & ENTRY_LEVEL) {
		uint32_t bit = 1u << pin;

		ioapic->pending = (ioapic->pending & ~bit) | (ioapic->lines & bit);
	}
	deliver(ioapic, pin);
}

uint32_t ioapic_read(struct ioapic *ioapic, uint32_t offset)
{
	unsigned int index = ioapic->select;

	if (offset == WINDOW_SELECT)
		return ioapic->select;
	if (offset != WINDOW_DATA)
		return 0;
	if (index == REG_ID || index == REG_ARBITRATION)
		return (uint32_t)ioapic->id << 24;
	if (index == REG_VERSION)
		return VERSION | (IOAPIC_PINS - 1) << 16;
	index -= REG_ENTRIES;
	if (index >= 2 * IOAPIC_PINS)
		return 0;
	return (uint32_t)(ioapic->entries[index / 2] >> (index & 1 ? 32 : 0));
}

void ioapic_write(struct ioapic *ioapic, uint32_t offset, uint32_t value)
{
	if (offset == WINDOW_SELECT) {
		ioapic->select = (uint8_t)value;
	} else if (offset == WINDOW_EOI) {
		ioapic_end(ioapic, (uint8_t)value);
	} else if (offset == WINDOW_DATA) {
		if (ioapic->select == REG_ID)
			ioapic->id = (value >> 24) & 0xf;
		else if (ioapic->select >= REG_ENTRIES &&
			 ioapic->select < REG_ENTRIES + 2 * IOAPIC_PINS)
			write_entry(ioapic, ioapic->select - REG_ENTRIES, value);
	}
}

void ioapic_save(const struct ioapic *ioapic, struct state_writer *out)
{
	state_put_u8(out, ioapic->id);
	state_put_u8(out, ioapic->select);
	state_put_u32(out, ioapic->lines);
	state_put_u32(out, ioapic->pending);
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		state_put_u64(out, ioapic->entries[pin]);
}

void ioapic_load(struct ioapic *ioapic, struct state_reader *in)
{
	ioapic->id = state_get_u8(in) & 0xf;
	ioapic->select = state_get_u8(in);
	ioapic->lines = state_get_u32(in);
	ioapic->pending = state_get_u32(in);
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++)
		ioapic->entries[pin] = state_get_u64(in) & (ENTRY_USED | ENTRY_READ_ONLY);
}
