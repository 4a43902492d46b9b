/* machine_devices: which devices a machine has; the one place where they are put together. */
#include "vmm/machine/machine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/random.h"
#include "vmm/chip/pflash.h"
#include "vmm/jail/jail.h"
#include "vmm/machine/tap.h"

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
	const struct machine_config *config = &machine->config;
	int rc = serial_create(&machine->board, config->serial_out, &machine->serial_input,
			       &machine->serial);

	own_device(machine, serial_device(machine->serial));
	if (rc == 0 && config->serial_in >= 0)
		rc = input_init(&machine->serial_input, &serial_input_ops, machine->board.loop,
				config->serial_in, config->escape_key);
	return rc;
}

static void describe_machine(struct machine *machine)
{
	fw_cfg_set_u64(machine->fw_cfg, FW_CFG_MEMORY, machine->config.memory_bytes);
	fw_cfg_set_u16(machine->fw_cfg, FW_CFG_CPUS, (uint16_t)machine->config.cpus);
	fw_cfg_set_u16(machine->fw_cfg, FW_CFG_CPUS_MAX, (uint16_t)machine->config.cpus);
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
	if (rc == 0) {
		rc = pci_host_create(board,
				     machine->config.firmware == MACHINE_UEFI ? PCI_HOST_Q35
									      : PCI_HOST_GENERIC,
				     &machine->pci);
		own_device(machine, pci_host_device(machine->pci));
	}
	/* Firmware asks it, and so do test kernels. */
	if (rc == 0 &&
	    (machine->config.firmware != MACHINE_NO_FIRMWARE || machine->config.debug_exit)) {
		rc = fw_cfg_create(board, &machine->fw_cfg);
		own_device(machine, fw_cfg_device(machine->fw_cfg));
		describe_machine(machine);
	}
	if (rc == 0 && machine->config.debug_exit) {
		rc = debug_exit_create(board, &device);
		own_device(machine, device);
		if (rc == 0) {
			rc = test_device_create(board, &device);
			own_device(machine, device);
		}
	}
	return rc;
}

/* UEFI's variables, right below its code. */
static int create_flash(struct machine *machine, struct error *err)
{
	const char *path = machine->config.vars;
	own_fd int fd = -1;
	struct pflash *flash = NULL;
	struct stat st;
	int rc;

	if (machine->config.firmware != MACHINE_UEFI)
		return 0;
	fd = open(path, (machine->config.vars_lost ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "open the firmware's variables, %s", path);
	rc = pflash_create(&machine->board, machine->rom.gpa - (uint64_t)st.st_size,
			   (uint64_t)st.st_size, fd, !machine->config.vars_lost, &flash);
	if (rc == -EINVAL)
		return hint(err,
			    refuse(err, rc, "%s cannot be the variables of UEFI firmware", path),
			    "a copy of /usr/share/OVMF/OVMF_VARS_4M.fd can");
	if (rc < 0)
		return fail(err, rc, "read the firmware's variables, %s", path);
	(void)take(fd);
	own_device(machine, pflash_device(flash));
	return 0;
}

/* Puts a virtio device, which it owns from now on, on the PCI bus. */
static int add_virtio(struct machine *machine, struct virtio *virtio)
{
	if (machine->device_count == MACHINE_DEVICES_MAX) {
		virtio->ops->destroy(virtio);
		return -ENOSPC;
	}
	own_device(machine, &virtio->device);
	return pci_host_add(machine->pci, &virtio->pci);
}

bool machine_has_console(const struct machine_config *config)
{
	return config->console || config->console_in >= 0 || config->console_out >= 0;
}

static size_t deliver_console(struct input *input, const void *data, size_t size)
{
	struct machine *machine = container_of(input, struct machine, console_input);

	return virtio_console_receive(machine->console, data, size);
}

static void escape_console(struct input *input)
{
	struct machine *machine = container_of(input, struct machine, console_input);

	machine_power(&machine->board, BOARD_OFF, 0);
}

static const struct input_ops console_input_ops = {
	.deliver = deliver_console,
	.escape = escape_console,
};

static int create_console(struct machine *machine)
{
	const struct machine_config *config = &machine->config;
	int rc;

	if (!machine_has_console(config))
		return 0;
	rc = virtio_console_create(&machine->board, config->console_out, &machine->console_input,
				   &machine->console);
	if (rc == 0)
		rc = add_virtio(machine, machine->console);
	if (rc == 0 && config->console_in >= 0)
		rc = input_init(&machine->console_input, &console_input_ops, machine->board.loop,
				config->console_in, config->escape_key);
	return rc;
}

/* Several files as one disk. */
static int open_layers(char *const *paths, struct disk **ret, struct error *err)
{
	int fds[DISK_STACK_MAX], rc = 0;
	unsigned int count = 0;

	for (; rc == 0 && paths[count]; count++) {
		if (count == DISK_STACK_MAX) {
			rc = refuse(err, -E2BIG, "more than %d layers", DISK_STACK_MAX);
			break;
		}
		fds[count] = open(paths[count], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
		if (fds[count] < 0)
			rc = fail(err, -errno, "open the layer %s", paths[count]);
	}
	if (rc == 0 && (rc = disk_open_stack(fds, count, ret)) < 0)
		rc = refuse(err, rc, "one of the layers is not a file");
	for (unsigned int i = 0; rc < 0 && i < count; i++)
		fd_close(&fds[i]);
	return rc;
}

static int create_disk(struct machine *machine, unsigned int i, struct error *err)
{
	const struct machine_disk *config = &machine->config.disks[i];
	struct virtio *virtio = NULL;
	own_disk struct disk *disk = NULL;
	int rc;

	if (i >= MACHINE_DEVICES_MAX)
		return refuse(err, -EINVAL, "a machine has at most %d devices",
			      MACHINE_DEVICES_MAX);
	rc = config->layers ? open_layers(config->layers, &disk, err)
			    : disk_open(config->path, config->format, config->flags, &disk, err);
	if (rc < 0)
		return rc;
	rc = virtio_blk_create(&machine->board, i, disk, machine->config.cpus, &virtio);
	if (rc == 0) {
		(void)take(disk);
		machine->disks[i] = virtio;
		rc = add_virtio(machine, virtio);
	}
	return rc < 0 ? fail(err, rc, "add disk %u", i) : 0;
}

static int create_net(struct machine *machine, unsigned int i, struct error *err)
{
	const struct machine_net *net = &machine->config.nets[i];
	unsigned int queues = net->queues ? net->queues : 1;
	struct virtio *virtio = NULL;
	int fds[NET_PAIRS_MAX], rc;
	uint8_t mac[6];

	if (i >= MACHINE_DEVICES_MAX)
		return refuse(err, -EINVAL, "a machine has at most %d devices",
			      MACHINE_DEVICES_MAX);
	if (queues > NET_PAIRS_MAX)
		return refuse(err, -EINVAL, "a network card has at most %d queues", NET_PAIRS_MAX);
	memcpy(mac, net->mac, sizeof(mac));
	if (memcmp(mac, "\0\0\0\0\0", sizeof(mac)) == 0) {
		random_bytes(mac, sizeof(mac));
		mac[0] = (mac[0] & 0xfc) | 2; /* locally administered, one station */
	}
	rc = tap_open(net->tap, queues, fds, err);
	if (rc < 0)
		return rc;
	rc = virtio_net_create(&machine->board, i, fds, queues, mac, &virtio);
	if (rc < 0) {
		for (unsigned int j = 0; j < queues; j++)
			fd_close(&fds[j]);
		return fail(err, rc, "add a network card for the tap %s", net->tap);
	}
	machine->nets[i] = virtio;
	rc = add_virtio(machine, virtio);
	return rc < 0 ? fail(err, rc, "add a network card for the tap %s", net->tap) : 0;
}

static int create_vsock(struct machine *machine, struct error *err)
{
	struct machine_vsock *vsock = machine->config.vsock;
	struct virtio *virtio = NULL;
	struct vsock_config config;
	int rc;

	if (!vsock)
		return 0;
	config = (struct vsock_config){.cid = vsock->cid,
				       .path = vsock->path,
				       .listen_fd = vsock->listen_fd,
				       .broker_fd = vsock->broker_fd};
	rc = virtio_vsock_create(&machine->board, &config, &virtio);
	if (rc == 0) {
		vsock->listen_fd = vsock->broker_fd = -1;
		rc = add_virtio(machine, virtio);
	}
	return rc < 0 ? fail(err, rc, "add the socket device") : 0;
}

static int create_ports(struct machine *machine, struct error *err)
{
	struct machine_port *ports = machine->config.ports;
	unsigned int count = machine->config.port_count;
	struct port_config configs[PORTS_MAX];
	struct virtio *virtio = NULL;
	int rc;

	if (count == 0)
		return 0;
	if (count > PORTS_MAX)
		return refuse(err, -EINVAL, "a machine has at most %d ports", PORTS_MAX);
	for (unsigned int i = 0; i < count; i++)
		configs[i] = (struct port_config){.name = ports[i].name,
						  .is_terminal = ports[i].is_terminal,
						  .listen_fd = ports[i].listen_fd,
						  .fd = ports[i].fd};
	rc = virtio_ports_create(&machine->board, configs, count, &virtio);
	if (rc < 0)
		return fail(err, rc, "add the ports");
	for (unsigned int i = 0; i < count; i++)
		ports[i].listen_fd = ports[i].fd = -1;
	rc = add_virtio(machine, virtio);
	return rc < 0 ? fail(err, rc, "add the ports") : 0;
}

/* In a jail the owners in the directory become ids of the jail's. */
static int open_share(struct machine *machine, struct machine_share *share, int *ret_fd,
		      struct error *err)
{
	own_fd int fd = take(share->fd);
	int tree;

	if (fd < 0)
		fd = open(share->path, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "open the directory %s", share->path);
	if (machine->config.jail && machine->users_fd < 0) {
		int users = jail_users(err);

		if (users < 0 && users != -EPERM)
			return users;
		machine->users_fd = users < 0 ? -1 : users;
	}
	tree = machine->users_fd >= 0 ? jail_tree(fd, machine->users_fd) : -EPERM;
	if (machine->users_fd >= 0 && tree < 0)
		log_warn(
			"the file system of %s cannot give its files to the machine's jail (%s): it "
			"can use them only as everybody can",
			share->path, strerror(-tree));
	*ret_fd = tree >= 0 ? tree : take(fd);
	return 0;
}

static int create_share(struct machine *machine, unsigned int i, struct error *err)
{
	struct machine_share *share = &machine->config.shares[i];
	struct share_config config = {.read_only = share->read_only,
				      .cache = share->cache,
				      .users = share->users,
				      .groups = share->groups};
	struct virtio *virtio = NULL;
	own_fd int fd = -1;
	int rc = i < MACHINE_DEVICES_MAX ? open_share(machine, share, &fd, err) : -ENOSPC;

	if (rc < 0)
		return rc;
	config.directory_fd = fd;
	rc = virtio_fs_create(&machine->board, i, share->tag, &config, &virtio, err);
	if (rc < 0)
		return fail(err, rc, "share %s", share->path);
	(void)take(fd);
	machine->shares[i] = virtio;
	rc = add_virtio(machine, virtio);
	return rc < 0 ? fail(err, rc, "share %s", share->path) : 0;
}

static int create_virtio(struct machine *machine, struct error *err)
{
	struct virtio *virtio = NULL;
	int rc = create_console(machine);

	if (rc == 0)
		rc = virtio_rng_create(&machine->board, &virtio);
	if (rc == 0)
		rc = add_virtio(machine, virtio);
	if (rc == 0)
		rc = virtio_balloon_create(&machine->board, &machine->balloon);
	if (rc == 0)
		rc = add_virtio(machine, machine->balloon);
	if (rc < 0)
		return fail(err, rc, "create the machine's devices");
	for (unsigned int i = 0; i < machine->config.disk_count && rc == 0; i++)
		rc = create_disk(machine, i, err);
	for (unsigned int i = 0; i < machine->config.net_count && rc == 0; i++)
		rc = create_net(machine, i, err);
	if (rc == 0)
		rc = create_vsock(machine, err);
	if (rc == 0)
		rc = create_ports(machine, err);
	for (unsigned int i = 0; i < machine->config.share_count && rc == 0; i++)
		rc = create_share(machine, i, err);
	return rc;
}

int machine_devices_create(struct machine *machine, struct error *err)
{
	int rc = create_serial(machine);

	if (rc == 0)
		rc = create_chips(machine);
	if (rc < 0)
		return fail(err, rc, "create the machine's devices");
	rc = create_flash(machine, err);
	if (rc == 0)
		rc = create_virtio(machine, err);
	if (rc < 0)
		return rc;
	for (unsigned int i = 0; i < machine->device_count; i++)
		machine->devices[i]->ops->reset(machine->devices[i]);
	return 0;
}

static int confine_files(struct error *err)
{
	return jail_filter(JAIL_FILES, err);
}

int machine_devices_start(struct machine *machine, struct error *err)
{
	int rc = 0;

	for (unsigned int i = 0; i < machine->config.share_count && rc == 0; i++)
		rc = virtio_fs_start(machine->shares[i],
				     machine->config.jail ? confine_files : NULL, err);
	return rc;
}

void machine_devices_destroy(struct machine *machine)
{
	input_release(&machine->serial_input);
	input_release(&machine->console_input);
	while (machine->device_count > 0) {
		struct device *device = machine->devices[--machine->device_count];

		device->ops->destroy(device);
	}
}
