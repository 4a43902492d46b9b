/*
 * rootless: see rootless.h.
 *
 * A process of its own makes the namespace and stays: it has nothing open but the notice of its file's
 * end. The mappings are written from outside, as the kernel and newuidmap want it.
 */
#include "engine/rootless.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/userns.h"

enum { RANGES_MAX = 64, RANGES_FILE_MAX = 1 << 20, HOLDER_FILE_MAX = 64 };

static const char holder_file[] = "userns", lock_file[] = "userns.lock";

/* Adds the ranges that a file like /etc/subuid gives the user, after what is mapped already. */
static void add_ranges(const char *path, const char *user, unsigned int id,
		       struct config_id_maps *maps)
{
	own_mem char *text = NULL, *number = str_format("%u", id);
	char *line, *rest;
	size_t len;

	if (file_read(AT_FDCWD, path, RANGES_FILE_MAX, &text, &len, NULL) < 0)
		return;
	for (line = strtok_r(text, "\n", &rest); line != NULL && maps->count < RANGES_MAX;
	     line = strtok_r(NULL, "\n", &rest)) {
		const struct config_id_map *last = &maps->items[maps->count - 1];
		char *first = strchr(line, ':'), *count = first ? strchr(first + 1, ':') : NULL;
		uint64_t from, size;

		if (count == NULL)
			continue;
		*first = *count = '\0';
		if ((!str_eq(line, user) && !str_eq(line, number)) ||
		    str_to_uint(first + 1, UINT32_MAX - 1, &from) < 0 ||
		    str_to_uint(count + 1, UINT32_MAX - 1 - from, &size) < 0 || size == 0)
			continue;
		maps->items[maps->count++] = (struct config_id_map){
			.container = last->container + last->count,
			.host = (uint32_t)from,
			.count = (uint32_t)size,
		};
	}
}

/* Writes the mappings of the holder: the user as root, and the further ids if there are such. */
static int write_maps(pid_t pid, struct error *err)
{
	struct config_id_map uids[RANGES_MAX] = {{.host = geteuid(), .count = 1}};
	struct config_id_map gids[RANGES_MAX] = {{.host = getegid(), .count = 1}};
	struct config_id_maps u = {.items = uids, .count = 1}, g = {.items = gids, .count = 1};
	const struct passwd *user = getpwuid(geteuid());
	struct error why = {0};
	int rc;

	add_ranges("/etc/subuid", user ? user->pw_name : NULL, geteuid(), &u);
	add_ranges("/etc/subgid", user ? user->pw_name : NULL, geteuid(), &g);
	if (u.count > 1 && g.count > 1) {
		rc = userns_write_maps(pid, &u, &g, &why);
		if (rc == 0)
			return 0;
		log_failure(&why);
	}
	log_warn("there are no subordinate ids for %s: all files of images will belong to you, and "
		 "workloads can only be root (usermod --add-subuids 100000-165535 --add-subgids "
		 "100000-165535 %s)",
		 user ? user->pw_name : "you", user ? user->pw_name : "NAME");
	u.count = g.count = 1;
	return userns_write_maps(pid, &u, &g, err);
}

static _Noreturn void hold(int state_fd, int ready_fd, int go_fd)
{
	char path[64], byte = 0;
	struct stat st;
	int watch;

	if (unshare(CLONE_NEWUSER) < 0)
		byte = (char)errno;
	if (write(ready_fd, &byte, 1) != 1 || byte != 0 || read(go_fd, &byte, 1) != 1)
		_exit(1);
	setsid();
	prctl(PR_SET_NAME, "berth-userns");
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", state_fd, holder_file);
	watch = inotify_init1(0);
	if (watch < 0 ||
	    inotify_add_watch(watch, path, IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB) < 0 ||
	    dup2(watch, 0) < 0 || dup2(state_fd, 1) < 0)
		_exit(1);
	/* Nothing else: not the lock that this command holds, not its terminal. */
	close_range(2, ~0U, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/1/%s", holder_file);
	while (stat(path, &st) == 0) {
		char event[512];

		if (read(0, event, sizeof(event)) < 0 && errno != EINTR)
			break;
	}
	_exit(0);
}

static int not_allowed(int rc, struct error *err)
{
	return hint(
		err, fail(err, rc, "make a user namespace"),
		"an ordinary user needs one: sysctl user.max_user_namespaces, "
		"kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns");
}

/* Lets the holder go on that waits with its namespace made. */
static int set_up(int state_fd, pid_t pid, int ready_fd, int go_fd, struct error *err)
{
	own_mem char *text = NULL;
	uint64_t started = 0;
	char byte = 0;
	int rc;

	if (read(ready_fd, &byte, 1) != 1)
		return not_allowed(-EPERM, err);
	if (byte != 0)
		return not_allowed(-byte, err);
	rc = write_maps(pid, err);
	if (rc == 0)
		rc = proc_start_time(pid, &started);
	if (rc < 0)
		return fail(err, rc, "make a user namespace");
	text = str_format("%d %llu\n", (int)pid, (unsigned long long)started);
	rc = file_write(state_fd, holder_file, text, strlen(text), 0600, FILE_WRITE_ATOMIC, err);
	if (rc == 0 && write(go_fd, &byte, 1) != 1)
		rc = fail(err, -errno, "start the keeper of the user namespace");
	return rc;
}

/* Returns the holder's pidfd. */
static int begin_holder(int state_fd, struct error *err)
{
	int ready[2], go[2], rc;
	own_fd int ready_in = -1, ready_out = -1, go_in = -1, go_out = -1, pidfd = -1;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return fail(err, -errno, "make a pipe");
	ready_in = ready[0];
	ready_out = ready[1];
	if (pipe2(go, O_CLOEXEC) < 0)
		return fail(err, -errno, "make a pipe");
	go_in = go[0];
	go_out = go[1];
	pid = fork();
	if (pid < 0)
		return fail(err, -errno, "fork");
	if (pid == 0) {
		close(ready[0]);
		close(go[1]);
		hold(state_fd, ready[1], go[0]);
	}
	fd_close(&ready_out);
	fd_close(&go_in);
	pidfd = proc_open(pid);
	rc = set_up(state_fd, pid, ready_in, go_out, err);
	if (rc == 0 && pidfd < 0)
		rc = fail(err, pidfd, "open the keeper of the user namespace");
	if (rc < 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return rc;
	}
	return take(pidfd);
}

/* The pidfd of the holder that the file names, or an error. */
static int find_holder(int state_fd)
{
	own_mem char *text = NULL;
	unsigned long long started;
	own_fd int pidfd = -1;
	size_t len;
	int pid;

	if (file_read(state_fd, holder_file, HOLDER_FILE_MAX, &text, &len, NULL) < 0 ||
	    sscanf(text, "%d %llu", &pid, &started) != 2)
		return -ENOENT;
	pidfd = proc_open(pid);
	/* In this order: then it is that process that is open. */
	return pidfd >= 0 && proc_is(pid, started) ? take(pidfd) : -ESRCH;
}

static int open_state(const char *state, struct error *err)
{
	own_fd int fd = dir_open(AT_FDCWD, state, 0700, err);
	struct stat st;

	if (fd < 0)
		return fd == -EACCES || fd == -EPERM || fd == -EROFS
			       ? hint(err, fd,
				      "run as root, or give a directory of your own with --state")
			       : fd;
	/* Below /tmp anybody could have made it. */
	if (fstat(fd, &st) < 0 || st.st_uid != geteuid() || st.st_mode & 022)
		return hint(err, refuse(err, -EPERM, "the directory %s is not yours alone", state),
			    "chmod go-w %s, or give another one with --state", state);
	return take(fd);
}

static int enter_user_namespace(const char *state, struct error *err)
{
	own_fd int state_fd = open_state(state, err), lock = -1, holder = -1;

	if (state_fd < 0)
		return state_fd;
	lock = file_lock(state_fd, lock_file, FILE_LOCK_EXCLUSIVE, true);
	if (lock < 0)
		return fail(err, lock, "lock %s/%s", state, lock_file);
	holder = find_holder(state_fd);
	if (holder < 0)
		holder = begin_holder(state_fd, err);
	if (holder < 0)
		return holder;
	if (setns(holder, CLONE_NEWUSER) < 0)
		return fail(err, -errno, "enter the user namespace");
	/* Having become another user our own files of /proc would not be ours. */
	prctl(PR_SET_DUMPABLE, 1);
	return 0;
}

/* True if the mount namespace is one of our user namespace, in which we may mount. */
static bool may_mount(void)
{
	own_fd int mounts = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
	own_fd int owner = mounts < 0 ? -1 : ioctl(mounts, NS_GET_USERNS);
	struct stat a, b;

	return owner >= 0 && fstat(owner, &a) == 0 && stat("/proc/self/ns/user", &b) == 0 &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

int rootless_enter(const char *state, struct error *err)
{
	int rc = 0;

	if (proc_is_root())
		return 0;
	if (geteuid() != 0)
		rc = enter_user_namespace(state, err);
	if (rc == 0 && !may_mount() && unshare(CLONE_NEWNS) < 0)
		rc = fail(err, -errno, "make a mount namespace");
	return rc;
}

unsigned int rootless_user(void)
{
	unsigned int inside, outside;
	own_mem char *map = NULL;
	size_t len;

	if (geteuid() == 0 &&
	    file_read(AT_FDCWD, "/proc/self/uid_map", 4096, &map, &len, NULL) == 0 &&
	    sscanf(map, "%u %u", &inside, &outside) == 2 && inside == 0)
		return outside;
	return geteuid();
}
