/*
 * spawn: starting a program; declared in proc.h.
 *
 * The child shares our memory until it executes (clone with CLONE_VM | CLONE_VFORK), so the cost does
 * not grow with our size, and a failed execve reports its errno through a variable. It runs on a stack
 * of its own with all signals blocked, and calls only async-signal-safe functions.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"

enum { STACK_SIZE = 64 * 1024 };

struct launch {
	const struct proc_spawn *spawn;
	pid_t parent;
	int error; /* written by the child */
};

/* For what runs on the child's stack: it is left by execve, not by returning, so AddressSanitizer's marks
 * for its variables would stay in the shared memory and hit the next child's stack at that address. */
#define on_child_stack __attribute__((no_sanitize("address")))

on_child_stack static void reset_signals(void)
{
	struct sigaction fallback = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &fallback, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

on_child_stack static int place_descriptors(const struct proc_spawn *s)
{
	int fds[3 + PROC_KEEP_MAX];
	const int count = 3 + (int)s->keep_count;

	/* First all out of the way, above every target, then each into its place. */
	for (int i = 0; i < count; i++) {
		int fd = i < 3 ? s->stdio[i] : s->keep[i - 3];

		if (fd < 0)
			fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		fds[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, count);
		if (fds[i] < 0)
			return -1;
	}
	for (int i = 0; i < count; i++)
		if (dup2(fds[i], i) < 0)
			return -1;
	return close_range((unsigned int)count, ~0U, CLOSE_RANGE_CLOEXEC);
}

on_child_stack static int child(void *argument)
{
	struct launch *launch = argument;
	const struct proc_spawn *s = launch->spawn;
	char *const *env = s->env ? s->env : environ;
	/* Kept above the descriptors that are about to be placed. */
	int exe = s->path ? -1 : fcntl(s->exe_fd, F_DUPFD_CLOEXEC, 3 + (int)s->keep_count);

	if (s->die_with_parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Ended before we asked: nobody is left to read an error. */
		if (getppid() != launch->parent)
			_exit(127);
	}
	if (s->new_session)
		setsid();
	if ((s->directory_fd == 0 || fchdir(s->directory_fd) == 0) && place_descriptors(s) == 0) {
		reset_signals();
		if (s->path != NULL)
			execve(s->path, s->argv, env);
		else
			execveat(exe, "", s->argv, env, AT_EMPTY_PATH);
	}
	launch->error = errno;
	_exit(127);
}

int proc_spawn(const struct proc_spawn *spawn, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
	const unsigned long as_sibling = spawn->sibling ? CLONE_PARENT : 0;
	struct launch launch = {.spawn = spawn, .parent = spawn->sibling ? getppid() : getpid()};
	sigset_t all, before;
	own_fd int pidfd = -1;
	char *stack;
	pid_t pid;

	if (spawn->keep_count > PROC_KEEP_MAX)
		return fail(err, -EMFILE, "execute %s with %u more descriptors", spawn->argv[0],
			    spawn->keep_count);
	stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (stack == MAP_FAILED)
		return fail(err, -errno, "allocate a stack");
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	pid = clone(child, stack + STACK_SIZE,
		    (int)(CLONE_VM | CLONE_VFORK | CLONE_PIDFD | as_sibling | SIGCHLD), &launch,
		    &pidfd);
	if (pid < 0)
		launch.error = errno;
	sigprocmask(SIG_SETMASK, &before, NULL);
	munmap(stack, STACK_SIZE);
	if (launch.error != 0) {
		while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return fail(err, -launch.error, "execute %s",
			    spawn->path ? spawn->path : spawn->argv[0]);
	}
	*ret_pid = pid;
	*ret_pidfd = take(pidfd);
	return 0;
}
