/* file: see file.h. Removal of trees is in tree.c. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/random.h"
#include "base/str.h"

ssize_t fd_read_full(int fd, void *data, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t fd_read_full_at(int fd, void *data, size_t len, off_t offset)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)data + done, len - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int fd_write_full(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_write_full_at(int fd, const void *data, size_t len, off_t offset)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		offset += n;
		len -= (size_t)n;
	}
	return 0;
}

/* `size` is what the file says of itself: 0 if that means nothing. */
static int read_all(int fd, uint64_t size, size_t max, char **ret_text, size_t *ret_len)
{
	own_buf struct buf b = {0};

	if (size > max)
		return -EFBIG;
	if (size > 0)
		buf_reserve(&b, (size_t)size + 2);
	for (;;) {
		size_t room;
		ssize_t n;

		if (b.capacity - b.len < 2)
			buf_reserve(&b, b.len + 4096);
		room = b.capacity - b.len - 1;
		n = read(fd, b.data + b.len, room);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		b.len += (size_t)n;
		if (b.len > max)
			return -EFBIG;
		/* There was room for more than it said, and no more came. */
		if (n == 0 || ((size_t)n < room && b.len == size))
			break;
	}
	b.data[b.len] = '\0';
	*ret_len = b.len;
	*ret_text = buf_take(&b);
	return 0;
}

int fd_read_all(int fd, size_t max, char **ret_text, size_t *ret_len)
{
	struct stat st;
	const bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0;

	return read_all(fd, regular ? (uint64_t)st.st_size : 0, max, ret_text, ret_len);
}

int file_read(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len,
	      struct error *err)
{
	/* O_NONBLOCK: a FIFO in the place of the file must not hang us. */
	own_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return refuse(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
			      "%s is not a regular file", path);
	rc = read_all(fd, (uint64_t)st.st_size, max, ret_text, ret_len);
	if (rc == -EFBIG)
		return refuse(err, rc, "%s is larger than %zu bytes", path, max);
	if (rc < 0)
		return fail(err, rc, "read %s", path);
	return 0;
}

/* Fills and, if asked, syncs a new file. */
static int write_new(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
		     int open_flags, bool durable)
{
	own_fd int fd =
		openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY | open_flags, mode);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fd_write_full(fd, data, len);
	if (rc == 0 && durable && fsync(fd) < 0)
		rc = -errno;
	return rc;
}

/* Syncs the directory that holds `path`. */
static int sync_parent(int dirfd, const char *path)
{
	const char *slash = strrchr(path, '/');
	own_mem char *parent = slash ? str_copy_n(path, (size_t)(slash - path) + 1) : str_copy(".");
	own_fd int fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : dir_sync(fd);
}

int file_write(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
	       enum file_write_flags flags, struct error *err)
{
	own_mem char *temporary = NULL;
	char unique[17];
	int rc;

	if (flags == FILE_WRITE_PLAIN) {
		rc = write_new(dirfd, path, data, len, mode, O_TRUNC, false);
		return rc < 0 ? fail(err, rc, "write %s", path) : 0;
	}
	random_hex(unique, 8);
	temporary = str_format("%s.%s.tmp", path, unique);
	rc = write_new(dirfd, temporary, data, len, mode, O_EXCL, flags == FILE_WRITE_DURABLE);
	if (rc == 0 && renameat(dirfd, temporary, dirfd, path) < 0)
		rc = -errno;
	if (rc < 0) {
		unlinkat(dirfd, temporary, 0);
		return fail(err, rc, "write %s", path);
	}
	if (flags == FILE_WRITE_DURABLE)
		rc = sync_parent(dirfd, path);
	return rc < 0 ? fail(err, rc, "sync %s", path) : 0;
}

int file_put(int dirfd, const char *path, const char *text)
{
	own_fd int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	const size_t len = strlen(text);
	ssize_t n;

	if (fd < 0)
		return -errno;
	do
		n = write(fd, text, len);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	/* The rest in a second write would be taken for a second value. */
	return (size_t)n == len ? 0 : -EIO;
}

int dir_sync(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

int dir_make(int dirfd, const char *path, mode_t mode, struct error *err)
{
	own_mem char *partial = str_copy(path);
	struct stat st;

	if (path[0] == '\0')
		return fail(err, -ENOENT, "create directory \"\"");
	/* The common case first: only the last component is missing, or nothing is. */
	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	if (errno == ENOENT)
		for (char *p = partial + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
			*p = '\0';
			if (mkdirat(dirfd, partial, mode) < 0 && errno != EEXIST)
				return fail(err, -errno, "create directory %s", partial);
		}
	if (mkdirat(dirfd, path, mode) < 0 && errno != EEXIST)
		return fail(err, -errno, "create directory %s", path);
	if (fstatat(dirfd, path, &st, 0) < 0)
		return fail(err, -errno, "create directory %s", path);
	if (!S_ISDIR(st.st_mode))
		return fail(err, -ENOTDIR, "create directory %s", path);
	return 0;
}

int dir_open(int dirfd, const char *path, mode_t mode, struct error *err)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		int rc = dir_make(dirfd, path, mode, err);

		if (rc < 0)
			return rc;
		fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	return fd < 0 ? fail(err, -errno, "open directory %s", path) : fd;
}

int64_t fd_copy(int from, int to, uint64_t len)
{
	enum { CHUNK = 256 * 1024 };
	own_mem char *chunk = NULL;
	uint64_t done = 0;

	while (done < len && chunk == NULL) {
		uint64_t want = len - done < (1 << 30) ? len - done : 1 << 30;
		ssize_t n = copy_file_range(from, NULL, to, NULL, want, 0);

		if (n == 0 && done > 0)
			return (int64_t)done;
		if (n > 0)
			done += (uint64_t)n;
		else if (n == 0 || errno != EINTR)
			/* Pipes, /proc files and other file systems: by hand. */
			chunk = mem_new(CHUNK);
	}
	while (done < len) {
		size_t want = len - done < CHUNK ? (size_t)(len - done) : CHUNK;
		ssize_t n = read(from, chunk, want);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		rc = fd_write_full(to, chunk, (size_t)n);
		if (rc < 0)
			return rc;
		done += (uint64_t)n;
	}
	return (int64_t)done;
}

int file_lock_change(int fd, enum file_lock_mode mode, bool wait)
{
	int operation = (mode == FILE_LOCK_SHARED ? LOCK_SH : LOCK_EX) | (wait ? 0 : LOCK_NB);

	while (flock(fd, operation) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int file_lock(int dirfd, const char *path, enum file_lock_mode mode, bool wait)
{
	for (;;) {
		own_fd int fd =
			openat(dirfd, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		struct stat held, named;
		int rc;

		if (fd < 0)
			return -errno;
		rc = file_lock_change(fd, mode, wait);
		if (rc < 0)
			return rc;
		/* The last holder may have removed the file while we waited: then our lock is on
		 * a file that nobody else will find, and we begin again. */
		if (fstat(fd, &held) == 0 && fstatat(dirfd, path, &named, 0) == 0 &&
		    held.st_ino == named.st_ino && held.st_dev == named.st_dev)
			return take(fd);
	}
}
