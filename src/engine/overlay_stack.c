/*
 * overlay_stack: overlayfs over directories that are given as descriptors, as a detached mount
 * (declared in overlay.h).
 *
 * Directories are named as /proc/self/fd/N: paths of any length and content fit, and what stands in
 * the workload's /proc/mounts tells nothing about the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"
#include "base/str.h"
#include "engine/overlay.h"

struct setting {
	const char *key, *value; /* value NULL: a flag */
};

/* What `diff` and `commit` need: a renamed directory is copied, not redirected, and a changed file is
 * in the upper directory with its content. */
static const struct setting plain_upper[] = {
	{"redirect_dir", "off"},
	{"metacopy", "off"},
	{"index", "off"},
};

static int set_string(int fs, const char *key, const char *value)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

static int set_flag(int fs, const char *key)
{
	return (int)syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, key, NULL, 0) < 0 ? -errno : 0;
}

/* The last message that the kernel left for a file system context, such as "e overlay: ...". */
static void read_message(int fs, char *text, size_t size)
{
	ssize_t n = read(fs, text, size - 1);

	text[n < 0 ? 0 : n] = '\0';
	text[strcspn(text, "\n")] = '\0';
}

static int configure(int fs, const struct overlay_stack *stack)
{
	int rc = 0;

	/* One call for each: the value of one is limited to 255 bytes, and "lowerdir" to a page. */
	for (size_t i = 0; rc == 0 && i < stack->lower_count; i++)
		rc = set_string(fs, "lowerdir+", fd_path(stack->lower[i]).text);
	if (rc == 0 && stack->upper >= 0)
		rc = set_string(fs, "upperdir", fd_path(stack->upper).text);
	if (rc == 0 && stack->upper >= 0)
		rc = set_string(fs, "workdir", fd_path(stack->work).text);
	for (size_t i = 0; rc == 0 && i < array_size(plain_upper) && !stack->user_xattrs; i++)
		rc = set_string(fs, plain_upper[i].key, plain_upper[i].value);
	if (rc == 0 && stack->is_volatile)
		rc = set_flag(fs, "volatile");
	if (rc == 0 && stack->user_xattrs)
		rc = set_flag(fs, "userxattr");
	return rc;
}

int overlay_stack_direct(const struct overlay_stack *stack, struct error *err)
{
	own_fd int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
	int rc, fd;

	if (fs < 0)
		return fail(err, -errno, "open file system overlay");
	rc = configure(fs, stack);
	if (rc == 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		rc = -errno;
	if (rc < 0) {
		char why[256];

		read_message(fs, why, sizeof(why));
		return why[0] ? fail(err, rc, "stack the layers: %s", why)
			      : fail(err, rc, "stack the layers");
	}
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? fail(err, -errno, "stack the layers") : fd;
}

/* --- kernels before 6.5: mount(2), in a mount namespace of a child, out of which the mount is cloned -- */

/* Opens the same directory again, in the mount namespace that we are in now: overlayfs takes only what
 * is mounted there. */
static int open_again(int fd)
{
	char path[PATH_MAX];
	ssize_t n = readlink(fd_path(fd).text, path, sizeof(path) - 1);
	struct stat before, now;
	own_fd int again = -1;

	if (n < 0)
		return -errno;
	path[n] = '\0';
	again = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (again < 0 || fstat(fd, &before) < 0 || fstat(again, &now) < 0)
		return -errno;
	if (before.st_ino != now.st_ino || before.st_dev != now.st_dev)
		return -ESTALE;
	return take(again);
}

static int add_directory(struct buf *b, const char *before, int fd)
{
	int again = open_again(fd);

	if (again >= 0)
		buf_format(b, "%s%s", before, fd_path(again).text);
	return again;
}

static int classic_options(const struct overlay_stack *stack, struct buf *b)
{
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < stack->lower_count; i++)
		rc = add_directory(b, i ? ":" : "lowerdir=", stack->lower[i]);
	if (rc >= 0 && stack->upper >= 0)
		rc = add_directory(b, ",upperdir=", stack->upper);
	if (rc >= 0 && stack->upper >= 0)
		rc = add_directory(b, ",workdir=", stack->work);
	for (size_t i = 0; i < array_size(plain_upper) && !stack->user_xattrs; i++)
		buf_format(b, ",%s=%s", plain_upper[i].key, plain_upper[i].value);
	if (stack->is_volatile)
		buf_add_str(b, ",volatile");
	if (stack->user_xattrs)
		buf_add_str(b, ",userxattr");
	return rc;
}

/* In the child: mounts over /tmp of its own mount namespace and sends the mount. */
static int mount_and_send(const struct overlay_stack *stack, int sock)
{
	own_buf struct buf options = {0};
	own_fd int tree = -1;
	int rc;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	rc = classic_options(stack, &options);
	if (rc < 0)
		return rc;
	if (mount("overlay", "/tmp", "overlay", 0, options.data) < 0)
		return -errno;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/tmp", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	return sock_send_fds(sock, "", 1, &tree, 1);
}

int overlay_stack_classic(const struct overlay_stack *stack, struct error *err)
{
	int pair[2], status, fd = -1, rc;
	size_t count = 0;
	char byte;
	pid_t pid;

	rc = sock_pair(SOCK_STREAM, pair);
	if (rc < 0)
		return fail(err, rc, "stack the layers");
	pid = fork();
	if (pid == 0)
		_exit(-mount_and_send(stack, pair[1]));
	rc = pid < 0 ? -errno : 0;
	fd_close(&pair[1]);
	if (rc == 0) {
		if (sock_receive_fds(pair[0], &byte, 1, &fd, 1, &count) < 0)
			count = 0;
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (count == 0)
			rc = WIFEXITED(status) && WEXITSTATUS(status) ? -WEXITSTATUS(status) : -EIO;
	}
	fd_close(&pair[0]);
	return rc < 0 ? fail(err, rc, "stack the layers") : fd;
}
