/*
 * oci_attend: a container's process in the foreground: signals are passed on, and if it has a terminal,
 * ours is connected with it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/tty.h"
#include "cli/oci_priv.h"

enum { WATCH_PROCESS, WATCH_SIGNALS, WATCH_INPUT, WATCH_OUTPUT, WATCH_NOTIFY, WATCHES };

/* All that can be passed on; SIGCHLD is about the process itself, SIGURG and SIGPIPE about us. */
static int open_signals(void)
{
	sigset_t set;
	int fd;

	sigfillset(&set);
	sigdelset(&set, SIGCHLD);
	sigdelset(&set, SIGPIPE);
	sigdelset(&set, SIGURG);
	sigdelset(&set, SIGSEGV);
	sigdelset(&set, SIGBUS);
	sigdelset(&set, SIGFPE);
	sigdelset(&set, SIGILL);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void copy_size(int console)
{
	struct tty_size size;

	/* Without a terminal of ours there is no size to pass on. */
	if (tty_get_size(STDIN_FILENO, &size) == 0 && tty_set_size(console, size) < 0)
		return;
}

static void pass_signal(const struct oci_child *child, int signals)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH && child->console_fd >= 0)
		copy_size(child->console_fd);
	else if (proc_signal(child->pidfd, (int)info.ssi_signo) < 0)
		return; /* it has just ended */
}

/* Copies what is there; false at the end. */
static bool copy_some(int from, int to)
{
	char chunk[8192];
	ssize_t n = read(from, chunk, sizeof(chunk));

	return n > 0 && fd_write_full(to, chunk, (size_t)n) == 0;
}

static void watch(const struct oci_child *child, int signals)
{
	struct pollfd fds[WATCHES] = {
		[WATCH_PROCESS] = {.fd = child->pidfd, .events = POLLIN},
		[WATCH_SIGNALS] = {.fd = signals, .events = POLLIN},
		[WATCH_INPUT] = {.fd = child->console_fd >= 0 ? STDIN_FILENO : -1,
				 .events = POLLIN},
		[WATCH_OUTPUT] = {.fd = child->console_fd, .events = POLLIN},
		[WATCH_NOTIFY] = {.fd = child->notify_fd, .events = POLLIN},
	};

	for (;;) {
		if (poll(fds, WATCHES, -1) < 0 && errno != EINTR)
			return;
		if (fds[WATCH_SIGNALS].revents)
			pass_signal(child, signals);
		if (fds[WATCH_INPUT].revents && !copy_some(STDIN_FILENO, child->console_fd))
			fds[WATCH_INPUT].fd = -1;
		if (fds[WATCH_OUTPUT].revents && !copy_some(child->console_fd, STDOUT_FILENO))
			fds[WATCH_OUTPUT].fd = -1;
		if (fds[WATCH_NOTIFY].revents &&
		    oci_notify_pass(child->notify_fd, oci_notify_socket(), child->pid))
			fds[WATCH_NOTIFY].fd = -1;
		if (fds[WATCH_PROCESS].revents && fds[WATCH_OUTPUT].revents == 0)
			return;
	}
}

int oci_attend(struct oci_child *child, struct error *err)
{
	own_fd int signals = open_signals();
	struct tty_state terminal = {.fd = -1};
	int rc;

	if (signals < 0)
		return fail(err, signals, "watch signals");
	if (child->console_fd >= 0) {
		copy_size(child->console_fd);
		/* Input from a pipe has no modes to change. */
		if (isatty(STDIN_FILENO) && (rc = tty_raw(STDIN_FILENO, &terminal)) < 0)
			return fail(err, rc, "set up the terminal");
	}
	watch(child, signals);
	tty_restore(&terminal);
	rc = proc_wait(child->pidfd, NULL);
	return rc < 0 ? fail(err, rc, "wait for the container's process") : rc;
}
