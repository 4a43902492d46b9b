/*
 * monitor_helper: children of the monitor that live for milliseconds and do everything that takes
 * memory or time: parsing, the database, making processes, removing what is left.
 *
 * A helper is a plain fork: it has the monitor's descriptors (the lock among them, so that the lock is
 * not free before it has ended) and is killed when the monitor dies. A process that it makes becomes
 * the monitor's child (CLONE_PARENT). It reports through a socket pair, then exits.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"
#include "engine/lock.h"
#include "engine/monitor_priv.h"

/* In the child. */
static _Noreturn void work(struct helper *h, struct monitor *m, pid_t parent, const int stdio[3],
			   int report_fd)
{
	struct isolation_child child = {.console_fd = -1};
	struct helper_result result = {0};
	int nowhere, ends[3];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* First the two locks on our life, then the look whether the monitor was there meanwhile:
	 * recovery, which may have the monitor's lock by then, waits for a helper's (lock.h). */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || lock_helper(MONITOR_LOCK_FD) < 0 ||
	    getppid() != parent)
		_exit(1);
	nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		ends[i] = stdio[i] >= 0 ? stdio[i] : nowhere;
	result.rc = monitor_helper_work(h, m, ends, &child, &result.err);
	result.pid = child.pid;
	if (sock_send_fds(report_fd, &result, sizeof(result), &child.console_fd,
			  child.console_fd >= 0) < 0)
		_exit(1);
	monitor_helper_after(h);
	_exit(0);
}

static void remove_helper(struct helper *h)
{
	struct helper **at = &h->monitor->helpers;

	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	loop_remove(h->source);
	fd_close(&h->fd);
	fd_close(&h->text_fd);
	free(h);
}

static void report_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			 void *data)
{
	struct helper *h = data;
	struct monitor *m = h->monitor;
	struct session *session = h->session;
	enum helper_kind kind = h->kind;
	pid_t pid = h->pid;
	struct helper_result result;
	int console_fd = -1;
	size_t count = 0;
	ssize_t n;

	(void)loop;
	(void)source;
	(void)events;
	monitor_event(m);
	n = sock_receive_fds(fd, &result, sizeof(result), &console_fd, 1, &count);
	if (n != sizeof(result)) {
		memset(&result, 0, sizeof(result));
		result.rc = refuse(&result.err, -EIO, "a process of berth's own was killed");
	}
	remove_helper(h);
	helper_done(m, kind, session, &result, count > 0 ? console_fd : -1);
	/* It is about to exit, or has been killed. The finishing one may still be waiting for the
	 * disk: it must not be killed by our end, and everybody has been told already. */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	/* A process whose start failed may have ended while the helper was still there, and was left
	 * alone then. No signal tells of it again, and unreaped it keeps the container's first process
	 * from ending. */
	monitor_reap(m);
}

static void close_stdio(int stdio[3])
{
	for (int i = 0; i < 3; i++)
		fd_close(&stdio[i]);
}

int helper_start(struct monitor *m, enum helper_kind kind, struct session *session, int text_fd,
		 bool tty)
{
	struct helper *h = mem_new(sizeof(*h));
	int stdio[3] = {-1, -1, -1}, pair[2] = {-1, -1}, rc = 0;
	const pid_t parent = getpid();

	h->monitor = m;
	h->kind = kind;
	h->session = session;
	h->fd = h->text_fd = -1;
	h->wants_console = tty;
	h->next = m->helpers;
	m->helpers = h;
	if (session != NULL && !tty)
		rc = session_pipes(session, stdio);
	if (rc == 0)
		rc = sock_pair(SOCK_SEQPACKET, pair);
	if (rc == 0) {
		h->fd = pair[0];
		rc = loop_add_io(m->loop, h->fd, EPOLLIN, report_ready, h, &h->source);
	}
	if (rc == 0) {
		h->text_fd = text_fd >= 0 ? fcntl(text_fd, F_DUPFD_CLOEXEC, 0) : -1;
		h->pid = fork();
		if (h->pid == 0)
			work(h, m, parent, stdio, pair[1]);
		rc = h->pid < 0 ? -errno : 0;
	}
	close_stdio(stdio);
	fd_close(&pair[1]);
	if (rc < 0)
		remove_helper(h);
	return rc;
}
