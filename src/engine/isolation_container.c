/*
 * isolation_container: a workload as a container: the OCI runtime as a library, on a root file system
 * stacked from the image's layers (overlay.h), with a configuration made by spec.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/container_files.h"
#include "engine/engine_priv.h"
#include "engine/overlay.h"
#include "engine/spec.h"
#include "image/config.h"
#include "image/store.h"
#include "oci/cgroup_systemd.h"
#include "oci/runtime.h"

/* <state>/oci, where the runtime keeps what it knows. */
static char *state_root(struct engine *engine)
{
	return str_format("%s/oci", engine->state);
}

static int check(const struct workload_config *config, struct error *err)
{
	/* What no isolation has is refused before (config_check.c); a container has the rest. */
	(void)config;
	(void)err;
	return 0;
}

static int read_image_config(struct engine *engine, const struct workload *workload,
			     struct image_config *ret, struct error *err)
{
	own_image struct image *image = NULL;
	struct image_store *store;
	int rc = engine_images(engine, &store, err);

	if (rc == 0)
		rc = image_find(store, workload->config.image_id, &image, err);
	return rc < 0 ? rc : image_read_config(image, ret, err);
}

static int prepare(struct engine *engine, const struct workload *workload, struct plan *ret,
		   struct error *err)
{
	own_image_config struct image_config image = {0};
	own_plan struct plan plan = PLAN_EMPTY;
	own_json json_t *spec = NULL;
	int rc = read_image_config(engine, workload, &image, err);

	if (rc == 0)
		rc = overlay_prepare(engine, workload, &plan, err);
	if (rc == 0)
		rc = spec_make(engine, workload, &image, plan.root_fd, &spec, err);
	if (rc < 0)
		return rc;
	plan.text = json_text(spec);
	plan.flags = workload->config.flags & WORKLOAD_INIT ? PLAN_REAPER : 0;
	*ret = plan;
	plan = PLAN_EMPTY;
	return 0;
}

/* An ordinary user has control groups from systemd, if at all; without it there may be some beside our own. */
static enum oci_cgroup_manager manager_for(const struct engine *engine, const json_t *spec)
{
	const json_t *given = json_object_get(json_object_get(spec, "linux"), "cgroupsPath");

	return engine->rootless && given == NULL && cgroup_systemd_is_there() ? OCI_CGROUP_SYSTEMD
									      : OCI_CGROUPFS;
}

static int start(struct engine *engine, const char *id, const struct plan *plan, const int stdio[3],
		 struct isolation_child *ret, struct error *err)
{
	own_mem char *runtime = state_root(engine);
	own_mem char *bundle = str_format("%s/%s", engine->root, workload_dir(id).path);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	own_json json_t *spec = NULL;
	struct oci_create options = OCI_CREATE_DEFAULTS;
	int rc = json_parse(plan->text, strlen(plan->text), "config.json", &spec, err);

	if (rc < 0)
		return rc;
	options.state_root = runtime;
	options.id = id;
	options.bundle = bundle;
	options.spec = spec;
	memcpy(options.stdio, stdio, sizeof(options.stdio));
	options.root_mount_fd = plan->root_fd;
	options.cgroup_manager = manager_for(engine, spec);
	options.flags = OCI_CREATE_RUN | OCI_CREATE_SIBLING | OCI_CREATE_KEEP_TERMINAL |
			(plan->flags & PLAN_REAPER ? OCI_CREATE_REAPER : 0);
	rc = oci_create(&options, &child, err);
	if (rc < 0)
		return rc;
	ret->pid = child.pid;
	ret->console_fd = take(child.console_fd);
	return 0;
}

static int exec(struct engine *engine, const char *id, const struct isolation_exec *exec,
		struct isolation_child *ret, struct error *err)
{
	own_mem char *runtime = state_root(engine);
	own_oci_child struct oci_child child = OCI_CHILD_EMPTY;
	own_json json_t *process = NULL;
	struct oci_exec options = OCI_EXEC_DEFAULTS;
	int rc = json_parse(exec->text, strlen(exec->text), "process", &process, err);

	if (rc < 0)
		return rc;
	options.state_root = runtime;
	options.id = id;
	options.process = process;
	memcpy(options.stdio, exec->stdio, sizeof(options.stdio));
	options.flags = OCI_EXEC_SIBLING | OCI_EXEC_KEEP_TERMINAL;
	rc = oci_exec(&options, &child, err);
	if (rc < 0)
		return rc;
	ret->pid = child.pid;
	ret->console_fd = take(child.console_fd);
	return 0;
}

static int signal_workload(struct engine *engine, const char *id, int signal, struct error *err)
{
	own_mem char *runtime = state_root(engine);

	return oci_kill(runtime, id, signal, signal == SIGKILL ? OCI_KILL_ALL : OCI_KILL_ONE, err);
}

static int pause_workload(struct engine *engine, const char *id, struct error *err)
{
	own_mem char *runtime = state_root(engine);

	return oci_pause(runtime, id, err);
}

static int resume_workload(struct engine *engine, const char *id, struct error *err)
{
	own_mem char *runtime = state_root(engine);

	return oci_resume(runtime, id, err);
}

static int stats(struct engine *engine, const char *id, struct workload_stats *ret,
		 struct error *err)
{
	own_mem char *runtime = state_root(engine);
	struct oci_stats s;
	int rc = oci_get_stats(runtime, id, &s, err);

	if (rc < 0)
		return rc;
	*ret = (struct workload_stats){
		.time_ns = clock_now_ns(),
		.cpu_total_ns = s.cpu_total_ns,
		.cpu_system_ns = s.cpu_system_ns,
		.cpus_online = (unsigned int)sysconf(_SC_NPROCESSORS_ONLN),
		.memory_bytes = s.memory_bytes > s.memory_cache_bytes
					? s.memory_bytes - s.memory_cache_bytes
					: 0,
		.memory_limit_bytes = s.memory_limit_bytes,
		.block_read_bytes = s.io_read_bytes,
		.block_write_bytes = s.io_write_bytes,
		.pids = s.pids,
		.pids_limit = s.pids_limit,
		.oom_kills = s.oom_kills,
		.host_cpu_ns = s.cpu_total_ns,
	};
	ret->host_memory_bytes = ret->memory_bytes;
	return 0;
}

static int top(struct engine *engine, const char *id, workload_process_fn *fn, void *data,
	       struct error *err)
{
	own_mem char *runtime = state_root(engine);
	own_mem pid_t *pids = NULL;
	size_t count;
	int rc = oci_pids(runtime, id, &pids, &count, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct proc_info process;

		/* One that has ended meanwhile is left out. */
		if (proc_info_read(pids[i], &process) < 0)
			continue;
		rc = fn(&process, data, err);
		free(process.command);
	}
	return rc;
}

/* The root directory as the first process sees it. The descriptor is opened through a name in /proc
 * that could be another process's by now: so the process is looked at once more behind it. */
static int open_root(struct engine *engine, const struct workload *workload, struct error *err)
{
	own_mem char *runtime = state_root(engine);
	own_oci_state struct oci_state state = {0};
	own_fd int fd = -1;
	char path[32];
	int rc = oci_get_state(runtime, workload->id, &state, err);

	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "/proc/%d/root", (int)state.pid);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || !proc_is(state.pid, state.start_ticks))
		return refuse(err, -ESRCH, "it is not running");
	return take(fd);
}

static int unlock(struct engine *engine, struct plan_lock *locks, size_t count, struct error *err)
{
	return overlay_unlock(engine, locks, count, err);
}

static int destroy(struct engine *engine, const char *id, struct error *err)
{
	own_mem char *runtime = state_root(engine);

	return oci_delete(runtime, id, OCI_DELETE_FORCE, err);
}

const struct isolation isolation_container = {
	.name = "container",
	.kind = WORKLOAD_CONTAINER,
	.check = check,
	.prepare = prepare,
	.start = start,
	.exec = exec,
	.signal = signal_workload,
	.pause = pause_workload,
	.resume = resume_workload,
	.stats = stats,
	.top = top,
	.open_root = open_root,
	.read_changes = container_read_changes,
	.read_tree = container_read_tree,
	.stat_path = container_stat_path,
	.read_path = container_read_path,
	.write_path = container_write_path,
	.unlock = unlock,
	.destroy = destroy,
};
