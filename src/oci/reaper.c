/* reaper: see reaper.h. */
#include "oci/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/own.h"
#include "base/proc.h"

static const char title[] = "init";

/* The signals that mean something to the program; those that report our own faults do not. */
static void signals_to_pass(sigset_t *set)
{
	static const int own[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGTRAP, SIGSYS};

	sigfillset(set);
	for (unsigned int i = 0; i < sizeof(own) / sizeof(own[0]); i++)
		sigdelset(set, own[i]);
}

/* Reaps everybody; ends with the program. */
static void reap(pid_t program)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == program)
			_exit(proc_exit_code(status));
}

/* Our command line and environment are the host's: the container can read them in /proc/1. They are
 * overwritten where the kernel reads them (fields 48 to 51 of /proc/PID/stat). */
static void hide_origin(void)
{
	own_fd int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	uintptr_t bounds[4];
	char text[2048], *p;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (n < 0)
		_exit(1);
	text[n] = '\0';
	p = strrchr(text, ')');
	for (int field = 2; p != NULL && field < 51; field++) {
		p = strchr(p + 1, ' ');
		if (p != NULL && field >= 47)
			bounds[field - 47] = strtoul(p, NULL, 10);
	}
	if (p == NULL || bounds[1] < bounds[0] + sizeof(title) || bounds[3] < bounds[2])
		_exit(1);
	memset((void *)bounds[2], 0, bounds[3] - bounds[2]);
	memset((void *)bounds[0], 0, bounds[1] - bounds[0]);
	memcpy((void *)bounds[0], title, sizeof(title));
}

static _Noreturn void run(pid_t program, const sigset_t *set)
{
	close_range(0, ~0U, 0);
	hide_origin();
	prctl(PR_SET_NAME, title);
	for (;;) {
		siginfo_t info;

		if (sigwaitinfo(set, &info) < 0)
			continue;
		if (info.si_signo == SIGCHLD)
			reap(program);
		else
			kill(program, info.si_signo);
	}
}

int reaper_split(struct error *err)
{
	sigset_t set, before;
	pid_t program;

	signals_to_pass(&set);
	sigprocmask(SIG_BLOCK, &set, &before);
	/* Where process 1 is another's, orphans would go there. */
	if (getpid() != 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return fail(err, -errno, "become a reaper");
	program = fork();
	if (program < 0)
		return fail(err, -errno, "start a process below init");
	if (program > 0)
		run(program, &set);
	/* A group of its own, in the foreground of the terminal if there is one. (SIGTTOU, which that
	 * raises, is blocked still.) */
	setpgid(0, 0);
	if (isatty(0))
		tcsetpgrp(0, getpid());
	sigprocmask(SIG_SETMASK, &before, NULL);
	return 0;
}
