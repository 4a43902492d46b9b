/*
 * cgroup_life: what is alive in the cgroup: listing, signals, freezing, removal. See cgroup.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/cgroup_systemd.h"

enum {
	PROCS_TEXT_MAX = 64 << 20,
	DEPTH_MAX = 64,
	FREEZE_TIMEOUT_MS = 5000,
	REMOVE_TIMEOUT_MS = 10000,
};

struct pid_list {
	pid_t *items;
	size_t count, capacity;
};

static void add_pids(struct pid_list *list, const char *text)
{
	char *end;

	for (const char *p = text; *p != '\0'; p = *end ? end + 1 : end) {
		long pid = strtol(p, &end, 10);

		if (end == p)
			break;
		if (pid <= 0) /* 0: a process of a pid namespace that we do not see */
			continue;
		list->items = mem_grow(list->items, list->count, &list->capacity, sizeof(pid_t));
		list->items[list->count++] = (pid_t)pid;
	}
}

/* Calls `visit` for the directory and everything below it, the deepest first. */
static int walk(int parent_fd, const char *name, int depth,
		int (*visit)(int dir_fd, int parent_fd, const char *name, void *data), void *data)
{
	own_fd int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	own_dir DIR *dir = NULL;
	struct dirent *entry;
	int copy, rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return -errno;
	dir = fdopendir(copy);
	if (dir == NULL || depth > DEPTH_MAX)
		return -ELOOP;
	while ((entry = readdir(dir)) != NULL) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		rc = walk(fd, entry->d_name, depth + 1, visit, data);
		if (rc < 0)
			return rc;
	}
	return visit(fd, parent_fd, name, data);
}

static int visit_pids(int dir_fd, int parent_fd, const char *name, void *data)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = file_read(dir_fd, "cgroup.procs", PROCS_TEXT_MAX, &text, &len, NULL);

	(void)parent_fd;
	(void)name;
	/* EOPNOTSUPP: a threaded sub-group lists its processes at its root. */
	if (rc == 0)
		add_pids(data, text);
	return rc == -ENOENT || rc == -ENODEV || rc == -EOPNOTSUPP ? 0 : rc;
}

/* The directory that says best who is inside: the unified one cannot be left by a process that was
 * given a v1 hierarchy to play with. */
static const struct cgroup_dir *census(const struct cgroup *cg)
{
	const struct cgroup_dir *unified = cgroup_unified(cg);

	if (unified != NULL)
		return unified;
	return cg->dir_count > 0 ? &cg->dirs[0] : NULL;
}

int cgroup_pids(const struct cgroup *cg, pid_t **ret_pids, size_t *ret_count, struct error *err)
{
	const struct cgroup_dir *dir = census(cg);
	struct pid_list list = {0};
	int rc;

	if (dir == NULL)
		return refuse(err, -ENOTSUP, "the container has no cgroup of its own");
	rc = walk(AT_FDCWD, dir->path, 0, visit_pids, &list);
	if (rc < 0) {
		free(list.items);
		return fail(err, rc, "list the processes of %s", dir->path);
	}
	*ret_pids = list.items;
	*ret_count = list.count;
	return 0;
}

int cgroup_signal(const struct cgroup *cg, int signal, struct error *err)
{
	own_mem pid_t *pids = NULL;
	size_t count;
	int rc;

	if (signal == SIGKILL && cgroup_unified(cg) != NULL) {
		rc = cgroup_put(cg, "", "cgroup.kill", "1", "kill", NULL);
		if (rc == 0)
			return 0;
	}
	rc = cgroup_pids(cg, &pids, &count, err);
	for (size_t i = 0; rc == 0 && i < count; i++)
		if (kill(pids[i], signal) < 0 && errno != ESRCH)
			rc = fail(err, -errno, "send signal %d to process %d", signal,
				  (int)pids[i]);
	return rc;
}

/* --- freezing ----------------------------------------------------------------------------------- */

/* A v1 group that is frozen can stay in FREEZING while a process of it is in the middle of something;
 * writing again makes the kernel try again. */
static int freeze_v1(const struct cgroup *cg, bool freeze, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + FREEZE_TIMEOUT_MS * INT64_C(1000000);

	for (int pause_ms = 0;; pause_ms = pause_ms < 50 ? pause_ms + 1 : 50) {
		own_mem char *text = NULL;
		int rc = cgroup_put(cg, "freezer", "freezer.state", freeze ? "FROZEN" : "THAWED",
				    "freezer", err);

		if (rc < 0)
			return rc;
		rc = cgroup_read(cg, "freezer", "freezer.state", &text);
		if (rc < 0)
			return fail(err, rc, "read freezer.state");
		if (strncmp(text, freeze ? "FROZEN" : "THAWED", 6) == 0)
			return 0;
		if (clock_monotonic_ns() > deadline)
			break;
		poll(NULL, 0, pause_ms);
	}
	if (freeze)
		(void)!cgroup_put(cg, "freezer", "freezer.state", "THAWED", "freezer", NULL);
	return refuse(err, -ETIMEDOUT, "the container did not freeze within %d seconds",
		      FREEZE_TIMEOUT_MS / 1000);
}

static int freeze_v2(const struct cgroup *cg, bool freeze, struct error *err)
{
	const struct cgroup_dir *dir = cgroup_unified(cg);
	own_mem char *path = str_format("%s/cgroup.events", dir->path);
	own_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	const int64_t deadline = clock_monotonic_ns() + FREEZE_TIMEOUT_MS * INT64_C(1000000);
	int rc;

	if (fd < 0)
		return fail(err, -errno, "open %s", path);
	rc = cgroup_put(cg, "", "cgroup.freeze", freeze ? "1" : "0", "freezer", err);
	if (rc < 0)
		return rc;
	while (cgroup_is_frozen(cg) != freeze) {
		struct pollfd wait = {.fd = fd, .events = POLLPRI};

		if (clock_monotonic_ns() > deadline) {
			if (freeze)
				(void)!cgroup_put(cg, "", "cgroup.freeze", "0", "freezer", NULL);
			return refuse(err, -ETIMEDOUT,
				      "the container did not freeze within %d seconds",
				      FREEZE_TIMEOUT_MS / 1000);
		}
		poll(&wait, 1, 50);
	}
	return 0;
}

int cgroup_freeze(const struct cgroup *cg, bool freeze, struct error *err)
{
	if (cgroup_path(cg, "freezer") != NULL && !cg->v2)
		return freeze_v1(cg, freeze, err);
	if (cgroup_unified(cg) == NULL)
		return refuse(err, -ENOTSUP, "the container has no cgroup with a freezer");
	return freeze_v2(cg, freeze, err);
}

/* --- removal ------------------------------------------------------------------------------------ */

static int visit_kill(int dir_fd, int parent_fd, const char *name, void *data)
{
	struct pid_list list = {0};
	int rc = visit_pids(dir_fd, parent_fd, name, &list);

	(void)data;
	for (size_t i = 0; i < list.count; i++)
		kill(list.items[i], SIGKILL);
	free(list.items);
	return rc;
}

static int visit_remove(int dir_fd, int parent_fd, const char *name, void *data)
{
	(void)dir_fd;
	(void)data;
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

static bool exists(const char *path)
{
	return faccessat(AT_FDCWD, path, F_OK, 0) == 0;
}

/* Kills what is in one directory. A v1 group is thawed for that: a frozen process does not die. */
static void kill_dir(const struct cgroup_dir *dir)
{
	own_mem char *kill_path = str_format("%s/cgroup.kill", dir->path);
	own_mem char *freezer = str_format("%s/freezer.state", dir->path);

	if (dir->controllers[0] == '\0' && file_put(AT_FDCWD, kill_path, "1") == 0)
		return;
	if (walk(AT_FDCWD, dir->path, 0, visit_kill, NULL) < 0)
		return; /* the removal that follows reports what is wrong */
	if (cgroup_has_word(dir->controllers, "freezer"))
		(void)!file_put(AT_FDCWD, freezer, "THAWED");
}

static int remove_empty(const struct cgroup_dir *dir)
{
	const char *path;
	const int at = cgroup_at(dir, &path);

	return unlinkat(at, path, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

static int remove_dir(const struct cgroup_dir *dir, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + REMOVE_TIMEOUT_MS * INT64_C(1000000);
	int rc = 0;

	for (int round = 0;; round++) {
		rc = remove_empty(dir);
		if (rc == 0)
			return 0;
		/* Busy: something is inside. A process that has just died leaves within microseconds,
		 * so the first rounds only wait. */
		if (round > 2 || rc != -EBUSY)
			kill_dir(dir);
		rc = walk(AT_FDCWD, dir->path, 0, visit_remove, NULL);
		if (rc == 0 && !exists(dir->path))
			return 0;
		if (rc < 0 && rc != -EBUSY && rc != -ENOTEMPTY)
			break;
		if (clock_monotonic_ns() > deadline)
			break;
		if (round < 3) {
			struct timespec pause = {.tv_nsec = 50000L << round};

			nanosleep(&pause, NULL);
		} else {
			poll(NULL, 0, round < 20 ? 1 : 20);
		}
	}
	return fail(err, rc < 0 ? rc : -EBUSY, "remove cgroup %s", dir->path);
}

/* Directories that were there before us: gone with the last who uses them. */
static int remove_shared(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->dir_count; i++)
		if (rmdir(cg->dirs[i].path) < 0 && errno != ENOENT && errno != EBUSY &&
		    errno != ENOTEMPTY)
			return -errno;
	return 0;
}

int cgroup_remove(struct cgroup *cg, struct error *err)
{
	const struct cgroup_dir *dir = census(cg);
	int rc = 0;

	if (cg->manager == OCI_CGROUP_NONE || dir == NULL)
		return 0;
	if (cg->shared)
		return remove_shared(cg);
	/* All at once first, by the best means, so that removing the rest finds empty directories. What can
	 * be removed is empty already. */
	if (remove_empty(dir) < 0) {
		kill_dir(dir);
		if (cgroup_path(cg, "freezer") != NULL && cgroup_is_frozen(cg))
			(void)!cgroup_freeze(cg, false, NULL);
	}
	if (cg->unit != NULL)
		rc = cgroup_systemd_stop(cg, err);
	for (size_t i = 0; i < cg->dir_count; i++) {
		int one = remove_dir(&cg->dirs[i], rc == 0 ? err : NULL);

		rc = rc < 0 ? rc : one;
	}
	return rc;
}
