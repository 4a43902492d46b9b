/* run_config: from the options of run and create to a workload_config. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/run_priv.h"

enum { PAIRS_FILE_MAX = 4 << 20 };

/* One "NAME=VALUE" or "NAME". */
static int add_pair(const char *text, bool from_environment, char ***pairs, struct error *err)
{
	const char *equals = strchr(text, '=');
	own_mem char *name = equals ? str_copy_n(text, (size_t)(equals - text)) : str_copy(text);
	const char *value;

	if (name[0] == '\0')
		return refuse(err, -EINVAL, "\"%s\" has no name before the \"=\"", text);
	for (const char *p = name; *p != '\0'; p++)
		if (isspace((unsigned char)*p))
			return refuse(err, -EINVAL, "the name \"%s\" contains white space", name);
	if (equals != NULL) {
		env_set(pairs, name, equals + 1);
		return 0;
	}
	value = from_environment ? getenv(name) : "";
	if (value != NULL)
		env_set(pairs, name, value);
	return 0;
}

static int read_pairs_file(const char *path, bool from_environment, char ***pairs,
			   struct error *err)
{
	own_mem char *text = NULL;
	own_strv char **lines = NULL;
	size_t len;
	int rc = file_read(AT_FDCWD, path, PAIRS_FILE_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	if (strlen(text) != len)
		return refuse(err, -EINVAL, "%s contains a NUL byte", path);
	lines = strv_split(text, '\n');
	for (size_t i = 0; lines != NULL && lines[i] != NULL; i++) {
		char *line = lines[i] + strspn(lines[i], " \t");
		size_t n = strlen(line);

		if (n > 0 && line[n - 1] == '\r')
			line[n - 1] = '\0';
		if (line[0] == '\0' || line[0] == '#')
			continue;
		rc = add_pair(line, from_environment, pairs, err);
		if (rc < 0)
			return refuse(err, rc, "%s line %zu", path, i + 1);
	}
	return 0;
}

int read_pairs(char *const *files, char *const *given, bool from_environment, char ***ret,
	       struct error *err)
{
	int rc = 0;

	for (; *files != NULL && rc >= 0; files++)
		rc = read_pairs_file(*files, from_environment, ret, err);
	for (; *given != NULL && rc >= 0; given++)
		rc = add_pair(*given, from_environment, ret, err);
	return rc;
}

/* "--cpus 1.5" in billionths of a CPU. */
static int parse_cpus(const char *text, int64_t *ret, struct error *err)
{
	char *end;
	double cpus = strtod(text, &end);

	if (end == text || *end != '\0' || !(cpus > 0) || cpus > 1e6 ||
	    !isdigit((unsigned char)*text))
		return refuse(err, -EINVAL,
			      "invalid value \"%s\" for --cpus: expected a number such "
			      "as 0.5 or 2",
			      text);
	*ret = (int64_t)(cpus * 1e9 + 0.5);
	return 0;
}

static int read_size(const struct args *args, const char *option, int64_t *ret, struct error *err)
{
	uint64_t bytes = args_size(args, option);

	if (!args_given(args, option))
		return 0;
	if (bytes > INT64_MAX)
		return refuse(err, -ERANGE, "--%s is too large", option);
	/* docker's 0 means no limit. */
	*ret = bytes == 0 ? -1 : (int64_t)bytes;
	return 0;
}

static int read_memory_swap(const struct args *args, struct workload_config *config,
			    struct error *err)
{
	const char *text = args_string(args, "memory-swap");
	uint64_t bytes;

	if (text == NULL)
		return 0;
	if (config->memory_bytes < 0)
		return hint(
			err, refuse(err, -EINVAL, "--memory-swap needs --memory, too"),
			"it limits memory and swap together, so --memory is the part of memory");
	if (strcmp(text, "-1") == 0) {
		config->memory_swap_bytes = WORKLOAD_SWAP_UNLIMITED;
		return 0;
	}
	if (str_to_size(text, &bytes) < 0 || bytes > INT64_MAX)
		return refuse(err, -EINVAL,
			      "invalid value \"%s\" for --memory-swap: expected a size "
			      "such as 1g, or -1",
			      text);
	if ((int64_t)bytes < config->memory_bytes)
		return refuse(err, -EINVAL,
			      "--memory-swap is memory and swap together, so it cannot "
			      "be smaller than --memory");
	config->memory_swap_bytes = (int64_t)bytes;
	return 0;
}

static int read_limits(const struct args *args, struct workload_config *config, struct error *err)
{
	const char *cpus = args_string(args, "cpus");
	int rc = read_size(args, "memory", &config->memory_bytes, err);

	if (rc >= 0)
		rc = read_size(args, "memory-reservation", &config->memory_reservation_bytes, err);
	if (rc >= 0)
		rc = read_size(args, "shm-size", &config->shm_size_bytes, err);
	if (rc >= 0)
		rc = read_memory_swap(args, config, err);
	if (rc >= 0 && cpus != NULL)
		rc = parse_cpus(cpus, &config->nano_cpus, err);
	if (rc < 0)
		return rc;
	if (args_given(args, "cpu-shares"))
		config->cpu_shares = args_int(args, "cpu-shares");
	if (args_given(args, "pids-limit"))
		config->pids_limit =
			args_int(args, "pids-limit") == 0 ? -1 : args_int(args, "pids-limit");
	if (args_given(args, "oom-score-adj")) {
		const int64_t score = args_int(args, "oom-score-adj");

		if (score < -1000 || score > 1000)
			return refuse(err, -EINVAL,
				      "--oom-score-adj must be between -1000 and 1000");
		config->oom_score_adj = (int)score;
		config->oom_score_set = true;
	}
	config->cpuset_cpus = str_copy(args_string(args, "cpuset-cpus"));
	config->cpuset_mems = str_copy(args_string(args, "cpuset-mems"));
	config->cgroup_parent = str_copy(args_string(args, "cgroup-parent"));
	return 0;
}

static void read_flags(const struct args *args, struct workload_config *config)
{
	static const struct {
		const char *option;
		unsigned int flag;
	} flags[] = {
		{"init", WORKLOAD_INIT},
		{"no-template", WORKLOAD_NO_TEMPLATE},
		{"interactive", WORKLOAD_STDIN_OPEN},
		{"oom-kill-disable", WORKLOAD_OOM_KILL_DISABLE},
		{"privileged", WORKLOAD_PRIVILEGED},
		{"read-only", WORKLOAD_READ_ONLY},
		{"rm", WORKLOAD_AUTO_REMOVE},
		{"tty", WORKLOAD_TTY},
	};

	for (size_t i = 0; i < array_size(flags); i++)
		if (args_flag(args, flags[i].option))
			config->flags |= flags[i].flag;
	/* The end of our input is that of the workload's, unless it starts without us. */
	if (args_flag(args, "interactive") &&
	    !(args_has(args, "detach") && args_flag(args, "detach")))
		config->flags |= WORKLOAD_STDIN_ONCE;
}

static int read_namespaces(const struct args *args, struct workload_config *config,
			   struct error *err)
{
	const char *pid = args_string(args, "pid");

	if (pid != NULL && strcmp(pid, "host") != 0 && strcmp(pid, "private") != 0)
		return args_refuse(args, err,
				   "invalid value \"%s\" for --pid: expected host, or "
				   "nothing for processes of its own",
				   pid);
	if (pid != NULL && strcmp(pid, "host") == 0)
		config->flags |= WORKLOAD_PID_HOST;
	if (strcmp(args_string(args, "ipc"), "host") == 0)
		config->flags |= WORKLOAD_IPC_HOST;
	if (strcmp(args_string(args, "uts"), "host") == 0)
		config->flags |= WORKLOAD_UTS_HOST;
	return 0;
}

/* --storage-opt size=BYTES */
static int read_storage(const struct args *args, struct workload_config *config, struct error *err)
{
	for (char *const *text = args_list(args, "storage-opt"); *text != NULL; text++) {
		const char *size = str_after(*text, "size=");
		uint64_t bytes;

		if (size == NULL)
			return args_refuse(args, err,
					   "--storage-opt knows only size=BYTES, not \"%s\"",
					   *text);
		if (str_to_size(size, &bytes) < 0 || bytes > INT64_MAX)
			return args_refuse(args, err, "\"%s\" is not a size such as 20g", size);
		config->storage_bytes = (int64_t)bytes;
	}
	return 0;
}

/* The path of a text PATH[,OPTIONS] made absolute, as the engine needs it. */
static int add_disk(const char *text, struct workload_config *config, struct error *err)
{
	const char *options = strchrnul(text, ',');
	own_mem char *path = str_copy_n(text, (size_t)(options - text));
	own_mem char *absolute = realpath(path, NULL), *whole = NULL;

	if (absolute == NULL)
		return fail(err, -errno, "--disk: %s", path);
	whole = str_format("%s%s", absolute, options);
	strv_push(&config->disks, whole);
	return 0;
}

static int make_absolute(const char *option, const char *path, char **ret, struct error *err)
{
	*ret = realpath(path, NULL);
	return *ret == NULL ? fail(err, -errno, "--%s: %s", option, path) : 0;
}

/* A system on a disk of its own. */
static int read_machine(const struct args *args, struct workload_config *config, struct error *err)
{
	static const char *const only[] = {"cloud-init", "firmware"};
	const char *firmware = args_string(args, "firmware"),
		   *cloud_init = args_string(args, "cloud-init");
	int rc = 0;

	for (size_t i = 0; !args_given(args, "disk") && i < array_size(only); i++)
		if (args_given(args, only[i]))
			return args_refuse(args, err, "--%s goes only with --disk", only[i]);
	if (!args_given(args, "disk"))
		return 0;
	if (args_count(args) > 0)
		return args_refuse(args, err,
				   "an image does not go with --disk, whose system says itself "
				   "what runs: \"%s\"",
				   args_at(args, 0));
	config->isolation = WORKLOAD_MACHINE;
	for (char *const *text = args_list(args, "disk"); rc == 0 && *text != NULL; text++)
		rc = add_disk(*text, config, err);
	if (rc == 0 && cloud_init != NULL)
		rc = make_absolute("cloud-init", cloud_init, &config->cloud_init, err);
	if (rc == 0 && firmware != NULL && strchr(firmware, '/') != NULL)
		return make_absolute("firmware", firmware, &config->firmware, err);
	if (firmware != NULL)
		config->firmware = str_copy(firmware);
	return rc;
}

/* Which wall, and what goes only with a machine. */
static int read_isolation(const struct args *args, struct workload_config *config,
			  struct error *err)
{
	static const char *const only[] = {"accel",  "cloud-init",  "disk",       "firmware",
					   "kernel", "no-template", "storage-opt"};
	const bool vm = args_flag(args, "vm") || strcmp(args_string(args, "isolation"), "vm") == 0;
	int rc;

	if (args_flag(args, "vm") && args_given(args, "isolation") &&
	    strcmp(args_string(args, "isolation"), "vm") != 0)
		return args_refuse(args, err,
				   "--vm and --isolation container contradict each other");
	for (size_t i = 0; !vm && i < array_size(only); i++)
		if (args_given(args, only[i]))
			return args_refuse(args, err, "--%s goes only with --vm", only[i]);
	if (!vm)
		return 0;
	config->isolation = WORKLOAD_VM;
	config->kernel = str_copy(args_string(args, "kernel"));
	if (args_given(args, "accel"))
		config->accel = str_copy(args_string(args, "accel"));
	rc = read_storage(args, config, err);
	return rc < 0 ? rc : read_machine(args, config, err);
}

typedef int parse_fn(struct workload_config *config, const char *text, struct error *err);

/* The options whose texts the engine takes apart. */
static int read_parsed(const struct args *args, struct workload_config *config, struct error *err)
{
	static const struct {
		const char *option;
		parse_fn *parse;
		bool is_list;
	} parsed[] = {
		{"volume", workload_config_parse_volume, true},
		{"mount", workload_config_parse_mount, true},
		{"tmpfs", workload_config_parse_tmpfs, true},
		{"device", workload_config_parse_device, true},
		{"ulimit", workload_config_parse_ulimit, true},
		{"security-opt", workload_config_parse_security, true},
		{"log-driver", workload_config_parse_log_driver, false},
		{"log-opt", workload_config_parse_log_option, true},
		{"net", workload_config_parse_network, false},
		{"network", workload_config_parse_network, false},
		{"restart", workload_config_parse_restart, false},
	};

	for (size_t i = 0; i < array_size(parsed); i++) {
		const char *single[2] = {NULL, NULL};
		const char *const *texts = single;

		if (parsed[i].is_list)
			texts = (const char *const *)args_list(args, parsed[i].option);
		else
			single[0] = args_string(args, parsed[i].option);
		for (; *texts != NULL; texts++) {
			int rc = parsed[i].parse(config, *texts, err);

			if (rc < 0)
				return refuse(err, rc, "--%s", parsed[i].option);
		}
	}
	return 0;
}

static void read_lists(const struct args *args, struct workload_config *config)
{
	const struct {
		const char *option;
		char ***list;
	} lists[] = {
		{"add-host", &config->extra_hosts},
		{"annotation", &config->annotations},
		{"cap-add", &config->caps_add},
		{"cap-drop", &config->caps_drop},
		{"dns", &config->dns},
		{"dns-option", &config->dns_options},
		{"dns-search", &config->dns_search},
		{"group-add", &config->groups_add},
		{"sysctl", &config->sysctls},
	};

	for (size_t i = 0; i < array_size(lists); i++)
		for (char *const *text = args_list(args, lists[i].option); *text != NULL; text++)
			strv_push(lists[i].list, *text);
}

/* --entrypoint, and the words behind the image. */
static void read_command(const struct args *args, struct workload_config *config)
{
	const char *entrypoint = args_string(args, "entrypoint");

	if (entrypoint != NULL) {
		strv_push(&config->entrypoint, entrypoint);
		/* An empty one means: none at all, which is an empty vector and not "not given". */
		if (entrypoint[0] == '\0') {
			free(config->entrypoint[0]);
			config->entrypoint[0] = NULL;
		}
	}
	for (int i = 1; i < args_count(args); i++)
		strv_push(&config->command, args_at(args, i));
}

static int read_life(const struct args *args, struct workload_config *config, struct error *err)
{
	const int64_t timeout = args_int(args, "stop-timeout");

	if (args_given(args, "stop-timeout")) {
		if (timeout < -1 || timeout >= INT_MAX)
			return refuse(err, -EINVAL,
				      "--stop-timeout must be a number of seconds, or "
				      "-1 to wait for ever");
		config->stop_timeout_s = timeout < 0 ? INT_MAX : (int)timeout;
	}
	config->stop_signal = str_copy(args_string(args, "stop-signal"));
	if ((config->flags & WORKLOAD_AUTO_REMOVE) && config->restart != WORKLOAD_RESTART_NO)
		return hint(err, refuse(err, -EINVAL, "--rm and --restart exclude each other"),
			    "a workload that is removed when it ends cannot be started again");
	return 0;
}

int run_config(const struct args *args, struct workload_config *config, struct error *err)
{
	int rc;

	if (args_count(args) > 0)
		config->image = str_copy(args_at(args, 0));
	config->name = str_copy(args_string(args, "name"));
	config->hostname = str_copy(args_string(args, "hostname"));
	config->domainname = str_copy(args_string(args, "domainname"));
	config->user = str_copy(args_string(args, "user"));
	config->working_dir = str_copy(args_string(args, "workdir"));
	read_flags(args, config);
	read_lists(args, config);
	read_command(args, config);
	rc = read_pairs(args_list(args, "env-file"), args_list(args, "env"), true, &config->env,
			err);
	if (rc >= 0)
		rc = read_pairs(args_list(args, "label-file"), args_list(args, "label"), false,
				&config->labels, err);
	if (rc >= 0)
		rc = read_isolation(args, config, err);
	if (rc >= 0)
		rc = read_namespaces(args, config, err);
	if (rc >= 0)
		rc = read_limits(args, config, err);
	if (rc >= 0)
		rc = read_parsed(args, config, err);
	return rc < 0 ? rc : read_life(args, config, err);
}
