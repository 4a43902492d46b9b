/* guard: see guard.h. */
#include "engine/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "engine/isolation.h"
#include "engine/live.h"

/* In the child. It uses nothing of the database, which is the parent's. */
static _Noreturn void watch(struct engine *engine, const struct workload *workload, int fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	sigset_t all;
	struct live live;
	char byte;

	/* Out of the terminal's reach, and of who ends a whole group. */
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	setsid();
	/* Whoever reads what the command writes shall not wait for us. */
	for (int i = 0; null_fd >= 0 && i < 3; i++)
		dup2(null_fd, i);
	/* Only now is there somebody who watches. */
	if (send(fd, "", 1, MSG_NOSIGNAL) != 1 || fd_read_full(fd, &byte, 1) != 0)
		_exit(0);
	if (live_read(engine, workload->id, &live) == 0 && live.paused &&
	    isolation_of(workload->config.isolation)->resume(engine, workload->id, NULL) == 0)
		_exit(live_set_paused(engine, workload->id, false) < 0);
	_exit(0);
}

int guard_begin(struct engine *engine, const struct workload *workload, struct guard *ret,
		struct error *err)
{
	struct guard guard;
	int fds[2];
	char ready;

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
	if (fd_read_full(guard.fd, &ready, 1) != 1) {
		guard_end(&guard);
		return refuse(err, -EIO,
			      "prepare to pause: the process that was to watch has ended");
	}
	*ret = guard;
	return 0;
}

void guard_end(struct guard *guard)
{
	if (guard->fd < 0)
		return;
	/* If it has been killed there is nobody to tell. */
	send(guard->fd, "", 1, MSG_NOSIGNAL);
	fd_close(&guard->fd);
	waitpid(guard->pid, NULL, 0);
}
