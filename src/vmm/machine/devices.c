/* machine_devices: which devices a machine has; the one place where they are put together. */
#include "vmm/machine/machine_priv.h"

#include <errno.h>

static void own_device(struct machine *machine, struct device *device)
{
	machine->devices[machine->device_count++] = device;
}

static size_t deliver_serial(struct input *input, const void *data, size_t size)
{
	struct machine *machine = container_of(input, struct machine, serial_input);

	return serial_receive(machine->serial, data, size);
}

static void escape_serial(struct input *input)
{
	struct machine *machine = container_of(input, struct machine, serial_input);

	machine_power(&machine->board, BOARD_OFF, 0);
}

static const struct input_ops serial_input_ops = {
	.deliver = deliver_serial,
	.escape = escape_serial,
};

static int create_serial(struct machine *machine)
{
	int rc = serial_create(&machine->board, machine->config.serial_out, &machine->serial_input,
			       &machine->serial);

	own_device(machine, serial_device(machine->serial));
	if (rc == 0 && machine->config.serial_in >= 0)
		rc = input_init(&machine->serial_input, &serial_input_ops, machine->board.loop,
				machine->config.serial_in);
	return rc;
}

static int create_chips(struct machine *machine)
{
	struct board *board = &machine->board;
	struct device *device = NULL;
	int rc = 0;

	if (machine->irqchip) {
		rc = pit_create(board, &device);
		own_device(machine, device);
	}
	if (rc == 0) {
		rc = rtc_create(board, &device);
		own_device(machine, device);
	}
	if (rc == 0) {
		rc = i8042_create(board, &device);
		own_device(machine, device);
	}
	if (rc == 0) {
		rc = acpi_pm_create(board, &machine->pm);
		own_device(machine, acpi_pm_device(machine->pm));
	}
	if (rc == 0 && machine->config.debug_exit) {
		rc = debug_exit_create(board, &device);
		own_device(machine, device);
	}
	return rc;
}

int machine_devices_create(struct machine *machine, struct error *err)
{
	int rc = create_serial(machine);

	if (rc == 0)
		rc = create_chips(machine);
	if (rc < 0)
		return fail(err, rc, "create the machine's devices");
	for (unsigned int i = 0; i < machine->device_count; i++)
		machine->devices[i]->ops->reset(machine->devices[i]);
	return 0;
}

void machine_devices_destroy(struct machine *machine)
{
	input_release(&machine->serial_input);
	while (machine->device_count > 0) {
		struct device *device = machine->devices[--machine->device_count];

		device->ops->destroy(device);
	}
}
