/*
 * overlay_stack: overlayfs over directories that are given as descriptors, as a detached mount
 * (declared in overlay.h).
 *
 * Directories are named as /proc/self/fd/N: paths of any length and content fit, and what stands in
 * the workload's /proc/mounts tells nothing about the host.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
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
	if (rc == 0)
		rc = set_string(fs, "upperdir", fd_path(stack->upper).text);
	if (rc == 0)
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

static char *classic_options(const struct overlay_stack *stack)
{
	struct buf b = {0};

	for (size_t i = 0; i < stack->lower_count; i++)
		buf_format(&b, "%s%s", i ? ":" : "lowerdir=", fd_path(stack->lower[i]).text);
	buf_format(&b, ",upperdir=%s", fd_path(stack->upper).text);
	buf_format(&b, ",workdir=%s", fd_path(stack->work).text);
	for (size_t i = 0; i < array_size(plain_upper) && !stack->user_xattrs; i++)
		buf_format(&b, ",%s=%s", plain_upper[i].key, plain_upper[i].value);
	if (stack->is_volatile)
		buf_add_str(&b, ",volatile");
	if (stack->user_xattrs)
		buf_add_str(&b, ",userxattr");
	return buf_take(&b);
}

/* In the child: mounts over /tmp of its own mount namespace and sends the mount. */
static int mount_and_send(const char *options, int sock)
{
	own_fd int tree = -1;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("overlay", "/tmp", "overlay", 0, options) < 0)
		return -errno;
	tree = (int)syscall(SYS_open_tree, AT_FDCWD, "/tmp", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return -errno;
	return sock_send_fds(sock, "", 1, &tree, 1);
}

int overlay_stack_classic(const struct overlay_stack *stack, struct error *err)
{
	own_mem char *options = classic_options(stack);
	int pair[2], status, fd = -1, rc;
	size_t count = 0;
	char byte;
	pid_t pid;

	rc = sock_pair(SOCK_STREAM, pair);
	if (rc < 0)
		return fail(err, rc, "stack the layers");
	pid = fork();
	if (pid == 0)
		_exit(-mount_and_send(options, pair[1]));
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
