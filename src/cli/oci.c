/*
 * oci: `berth oci`, the command line that container engines use: the group, its options, and the
 * commands that make containers.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/oci_priv.h"
#include "oci/config.h"
#include "oci/config_file.h"

/* --- the group ---------------------------------------------------------------------------------- */

/* As root of a user namespace we are an ordinary user outside, who cannot write to /run: so it is with
 * podman without privileges. */
static bool is_ordinary_user(void)
{
	own_mem char *map = NULL;
	unsigned int inside, outside;
	size_t len;

	return geteuid() != 0 ||
	       (file_read(AT_FDCWD, "/proc/self/uid_map", 4096, &map, &len, NULL) == 0 &&
		sscanf(map, "%u %u", &inside, &outside) == 2 && outside != 0);
}

char *oci_state_root(const struct args *args)
{
	const char *root = args_string(args, "root"), *run = getenv("XDG_RUNTIME_DIR");

	if (!str_empty(root))
		return root[0] == '/' ? str_copy(root) : realpath(root, NULL);
	if (!str_empty(run) && is_ordinary_user())
		return str_format("%s/berth/oci", run);
	return str_copy("/run/berth/oci");
}

/* The low numbers are for descriptors that are passed on to the container. */
static int out_of_the_way(int fd)
{
	enum { HIGH = 1000, MIDDLE = 200 };
	int high = fcntl(fd, F_DUPFD_CLOEXEC, HIGH);

	if (high < 0)
		high = fcntl(fd, F_DUPFD_CLOEXEC, MIDDLE);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

int oci_read_document(const char *path, json_t **ret, struct error *err)
{
	/* Standard input may be what cannot be opened again: a socket, another user's pipe. */
	own_fd int fd = str_eq(path, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
					  : open(path, O_RDONLY | O_CLOEXEC);
	own_mem char *text = NULL;
	size_t len;
	int rc = fd < 0 ? -errno : fd_read_all(fd, CONFIG_FILE_MAX, &text, &len);

	return rc < 0 ? fail(err, rc, "read %s", path)
		      : config_read_text(text, len, path, ret, err);
}

int oci_begin(const struct args *args, struct error *err)
{
	const char *path = args_string(args, "log");
	const bool json = strcmp(args_string(args, "log-format"), "json") == 0;
	const bool debug = args_flag(args, "debug");
	enum log_format format = json                        ? LOG_FORMAT_JSON
				 : str_empty(path) && !debug ? LOG_FORMAT_PLAIN
							     : LOG_FORMAT_TEXT;
	int fd = STDERR_FILENO;

	if (!str_empty(path)) {
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
		if (fd < 0)
			return fail(err, -errno, "open log %s", path);
		fd = out_of_the_way(fd);
	}
	/* The descriptor belongs to the log until the program ends. */
	log_setup(debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, format, fd);
	return 0;
}

int oci_end(const struct args *args, int rc, struct error *err)
{
	if (rc < 0 && err != NULL && !str_empty(args_string(args, "log")))
		dprintf(STDERR_FILENO, "%s\n", err->text);
	return rc;
}

enum oci_cgroup_manager oci_manager(const struct args *args)
{
	const char *manager = args_string(args, "cgroup-manager");

	if (args_flag(args, "systemd-cgroup") || str_eq(manager, "systemd"))
		return OCI_CGROUP_SYSTEMD;
	return str_eq(manager, "disabled") ? OCI_CGROUP_NONE : OCI_CGROUPFS;
}

static const struct option_spec group_options[] = {
	{"cgroup-manager", 0, OPTION_ENUM, 0, "cgroupfs|systemd|disabled", "cgroupfs",
	 "What makes the container's control groups"},
	{"criu", 0, OPTION_STRING, OPTION_HIDDEN, "FILE", "", "The program that checkpoints"},
	{"debug", 0, OPTION_FLAG, 0, "", "", "Say what is being done"},
	{"log", 0, OPTION_STRING, 0, "FILE", "", "Write messages to this file"},
	{"log-format", 0, OPTION_ENUM, 0, "text|json", "text", "How messages are written"},
	{"log-level", 0, OPTION_ENUM, OPTION_HIDDEN, "error|warning|info|debug", "warning",
	 "The least important messages that are written"},
	{"root", 0, OPTION_STRING, 0, "DIR", "",
	 "Where containers are recorded (default /run/berth/oci; an ordinary user's, below "
	 "$XDG_RUNTIME_DIR)"},
	{"rootless", 0, OPTION_STRING, 0, "auto|true|false", "auto",
	 "Ignore cgroups that may not be written"},
	{"systemd-cgroup", 0, OPTION_FLAG, 0, "", "", "The same as --cgroup-manager systemd"},
	{"version", 'v', OPTION_FLAG, 0, "", "",
	 "Print the versions of the program and the format"},
};

static const struct command_entry entries[] = {
	{"create", NULL, &oci_create_command, "Containers"},
	{"start", NULL, &oci_start_command, NULL},
	{"run", NULL, &oci_run_command, NULL},
	{"exec", NULL, &oci_exec_command, NULL},
	{"kill", NULL, &oci_kill_command, NULL},
	{"pause", NULL, &oci_pause_command, NULL},
	{"resume", NULL, &oci_resume_command, NULL},
	{"update", NULL, &oci_update_command, NULL},
	{"delete", NULL, &oci_delete_command, NULL},
	{"checkpoint", NULL, &oci_checkpoint_command, NULL},
	{"restore", NULL, &oci_restore_command, NULL},
	{"state", NULL, &oci_state_command, "Looking"},
	{"list", NULL, &oci_list_command, NULL},
	{"ps", NULL, &oci_ps_command, NULL},
	{"events", NULL, &oci_events_command, NULL},
	{"spec", NULL, &oci_spec_command, "The runtime"},
	{"features", NULL, &oci_features_command, NULL},
	{0},
};

const struct command oci_command = {
	.summary = "Open Container Initiative runtime, for container engines",
	.description =
		"Runs containers from a bundle: a directory with a config.json and a root file "
		"system. Called through a link named berth-oci, the program is this alone, "
		"with the options before the command as other runtimes have them.",
	.options = {OPTION_SET(group_options)},
	.entries = entries,
	.flags = COMMAND_ISOLATED,
	.error_status = 1,
};

/* --- create and run ----------------------------------------------------------------------------- */

static const struct option_spec create_options[] = {
	{"bundle", 'b', OPTION_STRING, 0, "DIR", ".", "The directory with config.json"},
	{"config", 'f', OPTION_STRING, 0, "FILE", "", "A configuration in another place"},
	{"console-socket", 0, OPTION_STRING, 0, "PATH", "",
	 "A socket that gets the terminal's master side"},
	{"no-new-keyring", 0, OPTION_FLAG, 0, "", "", "Keep the session keyring"},
	{"no-pivot", 0, OPTION_FLAG, 0, "", "", "Move the root instead of pivot_root"},
	{"pid-file", 0, OPTION_STRING, 0, "FILE", "", "Write the process id here"},
	{"preserve-fds", 0, OPTION_INT, 0, "N", "0", "Pass on N descriptors from 3 on"},
};

static const struct option_spec run_options[] = {
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Return when the container runs"},
	{"keep", 0, OPTION_FLAG, 0, "", "", "Do not delete the container when it ends"},
};

/* Descriptors handed over by the service manager's protocol count as preserved ones. */
static int listen_fds(void)
{
	const char *count = getenv("LISTEN_FDS");
	int64_t n;

	return count != NULL && str_to_int(count, 0, 1024, &n) == 0 ? (int)n : 0;
}

static int check_preserve(const struct args *args, unsigned int *ret, struct error *err)
{
	const int64_t count = args_int(args, "preserve-fds");

	if (count < 0 || count > 1024)
		return args_refuse(args, err, "--preserve-fds %lld is not a count of descriptors",
				   (long long)count);
	*ret = (unsigned int)count + (unsigned int)listen_fds();
	return 0;
}

static char *absolute(const char *path)
{
	own_mem char *cwd = NULL;

	if (path == NULL || path[0] == '/')
		return str_copy(path);
	cwd = getcwd(NULL, 0);
	return cwd ? str_format("%s/%s", cwd, path) : str_copy(path);
}

const char *oci_notify_socket(void)
{
	return getenv("NOTIFY_SOCKET");
}

static int make(const struct args *args, enum oci_create_flags flags, struct oci_child *child,
		struct error *err)
{
	const char *config = args_string(args, "config");
	own_mem char *root = oci_state_root(args), *bundle = NULL;
	own_json json_t *spec = NULL;
	own_mem char *pid_file = absolute(args_string(args, "pid-file"));
	own_mem char *console = absolute(args_string(args, "console-socket"));
	struct oci_create o = OCI_CREATE_DEFAULTS;
	/* First of all, as it may start again from the arguments, which are relative to where we are. */
	int rc = oci_self_protect(NULL, err);

	if (rc == 0)
		rc = check_preserve(args, &o.preserve_fds, err);
	if (rc == 0 && !str_empty(config))
		rc = oci_read_document(config, &spec, err);
	if (rc < 0)
		return rc;
	bundle = realpath(args_string(args, "bundle"), NULL);
	/* Hooks expect to run in the bundle's directory. */
	if (bundle == NULL || chdir(bundle) < 0)
		return fail(err, -errno, "bundle %s", args_string(args, "bundle"));
	o.state_root = root;
	o.id = args_at(args, 0);
	o.bundle = bundle;
	o.spec = spec;
	o.listen_fds = (unsigned int)listen_fds();
	o.console_socket = console;
	o.pid_file = pid_file;
	o.notify_socket = oci_notify_socket();
	o.cgroup_manager = oci_manager(args);
	o.flags = flags | (args_flag(args, "no-pivot") ? OCI_CREATE_NO_PIVOT : 0) |
		  (args_flag(args, "no-new-keyring") ? OCI_CREATE_NO_KEYRING : 0);
	return oci_create(&o, child, err);
}

static int run_create(const struct args *args, struct error *err)
{
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = make(args, OCI_CREATE_STATUS, &child, err);
	return oci_end(args, rc, err);
}

const struct command oci_create_command = {
	.arguments = "CONTAINER",
	.summary = "Create a container, whose process waits for start",
	.options = {OPTION_SET(create_options)},
	.run = run_create,
};

static int run_foreground(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	const bool detach = args_flag(args, "detach");
	const enum oci_create_flags front = OCI_CREATE_KEEP_TERMINAL | OCI_CREATE_REMEMBER |
					    (isatty(STDOUT_FILENO) ? 0 : OCI_CREATE_PLAIN_OUTPUT);
	int rc = make(args, OCI_CREATE_RUN | (detach ? OCI_CREATE_STATUS : front), &child, err);
	int code;

	if (rc == 0 && detach && child.notify_fd >= 0)
		oci_notify_wait(child.notify_fd, oci_notify_socket(), child.pid, child.pidfd);
	if (rc < 0 || detach)
		return rc;
	code = oci_attend(&child, err);
	if (args_flag(args, "keep"))
		return code;
	rc = code < 0 ? oci_delete(root, args_at(args, 0), OCI_DELETE_FORCE, NULL)
		      : oci_delete_child(root, args_at(args, 0), &child, err);
	return code < 0 ? code : rc < 0 ? rc : code;
}

static int run_run(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = run_foreground(args, err);
	return oci_end(args, rc, err);
}

const struct command oci_run_command = {
	.arguments = "CONTAINER",
	.summary = "Create a container, start it, and delete it when it ends",
	.options = {OPTION_SET(create_options), OPTION_SET(run_options)},
	.run = run_run,
};
