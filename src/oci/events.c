/*
 * events: reports of what a container uses, and of its running out of memory. See runtime.h.
 *
 * The kernel tells of the latter: on cgroup v2 the file memory.events becomes ready with POLLPRI, on v1
 * an eventfd that is registered for memory.oom_control is written to; the registration ends when that is
 * closed. A pidfd of the container's process tells of the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/container.h"

struct watch {
	const struct cgroup *cg;
	int fd; /* -1: this kernel does not tell */
	uint64_t kills;
};

static uint64_t count_kills(const struct watch *w)
{
	uint64_t kills;

	/* Of a group that is gone there is nothing new. */
	return cgroup_read_number(w->cg, "memory",
				  w->cg->v2 ? "memory.events" : "memory.oom_control", "oom_kill",
				  &kills) == 0
		       ? kills
		       : w->kills;
}

static void open_watch(struct watch *w, const struct cgroup *cg)
{
	const char *dir = cgroup_path(cg, "memory");
	own_mem char *path =
		dir ? str_format("%s/%s", dir, cg->v2 ? "memory.events" : "memory.oom_control")
		    : NULL;
	own_mem char *control = dir ? str_format("%s/cgroup.event_control", dir) : NULL;
	own_fd int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1, event = -1;
	char text[32];

	*w = (struct watch){.cg = cg, .fd = -1};
	w->kills = count_kills(w);
	if (file < 0)
		return;
	if (cg->v2) {
		w->fd = take(file);
		return;
	}
	event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	snprintf(text, sizeof(text), "%d %d", event, file);
	if (event >= 0 && file_put(AT_FDCWD, control, text) == 0)
		w->fd = take(event);
}

/* Takes note of what the kernel told; true if processes were killed since the last time. */
static bool ran_out(struct watch *w)
{
	const uint64_t before = w->kills;
	uint64_t told;

	if (w->fd >= 0 && !w->cg->v2)
		(void)!read(w->fd, &told, sizeof(told));
	w->kills = count_kills(w);
	return w->kills > before;
}

static void tell(oci_event_fn *to, void *data, const char *type, const char *id, json_t *more)
{
	json_t *event = json_pack("{s:s, s:s, s:o*}", "type", type, "id", id, "data", more);

	to(event, data);
	json_decref(event);
}

static int report(const struct container *c, const struct cgroup *cg, oci_event_fn *to, void *data,
		  struct error *err)
{
	json_t *document;
	int rc = cgroup_report(cg, &document, err);

	if (rc == 0)
		tell(to, data, "stats", c->id, document);
	return rc;
}

/* Waits for `timeout_ms` at most. True as long as the container lives. */
static bool wait_for_news(const struct container *c, struct watch *w, int pidfd, int timeout_ms,
			  oci_event_fn *to, void *data)
{
	struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN},
			       {.fd = w->fd, .events = w->cg->v2 ? POLLPRI : POLLIN}};
	int ready = poll(fds, array_size(fds), timeout_ms);

	if (ran_out(w))
		tell(to, data, "oom", c->id, NULL);
	return ready <= 0 || fds[0].revents == 0;
}

int oci_events(const char *state_root, const char *id, int interval_ms, oci_event_fn *to,
	       void *data, struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	own_fd int pidfd = -1;
	struct watch w;
	int64_t next_ns;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	if (rc < 0 || (rc = container_cgroup(c, &cg, err)) < 0)
		return rc;
	if (interval_ms == 0)
		return report(c, cg, to, data, err);
	pidfd = container_pid(c) > 0 ? proc_open(container_pid(c)) : -1;
	if (pidfd < 0)
		return refuse(err, -ESRCH, "container %s is not running", id);
	open_watch(&w, cg);
	next_ns = clock_monotonic_ns();
	for (bool alive = true; rc == 0 && alive;) {
		const int64_t left_ns = next_ns - clock_monotonic_ns();

		if (left_ns <= 0) {
			rc = report(c, cg, to, data, err);
			next_ns = clock_monotonic_ns() + interval_ms * INT64_C(1000000);
		} else {
			alive = wait_for_news(c, &w, pidfd, (int)(left_ns / 1000000) + 1, to, data);
		}
	}
	fd_close(&w.fd);
	return rc;
}
