/*
 * process: a machine in a process of its own, shut in (jail/jail.h).
 *
 * The parent is left outside. It makes the connections that the guest wants (vsock_broker.h), passes on
 * the signals that end a machine, and tells how it ended. The child has the descriptors that the
 * configuration names, a pipe for its last words, standard error, and nothing else.
 */
#include "vmm/machine/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sock.h"
#include "vmm/jail/jail.h"
#include "vmm/machine/vsock_broker.h"

enum { FAILED = 125 };

static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes all descriptors but these and standard error. Input and output, if they are not among them,
 * become /dev/null, so that their numbers are not used for something else. */
static void close_others(int *keep, unsigned int count)
{
	int next = 3;

	qsort(keep, count, sizeof(*keep), compare);
	for (unsigned int i = 0; i < count; i++) {
		if (keep[i] > next)
			(void)close_range((unsigned int)next, (unsigned int)keep[i] - 1, 0);
		if (keep[i] >= next)
			next = keep[i] + 1;
	}
	(void)close_range((unsigned int)next, ~0u, 0);
	for (int fd = 0; fd < 2; fd++) {
		own_fd int null = bsearch(&fd, keep, count, sizeof(*keep), compare)
					  ? -1
					  : open("/dev/null", O_RDWR | O_CLOEXEC);

		if (null >= 0)
			(void)dup2(null, fd);
	}
}

static void keep_only(const struct machine_config *config, int pipe)
{
	const struct machine_vsock *vsock = config->vsock;
	const int fds[] = {config->serial_in,
			   config->serial_out,
			   config->console_in,
			   config->console_out,
			   config->control_fd,
			   vsock ? vsock->listen_fd : -1,
			   vsock ? vsock->broker_fd : -1,
			   pipe};
	own_mem int *keep = mem_new_array(
		array_size(fds) + config->share_count + 2 * config->port_count, sizeof(*keep));
	unsigned int count = 0;

	for (unsigned int i = 0; i < array_size(fds); i++)
		if (fds[i] >= 0)
			keep[count++] = fds[i];
	for (unsigned int i = 0; i < config->port_count; i++) {
		if (config->ports[i].listen_fd >= 0)
			keep[count++] = config->ports[i].listen_fd;
		if (config->ports[i].fd >= 0)
			keep[count++] = config->ports[i].fd;
	}
	for (unsigned int i = 0; i < config->share_count; i++)
		if (config->shares[i].fd >= 0)
			keep[count++] = config->shares[i].fd;
	close_others(keep, count);
}

static _Noreturn void run_child(const struct machine_config *given, int pipe)
{
	struct machine_config config = *given;
	struct machine *machine = NULL;
	struct error err = {0};
	int rc;

	config.jail = true;
	config.parent_fd = pipe;
	keep_only(&config, pipe);
	rc = machine_create(&config, &machine, &err);
	if (rc == 0)
		rc = machine_run(machine, &err);
	if (rc < 0 && write(pipe, &err, sizeof(err)) < 0)
		_exit(FAILED);
	machine_destroy(machine);
	_exit(rc < 0 ? FAILED : rc);
}

static volatile pid_t child;

static void pass_on(int number)
{
	int saved = errno;

	(void)kill(child, number);
	errno = saved;
}

static const int passed[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGWINCH};

/* One that comes before there is somebody to pass it on to waits. */
static void hold_signals(sigset_t *ret_before)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned int i = 0; i < array_size(passed); i++)
		sigaddset(&set, passed[i]);
	sigprocmask(SIG_BLOCK, &set, ret_before);
}

static void pass_signals(const sigset_t *before)
{
	struct sigaction action = {.sa_handler = pass_on, .sa_flags = SA_RESTART};

	for (unsigned int i = 0; i < array_size(passed); i++)
		sigaction(passed[i], &action, NULL);
	sigprocmask(SIG_SETMASK, before, NULL);
}

/* Signals that nobody has a use for would end us by default. */
static void ignore_signals(void)
{
	static const int ignored[] = {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO,
				      SIGPWR,  SIGTSTP, SIGTTIN, SIGTTOU,   SIGXCPU, SIGSTKFLT};

	for (unsigned int i = 0; i < array_size(ignored); i++)
		signal(ignored[i], SIG_IGN);
	for (int number = SIGRTMIN; number <= SIGRTMAX; number++)
		signal(number, SIG_IGN);
}

static int wait_for_child(int pipe, struct error *err)
{
	struct error told = {0};
	ssize_t n = fd_read_full(pipe, &told, sizeof(told));
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return fail(err, -errno, "wait for the machine");
	if (n == (ssize_t)sizeof(told) && told.code < 0) {
		told.text[sizeof(told.text) - 1] = told.hint[sizeof(told.hint) - 1] = '\0';
		if (err)
			*err = told;
		return told.code;
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		return refuse(err, -ENOSYS,
			      "the machine was ended: it made a system call that no machine needs");
	if (WIFSIGNALED(status))
		return exit_with(
			err,
			refuse(err, -EIO, "the machine was ended by signal %d", WTERMSIG(status)),
			128 + WTERMSIG(status));
	return WEXITSTATUS(status);
}

/* The child's end of the broker's socket goes into the configuration. */
static int open_broker(struct machine_vsock *vsock, int *ret_fd, struct error *err)
{
	int pair[2], rc = sock_pair(SOCK_SEQPACKET, pair);

	if (rc < 0)
		return fail(err, rc, "make a socket for the guest's connections");
	vsock->broker_fd = pair[0];
	*ret_fd = pair[1];
	return 0;
}

int machine_run_jailed(const struct machine_config *given, struct error *err)
{
	struct machine_vsock vsock = {.listen_fd = -1, .broker_fd = -1};
	struct machine_config config = *given;
	own_fd int broker = -1;
	int pipes[2], rc = 0;
	pid_t pid = -1;
	sigset_t before;

	if (config.vsock) {
		vsock = *config.vsock;
		vsock.path = NULL;
		config.vsock = &vsock;
		if (vsock.broker_fd < 0)
			rc = open_broker(&vsock, &broker, err);
	}
	if (rc < 0)
		return rc;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return fail(err, -errno, "make a pipe");
	if (config.power_button)
		ignore_signals();
	hold_signals(&before);
	rc = jail_fork(&pid, err);
	if (rc == 0)
		run_child(&config, pipes[1]);
	fd_close(&pipes[1]);
	if (broker >= 0)
		fd_close(&vsock.broker_fd);
	if (rc > 0) {
		child = pid;
		pass_signals(&before);
		rc = broker >= 0 ? vsock_broker_serve(broker, given->vsock->path) : 0;
		if (rc < 0)
			log_warn("no more connections for the guest: %s", strerror(-rc));
		rc = wait_for_child(pipes[0], err);
	}
	fd_close(&pipes[0]);
	return rc;
}
