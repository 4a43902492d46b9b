/* beneath: see beneath.h. */
#include "base/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/own.h"
#include "base/str.h"

static int open_how(int root_fd, const char *path, const struct open_how *how)
{
	if (path[0] == '\0')
		path = ".";
	for (;;) {
		long fd = syscall(SYS_openat2, root_fd, path, how, sizeof(*how));

		if (fd >= 0)
			return (int)fd;
		/* EAGAIN: something was renamed somewhere while ".." was resolved. */
		if (errno != EINTR && errno != EAGAIN)
			return -errno;
	}
}

int beneath_open(int root_fd, const char *path, int flags, mode_t mode)
{
	const struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & (O_CREAT | __O_TMPFILE) ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	return open_how(root_fd, path, &how);
}

int beneath_open_plain(int root_fd, const char *path, int flags)
{
	const struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};

	return open_how(root_fd, path, &how);
}

/* The common case: only the last component is missing. */
static int make_last(int root_fd, const char *path, mode_t mode)
{
	const char *name;
	own_fd int parent = beneath_parent(root_fd, path, false, 0, &name);
	int fd;

	if (parent < 0)
		return parent;
	if (mkdirat(parent, name, mode) < 0)
		return -errno;
	fd = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int beneath_make_dir(int root_fd, const char *path, mode_t mode)
{
	own_mem char *partial = str_copy(path);
	own_fd int fd = beneath_open(root_fd, path, O_PATH | O_DIRECTORY, 0);

	if (fd != -ENOENT)
		return take(fd);
	fd = make_last(root_fd, path, mode);
	if (fd >= 0)
		return take(fd);
	fd = beneath_open(root_fd, ".", O_PATH | O_DIRECTORY, 0);
	for (char *p = partial; fd >= 0 && *p != '\0';) {
		char *end = strchrnul(p, '/');
		bool last = *end == '\0';
		int next;

		*end = '\0';
		if (end > p) {
			/* Resolved from the root each time, so that a link among the components means
			 * what it would mean inside. Made in the parent just opened, never through a
			 * path string. */
			next = beneath_open(root_fd, partial, O_PATH | O_DIRECTORY, 0);
			if (next == -ENOENT) {
				if (mkdirat(fd, p, mode) < 0 && errno != EEXIST)
					return -errno;
				next = beneath_open(root_fd, partial, O_PATH | O_DIRECTORY, 0);
			}
			if (next < 0)
				return next;
			fd_close(&fd);
			fd = next;
		}
		if (last)
			break;
		*end = '/';
		p = end + 1;
	}
	return take(fd);
}

int beneath_parent(int root_fd, const char *path, bool make, mode_t mode, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	own_mem char *parent = slash ? str_copy_n(path, (size_t)(slash - path) + 1) : str_copy(".");
	int fd;

	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	fd = make ? beneath_make_dir(root_fd, parent, mode)
		  : beneath_open(root_fd, parent, O_PATH | O_DIRECTORY, 0);
	if (fd >= 0)
		*ret_name = name;
	return fd;
}

struct fd_path fd_path(int fd)
{
	struct fd_path p;

	snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
	return p;
}
