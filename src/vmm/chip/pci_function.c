/* pci_function: configuration space, windows and MSI-X of one function (PCI Local Bus 3.0, chapter 6;
 * MSI-X: 6.8.2). */
#include "vmm/chip/pci.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "vmm/chip/pci_priv.h"

enum {
	REG_STATUS = 0x06,
	REG_BARS = 0x10,
	REG_SUBSYSTEM = 0x2c,
	REG_CAPABILITIES = 0x34,
	REG_LINE = 0x3c,
	REG_FIRST_CAPABILITY = 0x40,
	STATUS_CAPABILITIES = 1 << 4,
	CAPABILITY_MSIX = 0x11,
	MSIX_CONTROL = 2, /* in the capability */
	MSIX_ENABLE = 1 << 15,
	MSIX_MASK_ALL = 1 << 14,
	MSIX_ENTRY = 16,
	MSIX_ENTRY_MASKED = 1,
};

static void put16(uint8_t *at, uint16_t value)
{
	memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

void pci_function_init(struct pci_function *f, const struct pci_function_ops *ops,
		       struct device *device, struct board *board,
		       const struct pci_identity *identity)
{
	memset(f, 0, sizeof(*f));
	f->ops = ops;
	f->device = device;
	f->board = board;
	put16(f->config, identity->vendor);
	put16(f->config + 2, identity->device);
	put32(f->config + 8, identity->class_revision);
	put16(f->config + REG_SUBSYSTEM, identity->subsystem_vendor);
	put16(f->config + REG_SUBSYSTEM + 2, identity->subsystem);
	put16(f->writable + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | 1 << 10);
	f->writable[0x0c] = 0xff; /* cache line size */
	f->writable[REG_LINE] = 0xff;
	f->capability_end = REG_FIRST_CAPABILITY;
}

void pci_add_bar(struct pci_function *f, unsigned int bar, uint32_t size)
{
	f->bar_size[bar] = size;
	put32(f->writable + REG_BARS + 4 * bar, ~(size - 1));
}

unsigned int pci_add_capability(struct pci_function *f, uint8_t id, const void *data,
				unsigned int size)
{
	unsigned int at = f->capability_end;

	assert(at + size <= PCI_CONFIG_SIZE);
	memcpy(f->config + at, data, size);
	f->config[at] = id;
	f->config[at + 1] = 0;
	f->config[f->last_capability ? f->last_capability + 1 : REG_CAPABILITIES] = (uint8_t)at;
	f->config[REG_STATUS] |= STATUS_CAPABILITIES;
	f->last_capability = (uint8_t)at;
	f->capability_end = (uint8_t)((at + size + 3) & ~3u);
	return at;
}

void pci_add_msix(struct pci_function *f, unsigned int vectors, unsigned int bar, uint32_t table,
		  uint32_t pending)
{
	uint8_t capability[12] = {0};

	assert(vectors <= PCI_MSIX_VECTORS_MAX);
	put16(capability + MSIX_CONTROL, (uint16_t)(vectors - 1));
	put32(capability + 4, table | bar);
	put32(capability + 8, pending | bar);
	f->msix_count = vectors;
	f->msix_capability =
		(uint8_t)pci_add_capability(f, CAPABILITY_MSIX, capability, sizeof(capability));
	put16(f->writable + f->msix_capability + MSIX_CONTROL, MSIX_ENABLE | MSIX_MASK_ALL);
	for (unsigned int i = 0; i < vectors; i++)
		f->msix[i].control = MSIX_ENTRY_MASKED;
}

static uint16_t msix_control(const struct pci_function *f)
{
	return get16(f->config + f->msix_capability + MSIX_CONTROL);
}

bool pci_msix_enabled(const struct pci_function *f)
{
	return f->msix_capability && (msix_control(f) & MSIX_ENABLE);
}

void pci_msix_send(struct pci_function *f, unsigned int vector)
{
	const struct pci_msix_entry *entry;

	if (vector >= f->msix_count || !pci_msix_enabled(f))
		return;
	entry = &f->msix[vector];
	if ((msix_control(f) & MSIX_MASK_ALL) || (entry->control & MSIX_ENTRY_MASKED)) {
		f->msix_pending |= 1ull << vector;
		return;
	}
	f->msix_pending &= ~(1ull << vector);
	if (f->msix_route[vector])
		f->board->irq->ops->signal_route(f->board->irq, f->msix_route[vector]);
	else
		irq_send_msi(f->board->irq, entry->address, entry->data);
}

/* Guests change a message while it is masked: what it is then counts. */
static void set_route(struct pci_function *f, unsigned int vector)
{
	const struct pci_msix_entry *entry = &f->msix[vector];
	const struct irq_ops *ops = f->board->irq->ops;

	if (!ops->set_route || entry->control & MSIX_ENTRY_MASKED)
		return;
	if (ops->set_route(f->board->irq, &f->msix_route[vector], entry->address, entry->data) < 0)
		f->msix_route[vector] = 0;
}

/* What waited is sent once nothing masks it any more. */
static void send_pending(struct pci_function *f)
{
	for (unsigned int i = 0; i < f->msix_count; i++)
		if (f->msix_pending & (1ull << i))
			pci_msix_send(f, i);
}

uint64_t pci_msix_read(const struct pci_function *f, uint32_t offset, unsigned int size)
{
	uint64_t value = 0;

	if (offset / MSIX_ENTRY >= f->msix_count || offset % size)
		return 0;
	memcpy(&value, (const uint8_t *)&f->msix[offset / MSIX_ENTRY] + offset % MSIX_ENTRY, size);
	return value;
}

void pci_msix_write(struct pci_function *f, uint32_t offset, unsigned int size, uint64_t value)
{
	_Static_assert(sizeof(struct pci_msix_entry) == MSIX_ENTRY, "as the guest sees it");
	if (offset / MSIX_ENTRY >= f->msix_count || offset % size)
		return;
	memcpy((uint8_t *)&f->msix[offset / MSIX_ENTRY] + offset % MSIX_ENTRY, &value, size);
	set_route(f, offset / MSIX_ENTRY);
	send_pending(f);
}

bool pci_is_master(const struct pci_function *f)
{
	return get16(f->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

static void move_bar(struct pci_function *f, unsigned int bar)
{
	uint32_t at = get32(f->config + REG_BARS + 4 * bar) & ~0xfu;
	bool on = get16(f->config + PCI_COMMAND) & PCI_COMMAND_MEMORY;
	/* Windows only answer where no memory can be, and below the interrupt controllers. */
	bool fits = at >= MEMORY_LOW_MAX && at <= PCI_WINDOW_END - f->bar_size[bar];
	gpa_t target = on && fits ? at : 0;

	if (f->bar_at[bar] == target)
		return;
	if (f->bar_at[bar])
		bus_remove(&f->board->mmio, f->device, bar);
	/* While a guest sizes or moves windows two may overlap: the second then does not answer. */
	if (target && bus_add(&f->board->mmio, target, f->bar_size[bar], f->device, bar) < 0)
		target = 0;
	f->bar_at[bar] = target;
	if (f->ops->moved)
		f->ops->moved(f, bar, target);
}

static void move_bars(struct pci_function *f)
{
	for (unsigned int bar = 0; bar < PCI_BARS; bar++)
		if (f->bar_size[bar])
			move_bar(f, bar);
}

void pci_place_bar(struct pci_function *f, unsigned int bar, uint32_t at)
{
	put32(f->config + REG_BARS + 4 * bar, at);
}

uint32_t pci_config_read(struct pci_function *f, unsigned int offset, unsigned int size)
{
	uint32_t value = 0;

	if (f->ops->before_read)
		f->ops->before_read(f, offset, size);
	memcpy(&value, f->config + offset, size);
	return value;
}

void pci_config_write(struct pci_function *f, unsigned int offset, unsigned int size,
		      uint32_t value)
{
	for (unsigned int i = 0; i < size; i++) {
		uint8_t mask = f->writable[offset + i], *at = &f->config[offset + i];

		*at = (uint8_t)((*at & ~mask) | ((value >> (8 * i)) & mask));
	}
	move_bars(f);
	if (f->msix_capability)
		send_pending(f);
	if (f->ops->after_write)
		f->ops->after_write(f, offset, size);
}

void pci_function_reset(struct pci_function *f)
{
	put16(f->config + PCI_COMMAND, 0);
	move_bars(f);
	if (f->msix_capability)
		f->config[f->msix_capability + MSIX_CONTROL + 1] &= 0x3f;
	for (unsigned int i = 0; i < f->msix_count; i++)
		f->msix[i] = (struct pci_msix_entry){.control = MSIX_ENTRY_MASKED};
	f->msix_pending = 0;
}

void pci_function_save(const struct pci_function *f, struct state_writer *out)
{
	state_put(out, f->config, sizeof(f->config));
	state_put(out, f->msix, sizeof(f->msix));
	state_put_u64(out, f->msix_pending);
}

void pci_function_load(struct pci_function *f, struct state_reader *in)
{
	uint8_t config[PCI_CONFIG_SIZE];

	state_get(in, config, sizeof(config));
	state_get(in, f->msix, sizeof(f->msix));
	f->msix_pending = state_get_u64(in);
	for (unsigned int i = 0; i < f->msix_count; i++)
		set_route(f, i);
	/* Only what the guest could have written: the rest is what this function is. */
	for (unsigned int i = 0; i < PCI_CONFIG_SIZE; i++)
		f->config[i] =
			(uint8_t)((f->config[i] & ~f->writable[i]) | (config[i] & f->writable[i]));
	move_bars(f);
}
