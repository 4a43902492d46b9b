/*
 * between: does something in the very moment in which a program makes a system call.
 *
 *     between CALL[,CALL...][@FIRST[-LAST]] SCRIPT COMMAND [ARGUMENT...]
 *
 * Each time the program, or what it starts, makes one of the calls (of all these, only the first to the last
 * given), the call waits until the shell has run the script, in whose environment CALL is its name, CALLER the
 * process, and COUNT says how many there have been; then it is made. The status is the command's. So a race is won
 * each time. (Not for write, read and close, which begin it.)
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "calls.h"

static void die(const char *what, int error)
{
	fprintf(stderr, "between: %s: %s\n", what, strerror(error));
	_exit(125);
}

/* In the child: returns the descriptor that is told of the calls. */
static int load(char *calls)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	char *save = NULL;
	int rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);

	for (char *call = strtok_r(calls, ",", &save); rc == 0 && call != NULL;
	     call = strtok_r(NULL, ",", &save)) {
		int number = call_number(call);

		rc = number == __NR_SCMP_ERROR
			     ? -EINVAL
			     : seccomp_rule_add(filter, SCMP_ACT_NOTIFY, number, 0);
	}
	if (rc == 0)
		rc = seccomp_load(filter);
	if (rc < 0)
		die("filter", -rc);
	return seccomp_notify_fd(filter);
}

static unsigned long first = 1, last = -1UL, calls;

static void tell(const struct seccomp_notif *request, const char *script)
{
	char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, request->data.nr);
	char number[24];

	setenv("CALL", name ? name : "", 1);
	free(name);
	snprintf(number, sizeof(number), "%lu", calls);
	setenv("COUNT", number, 1);
	snprintf(number, sizeof(number), "%u", request->pid);
	setenv("CALLER", number, 1);
	(void)!system(script);
}

static void serve(int fd, const char *script)
{
	struct seccomp_notif *request = NULL;
	struct seccomp_notif_resp *response = NULL;
	int rc = seccomp_notify_alloc(&request, &response);

	if (rc < 0)
		die("allocate", -rc);
	if (seccomp_notify_receive(fd, request) == 0) {
		calls++;
		if (calls >= first && calls <= last)
			tell(request, script);
		response->id = request->id;
		response->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		seccomp_notify_respond(fd, response);
	}
	seccomp_notify_free(request, response);
}

/* The program, which waits until the descriptor has been taken from it: passing it could be one of the calls. */
static void run(char **argv, int tell, int wait)
{
	int fd = load(argv[1]);
	char byte;

	if (write(tell, &fd, sizeof(fd)) != sizeof(fd) || read(wait, &byte, 1) != 1)
		die("pipe", errno);
	close(fd);
	execvp(argv[3], argv + 3);
	die(argv[3], errno);
}

/* Takes the range off the list of calls. */
static void range(char *calls_text)
{
	char *at = strchr(calls_text, '@');

	if (at == NULL)
		return;
	*at = '\0';
	first = strtoul(at + 1, &at, 10);
	last = *at == '-' ? strtoul(at + 1, NULL, 10) : first;
}

int main(int argc, char **argv)
{
	int told[2], wait[2], number = -1, status;
	struct pollfd fds[2] = {{.events = POLLIN}, {.events = POLLIN}};
	pid_t pid;

	if (argc < 4) {
		fputs("usage: between CALL[,CALL...][@FIRST[-LAST]] SCRIPT COMMAND [ARGUMENT...]\n",
		      stderr);
		return 125;
	}
	range(argv[1]);
	if (pipe2(told, O_CLOEXEC) < 0 || pipe2(wait, O_CLOEXEC) < 0)
		die("pipe", errno);
	pid = fork();
	if (pid == 0)
		run(argv, told[1], wait[0]);
	close(told[1]);
	fds[1].fd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (fds[1].fd < 0 || read(told[0], &number, sizeof(number)) != sizeof(number))
		die("start", errno);
	fds[0].fd = (int)syscall(SYS_pidfd_getfd, fds[1].fd, number, 0);
	if (fds[0].fd < 0 || write(wait[1], "", 1) != 1)
		die("take the listener", errno);
	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[0].revents & POLLIN)
			serve(fds[0].fd, argv[2]);
		else if (fds[1].revents & POLLIN)
			break;
	}
	if (waitpid(pid, &status, 0) < 0)
		die("wait", errno);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
