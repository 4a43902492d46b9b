/* acpi_pm: see chips.h. ACPI 6.4, 4.8: fixed hardware, and one block of general-purpose events. */
#include "vmm/chip/chips.h"

#include <errno.h>

#include "base/clock.h"

enum {
	TIMER_HZ = 3579545,
	PM1_STATUS = 0,
	PM1_ENABLE = 2,
	PM1_CONTROL = 4,
	PM_TIMER = 8,
	RESET = 12,
	GPE_STATUS = 16,
	GPE_ENABLE = 17,
	STATUS_POWER_BUTTON = 1 << 8,
	CONTROL_SCI = 1 << 0,
	CONTROL_SLEEP = 1 << 13,
	CONTROL_TYPE_SHIFT = 10,
	RESET_VALUE = 1,
};

struct acpi_pm {
	struct device device;
	struct board *board;
	int64_t timer_base_ns; /* when the timer read zero */
	uint16_t status, enable, control;
	uint8_t gpe_status, gpe_enable;
};

static void update_line(struct acpi_pm *self)
{
	irq_set_line(self->board->irq, IRQ_SCI,
		     (self->status & self->enable) || (self->gpe_status & self->gpe_enable));
}

static uint32_t timer_value(const struct acpi_pm *self)
{
	uint64_t ns = (uint64_t)(clock_monotonic_ns() - self->timer_base_ns);

	return (uint32_t)((unsigned __int128)ns * TIMER_HZ / 1000000000);
}

static uint64_t acpi_pm_read(struct device *device, unsigned int region, uint64_t offset,
			     unsigned int size)
{
	struct acpi_pm *self = container_of(device, struct acpi_pm, device);

	(void)region;
	switch (offset) {
	case PM1_STATUS:
		return size == 4 ? self->status | (uint32_t)self->enable << 16 : self->status;
	case PM1_ENABLE:
		return self->enable;
	case PM1_CONTROL:
		return self->control | CONTROL_SCI;
	case PM_TIMER:
		return timer_value(self);
	case GPE_STATUS:
		return self->gpe_status;
	case GPE_ENABLE:
		return self->gpe_enable;
	}
	return 0;
}

/* A system turns the machine off with the type that the tables say; firmware, which does not read them, with
 * 0, as QEMU's machines have it. */
static void write_control(struct acpi_pm *self, uint16_t value)
{
	const unsigned int type = (value >> CONTROL_TYPE_SHIFT) & 7;

	self->control = value & (uint16_t)~CONTROL_SLEEP;
	if ((value & CONTROL_SLEEP) && (type == ACPI_SLEEP_OFF || type == 0))
		self->board->ops->power(self->board, BOARD_OFF, 0);
}

static void acpi_pm_write(struct device *device, unsigned int region, uint64_t offset,
			  unsigned int size, uint64_t value)
{
	struct acpi_pm *self = container_of(device, struct acpi_pm, device);

	(void)region;
	switch (offset) {
	case PM1_STATUS:
		self->status &= (uint16_t)~value;
		if (size == 4)
			self->enable = (uint16_t)(value >> 16);
		break;
	case PM1_ENABLE:
		self->enable = (uint16_t)value;
		break;
	case PM1_CONTROL:
		write_control(self, (uint16_t)value);
		break;
	case RESET:
		if ((uint8_t)value == RESET_VALUE)
			self->board->ops->power(self->board, BOARD_RESET, 0);
		break;
	case GPE_STATUS:
		self->gpe_status &= (uint8_t)~value;
		break;
	case GPE_ENABLE:
		self->gpe_enable = (uint8_t)value;
		break;
	}
	update_line(self);
}

void acpi_pm_power_button(struct acpi_pm *self)
{
	device_lock(&self->device);
	self->status |= STATUS_POWER_BUTTON;
	update_line(self);
	device_unlock(&self->device);
}

void acpi_pm_event(struct acpi_pm *self, unsigned int gpe)
{
	device_lock(&self->device);
	self->gpe_status |= (uint8_t)(1u << gpe);
	update_line(self);
	device_unlock(&self->device);
}

static void acpi_pm_reset(struct device *device)
{
	struct acpi_pm *self = container_of(device, struct acpi_pm, device);

	self->status = self->enable = self->control = 0;
	self->gpe_status = self->gpe_enable = 0;
	update_line(self);
}

static void acpi_pm_save(struct device *device, struct state_writer *out)
{
	struct acpi_pm *self = container_of(device, struct acpi_pm, device);

	state_put_u64(out, (uint64_t)(clock_monotonic_ns() - self->timer_base_ns));
	state_put_u16(out, self->status);
	state_put_u16(out, self->enable);
	state_put_u16(out, self->control);
	state_put_u8(out, self->gpe_status);
	state_put_u8(out, self->gpe_enable);
}

static int acpi_pm_load(struct device *device, struct state_reader *in)
{
	struct acpi_pm *self = container_of(device, struct acpi_pm, device);

	self->timer_base_ns = clock_monotonic_ns() - state_get_elapsed_ns(in);
	self->status = state_get_u16(in);
	self->enable = state_get_u16(in);
	self->control = state_get_u16(in);
	self->gpe_status = state_get_u8(in);
	self->gpe_enable = state_get_u8(in);
	update_line(self);
	return state_finish(in);
}

static void acpi_pm_destroy(struct device *device)
{
	struct acpi_pm *self = container_of(device, struct acpi_pm, device);

	own_mem_release(&self);
}

static const struct device_ops ops = {
	.name = "acpi-pm",
	.read = acpi_pm_read,
	.write = acpi_pm_write,
	.reset = acpi_pm_reset,
	.save = acpi_pm_save,
	.load = acpi_pm_load,
	.destroy = acpi_pm_destroy,
};

int acpi_pm_create(struct board *board, struct acpi_pm **ret)
{
	struct acpi_pm *self = mem_new(sizeof(*self));

	self->board = board;
	self->timer_base_ns = clock_monotonic_ns();
	device_init(&self->device, &ops, 0);
	*ret = self;
	return bus_add(&board->ports, ACPI_PM_PORT, ACPI_PM_PORTS, &self->device, 0);
}

struct device *acpi_pm_device(struct acpi_pm *pm)
{
	return &pm->device;
}
