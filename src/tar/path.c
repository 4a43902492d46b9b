/* path: see path.h. */
#include "tar/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "tar/pack.h"

/* Without slashes at its end; "/" becomes "". */
static char *trimmed(const char *path)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	return str_copy_n(path, len);
}

int tar_path_stat(int root_fd, const char *path, struct tar_path *ret, struct error *err)
{
	own_mem char *plain = trimmed(path);
	own_fd int fd = beneath_open(root_fd, plain, O_PATH | O_NOFOLLOW, 0);
	char target[PATH_MAX];
	struct stat st;
	ssize_t len = 0;

	if (fd == -ENOENT || fd == -ENOTDIR)
		return refuse(err, -ENOENT, "there is no %s in the container", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, fd < 0 ? fd : -errno, "look at %s", path);
	if (S_ISLNK(st.st_mode))
		len = readlinkat(fd, "", target, sizeof(target) - 1);
	if (len < 0)
		return fail(err, -errno, "read the link %s", path);
	*ret = (struct tar_path){
		.mode = st.st_mode,
		.size_bytes = (uint64_t)st.st_size,
		.mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec,
		.target = S_ISLNK(st.st_mode) ? str_copy_n(target, (size_t)len) : NULL,
	};
	return 0;
}

int tar_path_pack(int root_fd, const char *path, const char *as, tar_write_fn *fn, void *data,
		  struct error *err)
{
	const struct pack_options options = {.kind = PACK_PLAIN, .flags = PACK_MOUNTS};
	own_mem char *plain = trimmed(path);
	own_fd int fd = -1;
	const char *name = NULL;

	if (str_eq(as, ".")) {
		fd = beneath_open(root_fd, plain, O_RDONLY | O_DIRECTORY, 0);
		return fd < 0 ? fail(err, fd, "open the directory %s", path)
			      : pack_tree(fd, &options, fn, data, err);
	}
	/* The root has no name; "x/." and "x/.." have none of their own either. */
	fd = beneath_parent(root_fd, plain, false, 0, &name);
	if (fd == -EINVAL) {
		fd = beneath_open(root_fd, plain, O_PATH | O_DIRECTORY, 0);
		name = ".";
	}
	if (fd < 0)
		return fail(err, fd, "open %s", path);
	return pack_one(fd, name, as, &options, fn, data, err);
}
