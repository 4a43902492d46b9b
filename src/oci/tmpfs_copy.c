/* tmpfs_copy: see tmpfs_copy.h. */
#include "oci/tmpfs_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/own.h"

enum { DEPTH_MAX = 256 };

static int copy_dir(int from, int to, dev_t dev, int depth, struct error *err);

static int copy_times(int to, const char *name, const struct stat *st)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};

	return utimensat(to, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
	own_fd int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	own_fd int out = -1;
	int64_t n;

	if (in < 0)
		return -errno;
	out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	n = fd_copy(in, out, UINT64_MAX);
	if (n < 0)
		return (int)n;
	/* The owner first: changing it takes away set-id bits. */
	if (fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0)
		return -errno;
	return copy_times(to, name, st);
}

static int copy_link(int from, int to, const char *name, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = '\0';
	if (symlinkat(target, to, name) < 0 ||
	    fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return copy_times(to, name, st);
}

static int copy_node(int to, const char *name, const struct stat *st)
{
	if (S_ISSOCK(st->st_mode))
		return 0;
	if (mknodat(to, name, st->st_mode & (S_IFMT | 07777), st->st_rdev) < 0 ||
	    fchownat(to, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return copy_times(to, name, st);
}

static int copy_subdir(int from, int to, const char *name, const struct stat *st, int depth,
		       struct error *err)
{
	own_fd int in = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	own_fd int out = -1;
	int rc;

	if (in < 0 || (mkdirat(to, name, 0700) < 0))
		return -errno;
	out = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (out < 0)
		return -errno;
	rc = copy_dir(in, out, st->st_dev, depth + 1, err);
	if (rc < 0)
		return rc;
	if (fchown(out, st->st_uid, st->st_gid) < 0 || fchmod(out, st->st_mode & 07777) < 0)
		return -errno;
	return copy_times(to, name, st);
}

static int copy_dir(int from, int to, dev_t dev, int depth, struct error *err)
{
	own_dir DIR *dir = NULL;
	struct dirent *entry;
	int copy = fcntl(from, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return -errno;
	dir = fdopendir(copy);
	if (dir == NULL)
		return -errno;
	if (depth > DEPTH_MAX)
		return -ELOOP;
	while ((entry = readdir(dir)) != NULL) {
		const char *name = entry->d_name;
		struct stat st;
		int rc;

		if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
			continue;
		if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (st.st_dev != dev)
			continue;
		if (S_ISDIR(st.st_mode))
			rc = copy_subdir(from, to, name, &st, depth, err);
		else if (S_ISREG(st.st_mode))
			rc = copy_file(from, to, name, &st);
		else if (S_ISLNK(st.st_mode))
			rc = copy_link(from, to, name, &st);
		else
			rc = copy_node(to, name, &st);
		if (rc < 0)
			return fail(err, rc, "copy %s", name);
	}
	return 0;
}

int tmpfs_copy_up(int from_fd, int to_fd, struct error *err)
{
	own_fd int from = openat(from_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_fd int to = openat(to_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;
	int rc;

	if (from < 0 || to < 0 || fstat(from, &st) < 0)
		return -errno;
	rc = copy_dir(from, to, st.st_dev, 0, err);
	if (rc < 0)
		return rc;
	if (fchown(to, st.st_uid, st.st_gid) < 0 || fchmod(to, st.st_mode & 07777) < 0)
		return -errno;
	return 0;
}
