/*
 * isolation_vm: a workload as a virtual machine with a kernel of its own; in it, the agent confines the
 * process as a container would have been (vm.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/overlay.h"
#include "engine/vm.h"
#include "engine/vm_files.h"

enum {
	END_ATTEMPTS = 1000,
	ENDING_ATTEMPTS =
		60000, /* besides, while the kernel takes its memory apart: five minutes */
};

static int start(struct engine *engine, const char *id, const struct plan *plan, const int stdio[3],
		 struct isolation_child *ret, struct error *err)
{
	own_json json_t *text = NULL;
	int rc = json_parse(plan->text, strlen(plan->text), "plan", &text, err);

	if (rc < 0)
		return rc;
	return vm_attend(engine, id, text, NULL, stdio,
			 json_is_true(json_object_get(json_object_get(text, "run"), "terminal")),
			 ret, err);
}

static int exec(struct engine *engine, const char *id, const struct isolation_exec *exec,
		struct isolation_child *ret, struct error *err)
{
	own_json json_t *process = NULL, *request = json_object();
	json_t *user;
	int rc = json_parse(exec->text, strlen(exec->text), "process", &process, err);

	if (rc < 0)
		return rc;
	user = json_object_get(process, ISOLATION_USER);
	if (user != NULL)
		json_object_set(request, "user", user);
	json_object_del(process, ISOLATION_USER);
	json_set_string(request, "do", "exec");
	json_object_set(request, "spec", process);
	json_object_set_new(request, "terminal", json_boolean(exec->tty));
	return vm_attend(engine, id, NULL, request, exec->stdio, exec->tty, ret, err);
}

static json_t *request(const char *what)
{
	json_t *o = json_object();

	json_set_string(o, "do", what);
	return o;
}

static int signal_workload(struct engine *engine, const char *id, int signal, struct error *err)
{
	json_t *o = request("signal");

	json_object_set_new(o, "signal", json_integer(signal));
	json_object_set_new(o, "all", json_boolean(signal == SIGKILL));
	return vm_agent_ask(engine, id, o, NULL, err);
}

/* The workload is frozen in the machine first: whoever wakes the machine then does not wake it. */
static int pause_workload(struct engine *engine, const char *id, struct error *err)
{
	int rc = vm_agent_ask(engine, id, request("pause"), NULL, err);

	return rc < 0 ? rc : vm_set_paused(engine, id, "pause", err);
}

static int resume_workload(struct engine *engine, const char *id, struct error *err)
{
	int rc = vm_set_paused(engine, id, "resume", err);

	return rc < 0 ? rc : vm_agent_ask(engine, id, request("resume"), NULL, err);
}

/* Numbers that are absent are "none". */
static uint64_t number(const json_t *o, const char *key)
{
	const json_t *value = json_object_get(o, key);

	return json_is_integer(value) ? (uint64_t)json_integer_value(value) : UINT64_MAX;
}

/* What the attendant noted, when there is no machine any more. */
static json_t *read_end(struct engine *engine, const char *id)
{
	own_mem char *path = str_format("%s/%s", engine->state, vm_path(id, "end").text);
	json_t *end = NULL;

	return json_read_file(AT_FDCWD, path, 4096, &end, NULL) < 0 ? NULL : end;
}

/* The VMM and its child, which is the machine. */
static void add_host(struct engine *engine, const char *id, struct workload_stats *ret)
{
	own_mem char *path = str_format("%s/%s", engine->state, vm_path(id, "vmm").text);
	own_mem pid_t *pids = NULL;
	own_mem char *text = NULL;
	size_t len, count;
	pid_t vmm;

	if (file_read(AT_FDCWD, path, 512, &text, &len, NULL) < 0)
		return;
	vmm = (pid_t)strtol(text, NULL, 10);
	count = proc_children(vmm, &pids);
	for (size_t i = 0; i <= count; i++) {
		const pid_t pid = i < count ? pids[i] : vmm;
		struct proc_info info;

		if (proc_info_read(pid, &info) < 0)
			continue;
		free(info.command);
		ret->host_cpu_ns += (uint64_t)info.cpu_ns;
		ret->host_memory_bytes += proc_own_bytes(pid);
	}
}

static int stats(struct engine *engine, const char *id, struct workload_stats *ret,
		 struct error *err)
{
	own_json json_t *answer = NULL, *end = read_end(engine, id);
	uint64_t memory, cache;
	int rc;

	if (end != NULL) {
		*ret = (struct workload_stats){.time_ns = clock_now_ns(),
					       .oom_kills = number(end, "oom")};
		return 0;
	}
	rc = vm_agent_ask(engine, id, request("stats"), &answer, err);
	if (rc < 0)
		return rc;
	memory = number(answer, "memory");
	cache = number(answer, "memory_cache");
	*ret = (struct workload_stats){
		.time_ns = clock_now_ns(),
		.cpu_total_ns = number(answer, "cpu_total_ns"),
		.cpu_system_ns = number(answer, "cpu_system_ns"),
		.cpus_online = (unsigned int)number(answer, "cpus"),
		.memory_bytes = memory > cache ? memory - cache : 0,
		.memory_limit_bytes = number(answer, "memory_limit"),
		.block_read_bytes = number(answer, "io_read"),
		.block_write_bytes = number(answer, "io_write"),
		.pids = number(answer, "pids"),
		.pids_limit = number(answer, "pids_limit"),
		.oom_kills = number(answer, "oom_kills"),
	};
	add_host(engine, id, ret);
	/* Without a limit it is the machine that ends. */
	if (ret->memory_limit_bytes == UINT64_MAX)
		ret->memory_limit_bytes = number(answer, "memory_total");
	return 0;
}

static int top(struct engine *engine, const char *id, workload_process_fn *fn, void *data,
	       struct error *err)
{
	own_json json_t *answer = NULL;
	json_t *item;
	size_t i;
	int rc = vm_agent_ask(engine, id, request("top"), &answer, err);

	json_array_foreach (json_object_get(answer, "processes"), i, item) {
		const char *terminal = json_string_value(json_object_get(item, "terminal"));
		const char *command = json_string_value(json_object_get(item, "command"));
		const char *name = json_string_value(json_object_get(item, "name"));
		own_mem char *text = str_copy(command ? command : "");
		struct proc_info p = {
			.pid = (pid_t)number(item, "pid"),
			.parent = (pid_t)number(item, "parent"),
			.pgid = (pid_t)number(item, "pgid"),
			.sid = (pid_t)number(item, "sid"),
			.state = (char)number(item, "state"),
			.nice = (int)number(item, "nice"),
			.threads = (unsigned int)number(item, "threads"),
			.virtual_bytes = number(item, "virtual"),
			.resident_bytes = number(item, "resident"),
			.uid = (uid_t)number(item, "uid"),
			.started_ns = (int64_t)number(item, "started_ns"),
			.cpu_ns = (int64_t)number(item, "cpu_ns"),
			.command = text,
		};

		if (rc != 0)
			break;
		snprintf(p.terminal, sizeof(p.terminal), "%.15s", terminal ? terminal : "?");
		snprintf(p.name, sizeof(p.name), "%.15s", name ? name : "");
		rc = fn(&p, data, err);
	}
	return rc;
}

static int unlock(struct engine *engine, struct plan_lock *locks, size_t count, struct error *err)
{
	return overlay_unlock(engine, locks, count, err);
}

/* Waits until a process is gone: the kernel kills it with its attendant, but not at once. */
static bool await_end(pid_t pid, uint64_t ticks)
{
	const struct timespec pause = {.tv_nsec = 5 * 1000000L};
	int ending = 0;

	for (int i = 0; i - ending < END_ATTEMPTS && proc_is(pid, ticks); i++) {
		own_fd int fd = proc_open(pid);

		/* Looked at once more, behind the descriptor. */
		if (fd >= 0 && proc_is(pid, ticks) && proc_signal(fd, SIGKILL) < 0)
			break;
		if (ending < ENDING_ATTEMPTS && proc_is_ending(pid))
			ending++;
		nanosleep(&pause, NULL);
	}
	return !proc_is(pid, ticks);
}

static int end_vmm(struct engine *engine, const char *id, struct error *err)
{
	own_mem char *path = str_format("%s/%s", engine->state, vm_path(id, "vmm").text);
	own_mem char *text = NULL;
	own_strv char **lines = NULL;
	unsigned long long ticks;
	size_t len;
	int pid;

	if (file_read(AT_FDCWD, path, 512, &text, &len, NULL) < 0)
		return 0;
	lines = strv_split(text, '\n');
	for (char **line = lines; line != NULL && *line != NULL; line++)
		if (sscanf(*line, "%d %llu", &pid, &ticks) == 2 && !await_end(pid, ticks))
			return refuse(err, -EBUSY, "its virtual machine does not end");
	return 0;
}

int vm_destroy(struct engine *engine, const char *id, struct error *err)
{
	static const char *const names[] = {"vsock",   "vmm",    "initrd",      "end",
					    "control", "report", VM_CGROUP_NAME};
	int rc = end_vmm(engine, id, err);

	if (rc == 0)
		rc = vm_cgroup_remove(engine->state, id, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < array_size(names); i++) {
		own_mem char *path = str_format("%s/%s", engine->state, vm_path(id, names[i]).text);

		if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
			return fail(err, -errno, "remove %s", path);
	}
	return 0;
}

static char *explain(struct engine *engine, const char *id)
{
	own_json json_t *end = read_end(engine, id);

	return str_copy(json_string_value(json_object_get(end, "reason")));
}

const struct isolation isolation_vm = {
	.name = "vm",
	.kind = WORKLOAD_VM,
	.check = vm_check,
	.prepare = vm_prepare,
	.start = start,
	.exec = exec,
	.pass_signal = vm_pass_signal,
	.signal = signal_workload,
	.pause = pause_workload,
	.resume = resume_workload,
	.stats = stats,
	.top = top,
	.read_changes = vm_read_changes,
	.read_tree = vm_read_tree,
	.stat_path = vm_stat_path,
	.read_path = vm_read_path,
	.write_path = vm_write_path,
	.unlock = unlock,
	.explain = explain,
	.destroy = vm_destroy,
};
