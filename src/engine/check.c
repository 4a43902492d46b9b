/*
 * check: `berth system check`: compares what the database says with what is there (declared in
 * engine.h). Each look is a function of the same form; they are listed at the end.
 *
 * It is safe beside other commands: whatever belongs to a workload is judged and repaired only with
 * that workload's lock taken.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/isolation.h"
#include "engine/lock.h"
#include "engine/name.h"
#include "engine/record.h"
#include "image/layer.h"
#include "image/store.h"
#include "oci/runtime.h"

enum { MOUNTS_MAX = 8 << 20, COMMAND_MAX = 64 << 10 };

struct check {
	struct engine *engine;
	enum engine_check_flags flags;
	engine_problem_fn *fn;
	void *data;
	int problems; /* that remain */
};

static bool repairing(const struct check *c)
{
	return (c->flags & ENGINE_CHECK_REPAIR) != 0;
}

static void tell(struct check *c, bool repaired, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void tell(struct check *c, bool repaired, const char *fmt, ...)
{
	va_list ap;
	own_mem char *text = NULL;

	va_start(ap, fmt);
	text = str_format_va(fmt, ap);
	va_end(ap);
	c->fn(text, repaired, c->data);
	if (!repaired)
		c->problems++;
}

/* Tells of a leftover of a workload whose lock was free, and has recovery remove all of it. */
static int settle(struct check *c, const char *id, int *lock_fd, const char *what)
{
	struct error why = {0};
	int rc = 0;

	if (repairing(c))
		rc = engine_recover_one(c->engine, id, lock_fd, &why);
	else
		lock_release(c->engine, id, lock_fd);
	if (rc < 0)
		tell(c, false, "workload %.12s: %s; it cannot be repaired: %s", id, what, why.text);
	else
		tell(c, repairing(c), "workload %.12s: %s", id, what);
	return 0;
}

/* Calls `fn` for each entry of a directory; one that is not there is empty. */
typedef int entry_fn(struct check *c, const char *name, struct error *err);

static int each_entry(struct check *c, int dirfd, const char *path, entry_fn *fn, struct error *err)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = 0;

	if (dir == NULL)
		return errno == ENOENT ? 0 : fail(err, -errno, "read %s", path);
	while (rc == 0 && (entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			rc = fn(c, entry->d_name, err);
	return rc;
}

/* --- the looks ---------------------------------------------------------------------------------------- */

static int check_database(struct check *c, struct error *err)
{
	struct error why = {0};

	(void)err;
	if (db_check(c->engine->db, &why) < 0)
		tell(c, false, "%s", why.text);
	return 0;
}

static int check_state_entry(struct check *c, const char *name, struct error *err)
{
	own_fd int lock_fd = -1;

	if (!id_is_valid(name))
		return 0;
	lock_fd = lock_try(c->engine, name, err);
	if (lock_fd == -EWOULDBLOCK)
		return 0;
	if (lock_fd < 0)
		return lock_fd;
	return settle(c, name, &lock_fd,
		      "a command or its monitor was killed while it worked on it");
}

/* Directories in <state> whose lock nobody holds. */
static int check_states(struct check *c, struct error *err)
{
	return each_entry(c, c->engine->state_fd, ".", check_state_entry, err);
}

static int check_row(struct workload *w, enum record_status status, void *data, struct error *err)
{
	struct check *c = data;
	own_fd int lock_fd = -1;
	bool lost, empty;

	if (faccessat(c->engine->state_fd, w->id, F_OK, 0) == 0)
		return 0;
	lost = status == RECORD_ACTIVE || status == RECORD_REMOVING;
	empty = faccessat(c->engine->root_fd, workload_dir(w->id).path, F_OK, 0) < 0;
	if (!lost && !empty)
		return 0;
	lock_fd = lock_try(c->engine, w->id, err);
	if (lock_fd == -EWOULDBLOCK)
		return 0;
	if (lock_fd < 0)
		return lock_fd;
	/* Somebody may have been faster than we at the lock. */
	if (record_get_status(c->engine, w->id, &status, NULL) < 0)
		lost = empty = false;
	if (lost)
		return settle(c, w->id, &lock_fd,
			      "its row says that it is active, but nothing of it is");
	if (empty)
		tell(c, false, "workload %.12s (%s): its directory %s/%s is missing", w->id,
		     w->name, c->engine->root, workload_dir(w->id).path);
	lock_release(c->engine, w->id, &lock_fd);
	return 0;
}

/* Rows that claim to be active with nothing behind them, and rows without a directory. */
static int check_rows(struct check *c, struct error *err)
{
	return record_each(c->engine, check_row, c, err);
}

static int check_directory(struct check *c, const char *name, struct error *err)
{
	own_fd int lock_fd = -1;
	enum record_status status;
	int rc;

	if (!id_is_valid(name)) {
		tell(c, false, "%s/workloads/%s belongs to no workload", c->engine->root, name);
		return 0;
	}
	rc = record_get_status(c->engine, name, &status, NULL);
	if (rc != -ENOENT)
		return 0;
	lock_fd = lock_try(c->engine, name, err);
	if (lock_fd == -EWOULDBLOCK)
		return 0;
	if (lock_fd < 0)
		return lock_fd;
	rc = record_get_status(c->engine, name, &status, NULL);
	if (rc == -ENOENT && faccessat(c->engine->root_fd, workload_dir(name).path, F_OK, 0) == 0)
		return settle(c, name, &lock_fd, "a directory without a row");
	lock_release(c->engine, name, &lock_fd);
	return 0;
}

/* Directories of workloads without a row. */
static int check_directories(struct check *c, struct error *err)
{
	return each_entry(c, c->engine->root_fd, "workloads", check_directory, err);
}

/* What the OCI runtime knows of containers that are not active. */
static int check_runtime(struct check *c, struct error *err)
{
	own_mem char *root = str_format("%s/oci", c->engine->state);
	own_strv char **ids = NULL;
	int rc = 0;

	if (access(root, F_OK) < 0)
		return 0;
	rc = oci_list(root, &ids, err);
	for (size_t i = 0; rc == 0 && ids != NULL && ids[i] != NULL; i++) {
		own_fd int lock_fd = -1;

		if (!id_is_valid(ids[i]))
			continue;
		lock_fd = lock_try(c->engine, ids[i], err);
		if (lock_fd == -EWOULDBLOCK)
			continue;
		rc = lock_fd < 0 ? lock_fd
				 : settle(c, ids[i], &lock_fd, "a container without a monitor");
	}
	return rc;
}

/* True if the id was ever ours: other installations have cgroups and monitors too. */
static bool was_ours(struct check *c, const char *id)
{
	own_db_query struct db_query *q = NULL;

	return db_query(c->engine->db, &q, NULL,
			"SELECT 1 FROM event WHERE workload = ?1 UNION ALL "
			"SELECT 1 FROM workload WHERE id = ?1 LIMIT 1",
			"t", id) == 0 &&
	       db_next(q, NULL) > 0;
}

static void check_cgroup(struct check *c, const char *hierarchy, const char *id)
{
	own_mem char *path = str_format("%s/berth-%s", hierarchy, id);
	struct error why = {0};
	own_fd int lock_fd = -1;

	if (!was_ours(c, id))
		return;
	lock_fd = lock_try(c->engine, id, &why);
	if (lock_fd < 0)
		return;
	/* It may have been removed while we looked. */
	if (access(path, F_OK) == 0) {
		const bool gone = repairing(c) && rmdir(path) == 0;

		tell(c, gone, "workload %.12s: the cgroup %s is left over", id, path);
	}
	lock_release(c->engine, id, &lock_fd);
}

static void check_hierarchy(struct check *c, const char *path)
{
	own_dir DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		const char *id = str_after(entry->d_name, "berth-");

		if (id != NULL && id_is_valid(id))
			check_cgroup(c, path, id);
	}
}

static int check_cgroups(struct check *c, struct error *err)
{
	own_dir DIR *dir = opendir("/sys/fs/cgroup");
	struct dirent *entry;

	(void)err;
	/* On version 2 this is the hierarchy, on version 1 the directory of all. */
	check_hierarchy(c, "/sys/fs/cgroup");
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		own_mem char *path = str_format("/sys/fs/cgroup/%s", entry->d_name);

		if (entry->d_name[0] != '.' && entry->d_type == DT_DIR)
			check_hierarchy(c, path);
	}
	return 0;
}

/* The arguments of a process: NUL-separated text. NULL if it has gone. */
static char *read_command(const char *pid, size_t *len)
{
	own_mem char *path = str_format("/proc/%s/cmdline", pid);
	char *text;

	return file_read(AT_FDCWD, path, COMMAND_MAX, &text, len, NULL) < 0 ? NULL : text;
}

/* The id if these are the arguments of a monitor of this installation. */
static const char *monitored_id(const struct check *c, const char *text, size_t len)
{
	enum { NAME, VERB, ID, ROOT, STATE, COUNT };
	const char *words[COUNT], *p = text;

	for (size_t i = 0; i < COUNT; i++) {
		if (p >= text + len)
			return NULL;
		words[i] = p;
		p += strlen(p) + 1;
	}
	return str_eq(words[VERB], "monitor") && id_is_valid(words[ID]) &&
			       str_eq(words[ROOT], c->engine->root) &&
			       str_eq(words[STATE], c->engine->state)
		       ? words[ID]
		       : NULL;
}

/* Monitors of workloads that have no row, or a row that says they do not run: they would hold the lock
 * for ever. */
static int check_process(struct check *c, const char *pid, struct error *err)
{
	own_mem char *command = NULL;
	enum record_status status;
	const char *id;
	own_fd int pidfd = -1;
	int64_t number;
	size_t len;
	int rc;

	(void)err;
	if (str_to_int(pid, 1, INT32_MAX, &number) < 0 || number == getpid())
		return 0;
	pidfd = proc_open((pid_t)number);
	command = read_command(pid, &len);
	id = command && pidfd >= 0 ? monitored_id(c, command, len) : NULL;
	if (id == NULL)
		return 0;
	rc = record_get_status(c->engine, id, &status, NULL);
	if (rc == 0 && status == RECORD_ACTIVE)
		return 0;
	/* Starting and ending take a moment in which there is no such row. */
	for (int i = 0; i < 100; i++) {
		usleep(20000);
		rc = record_get_status(c->engine, id, &status, NULL);
		if ((rc == 0 && status == RECORD_ACTIVE) || proc_signal(pidfd, 0) < 0)
			return 0;
	}
	if (repairing(c) && proc_signal(pidfd, SIGKILL) == 0)
		tell(c, true, "process %s is the monitor of no active workload (%.12s)", pid, id);
	else
		tell(c, false, "process %s is the monitor of no active workload (%.12s)", pid, id);
	return 0;
}

static int check_processes(struct check *c, struct error *err)
{
	return each_entry(c, AT_FDCWD, "/proc", check_process, err);
}

/* Mounts below the two directories that are not layers: we make none. */
static int check_mounts(struct check *c, struct error *err)
{
	own_mem char *text = NULL;
	own_mem char *layers = str_format("%s/layers/", c->engine->state);
	size_t len;
	int rc = file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTS_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	for (char *line = text, *end; *line != '\0'; line = end) {
		char target[4096];

		end = strchrnul(line, '\n');
		if (*end != '\0')
			*end++ = '\0';
		if (sscanf(line, "%*d %*d %*s %*s %4095s", target) != 1 ||
		    str_after(target, layers) != NULL)
			continue;
		for (int i = 0; i < 2; i++) {
			const char *base = i ? c->engine->state : c->engine->root;
			const char *rest = str_after(target, base);

			if (rest != NULL && rest[0] == '/')
				tell(c, false, "%s is a mount that berth did not make", target);
		}
	}
	return 0;
}

/* A mark on an image, of a workload that is not there any more: it would keep the image for ever. */
static int check_use(const char *user, const struct digest *id, void *data, struct error *err)
{
	struct check *c = data;
	const char *workload = str_after(user, "workload/");
	struct image_store *images;
	enum record_status status;
	int rc = workload ? record_get_status(c->engine, workload, &status, NULL) : 0;

	if (rc != -ENOENT)
		return 0;
	rc = engine_images(c->engine, &images, err);
	if (rc == 0 && repairing(c))
		rc = image_use_remove(images, user, err);
	if (rc == 0)
		tell(c, repairing(c), "the image %.19s is kept for %s, which does not exist",
		     id->text, user);
	return rc;
}

struct mark {
	const struct workload *workload;
	bool found;
};

static int find_mark(const char *user, const struct digest *id, void *data, struct error *err)
{
	struct mark *mark = data;

	(void)err;
	if (str_eq(str_after(user, "workload/"), mark->workload->id) &&
	    str_eq(id->text, mark->workload->config.image_id))
		mark->found = true;
	return 0;
}

/* A workload whose image has no mark: the image could be removed under it. */
static int check_mark(struct workload *w, enum record_status status, void *data, struct error *err)
{
	struct check *c = data;
	own_mem char *user = str_format("workload/%s", w->id);
	struct mark mark = {.workload = w};
	struct image_store *images;
	struct digest id;
	int rc;

	(void)status;
	if (w->config.image_id == NULL)
		return 0;
	rc = engine_images(c->engine, &images, err);
	if (rc == 0)
		rc = image_use_list(images, find_mark, &mark, err);
	if (rc < 0 || mark.found)
		return rc;
	rc = repairing(c) ? digest_parse(w->config.image_id, &id, err) : -ECANCELED;
	if (rc == 0)
		rc = image_use_add(images, &id, user, NULL);
	tell(c, rc >= 0, "the image of workload %.12s is not kept for it", w->id);
	return 0;
}

static int check_uses(struct check *c, struct error *err)
{
	struct image_store *images;
	int rc = engine_images(c->engine, &images, err);

	if (rc == 0)
		rc = image_use_list(images, check_use, c, err);
	return rc < 0 ? rc : record_each(c->engine, check_mark, c, err);
}

struct image_problems {
	struct check *check;
};

static void image_problem(const char *problem, bool repaired, void *data)
{
	tell(((struct image_problems *)data)->check, repaired, "%s", problem);
}

static int check_images(struct check *c, struct error *err)
{
	struct image_problems problems = {.check = c};
	struct image_store *images;
	int rc = engine_images(c->engine, &images, err);
	enum image_check_flags flags = 0;

	if (repairing(c))
		flags |= IMAGE_CHECK_REPAIR;
	if (c->flags & ENGINE_CHECK_CONTENT)
		flags |= IMAGE_CHECK_CONTENT;
	if (rc == 0)
		rc = image_store_check(images, flags, image_problem, &problems, err);
	return rc < 0 ? rc : 0;
}

typedef int look_fn(struct check *c, struct error *err);
static look_fn *const looks[] = {
	check_database, check_states,    check_rows,   check_directories, check_runtime,
	check_cgroups,  check_processes, check_mounts, check_uses,        check_images,
};

int engine_check(struct engine *engine, enum engine_check_flags flags, engine_problem_fn *fn,
		 void *data, struct error *err)
{
	struct check c = {.engine = engine, .flags = flags, .fn = fn, .data = data};

	for (size_t i = 0; i < array_size(looks); i++) {
		int rc = looks[i](&c, err);

		if (rc < 0)
			return fail(err, rc, "check");
	}
	return c.problems;
}
