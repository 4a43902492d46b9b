/* life: stop, kill, restart, pause, wait, rm, rename (verbs of workload.h). */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/channel.h"
#include "engine/find.h"
#include "engine/guard.h"
#include "engine/isolation.h"
#include "engine/lock.h"
#include "engine/name.h"
#include "engine/record.h"
#include "engine/streams.h"

enum { STOP_ATTEMPTS = 2000, KILLED_MS = 10000 };

/* Sends a request to the monitor; returns the connection. */
static int request(struct engine *engine, const struct workload *w, enum channel_type type,
		   uint32_t arg, uint32_t arg2, struct error *err)
{
	own_fd int fd = streams_connect(engine, w, err);
	int rc;

	if (fd < 0)
		return fd;
	rc = channel_send_head(fd, type, arg, arg2, true);
	return rc < 0 ? refuse(err, -ESRCH, "container not running") : take(fd);
}

static bool is_active(const struct workload *w)
{
	return w->status == WORKLOAD_RUNNING || w->status == WORKLOAD_PAUSED ||
	       w->status == WORKLOAD_RESTARTING || w->pid > 0 || w->monitor_pid > 0;
}

static uint32_t timeout_ms(const struct workload *w, int timeout_s)
{
	enum { DEFAULT_S = 10 };
	int s = timeout_s >= 0 ? timeout_s : w->config.stop_timeout_s;

	if (s < 0)
		s = DEFAULT_S;
	return s > INT_MAX / 1000 ? UINT32_MAX : (uint32_t)s * 1000;
}

/* A frozen process takes no signal. */
static int thaw(struct engine *engine, const struct workload *w, struct error *err)
{
	int rc;

	if (w->status != WORKLOAD_PAUSED)
		return 0;
	rc = workload_unpause(engine, w->id, err);
	/* Others do so, too; or it has ended. */
	if (rc == -EBUSY || rc == -ESRCH) {
		error_clear(err);
		rc = 0;
	}
	return rc;
}

/* Waits for the end of the connection's purpose: the exit, or an end that needs no words. */
static int await_end(int fd, int *ret_exit_code, struct error *err)
{
	int rc = streams_answer(fd, ret_exit_code, err);

	/* The monitor ended: that is what was wanted. */
	if (rc == -EPIPE || rc == -ESRCH) {
		error_clear(err);
		rc = 0;
	}
	return rc;
}

int workload_stop(struct engine *engine, const char *ref, int signal, int timeout_s,
		  struct error *err)
{
	own_workload struct workload w = {0};
	own_fd int fd = -1;
	int rc = workload_find(engine, ref, &w, err);

	if (rc < 0 || !is_active(&w))
		return rc;
	rc = thaw(engine, &w, err);
	if (rc < 0)
		return fail(err, rc, "cannot stop \"%s\"", ref);
	fd = request(engine, &w, CHANNEL_STOP, (uint32_t)signal, timeout_ms(&w, timeout_s), err);
	if (fd == -ESRCH) {
		error_clear(err);
		return 0;
	}
	rc = fd < 0 ? fd : await_end(fd, NULL, err);
	return rc < 0 ? fail(err, rc, "cannot stop \"%s\"", ref) : 0;
}

int workload_restart(struct engine *engine, const char *ref, int signal, int timeout_s,
		     struct error *err)
{
	int rc = workload_stop(engine, ref, signal, timeout_s, err);

	return rc < 0 ? rc : workload_start(engine, ref, NULL, err);
}

/* Until it has ended, or for a while: who knows that it is killed goes on with what is left of it. */
static void await_killed(int fd)
{
	struct pollfd ended = {.fd = fd, .events = POLLIN};

	while (fd >= 0 && poll(&ended, 1, KILLED_MS) < 0 && errno == EINTR)
		;
}

int workload_kill(struct engine *engine, const char *ref, int signal, struct error *err)
{
	own_workload struct workload w = {0};
	own_fd int fd = -1, end_fd = -1;
	int rc = find_running(engine, ref, &w, err);

	if (rc == 0 && signal == SIGKILL)
		rc = thaw(engine, &w, err);
	if (rc == 0 && signal == SIGKILL) {
		end_fd = request(engine, &w, CHANNEL_WAIT, 0, 0, err);
		rc = end_fd < 0 ? end_fd : 0;
	}
	if (rc == 0)
		rc = fd = request(engine, &w, CHANNEL_SIGNAL, (uint32_t)signal, 0, err);
	if (rc >= 0)
		rc = streams_answer(fd, NULL, err);
	if (rc == 0)
		await_killed(end_fd);
	return rc < 0 ? fail(err, rc, "cannot kill \"%s\"", ref) : 0;
}

int workload_pause(struct engine *engine, const char *ref, struct error *err)
{
	own_workload struct workload w = {0};
	int rc = find_running(engine, ref, &w, err);

	if (rc < 0)
		return fail(err, rc, "cannot pause \"%s\"", ref);
	if (w.status == WORKLOAD_PAUSED)
		return refuse(err, -EBUSY, "\"%s\" is paused already", ref);
	rc = guard_freeze(engine, &w, err);
	return rc < 0 ? fail(err, rc, "cannot pause \"%s\"", ref) : 0;
}

int workload_unpause(struct engine *engine, const char *ref, struct error *err)
{
	own_workload struct workload w = {0};
	int rc = find_running(engine, ref, &w, err);

	if (rc < 0)
		return fail(err, rc, "cannot unpause \"%s\"", ref);
	if (w.status != WORKLOAD_PAUSED)
		return refuse(err, -EBUSY, "\"%s\" is not paused", ref);
	rc = guard_thaw(engine, &w, err);
	return rc < 0 ? fail(err, rc, "cannot unpause \"%s\"", ref) : 0;
}

/* --- waiting ---------------------------------------------------------------------------------------- */

static int await_removal(struct engine *engine, const char *id, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 20 * 1000000L};
	struct error absent = {0};
	enum record_status status;
	int rc;

	while ((rc = record_get_status(engine, id, &status, &absent)) == 0)
		nanosleep(&pause, NULL);
	return rc == -ENOENT ? 0 : refuse(err, rc, "%s", absent.text);
}

/* The exit code of one that has ended, possibly while we were about to ask. */
static int exit_code_of(struct engine *engine, const char *id, int fallback, struct error *err)
{
	own_workload struct workload w = {0};
	enum record_status status;
	int rc = record_load(engine, id, &w, &status, err);

	if (rc == -ENOENT) {
		error_clear(err);
		return fallback;
	}
	return rc < 0 ? rc : w.exit_code;
}

int workload_wait(struct engine *engine, const char *ref, enum workload_wait until,
		  struct error *err)
{
	own_workload struct workload w = {0};
	own_fd int fd = -1;
	int code = -1, rc = workload_find(engine, ref, &w, err);

	if (rc < 0)
		return rc;
	if (is_active(&w)) {
		fd = request(engine, &w, CHANNEL_WAIT, until == WORKLOAD_WAIT_NEXT_EXIT, 0, err);
		if (fd >= 0)
			rc = await_end(fd, &code, err);
		else if (fd == -ESRCH)
			error_clear(err);
		else
			return fd;
	}
	if (rc == 0 && code < 0)
		code = exit_code_of(engine, w.id, w.exit_code, err);
	if (rc == 0 && code >= 0 && until == WORKLOAD_WAIT_REMOVED)
		rc = await_removal(engine, w.id, err);
	return rc < 0 ? rc : code;
}

/* --- removing, renaming ------------------------------------------------------------------------------ */

static int remove_stopped(struct engine *engine, const char *id, int *lock_fd, struct error *err)
{
	int rc = record_set_removing(engine, id, err);

	if (rc == 0)
		rc = workload_erase(engine, id, NULL, err);
	if (rc < 0)
		lock_leave(lock_fd);
	else
		lock_release(engine, id, lock_fd);
	return rc;
}

/* Stops it and takes its lock. Its monitor needs a moment to end after its workload has, so this is
 * tried for a while. */
static int stop_and_lock(struct engine *engine, const char *id, bool force, struct error *err)
{
	const struct timespec pause = {.tv_nsec = 5 * 1000000L};
	int fd = -EBUSY, rc;

	for (int i = 0; fd == -EBUSY && i < STOP_ATTEMPTS; i++) {
		rc = force ? workload_stop(engine, id, SIGKILL, 0, err) : 0;
		if (rc < 0)
			return rc;
		if (i > 0)
			nanosleep(&pause, NULL);
		fd = lock_take(engine, id, err);
	}
	return fd == -EBUSY ? refuse(err, fd, "it does not end") : fd;
}

int workload_remove(struct engine *engine, const char *ref, enum workload_remove_flags flags,
		    struct error *err)
{
	const bool force = (flags & WORKLOAD_REMOVE_FORCE) != 0;
	own_workload struct workload w = {0};
	int lock_fd, rc = workload_find(engine, ref, &w, err);

	if (rc < 0)
		return rc;
	if (is_active(&w) && w.status != WORKLOAD_EXITED && !force)
		return hint(err,
			    refuse(err, -EBUSY, "cannot remove \"%s\": it is %s", ref,
				   workload_status_name(w.status)),
			    "stop it first (berth stop %s), or use --force", ref);
	rc = lock_fd = stop_and_lock(engine, w.id, force, err);
	/* With --rm it has gone by itself. */
	if (lock_fd == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (lock_fd >= 0)
		rc = remove_stopped(engine, w.id, &lock_fd, err);
	return rc < 0 ? fail(err, rc, "cannot remove \"%s\"", ref) : 0;
}

int workload_rename(struct engine *engine, const char *ref, const char *name, struct error *err)
{
	char id[WORKLOAD_ID_LEN + 1];
	int rc = name_check(name, err);

	if (rc == 0)
		rc = record_resolve(engine, ref, id, err);
	if (rc == 0)
		rc = record_set_name(engine, id, name, err);
	return rc < 0 ? fail(err, rc, "cannot rename \"%s\"", ref) : 0;
}
