/* spec_linux: namespaces, limits, devices and what is hidden (declared in spec.h). */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/seccomp.h"
#include "engine/spec.h"

enum { CPU_PERIOD_US = 100000, DEVICES_DEPTH_MAX = 8 };

static const char masked[][40] = {
	"/proc/asound",     "/proc/acpi",        "/proc/interrupts",
	"/proc/kcore",      "/proc/keys",        "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
	"/proc/scsi",       "/sys/firmware",     "/sys/devices/virtual/powercap",
};
static const char read_only[][24] = {
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
};

static void add_namespace(json_t *array, const char *type)
{
	json_t *o = json_object();

	json_set_string(o, "type", type);
	json_array_append_new(array, o);
}

static json_t *namespaces(const struct workload_config *config)
{
	json_t *array = json_array();

	add_namespace(array, "mount");
	add_namespace(array, "cgroup");
	if (!(config->flags & WORKLOAD_PID_HOST))
		add_namespace(array, "pid");
	if (!(config->flags & WORKLOAD_IPC_HOST))
		add_namespace(array, "ipc");
	if (!(config->flags & WORKLOAD_UTS_HOST))
		add_namespace(array, "uts");
	if (config->network != WORKLOAD_NETWORK_HOST)
		add_namespace(array, "network");
	return array;
}

static void set_number(json_t *o, const char *key, int64_t value)
{
	if (value >= 0)
		json_object_set_new(o, key, json_integer(value));
}

static void set_part(json_t *o, const char *key, json_t *part)
{
	if (json_object_size(part) > 0)
		json_object_set_new(o, key, part);
	else
		json_decref(part);
}

/* --- devices ---------------------------------------------------------------------------------------- */

static void allow_device(json_t *rules, const struct stat *st, const char *access)
{
	json_t *o = json_object();

	json_object_set_new(o, "allow", json_true());
	json_set_string(o, "type", S_ISBLK(st->st_mode) ? "b" : "c");
	json_object_set_new(o, "major", json_integer(major(st->st_rdev)));
	json_object_set_new(o, "minor", json_integer(minor(st->st_rdev)));
	json_set_string(o, "access", access);
	json_array_append_new(rules, o);
}

static void add_node(json_t *nodes, const struct stat *st, const char *target)
{
	json_t *o = json_object();

	json_set_string(o, "path", target);
	json_set_string(o, "type", S_ISBLK(st->st_mode) ? "b" : "c");
	json_object_set_new(o, "major", json_integer(major(st->st_rdev)));
	json_object_set_new(o, "minor", json_integer(minor(st->st_rdev)));
	json_object_set_new(o, "fileMode", json_integer(st->st_mode & 0777));
	json_object_set_new(o, "uid", json_integer(st->st_uid));
	json_object_set_new(o, "gid", json_integer(st->st_gid));
	json_array_append_new(nodes, o);
}

static bool is_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);
}

/* Directories of /dev that a container has of its own. */
static bool is_own(const char *path)
{
	static const char *const own[] = {"/dev/pts", "/dev/shm",     "/dev/mqueue",
					  "/dev/fd",  "/dev/console", "/dev/ptmx"};

	for (size_t i = 0; i < array_size(own); i++)
		if (str_eq(own[i], path))
			return true;
	return false;
}

/* Every device below a directory of the host. Without rules: `rules` is NULL. */
static void add_devices_below(const char *source, const char *target, const char *access,
			      json_t *nodes, json_t *rules, unsigned int depth)
{
	own_dir DIR *dir = depth < DEVICES_DEPTH_MAX ? opendir(source) : NULL;
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		own_mem char *from = str_format("%s/%s", source, entry->d_name);
		own_mem char *to = str_format("%s/%s", target, entry->d_name);
		struct stat st;

		if (entry->d_name[0] == '.' || is_own(from) || lstat(from, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			add_devices_below(from, to, access, nodes, rules, depth + 1);
		if (!is_device(&st))
			continue;
		add_node(nodes, &st, to);
		if (rules != NULL)
			allow_device(rules, &st, access);
	}
}

static int add_device(const struct workload_device *d, json_t *nodes, json_t *rules,
		      struct error *err)
{
	struct stat st;

	if (stat(d->source, &st) < 0)
		return fail(err, -errno, "device \"%s\"", d->source);
	if (S_ISDIR(st.st_mode)) {
		add_devices_below(d->source, d->target, d->access, nodes, rules, 0);
		return 0;
	}
	if (!is_device(&st))
		return refuse(err, -ENODEV, "\"%s\" is not a device", d->source);
	add_node(nodes, &st, d->target);
	allow_device(rules, &st, d->access);
	return 0;
}

/* What every workload may use: making any node (which gives no access), and the usual devices. */
static void allow_usual(json_t *rules)
{
	static const struct {
		char type[2];
		int16_t major, minor; /* -1: any */
		char access[4];
	} usual[] = {
		{"c", -1, -1, "m"}, {"b", -1, -1, "m"},    {"c", 1, 3, "rwm"}, {"c", 1, 5, "rwm"},
		{"c", 1, 7, "rwm"}, {"c", 1, 8, "rwm"},    {"c", 1, 9, "rwm"}, {"c", 5, 0, "rwm"},
		{"c", 5, 2, "rwm"}, {"c", 136, -1, "rwm"},
	};

	for (size_t i = 0; i < array_size(usual); i++) {
		json_t *o = json_object();

		json_object_set_new(o, "allow", json_true());
		json_set_string(o, "type", usual[i].type);
		set_number(o, "major", usual[i].major);
		set_number(o, "minor", usual[i].minor);
		json_set_string(o, "access", usual[i].access);
		json_array_append_new(rules, o);
	}
}

static int devices(const struct workload_config *config, json_t *nodes, json_t *rules,
		   struct error *err)
{
	const bool privileged = (config->flags & WORKLOAD_PRIVILEGED) != 0;
	json_t *all = json_object();
	int rc = 0;

	json_object_set_new(all, "allow", json_boolean(privileged));
	json_set_string(all, "access", "rwm");
	json_array_append_new(rules, all);
	if (!privileged)
		allow_usual(rules);
	if (privileged)
		add_devices_below("/dev", "/dev", "rwm", nodes, NULL, 0);
	for (size_t i = 0; rc == 0 && i < config->devices_count; i++)
		rc = add_device(&config->devices[i], nodes, rules, err);
	return rc;
}

/* --- limits ----------------------------------------------------------------------------------------- */

static json_t *memory(const struct workload_config *config)
{
	json_t *o = json_object();

	set_number(o, "limit", config->memory_bytes);
	set_number(o, "reservation", config->memory_reservation_bytes);
	/* As docker: as much swap again as memory, unless stated. */
	if (config->memory_swap_bytes == WORKLOAD_SWAP_UNLIMITED)
		json_object_set_new(o, "swap", json_integer(-1));
	else if (config->memory_swap_bytes >= 0)
		set_number(o, "swap", config->memory_swap_bytes);
	else if (config->memory_bytes >= 0)
		set_number(o, "swap", config->memory_bytes * 2);
	if (config->flags & WORKLOAD_OOM_KILL_DISABLE)
		json_object_set_new(o, "disableOOMKiller", json_true());
	return o;
}

static json_t *cpu(const struct workload_config *config)
{
	json_t *o = json_object();

	if (config->nano_cpus > 0) {
		set_number(o, "period", CPU_PERIOD_US);
		set_number(o, "quota", config->nano_cpus * CPU_PERIOD_US / 1000000000);
	}
	set_number(o, "shares", config->cpu_shares);
	json_set_string(o, "cpus", config->cpuset_cpus);
	json_set_string(o, "mems", config->cpuset_mems);
	return o;
}

/* In an ordinary user's namespaces there is nobody whom the kernel would let make a device. */
static bool is_rootless(const struct workload_config *config)
{
	return config->isolation == WORKLOAD_CONTAINER && !proc_is_root();
}

static json_t *resources(const struct workload_config *config, json_t *device_rules)
{
	json_t *o = json_object(), *pids = json_object();

	if (is_rootless(config))
		json_decref(device_rules);
	else
		json_object_set_new(o, "devices", device_rules);
	set_part(o, "memory", memory(config));
	set_part(o, "cpu", cpu(config));
	if (config->pids_limit > 0)
		set_number(pids, "limit", config->pids_limit);
	set_part(o, "pids", pids);
	return o;
}

/* --- the rest --------------------------------------------------------------------------------------- */

static json_t *sysctls(const struct workload_config *config)
{
	json_t *o = json_object();

	/* As docker: in a network of its own a workload needs no privilege for low ports and ping. */
	if (config->network != WORKLOAD_NETWORK_HOST) {
		json_set_string(o, "net.ipv4.ip_unprivileged_port_start", "0");
		/* All groups; those that a user namespace lacks are refused there. */
		json_set_string(o, "net.ipv4.ping_group_range",
				is_rootless(config) ? "0 0" : "0 2147483647");
	}
	for (size_t i = 0; config->sysctls != NULL && config->sysctls[i] != NULL; i++) {
		const char *pair = config->sysctls[i], *equals = strchrnul(pair, '=');
		own_mem char *key = str_copy_n(pair, (size_t)(equals - pair));

		json_set_string(o, key, *equals ? equals + 1 : "");
	}
	return o;
}

static json_t *paths(const struct workload_config *config, const char *table, size_t count,
		     size_t stride)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		if (!strv_has(config->masked_paths_off, table + i * stride))
			json_array_append_new(array, json_string(table + i * stride));
	return array;
}

static int seccomp(const struct workload_config *config, const json_t *capabilities,
		   json_t *linux_part, struct error *err)
{
	json_t *profile;

	if (config->seccomp_profile != NULL) {
		int rc = seccomp_from_profile(config->seccomp_profile, capabilities, &profile, err);

		if (rc < 0)
			return rc;
	} else if (str_eq(config->seccomp, "unconfined") || (config->flags & WORKLOAD_PRIVILEGED)) {
		return 0;
	} else {
		profile = seccomp_default(capabilities);
	}
	json_object_set_new(linux_part, "seccomp", profile);
	return 0;
}

int spec_linux(const struct workload *workload, const json_t *capabilities, json_t **ret,
	       struct error *err)
{
	const struct workload_config *config = &workload->config;
	own_json json_t *o = json_object();
	json_t *nodes = json_array(), *rules = json_array();
	own_mem char *cgroup = NULL;
	int rc;

	json_object_set_new(o, "namespaces", namespaces(config));
	rc = devices(config, nodes, rules, err);
	json_object_set_new(o, "devices", nodes);
	json_object_set_new(o, "resources", resources(config, rules));
	if (rc == 0)
		rc = seccomp(config, capabilities, o, err);
	if (rc < 0)
		return rc;
	/* One level: nothing is left when the cgroup is removed. An ordinary user's is where the user may have one:
	 * the runtime knows. */
	if (config->cgroup_parent != NULL || !is_rootless(config)) {
		cgroup = str_format("%s/berth-%s",
				    config->cgroup_parent ? config->cgroup_parent : "",
				    workload->id);
		json_set_string(o, "cgroupsPath", cgroup);
	}
	set_part(o, "sysctl", sysctls(config));
	if (!(config->flags & WORKLOAD_PRIVILEGED) && !strv_has(config->masked_paths_off, "ALL")) {
		json_object_set_new(
			o, "maskedPaths",
			paths(config, masked[0], array_size(masked), sizeof(masked[0])));
		json_object_set_new(
			o, "readonlyPaths",
			paths(config, read_only[0], array_size(read_only), sizeof(read_only[0])));
	}
	json_set_string(o, "rootfsPropagation", "rprivate");
	*ret = take(o);
	return 0;
}
