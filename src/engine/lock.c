/* lock: see lock.h. */
#include "engine/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "engine/record.h"

enum { PATIENCE_S = 60, POLL_MS = 4 };

struct lock_path {
	char text[WORKLOAD_ID_LEN + 8];
};

static struct lock_path lock_path(const char *id)
{
	struct lock_path path;

	snprintf(path.text, sizeof(path.text), "%s/lock", id);
	return path;
}

int lock_try(struct engine *engine, const char *id, struct error *err)
{
	for (;;) {
		int fd;

		if (mkdirat(engine->state_fd, id, 0700) < 0 && errno != EEXIST)
			return fail(err, -errno, "create directory %s/%s", engine->state, id);
		fd = file_lock(engine->state_fd, lock_path(id).text, FILE_LOCK_EXCLUSIVE, false);
		/* -ENOENT: whoever had it removed the directory in between. */
		if (fd == -EWOULDBLOCK)
			return fd;
		if (fd != -ENOENT)
			return fd < 0 ? fail(err, fd, "lock workload %s", id) : fd;
	}
}

/* What to do about a lock that was just taken. 0: it is the caller's; 1: what had crashed is repaired
 * now, try again. */
static int look_under_lock(struct engine *engine, const char *id, int *lock_fd, struct error *err)
{
	enum record_status status;
	int rc = record_get_status(engine, id, &status, err);

	if (rc == 0 && (status == RECORD_CREATED || status == RECORD_EXITED))
		return 0;
	if (rc < 0) {
		lock_release(engine, id, lock_fd);
		return rc;
	}
	rc = engine_recover_one(engine, id, lock_fd, err);
	return rc < 0 ? rc : 1;
}

static void pause_briefly(void)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};

	nanosleep(&pause, NULL);
}

static int out_of_patience(struct error *err)
{
	return refuse(err, -ETIMEDOUT, "another command is working on it");
}

int lock_new(struct engine *engine, const char *id, struct error *err)
{
	int64_t deadline = clock_monotonic_ns() + PATIENCE_S * INT64_C(1000000000);

	while (clock_monotonic_ns() < deadline) {
		int fd = lock_try(engine, id, err);

		if (fd != -EWOULDBLOCK)
			return fd;
		pause_briefly();
	}
	return out_of_patience(err);
}

int lock_take(struct engine *engine, const char *id, struct error *err)
{
	int64_t deadline = clock_monotonic_ns() + PATIENCE_S * INT64_C(1000000000);

	while (clock_monotonic_ns() < deadline) {
		enum record_status status;
		int fd = lock_try(engine, id, err), rc;

		if (fd >= 0) {
			rc = look_under_lock(engine, id, &fd, err);
			if (rc <= 0)
				return rc < 0 ? rc : fd;
			continue;
		}
		if (fd != -EWOULDBLOCK)
			return fd;
		rc = record_get_status(engine, id, &status, err);
		if (rc < 0)
			return rc;
		if (status == RECORD_ACTIVE)
			return -EBUSY;
		pause_briefly();
	}
	return out_of_patience(err);
}

void lock_release(struct engine *engine, const char *id, int *lock_fd)
{
	static const char *const others[] = {"run", "monitor.sock"};
	own_fd int dir = openat(engine->state_fd, id, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (dir >= 0) {
		for (size_t i = 0; i < array_size(others); i++)
			unlinkat(dir, others[i], 0);
		unlinkat(dir, "lock", 0);
	}
	/* Fails if somebody has made a new lock in it already: then it is theirs. */
	unlinkat(engine->state_fd, id, AT_REMOVEDIR);
	fd_close(lock_fd);
}

void lock_leave(int *lock_fd)
{
	fd_close(lock_fd);
}

static int record_lock(int fd, int command, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};

	while (fcntl(fd, command, &lock) < 0)
		if (errno != EINTR)
			return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
	return 0;
}

int lock_helper(int lock_fd)
{
	return record_lock(lock_fd, F_SETLK, F_RDLCK);
}

int lock_await_helpers(int lock_fd)
{
	return record_lock(lock_fd, F_SETLKW, F_WRLCK);
}
