/* vmm: `berth vmm run`, one virtual machine without the engine. */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"
#include "base/tty.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "vmm/kernel/kernel.h"
#include "cli/vmm_devices.h"

enum { FAILED = 125 };

static const struct option_spec run_options[] = {
	{"accel", 0, OPTION_ENUM, 0, VM_ACCEL, VM_ACCEL_DEFAULT,
	 "What executes the guest's instructions"},
	{"append", 0, OPTION_STRING, 0, "STRING", "", "The kernel's command line"},
	{"code", 0, OPTION_STRING, 0, "FILE", "",
	 "What a machine from the same snapshot has decoded (request `code`); it is executed: trust it "
	 "as you trust berth"},
	{"console", 0, OPTION_ENUM, 0, "stdio|none", "none",
	 "Where the virtio console (hvc0) goes"},
	{"control", 0, OPTION_STRING, 0, "SOCKET", "",
	 "Serve requests on a Unix socket: a path, or fd:N for one that listens already"},
	{"cpus", 0, OPTION_INT, 0, "N", "1", "Number of virtual CPUs"},
	{"debug-exit", 0, OPTION_FLAG, 0, "", "",
	 "Add the test device at port 0xf4: exit with its value * 2 + 1"},
	{"disk", 0, OPTION_LIST, 0, VM_DISK, "", "Add a disk from an image or block device"},
	{"firmware", 0, OPTION_STRING, 0, VM_FIRMWARE, "",
	 "Start the system on the first disk: with a BIOS, UEFI, or this BIOS"},
	{"initrd", 0, OPTION_STRING, 0, "FILE", "", "Initial RAM disk"},
	{"kernel", 0, OPTION_STRING, 0, "FILE|NAME", "",
	 "Kernel to boot: a bzImage, a vmlinux, a multiboot ELF file, or one of `berth kernel ls`"},
	{"layer", 0, OPTION_LIST, 0, "FILE", "",
	 "Make the first disk of these files, one behind the other, read-only"},
	{"memory", 'm', OPTION_SIZE, 0, "SIZE", "256m", "Guest memory"},
	{"modules", 0, OPTION_STRING, 0, "FILE", "",
	 "A RAM disk that goes before --initrd: Linux unpacks one after the other"},
	{"net", 0, OPTION_LIST, 0, "tap=NAME[,mac=MAC][,queues=N]", "",
	 "Add a network card on a tap"},
	{"no-jail", 0, OPTION_FLAG, 0, "", "",
	 "Leave the machine the caller's rights (for debugging only)"},
	{"no-reset", 0, OPTION_FLAG, 0, "", "",
	 "End with exit code 124 when the guest resets, instead of starting it anew"},
	{"paused", 0, OPTION_FLAG, 0, "", "", "Wait for a request to resume before the first step"},
	{"port", 0, OPTION_LIST, 0, "NAME=WHERE", "",
	 "Add a port (/dev/virtio-ports/NAME) to socket:PATH, file:FILE or pty"},
	{"power-button", 0, OPTION_FLAG, 0, "", "",
	 "Signals press the power button, but for SIGKILL, and no key on the terminal is special"},
	{"report", 0, OPTION_STRING, 0, "FILE", "",
	 "Write why the machine failed to a file, instead of standard error"},
	{"restore", 0, OPTION_STRING, 0, "DIR", "",
	 "Go on from a snapshot, which says what machine it is; disks and cards given here replace "
	 "those of then"},
	{"serial", 0, OPTION_STRING, 0, "stdio|pty|none|file:FILE", "stdio",
	 "Where the first serial line goes"},
	{"share", 0, OPTION_LIST, 0, "DIR|FILE[,tag=NAME][,ro][,...]", "",
	 "Let the guest mount a directory (-t virtiofs NAME); cache=auto|none|always, uidmap=, gidmap=GUEST:HOST:COUNT"},
	{"vars", 0, OPTION_STRING, 0, "FILE", "",
	 "With --firmware uefi: where it keeps its variables (default: nowhere)"},
	{"vsock", 0, OPTION_STRING, 0, "PATH[,cid=N]", "",
	 "Connect the guest's sockets (AF_VSOCK) with Unix sockets: PATH to the guest, PATH_N from it"},
};

struct serial_line {
	int fd;
	int terminal_fd; /* of a pseudo terminal: the other side */
};

static void close_serial(struct serial_line *line)
{
	fd_close(&line->fd);
	fd_close(&line->terminal_fd);
}

#define own_serial __attribute__((cleanup(close_serial)))

static int open_serial(const char *where, struct serial_line *ret, struct machine_config *config,
		       struct error *err)
{
	const char *path = str_after(where, "file:");
	int rc = 0;

	config->serial_in = config->serial_out = -1;
	if (path && *path) {
		ret->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (ret->fd < 0)
			return fail(err, -errno, "open %s", path);
		config->serial_out = ret->fd;
	} else if (str_eq(where, "pty")) {
		rc = vmm_open_terminal("serial line", &ret->fd, &ret->terminal_fd, err);
		config->serial_in = config->serial_out = ret->fd;
	} else if (str_eq(where, "stdio")) {
		config->serial_in = 0;
		config->serial_out = 1;
	} else if (!str_eq(where, "none")) {
		return hint(err, refuse(err, -EINVAL, "--serial does not know \"%s\"", where),
			    "it takes stdio, pty, none or file:FILE");
	}
	return rc;
}

/* The serial line or the console is the terminal that we were started on. */
static bool is_on_terminal(const struct machine_config *config)
{
	return (config->serial_in == 0 || config->console_in == 0) && isatty(0);
}

static void set_accel(const char *name, struct machine_config *config)
{
	config->accel = str_eq(name, "kvm")    ? MACHINE_ACCEL_KVM
			: str_eq(name, "soft") ? MACHINE_ACCEL_SOFT
					       : MACHINE_ACCEL_AUTO;
}

static int run_here(const struct machine_config *config, struct error *err)
{
	own_machine struct machine *machine = NULL;
	int rc = machine_create(config, &machine, err);

	return rc < 0 ? rc : machine_run(machine, err);
}

static int run_machine(const struct machine_config *config, bool jail, struct error *err)
{
	struct tty_state tty = {.fd = -1};
	int rc;

	if (is_on_terminal(config)) {
		rc = tty_raw(0, &tty);
		if (rc < 0)
			return fail(err, rc, "set the terminal to raw mode");
	}
	rc = jail ? machine_run_jailed(config, err) : run_here(config, err);
	tty_restore(&tty);
	return rc;
}

/* FILE[,ro] */
static int parse_disk(const char *text, struct machine_disk *ret, struct error *err)
{
	own_strv char **words = strv_split(text, ',');

	if (strv_len(words) < 1 || !*words[0])
		return refuse(err, -EINVAL, "--disk \"%s\" names no file", text);
	for (char **word = words + 1; *word; word++) {
		const char *format = str_after(*word, "format=");

		if (str_eq(*word, "ro"))
			ret->flags |= DISK_READ_ONLY;
		else if (str_eq(*word, "backing=any"))
			ret->flags |= DISK_BACKING_ANYWHERE;
		else if (!format || disk_format_parse(format, &ret->format) < 0)
			return hint(err,
				    refuse(err, -EINVAL, "--disk does not know the option \"%s\"",
					   *word),
				    "the options are ro, format=raw, format=qcow2 and backing=any");
	}
	ret->path = str_copy(words[0]);
	return 0;
}

static int parse_disks(char *const *texts, char *const *layers, struct machine_disk **ret,
		       struct machine_config *config, struct error *err)
{
	struct machine_disk *disks = mem_new_array(strv_len(texts) + 2, sizeof(*disks));
	int rc = 0;

	*ret = disks;
	config->disks = disks;
	if (*layers)
		disks[config->disk_count++].layers = strv_copy(layers);
	for (; *texts && rc == 0; texts++) {
		rc = parse_disk(*texts, &disks[config->disk_count], err);
		if (rc == 0)
			config->disk_count++;
	}
	return rc;
}

static int parse_mac(const char *text, uint8_t mac[6])
{
	own_strv char **bytes = strv_split(text, ':');
	char digits[13] = "";

	if (strv_len(bytes) != 6)
		return -EINVAL;
	for (unsigned int i = 0; i < 6; i++) {
		if (strlen(bytes[i]) != 2)
			return -EINVAL;
		memcpy(digits + 2 * i, bytes[i], 2);
	}
	return hex_parse(digits, 6, mac) < 0 || (mac[0] & 1) ? -EINVAL : 0;
}

/* tap=NAME[,mac=MAC][,queues=N] */
static int parse_net(const char *text, struct machine_net *ret, struct error *err)
{
	own_strv char **words = strv_split(text, ',');

	for (char **word = words; word && *word; word++) {
		const char *tap = str_after(*word, "tap="), *mac = str_after(*word, "mac="),
			   *queues = str_after(*word, "queues=");
		uint64_t count = 0;

		if (tap && *tap && !ret->tap) {
			ret->tap = str_copy(tap);
		} else if (mac) {
			if (parse_mac(mac, ret->mac) < 0)
				return refuse(err, -EINVAL,
					      "\"%s\" is not a card's address like "
					      "02:00:5e:00:53:01",
					      mac);
		} else if (queues && str_to_uint(queues, 8, &count) == 0 && count > 0) {
			ret->queues = (unsigned int)count;
		} else {
			return hint(err, refuse(err, -EINVAL, "--net does not know \"%s\"", *word),
				    "it takes tap=NAME, mac=MAC and queues=1 to 8");
		}
	}
	return ret->tap ? 0 : refuse(err, -EINVAL, "--net \"%s\" names no tap", text);
}

static int parse_nets(char *const *texts, struct machine_net **ret, struct machine_config *config,
		      struct error *err)
{
	struct machine_net *nets = mem_new_array(strv_len(texts) + 1, sizeof(*nets));
	int rc = 0;

	*ret = nets;
	config->nets = nets;
	for (; *texts && rc == 0; texts++)
		rc = parse_net(*texts, &nets[config->net_count++], err);
	return rc;
}

/* A path, or, if there is no such file, the name of a kernel that is kept. */
static int find_kernel(const struct args *args, const char *text, struct kernel **ret,
		       struct machine_config *config, struct error *err)
{
	own_engine struct engine *engine = NULL;
	int rc;

	config->kernel = text;
	if (!kernel_name_valid(text) || access(text, F_OK) == 0)
		return 0;
	rc = open_engine(args, &engine, err);
	if (rc == 0)
		rc = kernel_find(engine_root_path(engine), text, ret, err);
	if (rc < 0)
		return rc;
	config->kernel = (*ret)->vmlinux;
	config->modules = (*ret)->initramfs;
	return 0;
}

static void set_machine(const struct args *args, struct machine_config *config)
{
	config->memory_bytes = args_size(args, "memory");
	config->cpus = (unsigned int)args_int(args, "cpus");
	config->initrd = args_string(args, "initrd");
	config->command_line = args_string(args, "append");
	config->debug_exit = args_flag(args, "debug-exit");
	config->no_reset = args_flag(args, "no-reset");
	config->power_button = args_flag(args, "power-button");
	config->restore = args_string(args, "restore");
	config->code = args_string(args, "code");
	config->paused = args_flag(args, "paused");
	set_accel(args_string(args, "accel"), config);
}

/* A snapshot says itself what the machine is. */
static int check_source(const struct args *args, const struct machine_config *config,
			struct error *err)
{
	static const char *const settled[] = {"accel", "cpus", "debug-exit", "memory"};
	static const char *const kernels_own[] = {"append", "initrd", "modules"};

	if (!args_string(args, "kernel") && !args_string(args, "firmware") && !config->restore)
		return args_refuse(args, err,
				   "--kernel FILE is needed, or --firmware bios, or --restore DIR");
	if (args_string(args, "firmware") && (args_string(args, "kernel") || config->restore))
		return args_refuse(args, err,
				   "--firmware starts a disk's own system: it goes neither with "
				   "--kernel nor with --restore");
	for (unsigned int i = 0; !args_string(args, "kernel") && i < array_size(kernels_own); i++)
		if (args_given(args, kernels_own[i]))
			return args_refuse(args, err, "--%s goes only with --kernel",
					   kernels_own[i]);
	if (args_string(args, "vars") && !str_eq(args_string(args, "firmware"), "uefi"))
		return args_refuse(args, err, "--vars goes only with --firmware uefi");
	if (config->paused && !args_string(args, "control"))
		return args_refuse(
			args, err,
			"--paused needs --control SOCKET, where the request to resume comes from");
	if (config->code && !config->restore)
		return args_refuse(args, err, "--code FILE goes only with --restore DIR");
	for (unsigned int i = 0; config->restore && i < array_size(settled); i++)
		if (args_given(args, settled[i]))
			return args_refuse(args, err,
					   "--%s cannot be changed with --restore: it is as it was",
					   settled[i]);
	return 0;
}

/* The two files of UEFI firmware, as Debian's package has them: its code, and what its variables begin as.
 * Without --vars they are lost in the end. */
static int find_uefi(const char *vars, struct machine_config *config, struct error *err)
{
	struct machine_uefi uefi;
	int rc = machine_find_uefi(vars, &uefi, err);

	if (rc < 0)
		return rc;
	config->firmware = MACHINE_UEFI;
	config->kernel = uefi.code;
	config->vars = vars ? vars : uefi.vars;
	config->vars_lost = vars == NULL;
	return 0;
}

/* A path, or "bios" for where Debian's package has it. */
static int find_firmware(const struct args *args, struct machine_config *config, struct error *err)
{
	const char *text = args_string(args, "firmware");
	static const char *const places[] = {"/usr/share/seabios/bios-256k.bin",
					     "/usr/share/qemu/bios-256k.bin"};

	if (str_eq(text, "uefi"))
		return find_uefi(args_string(args, "vars"), config, err);
	config->firmware = MACHINE_BIOS;
	config->kernel = text;
	if (!str_eq(text, "bios"))
		return 0;
	for (unsigned int i = 0; i < array_size(places); i++)
		if (access(places[i], R_OK) == 0) {
			config->kernel = places[i];
			return 0;
		}
	return hint(err, refuse(err, -ENOENT, "there is no BIOS on this host"),
		    "apt-get install seabios");
}

struct control_socket {
	int fd;
	const char *path; /* NULL: not made here */
};

static void close_control(struct control_socket *control)
{
	fd_close(&control->fd);
	if (control->path)
		(void)unlink(control->path);
}

#define own_control __attribute__((cleanup(close_control)))

/* PATH or fd:N. */
static int open_control(const char *where, struct control_socket *ret, struct error *err)
{
	const char *number = where ? str_after(where, "fd:") : NULL;
	int rc, listens = 0;
	socklen_t size = sizeof(listens);
	int64_t fd;

	if (!where)
		return 0;
	if (number) {
		if (str_to_int(number, 3, INT32_MAX, &fd) < 0 ||
		    getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 ||
		    !listens || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
			return refuse(err, -EINVAL, "--control %s is no socket that listens",
				      where);
		ret->fd = (int)fd;
		return 0;
	}
	rc = vmm_listen(where, &ret->fd, err);
	if (rc < 0)
		return fail(err, rc, "serve requests");
	ret->path = where;
	return chmod(where, 0660) < 0 ? fail(err, -errno, "set the mode of %s", where) : 0;
}

static int run_vm(const struct args *args, struct error *err)
{
	struct machine_config config = MACHINE_CONFIG_INIT;
	own_control struct control_socket control = {.fd = -1};
	own_mem struct machine_disk *disks = NULL;
	own_mem struct machine_net *nets = NULL;
	own_kernel struct kernel *kernel = NULL;
	struct vmm_devices devices = {.vsock = {.listen_fd = -1, .broker_fd = -1}};
	own_serial struct serial_line serial = {.fd = -1, .terminal_fd = -1};
	int rc;

	set_machine(args, &config);
	config.modules = args_string(args, "modules");
	rc = check_source(args, &config, err);
	if (rc == 0 && args_string(args, "kernel"))
		rc = find_kernel(args, args_string(args, "kernel"), &kernel, &config, err);
	if (rc == 0 && args_string(args, "firmware"))
		rc = find_firmware(args, &config, err);
	if (rc < 0)
		return rc;
	/* A reader of our output that has gone is an error of that write, not our end. */
	signal(SIGPIPE, SIG_IGN);
	rc = open_control(args_string(args, "control"), &control, err);
	if (rc < 0)
		return rc;
	config.control_fd = control.fd;
	rc = open_serial(args_string(args, "serial"), &serial, &config, err);
	if (rc < 0)
		return rc;
	rc = parse_disks(args_list(args, "disk"), args_list(args, "layer"), &disks, &config, err);
	if (rc == 0)
		rc = parse_nets(args_list(args, "net"), &nets, &config, err);
	if (rc == 0 && str_eq(args_string(args, "console"), "stdio")) {
		if (config.serial_in == 0)
			return args_refuse(args, err,
					   "--console stdio and --serial stdio share one terminal; "
					   "add --serial none");
		config.console = true;
		config.console_in = 0;
		config.console_out = 1;
	}
	config.escape_key = is_on_terminal(&config) && !config.power_button;
	if (rc == 0)
		rc = vmm_devices_open(args, &devices, &config, err);
	rc = rc < 0 ? rc : run_machine(&config, !args_flag(args, "no-jail"), err);
	vmm_devices_release(&devices);
	for (unsigned int i = 0; i < config.disk_count; i++) {
		free(disks[i].path);
		strv_free(disks[i].layers);
	}
	for (unsigned int i = 0; i < config.net_count; i++)
		free(nets[i].tap);
	return rc;
}

static int run(const struct args *args, struct error *err)
{
	const char *report = args_string(args, "report");
	own_mem char *text = NULL;
	int rc = run_vm(args, err);

	if (rc >= 0 || report == NULL)
		return rc;
	text = str_format("%s\n%s\n", err->text, err->hint);
	if (file_write(AT_FDCWD, report, text, strlen(text), 0600, FILE_WRITE_PLAIN, NULL) < 0)
		return rc;
	return err->exit_status ? err->exit_status : FAILED;
}

static const struct command vmm_run_command = {
	.summary = "Run one virtual machine",
	.description =
		"Boots a kernel in a virtual machine of its own and ends when the guest powers "
		"off. On a terminal, ctrl-a x ends it.",
	.examples = "berth vmm run --kernel vmlinuz --initrd initrd.img --append console=ttyS0\t"
		    "Boot Linux on this terminal\n",
	.options = {OPTION_SET(run_options)},
	.run = run,
};

static const struct command_entry entries[] = {
	{"run", NULL, &vmm_run_command, NULL},
	{"control", NULL, &vmm_control_command, NULL},
	{0},
};

const struct command vmm_command = {
	.summary = "Virtual machines without the engine",
	.entries = entries,
};
