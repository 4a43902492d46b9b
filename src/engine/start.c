/*
 * start: starting a workload's monitor and following it (verbs of workload.h).
 *
 * The monitor is started first, because the start of a program takes as long as the preparation that
 * the command does meanwhile:
 *
 *     command                               monitor
 *     make the socket pair, start it   -->  execute, wait for the order
 *     prepare: layers, mount, spec
 *     the row: active
 *     hand over                        -->  fork: create the container ...
 *     follow the streams               <->
 *
 * The lock is held by both from the beginning and by the monitor alone from the hand-over on.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/str.h"
#include "base/tty.h"
#include "engine/create.h"
#include "engine/handover.h"
#include "engine/lock.h"
#include "engine/record.h"
#include "engine/streams.h"
#include "oci/cgroup_systemd.h"
#include "oci/runtime.h"

/* A monitor that waits for its order. */
struct monitor_process {
	pid_t pid;
	int pidfd;
	int channel_fd;
};

static void monitor_release(struct monitor_process *p)
{
	fd_close(&p->pidfd);
	fd_close(&p->channel_fd);
}
#define own_monitor __attribute__((cleanup(monitor_release)))

/* An ordinary user's login has groups that are not the user's, and the kernel lets nobody move a process from there
 * into those of the user's systemd but that: so the monitor is moved, and whatever it starts is there. It also stays
 * when the login ends. */
static void leave_groups_of_login(const struct engine *engine, const char *id, pid_t monitor)
{
	own_mem char *unit = str_format("berth-monitor-%.12s-%d.scope", id, (int)monitor);
	struct error err = {0};

	if (engine->rootless && cgroup_systemd_adopt(unit, monitor, &err) < 0)
		log_debug("the monitor stays in our control group: %s", err.text);
}

static int start_monitor(struct engine *engine, const char *id, int lock_fd,
			 struct monitor_process *ret, struct error *err)
{
	own_fd int exe = oci_protected_exe_fd(err);
	own_mem char *id_argument = str_copy(id);
	char name[] = "berth", verb[] = "monitor";
	char *argv[] = {name, verb, id_argument, engine->root, engine->state, NULL};
	own_fd int theirs = -1;
	int pair[2], keep[2], rc;
	struct proc_spawn spawn = {
		.exe_fd = exe,
		.argv = argv,
		.stdio = {-1, -1, -1},
		.keep = keep,
		.keep_count = 2,
		.new_session = true,
	};

	if (exe < 0)
		return exe;
	rc = sock_pair(SOCK_SEQPACKET, pair);
	if (rc < 0)
		return fail(err, rc, "start the monitor");
	ret->channel_fd = pair[0];
	theirs = pair[1];
	keep[0] = lock_fd;
	keep[1] = theirs;
	rc = proc_spawn(&spawn, &ret->pid, &ret->pidfd, err);
	if (rc == 0)
		leave_groups_of_login(engine, id, ret->pid);
	return rc;
}

/* Hands the prepared start over and waits until the monitor has the lock alone. */
static int hand_over(struct monitor_process *monitor, const struct workload *w, struct plan *plan,
		     const struct workload_stdio *stdio, int *lock_fd, struct error *err)
{
	struct order order;
	int rc;

	order_init(&order, w);
	order.attach = stdio ? stdio->flags : 0;
	rc = handover_send(monitor->channel_fd, &order, plan, err);
	lock_leave(lock_fd);
	return rc;
}

/* What is left when a start did not get as far as the hand-over. A workload that is new goes away. */
static void undo(struct engine *engine, const struct workload *w, bool is_new, bool has_row,
		 int *lock_fd)
{
	struct error ignored = {0};
	int rc = engine_recover_layers(engine, &ignored);

	if (has_row)
		rc = engine_recover_one(engine, w->id, lock_fd, &ignored);
	else if (is_new)
		create_undo(engine, w->id, lock_fd);
	else
		lock_release(engine, w->id, lock_fd);
	/* What could not be undone, recovery finds again. */
	(void)rc;
}

struct start {
	struct engine *engine;
	struct workload *workload;
	bool is_new;
	const struct workload_stdio *stdio; /* NULL: detached */
	workload_started_fn *started;
	void *data;
};

static int on_started(void *data, struct error *err)
{
	struct start *s = data;

	return s->started ? s->started(s->workload->id, s->data, err) : 0;
}

/* From the monitor's order to the end, or for a detached one to its start. */
static int follow(struct start *s, struct monitor_process *monitor, struct error *err)
{
	struct streams streams = {
		.channel_fd = monitor->channel_fd,
		.name = s->workload->name,
		.stdio = s->stdio,
		.tty = (s->workload->config.flags & WORKLOAD_TTY) != 0,
		.foreground = true,
		.on_started = on_started,
		.data = s,
	};
	int rc;

	if (s->stdio != NULL) {
		streams.forward_signals = !(s->stdio->flags & WORKLOAD_ATTACH_NO_SIGNALS);
		return streams_run(&streams, err);
	}
	rc = streams_answer(monitor->channel_fd, NULL, err);
	return rc < 0 ? rc : on_started(s, err);
}

/* Everything up to the hand-over. On failure all before that is undone; what comes with it is recovery's. */
static int begin(struct start *s, struct monitor_process *monitor, int *lock_fd, struct error *err)
{
	own_plan struct plan plan = PLAN_EMPTY;
	struct workload *w = s->workload;
	bool has_row = false;
	int rc = start_monitor(s->engine, w->id, *lock_fd, monitor, err);

	if (rc == 0)
		rc = isolation_of(w->config.isolation)->prepare(s->engine, w, &plan, err);
	if (rc == 0) {
		rc = s->is_new ? create_commit(s->engine, w, RECORD_ACTIVE, err)
			       : record_set_active(s->engine, w->id, err);
		has_row = rc == 0;
	}
	if (rc == 0)
		return hand_over(monitor, w, &plan, s->stdio, lock_fd, err);
	plan_release(&plan);
	undo(s->engine, w, s->is_new, has_row, lock_fd);
	return rc;
}

/* The monitor died before it could say anything: its work is ours then. */
static void clean_up_after(struct engine *engine, const char *id)
{
	struct error ignored = {0};
	int lock_fd = lock_try(engine, id, &ignored);
	int rc = lock_fd < 0 ? lock_fd : engine_recover_one(engine, id, &lock_fd, &ignored);

	if (rc == 0)
		rc = engine_recover_layers(engine, &ignored);
	(void)rc;
}

static int start_and_follow(struct start *s, int *lock_fd, struct error *err)
{
	own_monitor struct monitor_process monitor = {.pidfd = -1, .channel_fd = -1};
	struct tty_size size;
	int rc;

	if (s->stdio != NULL && tty_get_size(s->stdio->fds[0], &size) == 0) {
		s->workload->rows = size.rows;
		s->workload->columns = size.columns;
	}
	rc = begin(s, &monitor, lock_fd, err);

	if (rc < 0)
		return rc;
	rc = follow(s, &monitor, err);
	if (rc == -EPIPE)
		clean_up_after(s->engine, s->workload->id);
	return rc;
}

int workload_run(struct engine *engine, struct workload_config *config,
		 const struct workload_run *options, struct error *err)
{
	struct workload w;
	struct start s = {
		.engine = engine,
		.workload = &w,
		.is_new = true,
		.stdio = options->detach ? NULL : &options->stdio,
		.started = options->started,
		.data = options->data,
	};
	int lock_fd = -1, rc;

	/* As docker: input of a command in the foreground ends with the command. */
	if (!options->detach && (options->stdio.flags & WORKLOAD_ATTACH_STDIN))
		config->flags |= WORKLOAD_STDIN_ONCE;
	rc = create_begin(engine, config, &w, &lock_fd, err);
	if (rc < 0)
		return rc;
	rc = start_and_follow(&s, &lock_fd, err);
	create_give_back(&w, config);
	return rc;
}

int workload_start(struct engine *engine, const char *ref, const struct workload_stdio *stdio,
		   struct error *err)
{
	own_workload struct workload w = {0};
	struct start s = {.engine = engine, .workload = &w, .stdio = stdio};
	char id[WORKLOAD_ID_LEN + 1];
	enum record_status status;
	int lock_fd, rc = record_resolve(engine, ref, id, err);

	if (rc < 0)
		return rc;
	lock_fd = lock_take(engine, id, err);
	/* It runs already. */
	if (lock_fd == -EBUSY)
		return stdio ? workload_attach(engine, id, stdio, err) : 0;
	if (lock_fd < 0)
		return fail(err, lock_fd, "cannot start \"%s\"", ref);
	rc = record_load(engine, id, &w, &status, err);
	if (rc == 0 && status == RECORD_REMOVING)
		rc = refuse(err, -EBUSY, "\"%s\" is being removed", ref);
	if (rc < 0) {
		lock_release(engine, id, &lock_fd);
		return rc;
	}
	rc = start_and_follow(&s, &lock_fd, err);
	return rc < 0 ? fail(err, rc, "cannot start \"%s\"", ref) : rc;
}
