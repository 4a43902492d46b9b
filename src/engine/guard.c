/* guard: see guard.h. */
#include "engine/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/isolation.h"
#include "engine/live.h"

static bool is_paused(struct engine *engine, const struct workload *workload)
{
	struct live live;

	return live_read(engine, workload->id, &live) == 0 && live.paused;
}

int guard_thaw(struct engine *engine, const struct workload *workload, struct error *err)
{
	int rc = isolation_of(workload->config.isolation)->resume(engine, workload->id, err);

	/* Who was to freeze it was killed before he had; or somebody else was faster. */
	if (rc == -EALREADY)
		error_clear(err);
	else if (rc < 0)
		return rc;
	return live_set_paused(engine, workload->id, false);
}

int guard_freeze(struct engine *engine, const struct workload *workload, struct error *err)
{
	int rc = live_set_paused(engine, workload->id, true);

	if (rc < 0)
		return rc;
	rc = isolation_of(workload->config.isolation)->pause(engine, workload->id, err);
	/* Half of it may have been done. */
	if (rc < 0 && guard_thaw(engine, workload, NULL) < 0)
		log_debug("%s stays marked as paused, for unpause", workload->id);
	return rc;
}

/* In the child. It uses nothing of the database, which is the parent's. */
static _Noreturn void watch(struct engine *engine, const struct workload *workload, int fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct error err = {0};
	sigset_t all;
	char byte;
	int rc;

	/* Out of the terminal's reach, and of who ends a whole group. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setsid();
	/* Whoever reads what the command writes shall not wait for us. */
	for (int i = 0; null_fd >= 0 && i < 3; i++)
		dup2(null_fd, i);
	rc = is_paused(engine, workload) ? refuse(&err, -EBUSY, "it is paused already")
					 : guard_freeze(engine, workload, &err);
	if (rc < 0 && err.code == 0)
		fail(&err, rc, "note that it is paused");
	/* If the command has died, there is nobody to tell, and the workload goes on below. */
	(void)send(fd, &err, sizeof(err), MSG_NOSIGNAL);
	if (rc < 0)
		_exit(0);
	while (fd_read_full(fd, &byte, 1) > 0)
		;
	_exit(is_paused(engine, workload) && guard_thaw(engine, workload, NULL) < 0);
}

int guard_begin(struct engine *engine, const struct workload *workload, struct guard *ret,
		struct error *err)
{
	struct guard guard;
	struct error why = {0};
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return fail(err, -errno, "prepare to pause");
	guard.pid = fork();
	if (guard.pid == 0) {
		close(fds[1]);
		watch(engine, workload, fds[0]);
	}
	close(fds[0]);
	if (guard.pid < 0) {
		int rc = -errno;

		close(fds[1]);
		return fail(err, rc, "prepare to pause");
	}
	guard.fd = fds[1];
	if (fd_read_full(guard.fd, &why, sizeof(why)) != sizeof(why)) {
		guard_end(engine, workload, &guard);
		return refuse(err, -EIO, "the process that was to pause it has ended");
	}
	if (why.code < 0) {
		guard_end(engine, workload, &guard);
		if (err)
			*err = why;
		return why.code;
	}
	*ret = guard;
	return 0;
}

void guard_end(struct engine *engine, const struct workload *workload, struct guard *guard)
{
	struct error err = {0};
	int status = 0;

	if (guard->fd < 0)
		return;
	fd_close(&guard->fd);
	while (waitpid(guard->pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status != 0 && is_paused(engine, workload) && guard_thaw(engine, workload, &err) < 0)
		log_warn("\"%s\" stays paused (berth unpause %s): %s", workload->name,
			 workload->name, err.text);
}
