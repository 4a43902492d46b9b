/* rootfs_target: the places in the container that something is mounted on. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/rootfs_priv.h"

enum { LINKS_MAX = 40 };

/* Creates a directory and its parents. A link among them that leads nowhere yet is followed as it would
 * be inside: its target is created first. */
static int make_dir(const struct rootfs *r, const char *path, int depth)
{
	int fd = beneath_make_dir(r->root_fd, path, 0755);

	for (const char *end = path; fd == -ENOENT && *end != '\0' && depth < LINKS_MAX;) {
		own_mem char *partial = NULL, *to = mem_new(PATH_MAX), *target = NULL;
		own_fd int link = -1;
		ssize_t n;

		end += strspn(end, "/");
		end += strcspn(end, "/");
		partial = str_copy_n(path, (size_t)(end - path));
		link = beneath_open(r->root_fd, partial, O_PATH | O_NOFOLLOW, 0);
		n = link < 0 ? -1 : readlinkat(link, "", to, PATH_MAX - 1);
		if (n <= 0)
			continue;
		to[n] = '\0';
		target = to[0] == '/' ? str_copy(to) : str_format("%s/../%s", partial, to);
		fd_close(&link);
		link = beneath_open(r->root_fd, partial, O_PATH, 0);
		if (link != -ENOENT)
			continue;
		fd = to[0] == '/' ? make_dir(r, target, depth + 1) : -ENOENT;
		if (fd < 0)
			return fd;
		fd_close(&fd);
		fd = beneath_make_dir(r->root_fd, path, 0755);
	}
	return fd;
}

int rootfs_target(const struct rootfs *r, const char *path, bool directory, struct error *err)
{
	own_fd int fd = directory ? make_dir(r, path, 0) : -ENOTDIR, parent = -1;
	own_mem char *above = NULL;
	const char *name;

	if (fd != -ENOTDIR)
		return fd < 0 ? fail(err, fd, "create %s in the container", path) : take(fd);
	fd = beneath_open(r->root_fd, path, O_PATH, 0);
	if (fd != -ENOENT || directory)
		return fd < 0 ? fail(err, fd, "open %s in the container", path) : take(fd);
	above = str_copy_n(path, (size_t)(strrchr(path, '/') ? strrchr(path, '/') - path : 0));
	parent = make_dir(r, above, 0);
	fd_close(&parent);
	parent = beneath_parent(r->root_fd, path, true, 0755, &name);
	if (parent < 0)
		return fail(err, parent, "create %s in the container", path);
	fd = openat(parent, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_WRONLY, 0644);
	/* A dangling link: where it leads must be beneath the root as well. */
	if (fd < 0 && errno == EEXIST)
		fd = beneath_open(r->root_fd, path, O_CREAT | O_WRONLY, 0644);
	if (fd < 0)
		return fail(err, fd < -1 ? fd : -errno, "create %s in the container", path);
	fd_close(&fd);
	fd = beneath_open(r->root_fd, path, O_PATH, 0);
	return fd < 0 ? fail(err, fd, "open %s in the container", path) : take(fd);
}
