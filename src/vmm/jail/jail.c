/*
 * jail: see jail.h. The order of the steps matters:
 *
 *     namespaces   while we may make them
 *     root         mounted over, entered, and the old one detached; nothing has a path any more
 *     user         another one, or his rights would be left
 *     capabilities all dropped, from the bounding set too
 *     rest         limits; no new privileges; not dumpable, so that nobody may look into us
 */
#include "vmm/jail/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"

enum {
	FILES_MAX = 4096, /* of descriptors: two per connection of a guest's, and then some */
	/* Users from here on belong to nobody: above those that systemd gives to containers. The number of
	 * the process makes it a user that no other machine has. */
	USER_FIRST = 0x70000000,
	/* Likewise those that a machine's file threads use. All machines have the same: what they are the
	 * owners of is in mounts that nobody else sees. */
	RANGE_FIRST = USER_FIRST - 0x10000,
	RANGE = 0x10000,
	FILES_MAX_SHARES =
		1 << 20, /* of descriptors, with a directory: one for each file the guest knows */
};

/* What a file thread keeps, in its namespace: to act as the guest's user, and to own for him. */
#define FILE_CAPABILITIES                                                                          \
	(1ull << CAP_SETUID | 1ull << CAP_SETGID | 1ull << CAP_CHOWN | 1ull << CAP_DAC_OVERRIDE |  \
	 1ull << CAP_FOWNER | 1ull << CAP_FSETID | 1ull << CAP_SETFCAP)

/* clone(2) without a stack of its own is fork with flags. */
static pid_t fork_with(unsigned long flags)
{
	return (pid_t)syscall(SYS_clone, flags | SIGCHLD, NULL, NULL, NULL, NULL);
}

static int put_maps(int proc, const char *users, const char *groups)
{
	int rc = file_put(proc, "setgroups", "deny");

	if (rc == 0)
		rc = file_put(proc, "uid_map", users);
	return rc == 0 ? file_put(proc, "gid_map", groups) : rc;
}

/* Maps one user and group to themselves. */
static int map_user(int proc, uid_t uid, gid_t gid)
{
	own_mem char *users = str_format("%u %u 1\n", uid, uid);
	own_mem char *groups = str_format("%u %u 1\n", gid, gid);

	return put_maps(proc, users, groups);
}

static int open_proc(void)
{
	int fd = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int jail_fork(pid_t *ret_pid, struct error *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	bool own_user = false;
	pid_t pid = fork_with(CLONE_NEWPID);

	if (pid < 0 && errno == EPERM) {
		own_user = true;
		pid = fork_with(CLONE_NEWPID | CLONE_NEWUSER);
	}
	if (pid < 0)
		return hint(err, fail(err, -errno, "make namespaces for the machine's jail"),
			    "--no-jail runs the machine without, which a hostile guest would like");
	if (pid == 0 && own_user) {
		own_fd int proc = open_proc();
		int rc = proc < 0 ? proc : map_user(proc, uid, gid);

		if (rc < 0) {
			log_error("map the user of the machine's jail: %s", strerror(-rc));
			_exit(125);
		}
	}
	if (pid > 0)
		*ret_pid = pid;
	return pid > 0;
}

static int enter_namespaces(struct error *err)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
		return hint(err, fail(err, -errno, "enter the jail's namespaces"),
			    "--no-jail runs the machine without, which a hostile guest would like");
	/* Not all kernels have it, and it hides only names. */
	(void)unshare(CLONE_NEWCGROUP);
	if (sethostname("vm", 2) < 0 || setdomainname("", 0) < 0)
		return fail(err, -errno, "forget the host's name");
	return 0;
}

/* An empty tmpfs becomes the root. It needs some directory to be mounted on, whose content is then not
 * seen; which one does not matter. */
static int enter_root(struct error *err)
{
	static const char *const places[] = {"/tmp", "/proc", "/sys", "/dev", "/run"};
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	unsigned int i = 0;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return fail(err, -errno, "leave the host's mounts");
	while (i < array_size(places) &&
	       mount("jail", places[i], "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") < 0)
		i++;
	if (i == array_size(places))
		return fail(err, -errno, "mount the jail's root");
	/* The old root is stacked on the new one, then taken away. */
	if (chdir(places[i]) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
	    umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0)
		return fail(err, -errno, "enter the jail's root");
	return 0;
}

static int set_capabilities(uint64_t set)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {
		{.effective = (uint32_t)set, .permitted = (uint32_t)set},
		{.effective = (uint32_t)(set >> 32), .permitted = (uint32_t)(set >> 32)},
	};

	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* Root becomes a user of its own; the capability to make a user namespace is kept so long, where only
 * root may. Without such namespaces the user is all the same without rights. */
static int enter_user(int proc, uid_t uid, int users, struct error *err)
{
	int rc;

	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
		return fail(err, -errno, "become the jail's user");
	rc = set_capabilities(1ull << CAP_SYS_ADMIN | 1ull << CAP_SETPCAP);
	if (rc < 0)
		return fail(err, rc, "keep the right to make a user namespace");
	if (users >= 0)
		return setns(users, CLONE_NEWUSER) < 0
			       ? fail(err, -errno, "enter the jail's namespace of users")
			       : 0;
	/* So long its own files in /proc are its own. */
	prctl(PR_SET_DUMPABLE, 1);
	if (unshare(CLONE_NEWUSER) < 0) {
		log_debug("no user namespace for the machine: %s", strerror(errno));
		return 0;
	}
	rc = map_user(proc, uid, uid);
	return rc < 0 ? fail(err, rc, "map the jail's user") : 0;
}

static int drop_capabilities(uint64_t kept, struct error *err)
{
	int rc;

	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		if (!(kept & 1ull << capability) && prctl(PR_CAPBSET_DROP, capability) < 0)
			return fail(err, -errno, "drop capability %d", capability);
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return fail(err, -errno, "drop ambient capabilities");
	rc = set_capabilities(kept);
	return rc < 0 ? fail(err, rc, "drop capabilities") : 0;
}

static int set_limits(rlim_t files_max, struct error *err)
{
	const struct rlimit none = {0, 0}, files = {files_max, files_max};
	struct rlimit now;

	if (setrlimit(RLIMIT_CORE, &none) < 0 || getrlimit(RLIMIT_NOFILE, &now) < 0 ||
	    (now.rlim_max > files_max && setrlimit(RLIMIT_NOFILE, &files) < 0) ||
	    setrlimit(RLIMIT_MSGQUEUE, &none) < 0 || setrlimit(RLIMIT_MEMLOCK, &none) < 0)
		return fail(err, -errno, "set the jail's limits");
	return 0;
}

/* Our process as the host numbers it. */
static uid_t own_user(void)
{
	char text[16] = "";

	if (readlink("/proc/self", text, sizeof(text) - 1) < 0)
		return USER_FIRST;
	return USER_FIRST + (uid_t)strtoul(text, NULL, 10);
}

/* The child that a namespace of users begins with; it waits to be ended. */
static _Noreturn void hold_namespace(int pipe)
{
	int proc = open_proc();

	if (write(pipe, &proc, sizeof(proc)) == (ssize_t)sizeof(proc))
		(void)pause();
	_exit(0);
}

int jail_users(struct error *err)
{
	own_mem char *map =
		str_format("0 %u %u\n%u %u 1\n", RANGE_FIRST, RANGE, own_user(), own_user());
	int pipes[2], proc = -1, users = -1, rc = 0;
	pid_t pid;

	if (geteuid() != 0)
		return -EPERM;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return fail(err, -errno, "make a pipe");
	/* It shares our descriptors: what /proc calls it, only it can tell. */
	pid = fork_with(CLONE_NEWUSER | CLONE_FILES);
	if (pid == 0)
		hold_namespace(pipes[1]);
	if (pid < 0 || read(pipes[0], &proc, sizeof(proc)) != (ssize_t)sizeof(proc) || proc < 0)
		rc = pid < 0 ? -errno : -EIO;
	if (rc == 0)
		rc = put_maps(proc, map, map);
	if (rc == 0) {
		users = openat(proc, "ns/user", O_RDONLY | O_CLOEXEC);
		rc = users < 0 ? -errno : 0;
	}
	if (pid > 0) {
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
	}
	fd_close(&proc);
	fd_close(&pipes[0]);
	fd_close(&pipes[1]);
	return rc < 0 ? fail(err, rc, "make the jail's namespace of users") : users;
}

int jail_tree(int fd, int users)
{
	struct mount_attr attributes = {
		.attr_set =
			MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		.userns_fd = (uint64_t)users,
	};
	const unsigned int flags = AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
	own_fd int tree = (int)syscall(SYS_open_tree, fd, "", flags | AT_RECURSIVE);

	if (tree < 0)
		return -errno;
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes,
		    sizeof(attributes)) == 0)
		return take(tree);
	/* Something that is mounted beneath it may be what cannot: then that is left out. */
	fd_close(&tree);
	tree = (int)syscall(SYS_open_tree, fd, "", flags);
	if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attributes,
				sizeof(attributes)) < 0)
		return -errno;
	return take(tree);
}

int jail_enter(int users, struct error *err)
{
	own_fd int proc = open_proc();
	bool was_root = geteuid() == 0;
	uid_t uid = own_user();
	int rc;

	if (proc < 0)
		return fail(err, proc, "open /proc/self");
	/* The C library would look for the host's time zone at the first use of a calendar. */
	if (setenv("TZ", "UTC0", 1) < 0)
		return fail(err, -errno, "set the time zone");
	tzset();
	rc = enter_namespaces(err);
	if (rc == 0)
		rc = enter_root(err);
	if (rc == 0 && was_root)
		rc = enter_user(proc, uid, users, err);
	if (rc == 0)
		rc = drop_capabilities(users >= 0 ? FILE_CAPABILITIES : 0, err);
	if (rc == 0)
		rc = set_limits(users >= 0 ? FILES_MAX_SHARES : FILES_MAX, err);
	if (rc < 0)
		return rc;
	/* After the change of user, which forgets the former. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, 0) < 0)
		return fail(err, -errno, "lock the jail");
	return 0;
}
