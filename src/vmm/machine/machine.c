/* machine: see machine.h. */
#include "vmm/machine/machine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "vmm/boot/firmware.h"
#include "vmm/boot/uefi.h"
#include "vmm/cpu/kvm/kvm.h"
#include "vmm/jail/jail.h"

static int board_add_doorbell(struct board *board, gpa_t gpa, int fd)
{
	struct machine *machine = container_of(board, struct machine, board);

	return machine->accel == &cpu_accel_kvm ? kvm_add_doorbell(machine->vm, gpa, fd) : -ENOTSUP;
}

static void board_remove_doorbell(struct board *board, gpa_t gpa, int fd)
{
	struct machine *machine = container_of(board, struct machine, board);

	if (machine->accel == &cpu_accel_kvm)
		kvm_remove_doorbell(machine->vm, gpa, fd);
}

static void board_written(struct board *board, gpa_t gpa, uint64_t size)
{
	struct machine *machine = container_of(board, struct machine, board);

	machine->accel->written(machine->vm, gpa, size);
}

static const struct board_ops board_ops = {
	.power = machine_power,
	.written = board_written,
	.add_doorbell = board_add_doorbell,
	.remove_doorbell = board_remove_doorbell,
};

static int check_config(const struct machine_config *config, struct error *err)
{
	if (config->cpus < 1 || config->cpus > CPU_VCPUS_MAX)
		return refuse(err, -EINVAL, "a machine has 1 to %d CPUs, not %u", CPU_VCPUS_MAX,
			      config->cpus);
	if (!config->kernel && !config->restore)
		return refuse(err, -EINVAL, "no kernel was given");
	return 0;
}

static int open_file(const char *what, const char *path, int *ret_fd, struct error *err)
{
	if (!path)
		return 0;
	*ret_fd = open(path, O_RDONLY | O_CLOEXEC);
	return *ret_fd < 0 ? fail(err, -errno, "open the %s %s", what, path) : 0;
}

static int open_accel(struct machine *machine, struct error *err)
{
	struct memory_part parts[MEMORY_PARTS_MAX];
	struct cpu_region regions[MEMORY_PARTS_MAX + 1];
	struct cpu_vm_config config = {
		.client = &machine->client,
		.vcpus = machine->config.cpus,
		.region_count = memory_parts(machine->board.memory, parts),
		.regions = regions,
	};

	for (unsigned int i = 0; i < config.region_count; i++)
		regions[i] = (struct cpu_region){
			.gpa = parts[i].gpa, .size = parts[i].size, .host = parts[i].host};
	if (machine->rom.host != NULL)
		regions[config.region_count++] = machine->rom;
	machine->accel = machine_choose_accel(machine->config.accel);
	config.tsc_khz = machine->from ? machine->from->tsc_khz : 0;
	return machine->accel->open(&config, &machine->vm, err);
}

/* Old or damaged code costs time, nothing else. */
static void load_code(struct machine *machine)
{
	const char *path = machine->config.code;
	own_fd int fd = -1;
	struct error why = {0};
	int rc = path ? open_file("code", path, &fd, &why) : 0;

	if (rc == 0 && fd >= 0 && machine->accel->load_code)
		rc = machine->accel->load_code(machine->vm, fd, &why);
	if (rc < 0)
		log_debug("decode anew: %s", why.text);
}

static int open_irqchip(struct machine *machine, struct error *err)
{
	struct board *board = &machine->board;
	int rc;

	if (machine->accel->flags & CPU_ACCEL_IRQCHIP) {
		board->irq = kvm_irq(machine->vm);
		return 0;
	}
	rc = irqchip_create(machine->config.cpus, &machine->irqchip_host, &board->timers,
			    &board->ports, &board->mmio, &machine->irqchip);
	if (rc < 0)
		return fail(err, rc, "create the interrupt controllers");
	machine->devices[machine->device_count++] = irqchip_device(machine->irqchip);
	board->irq = irqchip_irq(machine->irqchip);
	return 0;
}

static void on_timers(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct machine *machine = data;

	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	timer_queue_run(&machine->board.timers);
}

static int build_acpi(struct machine *machine, struct acpi_config *acpi, struct error *err)
{
	int rc;

	acpi->cpus = machine->config.cpus;
	if (machine->config.firmware == MACHINE_UEFI) {
		/* The configuration window is where the firmware puts it; the ports do as well. */
		acpi->pci_start = Q35_WINDOWS_START;
		acpi->pci_end = Q35_WINDOWS_END;
	} else {
		acpi->pci_config = PCI_ECAM_START;
		acpi->pci_start = PCI_WINDOW_START;
		acpi->pci_end = PCI_WINDOW_END;
	}
	random_bytes(acpi->generation, sizeof(acpi->generation));
	rc = acpi_build(machine->board.memory, acpi, &machine->acpi);
	return rc < 0 ? fail(err, rc, "write the ACPI tables") : 0;
}

static int load_firmware(struct machine *machine, struct error *err)
{
	const struct memory *memory = machine->board.memory;
	const struct boot_hole hole = {.start = PCI_ECAM_START, .size = PCI_ECAM_SIZE};
	struct acpi_config acpi = {.start = firmware_tables(memory), .end = memory->low_size};
	int rc = firmware_load(memory, machine->kernel_fd, machine->config.kernel, &machine->entry,
			       err);

	if (rc == 0)
		rc = build_acpi(machine, &acpi, err);
	if (rc == 0)
		firmware_describe(memory, &hole, machine->acpi.rsdp, machine->fw_cfg);
	return rc;
}

/* The code is ROM and stays; the tables are as after power on. */
static int start_uefi(struct machine *machine, struct error *err)
{
	const struct memory *memory = machine->board.memory;
	const struct boot_hole no_hole = {0};
	struct acpi_config acpi = {.start = firmware_tables(memory), .end = memory->low_size};
	int rc = build_acpi(machine, &acpi, err);

	if (rc < 0)
		return rc;
	firmware_describe_memory(memory, &no_hole, machine->fw_cfg);
	uefi_describe(memory, acpi.start, &machine->acpi, machine->fw_cfg);
	machine->entry = (struct boot_entry){.mode = BOOT_RESET};
	return 0;
}

static int load_kernel(struct machine *machine, struct error *err)
{
	struct boot_source source = {
		.kernel_fd = machine->kernel_fd,
		.kernel_name = machine->config.kernel,
		.modules_fd = machine->modules_fd,
		.modules_name = machine->config.modules,
		.initrd_fd = machine->initrd_fd,
		.initrd_name = machine->config.initrd,
		.command_line = machine->config.command_line,
		.hole = {.start = PCI_ECAM_START, .size = PCI_ECAM_SIZE},
	};
	struct acpi_config acpi = {.start = BOOT_ACPI_START, .end = BOOT_ACPI_END};
	int rc;

	if (machine->kernel_fd < 0)
		return refuse(err, -ENOENT,
			      "the guest has reset, and the kernel that the snapshot was booted "
			      "from is not there any more");
	if (machine->config.firmware == MACHINE_UEFI)
		return start_uefi(machine, err);
	if (machine->config.firmware == MACHINE_BIOS)
		return load_firmware(machine, err);
	rc = build_acpi(machine, &acpi, err);
	if (rc < 0)
		return rc;
	source.rsdp = machine->acpi.rsdp;
	return boot_load(machine->board.memory, &source, &machine->entry, err);
}

/* The guest has asked for it: everything as after power on, the kernel loaded anew. */
static int restart(struct machine *machine, struct error *err)
{
	int rc = 0;

	machine_cpus_set_mode(machine, MACHINE_PARKED);
	for (unsigned int i = 0; i < machine->device_count; i++) {
		struct device *device = machine->devices[i];

		device_lock(device);
		device->ops->reset(device);
		device_unlock(device);
	}
	if (!machine->irqchip)
		rc = kvm_reset(machine->vm);
	if (rc < 0)
		return fail(err, rc, "reset the interrupt controllers");
	rc = load_kernel(machine, err);
	if (rc < 0)
		return rc;
	machine->accel->written(machine->vm, 0, machine->board.memory->low_size);
	for (unsigned int i = 0; i < machine->config.cpus; i++)
		machine->cpus[i].must_reset = true;
	machine->power = BOARD_ON;
	if (!machine->paused || machine->wakers > 0)
		machine_cpus_set_mode(machine, MACHINE_RUNNING);
	return 0;
}

/* A guest that has asked for its end is parked already and stays so (machine_power). */
static void set_paused(struct machine *machine, bool paused, unsigned int wakers)
{
	const bool ran = !machine->paused || machine->wakers > 0, runs = !paused || wakers > 0;

	machine->paused = paused;
	machine->wakers = wakers;
	if (!runs)
		machine_cpus_set_mode(machine, MACHINE_PARKED);
	else if (!ran && machine->power == BOARD_ON)
		machine_cpus_set_mode(machine, MACHINE_RUNNING);
}

void machine_pause(struct machine *machine)
{
	set_paused(machine, true, machine->wakers);
}

void machine_resume(struct machine *machine)
{
	set_paused(machine, false, machine->wakers);
}

void machine_wake(struct machine *machine)
{
	set_paused(machine, machine->paused, machine->wakers + 1);
}

void machine_unwake(struct machine *machine)
{
	set_paused(machine, machine->paused, machine->wakers - 1);
}

bool machine_is_paused(const struct machine *machine)
{
	return machine->paused;
}

static void on_wake(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void *data)
{
	struct machine *machine = data;
	struct error err = {0};
	uint64_t count;

	(void)source;
	(void)events;
	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	switch (machine->power) {
	case BOARD_ON:
		break;
	case BOARD_RESET:
		if (machine->config.no_reset)
			loop_stop(loop, MACHINE_WAS_RESET);
		else if (restart(machine, &err) < 0) {
			log_failure(&err);
			loop_stop(loop, err.code);
		}
		break;
	case BOARD_OFF:
		loop_stop(loop, 0);
		break;
	case BOARD_EXIT:
		loop_stop(loop, machine->exit_code);
		break;
	case BOARD_FAILED:
		loop_stop(loop, -EIO);
		break;
	}
}

static int open_board(struct machine *machine, struct error *err)
{
	struct board *board = &machine->board;
	struct loop_source *source;
	int rc = timer_queue_init(&board->timers);

	if (rc == 0)
		rc = loop_create(&board->loop);
	if (rc == 0)
		rc = machine_disks_create(machine);
	if (rc < 0)
		return fail(err, rc, "create the device thread's loop");
	machine->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->wake_fd < 0)
		return fail(err, -errno, "create an eventfd");
	rc = loop_add_io(board->loop, board->timers.fd, EPOLLIN, on_timers, machine, &source);
	if (rc == 0)
		rc = loop_add_io(board->loop, machine->wake_fd, EPOLLIN, on_wake, machine, &source);
	return rc < 0 ? fail(err, rc, "set up the device thread's loop") : 0;
}

static int create_memory(struct machine *machine, struct error *err)
{
	uint64_t size = machine->config.memory_bytes;
	struct snapshot *from = machine->from;
	int rc;

	if (!from) {
		rc = memory_create(size, &machine->board.memory, err);
		if (rc == 0 && machine->config.firmware == MACHINE_UEFI)
			memory_limit_low(machine->board.memory, Q35_MEMORY_LOW_MAX);
		return rc;
	}
	rc = memory_create_from(from->memory_fd, size, &machine->board.memory, err);
	if (rc == 0)
		(void)take(from->memory_fd);
	return rc;
}

static int set_up(struct machine *machine, struct error *err)
{
	struct machine_config *config = &machine->config;
	int rc;

	snapshot_host_read(&machine->host);
	rc = config->restore ? snapshot_open(&machine->host, config, &machine->from, err) : 0;
	if (rc == 0)
		rc = open_file(config->firmware ? "firmware" : "kernel", config->kernel,
			       &machine->kernel_fd, err);
	if (rc == 0)
		rc = open_file("modules", config->modules, &machine->modules_fd, err);
	if (rc == 0)
		rc = open_file("initrd", config->initrd, &machine->initrd_fd, err);
	if (rc == 0 && config->jail && machine->kernel_fd >= 0 &&
	    config->firmware == MACHINE_NO_FIRMWARE)
		rc = boot_prepare(machine->kernel_fd, err);
	if (rc == 0)
		rc = create_memory(machine, err);
	if (rc == 0 && config->firmware == MACHINE_UEFI)
		rc = uefi_load(machine->kernel_fd, config->kernel, &machine->rom, err);
	if (rc == 0)
		rc = open_board(machine, err);
	if (rc == 0)
		rc = open_accel(machine, err);
	if (rc == 0)
		load_code(machine);
	if (rc == 0)
		rc = open_irqchip(machine, err);
	if (rc == 0)
		rc = machine_devices_create(machine, err);
	if (rc == 0 && config->control_fd >= 0) {
		machine->description =
			snapshot_describe(&machine->host, config, machine->accel->name);
		rc = control_create(machine, config->control_fd, &machine->control);
		if (rc < 0)
			fail(err, rc, "serve the control socket");
	}
	return rc;
}

int machine_create(const struct machine_config *config, struct machine **ret, struct error *err)
{
	own_machine struct machine *machine = NULL;
	int rc = check_config(config, err);

	if (rc < 0)
		return rc;
	machine = mem_new(sizeof(*machine));
	machine->config = *config;
	machine->kernel_fd = machine->modules_fd = machine->initrd_fd = -1;
	machine->wake_fd = machine->disk_thread.end_fd = -1;
	machine->users_fd = -1;
	machine->board.timers.fd = -1;
	machine->board.ops = &board_ops;
	machine->client.ops = &machine_client_ops;
	machine->irqchip_host.ops = &machine_irqchip_ops;
	pthread_mutex_init(&machine->lock, NULL);
	pthread_cond_init(&machine->changed, NULL);
	bus_init(&machine->board.ports);
	bus_init(&machine->board.mmio);
	rc = set_up(machine, err);
	if (rc < 0)
		return rc;
	*ret = take(machine);
	return 0;
}

static void on_signal(struct loop *loop, struct loop_source *source, int number, void *data)
{
	struct machine *machine = data;

	(void)loop;
	(void)source;
	if (machine->config.power_button)
		acpi_pm_power_button(machine->pm);
	else
		machine_end(machine, 128 + number);
}

/* The guest's terminal is as large as ours, if we have one. */
static void follow_window(struct machine *machine)
{
	struct winsize size;

	if (machine->console && machine->config.console_out >= 0 &&
	    ioctl(machine->config.console_out, TIOCGWINSZ, &size) == 0 && size.ws_col &&
	    size.ws_row)
		virtio_console_resize(machine->console, size.ws_col, size.ws_row);
}

static void on_window(struct loop *loop, struct loop_source *source, int number, void *data)
{
	(void)loop;
	(void)source;
	(void)number;
	follow_window(data);
}

static int watch_signals(struct machine *machine, struct error *err)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	struct loop_source *source;
	int rc = loop_add_signal(machine->board.loop, SIGWINCH, on_window, machine, &source);

	follow_window(machine);

	for (unsigned int i = 0; i < array_size(numbers) && rc == 0; i++)
		rc = loop_add_signal(machine->board.loop, numbers[i], on_signal, machine, &source);
	return rc < 0 ? fail(err, rc, "watch for signals") : 0;
}

/* Everything is open; what follows needs no file, and after the threads have started no other thread. */
static int shut_in(struct machine *machine, struct error *err)
{
	struct pollfd parent = {.fd = machine->config.parent_fd};
	int rc = machine->config.jail ? jail_enter(machine->users_fd, err) : 0;

	if (rc < 0 || !machine->config.jail)
		return rc;
	/* It ends us from now on (jail_enter), unless it has ended itself before. */
	if (poll(&parent, 1, 0) > 0 && (parent.revents & POLLERR))
		return refuse(err, -ECHILD, "the parent has ended");
	return 0;
}

int machine_run(struct machine *machine, struct error *err)
{
	int rc = machine->from ? 0 : load_kernel(machine, err);

	machine->started_ns = clock_monotonic_ns();
	if (rc == 0)
		rc = watch_signals(machine, err);
	if (rc == 0)
		rc = shut_in(machine, err);
	if (rc == 0)
		rc = machine_cpus_start(machine, err);
	if (rc == 0)
		rc = machine_devices_start(machine, err);
	if (rc == 0)
		rc = machine_disks_start(machine, err);
	if (rc == 0 && machine->from)
		rc = snapshot_load(machine, err);
	if (rc == 0 && machine->config.jail)
		rc = jail_filter(JAIL_DEVICES, err);
	if (rc == 0) {
		machine->paused = machine->config.paused;
		if (!machine->paused)
			machine_cpus_set_mode(machine, MACHINE_RUNNING);
		rc = loop_run(machine->board.loop);
		if (rc < 0)
			refuse(err, rc, "the virtual machine cannot go on");
	}
	machine_cpus_stop(machine);
	machine_disks_stop(machine);
	return rc;
}

void machine_destroy(struct machine *machine)
{
	if (!machine)
		return;
	control_destroy(machine->control);
	machine_devices_destroy(machine);
	machine_cpus_destroy(machine);
	if (machine->vm)
		machine->accel->close(machine->vm);
	loop_destroy(machine->board.loop);
	machine_disks_destroy(machine);
	if (machine->board.timers.fd >= 0)
		timer_queue_release(&machine->board.timers);
	bus_release(&machine->board.ports);
	bus_release(&machine->board.mmio);
	memory_destroy(machine->board.memory);
	uefi_unload(&machine->rom);
	json_decref(machine->description);
	snapshot_close(machine->from);
	fd_close(&machine->kernel_fd);
	fd_close(&machine->modules_fd);
	fd_close(&machine->initrd_fd);
	fd_close(&machine->users_fd);
	fd_close(&machine->wake_fd);
	pthread_mutex_destroy(&machine->lock);
	pthread_cond_destroy(&machine->changed);
	own_mem_release(&machine);
}
