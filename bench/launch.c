/*
 * launch: runs one command and says what it cost, to the last child of it.
 *
 *     launch [-1] COMMAND [ARGUMENT...]
 *
 * Prints "WALL CPU RSS STATUS": nanoseconds from its start to its end, microseconds of user and system
 * time, the peak of the largest of its processes in KiB, and its exit status (128 + a signal). Its input
 * and output are /dev/null. This program is small, so that its own memory, which the kernel counts for a
 * process until that executes another program, is below that of whatever is measured.
 *
 *     -1   in a mount namespace of its own that shows the v1 control groups only, for programs that do
 *          not know the hybrid layout; made before the clock starts
 */
#define _GNU_SOURCE

#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(125);
}

static void hide_unified(void)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		die("mount namespace");
	umount2("/sys/fs/cgroup/unified", MNT_DETACH); /* there may be none */
}

static pid_t spawn(char **command, int null)
{
	pid_t pid = vfork();

	if (pid == 0) {
		dup2(null, 0);
		dup2(null, 1);
		execvp(*command, command);
		_exit(127);
	}
	return pid;
}

int main(int argc, char **argv)
{
	struct rusage usage;
	char **command = argv + 1;
	int64_t start;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;
	pid_t pid;

	if (argc > 1 && strcmp(argv[1], "-1") == 0) {
		hide_unified();
		command++;
	}
	if (*command == NULL)
		return 2;
	start = now_ns();
	pid = spawn(command, null);
	if (pid < 0 || wait4(pid, &status, 0, &usage) < 0)
		die(*command);
	printf("%lld %lld %ld %d\n", (long long)(now_ns() - start),
	       (long long)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
		       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec,
	       usage.ru_maxrss, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
