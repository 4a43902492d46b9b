/*
 * machine_plan: what a full machine is made of (machine.h): which options it can have, and the command
 * line of its VMM.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/machine.h"
#include "engine/record.h"
#include "engine/vm.h"
#include "vmm/disk/disk.h"
#include "vmm/machine/machine.h"

enum { CPUS_MAX = 64, NANO = 1000000000, VARS_MAX = 16 << 20 };

static const unsigned int allowed_flags =
	WORKLOAD_TTY | WORKLOAD_STDIN_OPEN | WORKLOAD_STDIN_ONCE | WORKLOAD_AUTO_REMOVE;

/* The members of a configuration that mean something for a machine. */
static const char *const allowed[] = {
	"accel",
	"cloud_init",
	"disks",
	"firmware",
	"flags",
	"hostname",
	"isolation",
	"labels",
	"log",
	"log_max_files",
	"log_max_size_bytes",
	"memory_bytes",
	"mounts",
	"name",
	"nano_cpus",
	"restart",
	"restart_max",
	"stop_signal",
	"stop_timeout_s",
};

/* How the user calls the others. */
static const struct {
	const char *member, *option;
} names[] = {
	{"annotations", "--annotation"},
	{"apparmor", "--security-opt apparmor"},
	{"caps_add", "--cap-add"},
	{"caps_drop", "--cap-drop"},
	{"cgroup_parent", "--cgroup-parent"},
	{"command", "a command"},
	{"cpu_shares", "--cpu-shares"},
	{"cpuset_cpus", "--cpuset-cpus"},
	{"cpuset_mems", "--cpuset-mems"},
	{"devices", "--device"},
	{"dns", "--dns"},
	{"dns_options", "--dns-option"},
	{"dns_search", "--dns-search"},
	{"entrypoint", "--entrypoint"},
	{"env", "--env"},
	{"extra_hosts", "--add-host"},
	{"groups_add", "--group-add"},
	{"image", "an image"},
	{"kernel", "--kernel"},
	{"masked_paths_off", "--security-opt unmask"},
	{"memory_reservation_bytes", "--memory-reservation"},
	{"memory_swap_bytes", "--memory-swap"},
	{"network", "--network"},
	{"oom_score_adj", "--oom-score-adj"},
	{"oom_score_set", "--oom-score-adj"},
	{"pids_limit", "--pids-limit"},
	{"seccomp", "--security-opt seccomp"},
	{"seccomp_profile", "--security-opt seccomp"},
	{"shm_size_bytes", "--shm-size"},
	{"storage_bytes", "--storage-opt"},
	{"sysctls", "--sysctl"},
	{"ulimits", "--ulimit"},
	{"user", "--user"},
	{"working_dir", "--workdir"},
};

static const struct {
	unsigned int flag;
	const char *option;
} flag_names[] = {
	{WORKLOAD_INIT, "--init"},
	{WORKLOAD_IPC_HOST, "--ipc"},
	{WORKLOAD_NO_NEW_PRIVS, "--security-opt no-new-privileges"},
	{WORKLOAD_NO_TEMPLATE, "--no-template"},
	{WORKLOAD_OOM_KILL_DISABLE, "--oom-kill-disable"},
	{WORKLOAD_PID_HOST, "--pid"},
	{WORKLOAD_PRIVILEGED, "--privileged"},
	{WORKLOAD_UTS_HOST, "--uts"},
};

static int refuse_option(const char *option, struct error *err)
{
	return hint(err,
		    refuse(err, -ENOTSUP,
			   "%s does not go with --disk: a disk starts a system of its own, which "
			   "decides what runs in it",
			   option),
		    "set it up inside, or with --cloud-init");
}

static bool is_allowed(const char *member)
{
	for (size_t i = 0; i < array_size(allowed); i++)
		if (str_eq(allowed[i], member))
			return true;
	return false;
}

/* In the form that it has in the database, what was not given is absent. */
static int check_members(const struct workload_config *c, struct error *err)
{
	own_json json_t *given = workload_config_to_json(c);
	const char *member;
	json_t *value;

	json_object_foreach (given, member, value) {
		const char *option = member;

		if (is_allowed(member))
			continue;
		for (size_t i = 0; i < array_size(names); i++)
			if (str_eq(names[i].member, member))
				option = names[i].option;
		return refuse_option(option, err);
	}
	if (c->flags & WORKLOAD_READ_ONLY)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--read-only is for root file systems that berth makes"),
			    "a disk is read-only as --disk FILE,ro");
	for (size_t i = 0; i < array_size(flag_names); i++)
		if (c->flags & flag_names[i].flag & ~allowed_flags)
			return refuse_option(flag_names[i].option, err);
	return 0;
}

static int check_disk(const char *text, struct error *err)
{
	own_strv char **words = strv_split(text, ',');
	enum disk_format format;

	if (words[0][0] != '/')
		return refuse(err, -EINVAL, "the path of the disk \"%s\" is not absolute",
			      words[0]);
	for (char **word = words + 1; *word != NULL; word++) {
		const char *name = str_after(*word, "format=");

		if (str_eq(*word, "ro") || str_eq(*word, "backing=any") ||
		    (name != NULL && disk_format_parse(name, &format) == 0))
			continue;
		return hint(err,
			    refuse(err, -EINVAL, "--disk does not know the option \"%s\"", *word),
			    "the options are ro, format=raw, format=qcow2 and backing=any");
	}
	return 0;
}

/* What the guest mounts a directory by: the path without its first slash. */
static const char *tag_of(const struct workload_mount *mount)
{
	return mount->target + (mount->target[0] == '/');
}

static int check_mounts(const struct workload_config *c, struct error *err)
{
	for (size_t i = 0; i < c->mounts_count; i++) {
		const struct workload_mount *m = &c->mounts[i];

		if (m->type != WORKLOAD_MOUNT_BIND)
			return refuse_option("--tmpfs", err);
		if (strchr(m->source, ',') != NULL || strchr(m->target, ',') != NULL)
			return refuse(err, -ENOTSUP,
				      "a path with a comma cannot be shared with a machine: %s",
				      m->source);
		if (strlen(tag_of(m)) > SHARE_TAG_MAX || tag_of(m)[0] == '\0')
			return refuse(
				err, -EINVAL,
				"\"%s\": a machine finds a directory by its name, which has 1 "
				"to %d bytes",
				tag_of(m), SHARE_TAG_MAX);
	}
	return 0;
}

static int check_firmware(const char *firmware, struct error *err)
{
	struct machine_uefi uefi;

	if (str_eq(firmware, "uefi"))
		return machine_find_uefi(NULL, &uefi, err);
	if (firmware == NULL || str_eq(firmware, "bios") || firmware[0] == '/')
		return 0;
	return hint(err, refuse(err, -EINVAL, "--firmware does not know \"%s\"", firmware),
		    "it takes bios, uefi, or the path of a BIOS");
}

int machine_check(const struct workload_config *c, struct error *err)
{
	int rc = check_members(c, err);

	if (rc == 0)
		rc = check_firmware(c->firmware, err);
	for (size_t i = 0; rc == 0 && c->disks[i] != NULL; i++)
		rc = check_disk(c->disks[i], err);
	if (rc == 0)
		rc = check_mounts(c, err);
	if (rc == 0 && c->cloud_init != NULL)
		rc = machine_seed_check(c->cloud_init, err);
	if (rc < 0)
		return rc;
	if (c->nano_cpus > 0 && c->nano_cpus % NANO != 0)
		return refuse(err, -EINVAL,
			      "a machine has whole CPUs: --cpus with --disk is a number such as 2");
	if (c->nano_cpus > (int64_t)CPUS_MAX * NANO)
		return refuse(err, -EINVAL, "a virtual machine has at most %d CPUs", CPUS_MAX);
	if (c->hostname != NULL && c->cloud_init == NULL)
		return hint(err,
			    refuse(err, -EINVAL,
				   "--hostname with --disk needs --cloud-init, by which a machine "
				   "learns its name"),
			    "without it the name is what the disk says");
	return 0;
}

/* --- the command ----------------------------------------------------------------------------------- */

static void add(json_t *command, const char *option, char *value)
{
	json_array_append_new(command, json_string(option));
	if (value == NULL)
		return;
	json_array_append_new(command, json_from_string(value));
	free(value);
}

static int add_shares(const struct workload_config *c, json_t *command, struct error *err)
{
	for (size_t i = 0; i < c->mounts_count; i++) {
		const struct workload_mount *m = &c->mounts[i];
		struct stat st;

		if (stat(m->source, &st) < 0)
			return fail(err, -errno, "the directory %s", m->source);
		if (!S_ISDIR(st.st_mode))
			return hint(err,
				    refuse(err, -ENOTSUP, "%s cannot be shared: it is no directory",
					   m->source),
				    "share the directory that it is in; a disk is given as --disk");
		add(command, "--share",
		    str_format("%s,tag=%s%s", m->source, tag_of(m),
			       strv_has(m->options, "ro") ? ",ro" : ""));
	}
	return 0;
}

static int add_seed(struct engine *engine, const struct workload *workload, json_t *command,
		    struct error *err)
{
	own_mem char *path = NULL;
	int rc;

	if (workload->config.cloud_init == NULL)
		return 0;
	rc = machine_seed_make(engine, workload, &path, err);
	if (rc == 0)
		add(command, "--disk", str_format("%s,ro,format=raw", path));
	return rc;
}

/* The firmware's variables are the machine's own, and stay as long as it does. */
static int add_vars(struct engine *engine, const struct workload *workload, json_t *command,
		    struct error *err)
{
	own_mem char *path = str_format("%s/" MACHINE_VARS, workload_dir(workload->id).path);
	own_mem char *data = NULL;
	struct machine_uefi uefi;
	size_t len;
	int rc;

	if (!str_eq(workload->config.firmware, "uefi"))
		return 0;
	add(command, "--vars", str_format("%s/%s", engine->root, path));
	if (faccessat(engine->root_fd, path, F_OK, 0) == 0)
		return 0;
	rc = machine_find_uefi(NULL, &uefi, err);
	if (rc == 0)
		rc = file_read(AT_FDCWD, uefi.vars, VARS_MAX, &data, &len, err);
	if (rc == 0)
		rc = file_write(engine->root_fd, path, data, len, 0600, FILE_WRITE_ATOMIC, err);
	return rc < 0 ? fail(err, rc, "make the firmware's variables") : 0;
}

/* --- who else has a disk ---------------------------------------------------------------------------- */

struct disk_use {
	const struct workload *workload;
	const char *path; /* of one of its disks */
	struct stat st;
	bool reads; /* only */
};

static bool only_reads(const char *text)
{
	own_strv char **words = strv_split(text, ',');

	return strv_has(words + 1, "ro");
}

static char *path_of(const char *text)
{
	return str_copy_n(text, strcspn(text, ","));
}

/* A machine that runs and has the same disk. The lock on the image decides (disk.h); this gives the user
 * a name for it. */
static int check_other(struct workload *other, enum record_status status, void *data,
		       struct error *err)
{
	const struct disk_use *use = data;
	char *const *disks = other->config.disks;

	if (status != RECORD_ACTIVE || str_eq(other->id, use->workload->id))
		return 0;
	for (; disks != NULL && *disks != NULL; disks++) {
		own_mem char *path = path_of(*disks);
		struct stat st;

		if (stat(path, &st) < 0 || st.st_dev != use->st.st_dev ||
		    st.st_ino != use->st.st_ino || (use->reads && only_reads(*disks)))
			continue;
		return hint(err,
			    refuse(err, -EBUSY, "the disk %s is in use by the workload \"%s\"",
				   use->path, other->name),
			    "two machines that share a disk would destroy it: stop the other one "
			    "(berth stop %s), or give both the disk as FILE,ro",
			    other->name);
	}
	return 0;
}

static int check_disks(struct engine *engine, const struct workload *workload, struct error *err)
{
	char *const *disks = workload->config.disks;
	int rc = 0;

	for (; rc == 0 && *disks != NULL; disks++) {
		own_mem char *path = path_of(*disks);
		struct disk_use use = {
			.workload = workload, .path = path, .reads = only_reads(*disks)};

		if (stat(path, &use.st) < 0)
			return fail(err, -errno, "the disk %s", path);
		rc = record_each(engine, check_other, &use, err);
	}
	return rc;
}

int machine_prepare(struct engine *engine, const struct workload *workload, struct plan *ret,
		    struct error *err)
{
	const struct workload_config *c = &workload->config;
	own_json json_t *plan = json_object();
	json_t *command = json_array();
	int rc = check_disks(engine, workload, err);

	if (rc < 0)
		return rc;
	json_object_set_new(plan, "command", command);
	json_object_set_new(plan, "terminal", json_boolean(c->flags & WORKLOAD_TTY));
	add(command, "vmm", str_copy("run"));
	add(command, "--power-button", NULL);
	add(command, "--report", str_copy(MACHINE_REPORT));
	add(command, "--control", str_copy("fd:3"));
	add(command, "--firmware", str_copy(c->firmware ? c->firmware : "bios"));
	add(command, "--accel", str_copy(c->accel ? c->accel : "auto"));
	add(command, "--memory",
	    str_format("%lld", (long long)(c->memory_bytes > 0 ? c->memory_bytes
							       : MACHINE_MEMORY_DEFAULT)));
	add(command, "--cpus",
	    str_format("%lld", (long long)(c->nano_cpus > 0 ? c->nano_cpus / NANO : 1)));
	for (size_t i = 0; c->disks[i] != NULL; i++)
		add(command, "--disk", str_copy(c->disks[i]));
	rc = add_vars(engine, workload, command, err);
	if (rc == 0)
		rc = add_seed(engine, workload, command, err);
	if (rc == 0)
		rc = add_shares(c, command, err);
	if (rc < 0)
		return rc;
	*ret = PLAN_EMPTY;
	ret->text = json_text(plan);
	return 0;
}
