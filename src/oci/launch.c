/* launch: see launch.h. */
#include "oci/launch.h"
#include "oci/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/str.h"
#include "oci/seccomp_listener.h"
#include "oci/self_map.h"
#include "oci/sync.h"
#include "oci/terminal.h"

void launch_init(struct launch *l)
{
	*l = (struct launch){
		.labels = PROCESS_LABELS_EMPTY,
		.rootfs = {.given_fd = -1, .null_fd = -1, .root_fd = -1},
		.start_sock = -1,
		.target_pidfd = -1,
		.parent_sock = -1,
		.child_sock = -1,
		.listener_sock = -1,
	};
	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		l->namespace_fds[i] = -1;
}

static bool is_in(const uint64_t *set, unsigned int i)
{
	return set[i / 64] >> i % 64 & 1;
}

static void put_in(uint64_t *set, unsigned int i)
{
	set[i / 64] |= UINT64_C(1) << i % 64;
}

void launch_release(struct launch *l)
{
	seccomp_program_release(&l->program);
	fd_close(&l->labels.exec_fd);
	fd_close(&l->labels.key_fd);
	if (l->rootfs.config != NULL)
		rootfs_release(&l->rootfs);
	fd_close(&l->start_sock);
	fd_close(&l->target_pidfd);
	fd_close(&l->parent_sock);
	fd_close(&l->child_sock);
	fd_close(&l->listener_sock);
	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		fd_close(&l->namespace_fds[i]);
	for (unsigned int i = 0; i < l->preserve_fds; i++)
		if (is_in(l->fillings, i))
			close(3 + (int)i);
	l->preserve_fds = 0;
}

int launch_preserve(struct launch *l, unsigned int count, struct error *err)
{
	if (count > LAUNCH_PRESERVE_MAX)
		return refuse(err, -EINVAL, "more than %d descriptors are to be preserved",
			      LAUNCH_PRESERVE_MAX);
	for (unsigned int i = 0; i < count; i++) {
		const int flags = fcntl(3 + (int)i, F_GETFD);
		int fd;

		l->preserve_fds = i + 1;
		/* One that would have been closed when we were executed is of our own making. */
		if (flags < 0 || flags & FD_CLOEXEC)
			put_in(l->holes, i);
		if (flags >= 0)
			continue;
		fd = open("/dev/null", O_PATH | O_CLOEXEC);
		if (fd < 0)
			return fail(err, -errno, "open /dev/null");
		/* The lowest free one is taken, and lower holes have been filled. */
		if (fd != 3 + (int)i) {
			close(fd);
			return refuse(err, -EBADF, "descriptors 0, 1 and 2 have to be open");
		}
		put_in(l->fillings, i);
	}
	return 0;
}

/* --- creating the process ----------------------------------------------------------------------- */

/* Namespaces that the runtime itself visits while it creates the process. */
static bool visits(enum config_namespace_kind kind)
{
	return kind != NAMESPACE_USER && kind != NAMESPACE_MOUNT;
}

static int open_own(enum config_namespace_kind kind)
{
	own_mem char *path = str_format("/proc/self/ns/%s", namespace_kinds[kind].proc_name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int visit(const struct launch *l, int own_fds[static NAMESPACE_KINDS], struct error *err)
{
	for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
		const struct namespace_kind *kind = &namespace_kinds[i];

		if (!visits(i) || l->namespace_fds[i] < 0)
			continue;
		own_fds[i] = open_own(i);
		if (own_fds[i] < 0)
			return fail(err, own_fds[i], "open our own %s namespace", kind->name);
		if (setns(l->namespace_fds[i], (int)kind->clone_flag) < 0)
			return fail(err, -errno, "join the %s namespace %s", kind->name,
				    l->config->linux_.namespaces[i].path);
	}
	return 0;
}

static int return_home(const int own_fds[static NAMESPACE_KINDS], struct error *err)
{
	for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
		if (own_fds[i] < 0 || setns(own_fds[i], (int)namespace_kinds[i].clone_flag) == 0)
			continue;
		/* As root of a user namespace we may join a container's pid namespace, but not the
		 * host's, in which we are. Only processes that we make later are concerned. */
		if (errno == EPERM && namespace_kinds[i].clone_flag == CLONE_NEWPID)
			log_debug("our own pid namespace is not ours to return to");
		else
			return fail(err, -errno, "return to our own %s namespace",
				    namespace_kinds[i].name);
	}
	return 0;
}

static long clone_process(const struct launch *l, bool sibling, int *ret_pidfd)
{
	const int cgroup = l->cgroup ? cgroup_clone_fd(l->cgroup) : -1;
	struct clone_args args = {
		.flags = l->new_flags | CLONE_PIDFD | (sibling ? CLONE_PARENT : 0) |
			 (cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)ret_pidfd,
		/* The kernel takes a sibling's from the caller's own. */
		.exit_signal = sibling ? 0 : SIGCHLD,
		.cgroup = cgroup >= 0 ? (uint64_t)cgroup : 0,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	return pid < 0 ? -errno : pid;
}

/* What the process in between does. Returns as clone does. */
static long enter_and_clone(const struct launch *l)
{
	int own_fds[NAMESPACE_KINDS], pidfd = -1, rc = 0;

	if (l->user_first)
		rc = setns(l->target_pidfd, CLONE_NEWUSER) < 0 ||
				     setns(l->namespace_fds[NAMESPACE_PID], CLONE_NEWPID) < 0
			     ? -errno
			     : 0;
	else
		rc = visit(l, own_fds, NULL);
	return rc < 0 ? rc : clone_process(l, true, &pidfd);
}

/* The same by a process in between, which goes where we could not come back from: into the target's user
 * namespace, where it has the right to enter its pid namespace; into the container's scope. What it creates is a
 * child of ours. */
static long clone_between(const struct launch *l, bool attach, int *ret_pidfd, struct error *err)
{
	int talk[2], rc = sock_pair(SOCK_SEQPACKET, talk);
	long pid = -ECHILD;
	pid_t between;

	if (rc < 0)
		return rc;
	between = fork();
	if (between == 0) {
		/* Nobody tells us to go on if we could not be moved. */
		close(talk[0]);
		if (attach && read(talk[1], &rc, sizeof(rc)) != sizeof(rc))
			_exit(1);
		pid = enter_and_clone(l);
		if (pid == 0) {
			close(talk[1]);
			return 0;
		}
		_exit(write(talk[1], &pid, sizeof(pid)) != sizeof(pid));
	}
	close(talk[1]);
	if (between < 0)
		rc = -errno;
	else if (attach && (rc = cgroup_attach(l->cgroup, between, err)) == 0)
		rc = write(talk[0], &rc, sizeof(rc)) == sizeof(rc) ? 0 : -ECHILD;
	if (rc == 0 && read(talk[0], &pid, sizeof(pid)) != sizeof(pid))
		pid = -ECHILD;
	close(talk[0]);
	while (between > 0 && waitpid(between, NULL, 0) < 0 && errno == EINTR)
		;
	if (rc == 0 && pid > 0)
		*ret_pidfd = proc_open((pid_t)pid);
	return rc < 0 ? rc : pid;
}

int launch_spawn(struct launch *l, launch_child_fn *child, pid_t *ret_pid, int *ret_pidfd,
		 struct error *err)
{
	int own_fds[NAMESPACE_KINDS], pidfd = -1, socks[2];
	bool attach;
	long pid;
	int rc = sock_pair(SOCK_SEQPACKET, socks);

	if (rc < 0)
		return fail(err, rc, "create a socket pair");
	l->parent_sock = socks[0];
	l->child_sock = socks[1];
	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		own_fds[i] = -1;
	attach = !l->sibling && l->cgroup && cgroup_is_systemds_to_join(l->cgroup);
	if (attach || l->user_first) {
		pid = clone_between(l, attach, &pidfd, err);
	} else {
		rc = visit(l, own_fds, err);
		pid = rc < 0 ? rc : clone_process(l, l->sibling, &pidfd);
	}
	if (pid == 0) {
		fd_close(&l->parent_sock);
		child(l);
		_exit(1);
	}
	if (pid > 0)
		log_debug("nsexec container setup: process %ld, child process in init()", pid);
	if (pid < 0 && rc == 0)
		rc = hint(err, fail(err, (int)pid, "create the container's process"),
			  "the host may limit namespaces (user.max_*_namespaces) or processes");
	if (return_home(own_fds, rc < 0 ? NULL : err) < 0 && rc == 0)
		rc = -EPERM;
	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		fd_close(&own_fds[i]);
	fd_close(&l->child_sock);
	if (rc < 0 && pid > 0)
		kill((pid_t)pid, SIGKILL);
	if (rc < 0) {
		fd_close(&pidfd);
		return rc;
	}
	*ret_pid = (pid_t)pid;
	*ret_pidfd = pidfd;
	return 0;
}

/* --- steps of the new process ------------------------------------------------------------------- */

static void reset_signals(void)
{
	struct sigaction fallback = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		sigaction(i, &fallback, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int compare_fds(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes every descriptor from `first` on that is not listed. The list is sorted by this. */
static int close_all_but(int first, int *keep, size_t count)
{
	qsort(keep, count, sizeof(*keep), compare_fds);
	for (size_t i = 0; i < count; i++) {
		if (keep[i] < first)
			continue;
		if (keep[i] > first &&
		    close_range((unsigned int)first, (unsigned int)keep[i] - 1, 0) < 0)
			return -errno;
		first = keep[i] + 1;
	}
	return close_range((unsigned int)first, ~0U, 0) < 0 ? -errno : 0;
}

/* The runtime's other descriptors must not live on here: a lock would stay held as long as the process
 * waits for its start, and the reader of a pipe of the caller would wait as well. */
static int drop_descriptors(const struct launch *l, bool settled, struct error *err)
{
	const size_t sources = l->rootfs.source_fds ? l->rootfs.config->mount_count : 0;
	const size_t devices = l->rootfs.device_fds ? l->rootfs.config->linux_.device_count : 0;
	own_mem int *keep = mem_new_array(
		16 + NAMESPACE_KINDS + CGROUP_DIRS_MAX + sources + devices, sizeof(int));
	size_t n = 0;
	int rc;

	keep[n++] = l->child_sock;
	keep[n++] = l->start_sock;
	keep[n++] = l->listener_sock;
	keep[n++] = l->labels.exec_fd;
	keep[n++] = l->labels.key_fd;
	if (!settled) {
		for (int i = 0; i < 3; i++)
			keep[n++] = l->stdio[i];
		keep[n++] = l->target_pidfd;
		keep[n++] = l->rootfs.given_fd;
		keep[n++] = l->target_pidfd < 0 ? self_mount_fd() : -1;
		for (size_t i = 0; i < NAMESPACE_KINDS; i++)
			keep[n++] = l->namespace_fds[i];
		for (size_t i = 0; l->cgroup != NULL && i < l->cgroup->dir_count; i++)
			keep[n++] = l->cgroup->dirs[i].join_fd;
		for (size_t i = 0; i < sources; i++)
			keep[n++] = l->rootfs.source_fds[i];
		for (size_t i = 0; i < devices; i++)
			keep[n++] = l->rootfs.device_fds[i];
	}
	rc = close_all_but(3 + (int)l->preserve_fds, keep, n);
	return rc < 0 ? fail(err, rc, "close descriptors") : 0;
}

int launch_begin(struct launch *l, struct error *err)
{
	int rc = drop_descriptors(l, false, err);

	if (rc < 0)
		return rc;
	reset_signals();
	/* The rest ends with the execution; the preserved ones are let through at the very end. */
	if (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return fail(err, -errno, "mark descriptors close-on-exec");
	/* Other processes of a pid namespace that is joined could trace us while we still have rights
	 * and descriptors of the host. */
	if ((l->target_pidfd >= 0 || l->namespace_fds[NAMESPACE_PID] >= 0) &&
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return fail(err, -errno, "guard against tracing");
	return l->cgroup ? cgroup_join_self(l->cgroup, err) : 0;
}

int launch_open_terminal(struct launch *l, int root_fd, struct error *err)
{
	own_fd int master = -1, slave = -1;
	int rc = terminal_open(root_fd, l->process, &master, &slave, err);

	if (rc < 0)
		return rc;
	if (l->plain_output && (rc = terminal_keep_newlines(slave)) < 0)
		return fail(err, rc, "set up the terminal");
	rc = sync_send(l->child_sock, SYNC_TERMINAL, master);
	return rc < 0 ? fail(err, rc, "send the terminal to the runtime") : take(slave);
}

int launch_place_stdio(const struct launch *l, struct error *err)
{
	int copies[3];

	/* First out of the way, so that none is overwritten before it is copied. */
	for (int i = 0; i < 3; i++) {
		copies[i] = l->stdio[i] == i ? i : fcntl(l->stdio[i], F_DUPFD_CLOEXEC, 3);
		if (copies[i] < 0)
			return fail(err, -errno, "use descriptor %d as descriptor %d", l->stdio[i],
				    i);
	}
	for (int i = 0; i < 3; i++)
		if (copies[i] != i && dup2(copies[i], i) < 0)
			return fail(err, -errno, "set up descriptor %d", i);
	return 0;
}

int launch_settle(struct launch *l, char **ret_path, char ***ret_env, struct error *err)
{
	int rc = drop_descriptors(l, true, err);

	if (rc < 0)
		return rc;
	process_own_stdio(l->process);
	if ((rc = process_become_user(l->process, err)) < 0 ||
	    (rc = process_enter_cwd(l->process, err)) < 0)
		return rc;
	return process_find_program(l->process, ret_path, ret_env, err);
}

static int on_listener(int listener_fd, void *data, struct error *err)
{
	struct launch *l = data;

	return seccomp_listener_send(l->listener_sock, listener_fd, &l->config->linux_.seccomp,
				     l->id, l->bundle, l->host_pid, l->config->annotations, err);
}

/* Lets descriptors 3 .. 3+N-1 through the execution. */
static int let_through(const struct launch *l, struct error *err)
{
	for (unsigned int i = 0; i < l->preserve_fds; i++)
		if (!is_in(l->holes, i) && fcntl(3 + (int)i, F_SETFD, 0) < 0)
			return fail(err, -errno, "preserve descriptor %u", 3 + i);
	return 0;
}

int launch_execute(struct launch *l, const char *path, char *const *env, struct error *err)
{
	int rc;

	if ((rc = let_through(l, err)) < 0 ||
	    (rc = process_confine(l->process, &l->labels, &l->program, &l->config->linux_.seccomp,
				  on_listener, l, err)) < 0 ||
	    (l->last_step && (rc = l->last_step(l, err)) < 0) ||
	    (l->reaper && (rc = reaper_split(err)) < 0))
		return rc;
	return process_execute(path, l->process, env, err);
}
