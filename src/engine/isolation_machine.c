/* isolation_machine: a workload as a full machine that starts from a disk of its own (machine.h). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/proc_info.h"
#include "base/sock.h"
#include "base/str.h"
#include "engine/live.h"
#include "engine/machine.h"
#include "engine/vm.h"
#include "vmm/machine/client.h"

enum {
	START_MS =
		60000, /* until the machine's first instruction; its memory may have to be found */
	ANSWER_MS = 10000,
	REPORT_MAX = 4096,
};

/* --- starting -------------------------------------------------------------------------------------- */

/* Why the VMM failed, in its own words: two lines, the second one the hint. */
static char **read_report(struct engine *engine, const char *id)
{
	own_mem char *path = str_format("%s/%s", engine->state, vm_path(id, MACHINE_REPORT).text);
	own_mem char *text = NULL;
	size_t len;

	return file_read(AT_FDCWD, path, REPORT_MAX, &text, &len, NULL) < 0
		       ? NULL
		       : strv_split(text, '\n');
}

/* The VMM has ended instead of answering. */
static int refuse_start(struct engine *engine, const char *id, struct error *err)
{
	own_strv char **report = read_report(engine, id);

	if (strv_len(report) < 2)
		return refuse(err, -EIO, "its virtual machine ended while it started");
	refuse(err, -EIO, "%s", report[0]);
	return report[1][0] != '\0' ? hint(err, -EIO, "%s", report[1]) : -EIO;
}

/* What vm_destroy looks for, should the monitor be killed: the VMM and its child in the jail, which has
 * the disks. */
static int note_processes(int state_fd, const char *id, pid_t vmm, struct error *err)
{
	own_mem pid_t *children = NULL;
	own_buf struct buf text = {0};
	uint64_t ticks;
	size_t count;
	int rc = proc_start_time(vmm, &ticks);

	if (rc < 0)
		return fail(err, rc, "look at the virtual machine's process");
	buf_format(&text, "%d %llu\n", (int)vmm, (unsigned long long)ticks);
	count = proc_children(vmm, &children);
	for (size_t i = 0; i < count; i++)
		if (proc_start_time(children[i], &ticks) == 0)
			buf_format(&text, "%d %llu\n", (int)children[i], (unsigned long long)ticks);
	return file_write(state_fd, vm_path(id, "vmm").text, text.data, text.len, 0600,
			  FILE_WRITE_PLAIN, err);
}

/* Until it answers, or has ended. */
static int await_machine(struct engine *engine, int state_fd, const char *id, int pidfd,
			 struct error *err)
{
	own_fd int fd =
		control_connect_at(state_fd, vm_path(id, MACHINE_CONTROL).text, START_MS, err);
	struct pollfd ended = {.fd = pidfd, .events = POLLIN};
	struct error why = {0};
	int rc = fd < 0 ? fd : control_do(fd, "status", NULL, &why);

	if (rc == 0 || fd < 0)
		return rc;
	/* The connection ends a moment before the process does, which writes its report last. */
	if (poll(&ended, 1, ANSWER_MS) > 0)
		return refuse_start(engine, id, err);
	return refuse(err, rc, "its virtual machine does not start: %s", why.text);
}

static char **read_command(const json_t *plan)
{
	json_t *word;
	char **argv = NULL;
	size_t i;

	strv_push(&argv, "berth");
	json_array_foreach (json_object_get(plan, "command"), i, word)
		strv_push(&argv, json_string_value(word) ? json_string_value(word) : "");
	return argv;
}

/* Starts the VMM as the monitor's child, which dies with the monitor. */
static int spawn(int state_fd, const char *id, const json_t *plan, const int stdio[3],
		 int *ret_pidfd, pid_t *ret_pid, struct error *err)
{
	own_strv char **argv = read_command(plan);
	own_fd int exe = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	own_fd int directory = openat(state_fd, id, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_fd int control = sock_listen(state_fd, vm_path(id, MACHINE_CONTROL).text,
					 SOCK_STREAM | SOCK_NONBLOCK);
	struct proc_spawn spawn = {
		.exe_fd = exe,
		.argv = argv,
		.stdio = {stdio[0], stdio[1], stdio[2]},
		.keep = &control,
		.keep_count = 1,
		.directory_fd = directory,
		.new_session = true,
		.die_with_parent = true,
		.sibling = true,
	};

	if (exe < 0 || directory < 0)
		return fail(err, -errno, "start the virtual machine");
	if (control < 0)
		return fail(err, control, "create the machine's control socket");
	return proc_spawn(&spawn, ret_pid, ret_pidfd, err);
}

static int start(struct engine *engine, const char *id, const struct plan *plan, const int stdio[3],
		 struct isolation_child *ret, struct error *err)
{
	own_fd int state_fd = open(engine->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_fd int master = -1, slave = -1, pidfd = -1;
	int ends[3] = {stdio[0], stdio[1], stdio[2]};
	own_json json_t *text = NULL;
	pid_t pid;
	int rc = state_fd < 0 ? fail(err, -errno, "open %s", engine->state)
			      : json_parse(plan->text, strlen(plan->text), "plan", &text, err);

	if (rc < 0)
		return rc;
	if (json_is_true(json_object_get(text, "terminal"))) {
		rc = vm_open_terminal(&master, &slave);
		if (rc < 0)
			return fail(err, rc, "make a terminal");
		ends[0] = ends[1] = slave;
		ends[2] = -1;
	}
	rc = spawn(state_fd, id, text, ends, &pidfd, &pid, err);
	if (rc < 0)
		return rc;
	/* Twice: it has no child yet, but we may be killed while we wait. */
	rc = note_processes(state_fd, id, pid, err);
	if (rc == 0)
		rc = await_machine(engine, state_fd, id, pidfd, err);
	if (rc == 0)
		rc = note_processes(state_fd, id, pid, err);
	if (rc < 0) {
		/* It can only have ended already. */
		(void)!proc_signal(pidfd, SIGKILL);
		return rc;
	}
	ret->pid = pid;
	ret->console_fd = take(master);
	return 0;
}

/* --- while it runs --------------------------------------------------------------------------------- */

static int ask(struct engine *engine, const char *id, const char *what, json_t **ret,
	       struct error *err)
{
	own_fd int state_fd = open(engine->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_fd int fd = -1;

	if (state_fd < 0)
		return fail(err, -errno, "open %s", engine->state);
	fd = control_connect_at(state_fd, vm_path(id, MACHINE_CONTROL).text, ANSWER_MS, err);
	return fd < 0 ? fd : control_do(fd, what, ret, err);
}

/* All that the VMM has a meaning for. Others would be the host's business: stopping the VMM, say. */
static int pass_signal(pid_t vmm, int signal)
{
	switch (signal) {
	case SIGKILL:
	case SIGTERM:
	case SIGINT:
	case SIGHUP:
	case SIGQUIT:
		return kill(vmm, signal) < 0 ? -errno : 0;
	default:
		return 0;
	}
}

static int signal_workload(struct engine *engine, const char *id, int signal, struct error *err)
{
	return ask(engine, id, signal == SIGKILL ? "stop" : "powerdown", NULL, err);
}

static int pause_workload(struct engine *engine, const char *id, struct error *err)
{
	return ask(engine, id, "pause", NULL, err);
}

static int resume_workload(struct engine *engine, const char *id, struct error *err)
{
	return ask(engine, id, "resume", NULL, err);
}

/* "NAME: VALUE" of a file in /proc; 0 if it is not there. */
static uint64_t read_line(pid_t pid, const char *file, const char *name)
{
	own_mem char *path = str_format("/proc/%d/%s", (int)pid, file);
	own_mem char *text = NULL;
	const char *at;
	size_t len;

	if (file_read(AT_FDCWD, path, 64 << 10, &text, &len, NULL) < 0)
		return 0;
	at = strstr(text, name);
	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void add_process(pid_t pid, struct workload_stats *s)
{
	struct proc_info info;

	if (proc_info_read(pid, &info) < 0)
		return;
	free(info.command);
	s->cpu_total_ns += (uint64_t)info.cpu_ns;
	s->memory_bytes += read_line(pid, "status", "\nVmRSS:") << 10;
	s->block_read_bytes += read_line(pid, "io", "\nread_bytes:");
	s->block_write_bytes += read_line(pid, "io", "\nwrite_bytes:");
	s->pids++;
}

/* As the host sees it: its processes, and what they take. */
static int stats(struct engine *engine, const char *id, struct workload_stats *ret,
		 struct error *err)
{
	own_json json_t *status = NULL;
	own_mem pid_t *children = NULL;
	struct live live;
	size_t count;
	int rc = live_read(engine, id, &live);

	if (rc == 0 && (live.pid <= 0 || live.phase == LIVE_ENDED))
		rc = -ESRCH;
	if (rc < 0)
		return refuse(err, rc, "container not running");
	rc = ask(engine, id, "status", &status, err);
	if (rc < 0)
		return rc;
	*ret = (struct workload_stats){
		.time_ns = clock_now_ns(),
		.cpus_online = (unsigned int)json_integer_value(json_object_get(status, "cpus")),
		.memory_limit_bytes =
			(uint64_t)json_integer_value(json_object_get(status, "memoryBytes")),
		.pids_limit = UINT64_MAX,
	};
	add_process(live.pid, ret);
	count = proc_children(live.pid, &children);
	for (size_t i = 0; i < count; i++)
		add_process(children[i], ret);
	ret->host_cpu_ns = ret->cpu_total_ns;
	ret->host_memory_bytes = ret->memory_bytes;
	return 0;
}

/* --- what only an agent could do -------------------------------------------------------------------- */

static int unlock(struct engine *engine, struct plan_lock *locks, size_t count, struct error *err)
{
	(void)engine;
	(void)locks;
	(void)count;
	(void)err;
	return 0;
}

static char *explain(struct engine *engine, const char *id)
{
	own_strv char **report = read_report(engine, id);

	return strv_len(report) > 0 && report[0][0] != '\0' ? str_copy(report[0]) : NULL;
}

const struct isolation isolation_machine = {
	.name = "machine",
	.kind = WORKLOAD_MACHINE,
	.no_inside =
		"it is a machine that started from a disk of its own, with no program of berth's "
		"in it",
	.check = machine_check,
	.prepare = machine_prepare,
	.start = start,
	.pass_signal = pass_signal,
	.signal = signal_workload,
	.pause = pause_workload,
	.resume = resume_workload,
	.stats = stats,
	.unlock = unlock,
	.explain = explain,
	.destroy = vm_destroy,
};
