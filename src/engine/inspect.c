/* inspect: docker's document for one workload (verbs of workload.h). */
#include <string.h>

#include "base/clock.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/find.h"
#include "engine/spec.h"
#include "image/config.h"
#include "image/store.h"

static void set_time(json_t *o, const char *key, int64_t ns)
{
	char text[CLOCK_TEXT_MAX];

	/* docker's zero. */
	if (ns == 0)
		strcpy(text, "0001-01-01T00:00:00Z");
	else
		clock_format(ns, text);
	json_set_string(o, key, text);
}

static void set_int(json_t *o, const char *key, int64_t value)
{
	json_object_set_new(o, key, json_integer(value));
}

static void set_bool(json_t *o, const char *key, bool value)
{
	json_object_set_new(o, key, json_boolean(value));
}

static json_t *state(const struct workload *w)
{
	const bool running = w->status == WORKLOAD_RUNNING || w->status == WORKLOAD_PAUSED;
	json_t *o = json_object();

	json_set_string(o, "Status", workload_status_name(w->status));
	set_bool(o, "Running", running);
	set_bool(o, "Paused", w->status == WORKLOAD_PAUSED);
	set_bool(o, "Restarting", w->status == WORKLOAD_RESTARTING);
	set_bool(o, "OOMKilled", w->oom_killed);
	set_bool(o, "Dead", w->status == WORKLOAD_DEAD);
	set_int(o, "Pid", w->pid);
	set_int(o, "MonitorPid", w->monitor_pid);
	set_int(o, "ExitCode", running ? 0 : w->exit_code);
	json_set_string(o, "Error", w->error ? w->error : "");
	set_time(o, "StartedAt", w->started_ns);
	set_time(o, "FinishedAt", running ? 0 : w->finished_ns);
	return o;
}

/* "key=value" pairs as an object. */
static json_t *pairs(char *const *list)
{
	json_t *o = json_object();

	for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
		const char *equals = strchrnul(list[i], '=');
		own_mem char *key = str_copy_n(list[i], (size_t)(equals - list[i]));

		json_set_string(o, key, *equals ? equals + 1 : "");
	}
	return o;
}

static json_t *config(const struct workload *w, const struct image_config *image)
{
	const struct workload_config *c = &w->config;
	char *const *entrypoint = c->entrypoint ? c->entrypoint : image->entrypoint;
	char *const *command = c->command || c->entrypoint ? c->command : image->cmd;
	own_strv char **env = w->config.image ? spec_environment(w, image) : NULL;
	json_t *o = json_object();

	json_set_string(o, "Hostname", c->hostname ? c->hostname : "");
	json_set_string(o, "Domainname", c->domainname ? c->domainname : "");
	json_set_string(o, "User", spec_user(c, image));
	set_bool(o, "Tty", (c->flags & WORKLOAD_TTY) != 0);
	set_bool(o, "OpenStdin", (c->flags & WORKLOAD_STDIN_OPEN) != 0);
	set_bool(o, "StdinOnce", (c->flags & WORKLOAD_STDIN_ONCE) != 0);
	json_object_set_new(o, "Env", json_from_strv(env));
	json_object_set_new(o, "Cmd", command ? json_from_strv(command) : json_null());
	json_object_set_new(o, "Entrypoint", entrypoint ? json_from_strv(entrypoint) : json_null());
	json_set_string(o, "Image", c->image ? c->image : "");
	json_set_string(o, "WorkingDir", c->working_dir ? c->working_dir : image->working_dir);
	json_object_set_new(o, "Labels", pairs(c->labels));
	json_set_string(o, "StopSignal", c->stop_signal ? c->stop_signal : "SIGTERM");
	if (c->stop_timeout_s >= 0)
		set_int(o, "StopTimeout", c->stop_timeout_s);
	return o;
}

static json_t *restart_policy(const struct workload_config *c)
{
	static const char *const names[] = {
		[WORKLOAD_RESTART_NO] = "no",
		[WORKLOAD_RESTART_ON_FAILURE] = "on-failure",
		[WORKLOAD_RESTART_ALWAYS] = "always",
		[WORKLOAD_RESTART_UNLESS_STOPPED] = "unless-stopped",
	};
	json_t *o = json_object();

	json_set_string(o, "Name", names[c->restart]);
	set_int(o, "MaximumRetryCount", c->restart_max);
	return o;
}

static int64_t or_zero(int64_t value)
{
	return value > 0 ? value : 0;
}

static json_t *binds(const struct workload_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->mounts_count; i++) {
		const struct workload_mount *m = &c->mounts[i];
		own_mem char *options = strv_join(m->options, ",");
		own_mem char *text = str_format("%s:%s%s%s", m->source, m->target,
						options[0] ? ":" : "", options);

		if (m->type == WORKLOAD_MOUNT_BIND)
			json_array_append_new(array, json_string(text));
	}
	return array;
}

static json_t *ulimits(const struct workload_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->ulimits_count; i++) {
		json_t *o = json_object();

		json_set_string(o, "Name", c->ulimits[i].name);
		set_int(o, "Soft", (int64_t)c->ulimits[i].soft);
		set_int(o, "Hard", (int64_t)c->ulimits[i].hard);
		json_array_append_new(array, o);
	}
	return array;
}

static json_t *log_config(const struct workload_config *c)
{
	json_t *o = json_object(), *options = json_object();

	json_set_string(o, "Type", c->log == WORKLOAD_LOG_NONE ? "none" : "json-file");
	if (c->log_max_size_bytes >= 0) {
		own_mem char *text = str_format("%lld", (long long)c->log_max_size_bytes);

		json_set_string(options, "max-size", text);
	}
	if (c->log_max_files >= 0) {
		own_mem char *text = str_format("%d", c->log_max_files);

		json_set_string(options, "max-file", text);
	}
	json_object_set_new(o, "Config", options);
	return o;
}

static void host_limits(const struct workload_config *c, json_t *o)
{
	set_int(o, "Memory", or_zero(c->memory_bytes));
	set_int(o, "MemoryReservation", or_zero(c->memory_reservation_bytes));
	set_int(o, "MemorySwap",
		c->memory_swap_bytes == WORKLOAD_SWAP_UNLIMITED ? -1
								: or_zero(c->memory_swap_bytes));
	set_int(o, "NanoCpus", or_zero(c->nano_cpus));
	set_int(o, "CpuShares", or_zero(c->cpu_shares));
	json_set_string(o, "CpusetCpus", c->cpuset_cpus ? c->cpuset_cpus : "");
	json_set_string(o, "CpusetMems", c->cpuset_mems ? c->cpuset_mems : "");
	set_int(o, "PidsLimit", or_zero(c->pids_limit));
	set_int(o, "ShmSize", c->shm_size_bytes >= 0 ? c->shm_size_bytes : 64 << 20);
	set_int(o, "OomScoreAdj", c->oom_score_adj);
	set_bool(o, "OomKillDisable", (c->flags & WORKLOAD_OOM_KILL_DISABLE) != 0);
	json_object_set_new(o, "Ulimits", ulimits(c));
}

static json_t *host_config(const struct workload_config *c)
{
	json_t *o = json_object();

	json_set_string(o, "Isolation", c->isolation == WORKLOAD_CONTAINER ? "container" : "vm");
	if (c->disks != NULL)
		json_object_set_new(o, "Disks", json_from_strv(c->disks));
	if (c->isolation == WORKLOAD_MACHINE)
		json_set_string(o, "Firmware", c->firmware ? c->firmware : "bios");
	json_set_string(o, "CloudInit", c->cloud_init);
	json_object_set_new(o, "Binds", binds(c));
	json_object_set_new(o, "LogConfig", log_config(c));
	json_set_string(o, "NetworkMode", c->network == WORKLOAD_NETWORK_HOST ? "host" : "none");
	json_object_set_new(o, "RestartPolicy", restart_policy(c));
	set_bool(o, "AutoRemove", (c->flags & WORKLOAD_AUTO_REMOVE) != 0);
	json_object_set_new(o, "CapAdd", json_from_strv(c->caps_add));
	json_object_set_new(o, "CapDrop", json_from_strv(c->caps_drop));
	json_object_set_new(o, "Dns", json_from_strv(c->dns));
	json_object_set_new(o, "DnsOptions", json_from_strv(c->dns_options));
	json_object_set_new(o, "DnsSearch", json_from_strv(c->dns_search));
	json_object_set_new(o, "ExtraHosts", json_from_strv(c->extra_hosts));
	json_object_set_new(o, "GroupAdd", json_from_strv(c->groups_add));
	json_set_string(o, "IpcMode", c->flags & WORKLOAD_IPC_HOST ? "host" : "private");
	json_set_string(o, "PidMode", c->flags & WORKLOAD_PID_HOST ? "host" : "");
	json_set_string(o, "UTSMode", c->flags & WORKLOAD_UTS_HOST ? "host" : "");
	set_bool(o, "Privileged", (c->flags & WORKLOAD_PRIVILEGED) != 0);
	set_bool(o, "ReadonlyRootfs", (c->flags & WORKLOAD_READ_ONLY) != 0);
	set_bool(o, "Init", (c->flags & WORKLOAD_INIT) != 0);
	json_object_set_new(o, "Sysctls", pairs(c->sysctls));
	json_set_string(o, "CgroupParent", c->cgroup_parent ? c->cgroup_parent : "");
	host_limits(c, o);
	return o;
}

static json_t *mounts(const struct workload_config *c)
{
	json_t *array = json_array();

	for (size_t i = 0; i < c->mounts_count; i++) {
		const struct workload_mount *m = &c->mounts[i];
		own_mem char *mode = strv_join(m->options, ",");
		json_t *o = json_object();

		json_set_string(o, "Type", m->type == WORKLOAD_MOUNT_BIND ? "bind" : "tmpfs");
		json_set_string(o, "Source", m->source ? m->source : "");
		json_set_string(o, "Destination", m->target);
		json_set_string(o, "Mode", mode);
		set_bool(o, "RW", !strv_has(m->options, "ro"));
		json_array_append_new(array, o);
	}
	return array;
}

static void set_path(struct engine *engine, const struct workload *w, json_t *o, const char *key,
		     const char *name)
{
	own_mem char *path = str_format("%s/%s/%s", engine->root, workload_dir(w->id).path, name);

	json_set_string(o, key, path);
}

static int read_image_config(struct engine *engine, const struct workload *w,
			     struct image_config *ret, struct error *err)
{
	own_image struct image *image = NULL;
	struct image_store *store;
	int rc = engine_images(engine, &store, err);

	if (rc == 0)
		rc = image_find(store, w->config.image_id, &image, err);
	return rc < 0 ? rc : image_read_config(image, ret, err);
}

int workload_inspect(struct engine *engine, const char *ref, json_t **ret, struct error *err)
{
	own_image_config struct image_config image = {0};
	own_workload struct workload w = {0};
	own_mem char *name = NULL;
	json_t *o, *args;
	int rc = workload_find(engine, ref, &w, err);

	if (rc == 0 && w.config.image_id != NULL)
		rc = read_image_config(engine, &w, &image, err);
	if (rc < 0)
		return rc;
	o = json_object();
	args = json_from_strv(w.argv && w.argv[0] ? w.argv + 1 : NULL);
	/* docker's names begin with a slash, which `--format {{.Name}}` users strip. */
	name = str_format("/%s", w.name);
	json_set_string(o, "Id", w.id);
	set_time(o, "Created", w.created_ns);
	json_set_string(o, "Path", w.argv ? w.argv[0] : "");
	json_object_set_new(o, "Args", args);
	json_object_set_new(o, "State", state(&w));
	json_set_string(o, "Image", w.config.image_id ? w.config.image_id : "");
	set_path(engine, &w, o, "ResolvConfPath", "resolv.conf");
	set_path(engine, &w, o, "HostnamePath", "hostname");
	set_path(engine, &w, o, "HostsPath", "hosts");
	set_path(engine, &w, o, "LogPath", "output.log");
	json_set_string(o, "Name", name);
	set_int(o, "RestartCount", w.restart_count);
	json_set_string(o, "Driver", "overlay");
	json_set_string(o, "Platform", "linux");
	json_object_set_new(o, "Mounts", mounts(&w.config));
	json_object_set_new(o, "HostConfig", host_config(&w.config));
	json_object_set_new(o, "Config", config(&w, &image));
	*ret = o;
	return 0;
}
