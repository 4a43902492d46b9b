/* oci_exec: `berth oci exec`, and the commands that look into a running container or change it. */
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/oci_priv.h"
#include "oci/config_file.h"

/* --- exec --------------------------------------------------------------------------------------- */

static const struct option_spec exec_options[] = {
	{"additional-gids", 'g', OPTION_LIST, 0, "GID", "", "A further group"},
	{"apparmor", 0, OPTION_STRING, 0, "PROFILE", "", "AppArmor profile"},
	{"cap", 'c', OPTION_LIST, 0, "CAP", "", "A capability in addition"},
	{"cgroup", 0, OPTION_LIST, 0, "[CONTROLLERS:]PATH", "",
	 "A cgroup below the container's, for all or for these controllers"},
	{"console-socket", 0, OPTION_STRING, 0, "PATH", "",
	 "A socket that gets the terminal's master side"},
	{"cwd", 0, OPTION_STRING, 0, "PATH", "", "The working directory"},
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Return when the process runs"},
	{"env", 'e', OPTION_LIST, 0, "NAME=VALUE", "", "Set an environment variable"},
	{"ignore-paused", 0, OPTION_FLAG, 0, "", "", "Also in a paused container"},
	{"no-new-privs", 0, OPTION_FLAG, 0, "", "", "Set no_new_privs"},
	{"pid-file", 0, OPTION_STRING, 0, "FILE", "", "Write the process id here"},
	{"preserve-fds", 0, OPTION_INT, 0, "N", "0", "Pass on N descriptors from 3 on"},
	{"process", 'p', OPTION_STRING, 0, "FILE", "", "A process.json instead of these options"},
	{"process-label", 0, OPTION_STRING, 0, "LABEL", "", "SELinux label"},
	{"tty", 't', OPTION_FLAG, 0, "", "", "Give it a terminal"},
	{"user", 'u', OPTION_STRING, 0, "UID[:GID]", "", "Run as this user"},
};

static int read_user(const struct args *args, json_t *process, struct error *err)
{
	const char *text = args_string(args, "user");
	char *const *groups = args_list(args, "additional-gids");
	own_strv char **parts = text ? strv_split(text, ':') : NULL;
	json_t *user = json_object(), *list = json_array();
	uint64_t uid = 0, gid = 0, group;

	json_object_set_new(user, "additionalGids", list);
	if ((parts != NULL && str_to_uint(parts[0], UINT32_MAX - 1, &uid) < 0) ||
	    (parts != NULL && parts[1] != NULL &&
	     str_to_uint(parts[1], UINT32_MAX - 1, &gid) < 0)) {
		json_decref(user);
		return args_refuse(args, err, "user \"%s\" is not UID[:GID]", text);
	}
	for (size_t i = 0; groups[i] != NULL; i++) {
		if (str_to_uint(groups[i], UINT32_MAX - 1, &group) < 0) {
			json_decref(user);
			return args_refuse(args, err, "group \"%s\" is not a number", groups[i]);
		}
		json_array_append_new(list, json_integer((json_int_t)group));
	}
	json_object_set_new(user, "uid", json_integer((json_int_t)uid));
	json_object_set_new(user, "gid", json_integer((json_int_t)gid));
	if (text != NULL || groups[0] != NULL)
		json_object_set_new(process, "user", user);
	else
		json_decref(user);
	return 0;
}

/* The container's own environment and capabilities, with what the options add. */
static void add_lists(const struct args *args, json_t *own, json_t *process)
{
	static const char *const sets[] = {"bounding", "effective", "permitted", "inheritable",
					   "ambient"};
	char *const *env = args_list(args, "env"), *const *caps = args_list(args, "cap");
	json_t *list;

	if (env[0] != NULL) {
		own_strv char **all = NULL;
		json_t *item;
		size_t i;

		json_array_foreach (json_object_get(own, "env"), i, item)
			strv_push(&all, json_string_value(item));
		for (i = 0; env[i] != NULL; i++)
			env_set_pair(&all, env[i]);
		json_object_set_new(process, "env", json_from_strv(all));
	}
	if (caps[0] == NULL)
		return;
	list = json_deep_copy(json_object_get(own, "capabilities"));
	list = list ? list : json_object();
	for (size_t i = 0; i < 3; i++) {
		json_t *set = json_object_get(list, sets[i]);

		if (set == NULL)
			json_object_set_new(list, sets[i], set = json_array());
		for (size_t k = 0; caps[k] != NULL; k++)
			json_array_append_new(set, json_string(caps[k]));
	}
	json_object_set_new(process, "capabilities", list);
}

static int build_process(const struct args *args, const char *root, json_t **ret, struct error *err)
{
	own_json json_t *process = NULL, *own = NULL;
	const char *file = args_string(args, "process");
	int rc;

	if (!str_empty(file))
		return oci_read_document(file, ret, err);
	if (args_count(args) < 2)
		return args_refuse(args, err, "needs a command, or --process");
	process = json_object();
	json_object_set_new(process, "args", json_from_strv(args_positional(args) + 1));
	json_object_set_new(process, "terminal", json_boolean(args_flag(args, "tty")));
	json_set_string(process, "cwd", args_string(args, "cwd"));
	json_set_string(process, "apparmorProfile", args_string(args, "apparmor"));
	json_set_string(process, "selinuxLabel", args_string(args, "process-label"));
	/* Not the container's own: that is how crun reads a command line without it. */
	json_object_set_new(process, "noNewPrivileges",
			    json_boolean(args_flag(args, "no-new-privs")));
	rc = read_user(args, process, err);
	if (rc < 0)
		return rc;
	if ((args_list(args, "env")[0] != NULL || args_list(args, "cap")[0] != NULL) &&
	    oci_get_config(root, args_at(args, 0), &own, NULL) == 0)
		add_lists(args, json_object_get(own, "process"), process);
	*ret = json_incref(process);
	return 0;
}

static int do_exec(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	own_json json_t *process = NULL;
	struct oci_exec o = OCI_EXEC_DEFAULTS;
	const bool detach = args_flag(args, "detach");
	int rc = oci_self_protect(NULL, err);

	if (rc == 0)
		rc = build_process(args, root, &process, err);
	if (rc < 0)
		return rc;
	if (args_flag(args, "tty"))
		json_object_set_new(process, "terminal", json_true());
	o.state_root = root;
	o.id = args_at(args, 0);
	o.process = process;
	o.preserve_fds = (unsigned int)args_int(args, "preserve-fds");
	o.console_socket = args_string(args, "console-socket");
	o.pid_file = args_string(args, "pid-file");
	o.cgroups = args_list(args, "cgroup");
	o.flags = (args_flag(args, "ignore-paused") ? OCI_EXEC_IGNORE_PAUSED : 0) |
		  (detach ? 0 : OCI_EXEC_KEEP_TERMINAL) |
		  (detach || isatty(STDOUT_FILENO) ? 0 : OCI_EXEC_PLAIN_OUTPUT);
	rc = oci_exec(&o, &child, err);
	return rc < 0 || detach ? rc : oci_attend(&child, err);
}

static int run_exec(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = do_exec(args, err);
	/* What engines know from this command, for whatever reason the process did not start. */
	if (rc < 0)
		err->exit_status = 255;
	return oci_end(args, rc, err);
}

const struct command oci_exec_command = {
	.arguments = "CONTAINER [COMMAND] [ARG...]",
	.summary = "Run a further process in a running container",
	.options = {OPTION_SET(exec_options)},
	.flags = COMMAND_STOP_AT_ARGUMENT,
	.run = run_exec,
};

/* --- ps ----------------------------------------------------------------------------------------- */

static const struct option_spec ps_options[] = {
	{"format", 'f', OPTION_ENUM, 0, "table|json", "table", "How to print them"},
};

/* The column of PID in the header line, counted from 0; -1 if there is none. */
static int pid_column(char *header)
{
	char *save = NULL;
	int column = 0;

	for (char *word = strtok_r(header, " \n", &save); word != NULL;
	     word = strtok_r(NULL, " \n", &save), column++)
		if (strcmp(word, "PID") == 0)
			return column;
	return -1;
}

static bool has_pid(const pid_t *pids, size_t count, const char *line, int column)
{
	own_mem char *copy = str_copy(line);
	char *save = NULL, *word = strtok_r(copy, " ", &save);

	for (int i = 0; i < column && word != NULL; i++)
		word = strtok_r(NULL, " ", &save);
	for (size_t i = 0; word != NULL && i < count; i++)
		if (pids[i] == (pid_t)atol(word))
			return true;
	return false;
}

/* Runs the host's ps and shows the lines of the container's processes. */
static int print_table(const struct args *args, const pid_t *pids, size_t count, struct error *err)
{
	own_strv char **argv = NULL;
	own_mem char *text = NULL, *header = NULL;
	own_fd int reader = -1, writer = -1, pidfd = -1;
	struct proc_spawn spawn = {.path = "/bin/ps", .stdio = {-1, -1, 2}};
	int fds[2], rc, column;
	char *save = NULL;
	size_t len;
	pid_t pid;

	strv_push(&argv, "ps");
	for (int i = 1; i < args_count(args); i++)
		strv_push(&argv, args_at(args, i));
	if (args_count(args) < 2)
		strv_push(&argv, "-ef");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return fail(err, -errno, "create a pipe");
	reader = fds[0];
	writer = fds[1];
	spawn.argv = argv;
	spawn.stdio[1] = writer;
	rc = proc_spawn(&spawn, &pid, &pidfd, err);
	fd_close(&writer);
	if (rc < 0 || (rc = fd_read_all(reader, 64 << 20, &text, &len)) < 0 ||
	    (rc = proc_wait(pidfd, NULL)) < 0)
		return rc;
	header = str_copy_n(text, strcspn(text, "\n"));
	puts(header);
	column = pid_column(header);
	if (column < 0)
		return refuse(err, -EINVAL, "the output of ps has no column PID");
	strtok_r(text, "\n", &save);
	for (char *line = strtok_r(NULL, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (has_pid(pids, count, line, column))
			puts(line);
	return 0;
}

static int run_ps(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_mem pid_t *pids = NULL;
	size_t count = 0;
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = oci_pids(root, args_at(args, 0), &pids, &count, err);
	if (rc == 0 && str_eq(args_string(args, "format"), "json")) {
		printf("[");
		for (size_t i = 0; i < count; i++)
			printf("%s%d", i ? "," : "", (int)pids[i]);
		puts("]");
	} else if (rc == 0) {
		rc = print_table(args, pids, count, err);
	}
	return oci_end(args, rc, err);
}

const struct command oci_ps_command = {
	.arguments = "CONTAINER [ARG...]",
	.summary = "List the processes of a container",
	.options = {OPTION_SET(ps_options)},
	.flags = COMMAND_STOP_AT_ARGUMENT,
	.run = run_ps,
};

/* --- update ------------------------------------------------------------------------------------- */

static const struct option_spec update_options[] = {
	{"blkio-weight", 0, OPTION_INT, 0, "N", "", "Share of block I/O, 10 to 1000"},
	{"cpu-burst", 0, OPTION_INT, 0, "US", "", "CPU time that may be saved up"},
	{"cpu-idle", 0, OPTION_INT, 0, "0|1", "", "Run only when nobody else does"},
	{"cpu-period", 0, OPTION_INT, 0, "US", "", "CPU period of the quota"},
	{"cpu-quota", 0, OPTION_INT, 0, "US", "", "CPU time in each period"},
	{"cpu-rt-period", 0, OPTION_INT, 0, "US", "", "Realtime period"},
	{"cpu-rt-runtime", 0, OPTION_INT, 0, "US", "", "Realtime CPU time in each period"},
	{"cpu-share", 0, OPTION_INT, 0, "N", "", "Share of the CPU"},
	{"cpuset-cpus", 0, OPTION_STRING, 0, "LIST", "", "CPUs to use"},
	{"cpuset-mems", 0, OPTION_STRING, 0, "LIST", "", "Memory nodes to use"},
	{"memory", 0, OPTION_STRING, 0, "BYTES", "", "Memory limit, -1 for none"},
	{"memory-reservation", 0, OPTION_STRING, 0, "BYTES", "", "Soft memory limit"},
	{"memory-swap", 0, OPTION_STRING, 0, "BYTES", "", "Memory and swap together"},
	{"pids-limit", 0, OPTION_INT, 0, "N", "", "Number of processes, -1 for no limit"},
	{"resources", 'r', OPTION_STRING, 0, "FILE", "",
	 "Read linux.resources from this file (- is stdin) instead"},
};

static const struct {
	const char *option, *section, *key;
	enum { NUMBER, SIZE, TEXT } kind;
} update_fields[] = {
	{"blkio-weight", "blockIO", "weight", NUMBER},
	{"cpu-burst", "cpu", "burst", NUMBER},
	{"cpu-idle", "cpu", "idle", NUMBER},
	{"cpu-period", "cpu", "period", NUMBER},
	{"cpu-quota", "cpu", "quota", NUMBER},
	{"cpu-rt-period", "cpu", "realtimePeriod", NUMBER},
	{"cpu-rt-runtime", "cpu", "realtimeRuntime", NUMBER},
	{"cpu-share", "cpu", "shares", NUMBER},
	{"cpuset-cpus", "cpu", "cpus", TEXT},
	{"cpuset-mems", "cpu", "mems", TEXT},
	{"memory", "memory", "limit", SIZE},
	{"memory-reservation", "memory", "reservation", SIZE},
	{"memory-swap", "memory", "swap", SIZE},
	{"pids-limit", "pids", "limit", NUMBER},
};

static int add_field(const struct args *args, size_t i, json_t *resources, struct error *err)
{
	const char *option = update_fields[i].option;
	json_t *section = json_object_get(resources, update_fields[i].section), *value;
	uint64_t bytes;

	if (update_fields[i].kind == TEXT)
		value = json_string(args_string(args, option));
	else if (update_fields[i].kind == NUMBER)
		value = json_integer(args_int(args, option));
	else if (str_eq(args_string(args, option), "-1"))
		value = json_integer(-1);
	else if (str_to_size(args_string(args, option), &bytes) == 0)
		value = json_integer((json_int_t)bytes);
	else
		return args_refuse(args, err, "--%s \"%s\" is not a size", option,
				   args_string(args, option));
	if (section == NULL)
		json_object_set_new(resources, update_fields[i].section, section = json_object());
	json_object_set_new(section, update_fields[i].key, value);
	return 0;
}

static int read_resources(const struct args *args, json_t **ret, struct error *err)
{
	const char *file = args_string(args, "resources");
	own_json json_t *resources = NULL;
	int rc = 0;

	if (!str_empty(file))
		return oci_read_document(file, ret, err);
	resources = json_object();
	for (size_t i = 0; rc == 0 && i < array_size(update_fields); i++)
		if (args_given(args, update_fields[i].option))
			rc = add_field(args, i, resources, err);
	if (rc == 0)
		*ret = json_incref(resources);
	return rc;
}

static int run_update(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_json json_t *resources = NULL;
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = read_resources(args, &resources, err);
	if (rc == 0)
		rc = oci_update(root, args_at(args, 0), resources, err);
	return oci_end(args, rc, err);
}

const struct command oci_update_command = {
	.arguments = "CONTAINER",
	.summary = "Change the limits of a container",
	.options = {OPTION_SET(update_options)},
	.run = run_update,
};

/* --- events ------------------------------------------------------------------------------------- */

static const struct option_spec events_options[] = {
	{"interval", 0, OPTION_DURATION, 0, "TIME", "5s", "Time between two reports"},
	{"stats", 0, OPTION_FLAG, 0, "", "", "One report, then end"},
};

static void print(const json_t *event, void *data)
{
	own_mem char *text = json_text(event);

	(void)data;
	puts(text);
	fflush(stdout);
}

static int run_events(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	const int64_t interval_ms = args_duration(args, "interval") / 1000000;
	int rc = oci_begin(args, err);

	if (rc == 0 && (interval_ms <= 0 || interval_ms > INT_MAX))
		rc = args_refuse(args, err,
				 "--interval has to be between a millisecond and 24 days");
	if (rc == 0)
		rc = oci_events(root, args_at(args, 0),
				args_flag(args, "stats") ? 0 : (int)interval_ms, print, NULL, err);
	return oci_end(args, rc, err);
}

const struct command oci_events_command = {
	.arguments = "CONTAINER",
	.summary = "Report what a container uses",
	.options = {OPTION_SET(events_options)},
	.run = run_events,
};
