/*
 * vm_disk: the disk that holds what a workload in a machine writes: an ext4 file system in a sparse
 * file. Formatting takes longer than a machine needs to start, so it is done once for each size: the
 * empty file system is kept, and each workload gets a copy of its few blocks.
 *
 * The host never mounts it: a guest wrote it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/vm.h"

enum { BLOCK = 4096, COPY_MAX = 1 << 20, FREE_PAUSE_MS = 2, FREE_ATTEMPTS = 1000 };

/* Runs mke2fs on a file that has its size. */
static int format(const char *path, bool with_journal, struct error *err)
{
	static const char *const programs[] = {"/usr/sbin/mke2fs", "/sbin/mke2fs"};
	/* What goes with its workload needs no protection against power cuts and bad disks: computing
	 * checksums takes a software CPU longer than all else that mounting does. */
	const char *features = with_journal ? "sparse_super2,^resize_inode"
					    : "sparse_super2,^resize_inode,^has_journal,"
					      "^metadata_csum,uninit_bg";
	static const char layout[] = "num_backup_sb=0,lazy_itable_init=1,lazy_journal_init=1,"
				     "nodiscard,packed_meta_blocks=1";
	const char *words[] = {"mke2fs", "-q", "-F",     "-t", "ext4", "-b", "4096", "-m",
			       "0",      "-O", features, "-E", layout, path, NULL};
	own_strv char **argv = strv_copy((char *const *)(uintptr_t)words);
	struct proc_spawn spawn = {.argv = argv, .stdio = {-1, -1, -1}, .die_with_parent = true};
	own_fd int pidfd = -1;
	pid_t pid;
	int rc = -ENOENT;

	for (size_t i = 0; rc == -ENOENT && i < array_size(programs); i++) {
		spawn.path = programs[i];
		rc = proc_spawn(&spawn, &pid, &pidfd, NULL);
	}
	if (rc == -ENOENT)
		return hint(err, refuse(err, rc, "the program mke2fs is missing"),
			    "install the package e2fsprogs, or use --read-only");
	if (rc < 0)
		return fail(err, rc, "run mke2fs");
	rc = proc_wait(pidfd, NULL);
	return rc == 0 ? 0 : refuse(err, -EIO, "mke2fs failed with exit code %d", rc);
}

static bool is_zero(const char *data, size_t len)
{
	return len == 0 || (data[0] == '\0' && memcmp(data, data + 1, len - 1) == 0);
}

/* Copies a range, leaving out blocks of zeroes. */
static int copy_range(int from, int to, off_t at, off_t end)
{
	own_mem char *data = mem_new(COPY_MAX);

	while (at < end) {
		size_t want = end - at < COPY_MAX ? (size_t)(end - at) : COPY_MAX;
		ssize_t n = fd_read_full_at(from, data, want, at);

		if (n <= 0)
			return n < 0 ? (int)n : 0;
		for (ssize_t i = 0; i < n; i += BLOCK) {
			size_t len = n - i < BLOCK ? (size_t)(n - i) : BLOCK;
			int rc = is_zero(data + i, len)
					 ? 0
					 : fd_write_full_at(to, data + i, len, at + i);

			if (rc < 0)
				return rc;
		}
		at += n;
	}
	return 0;
}

static int copy_sparse(int from, int to, off_t size)
{
	off_t at = 0;

	if (ftruncate(to, size) < 0)
		return -errno;
	/* Where the file system shares blocks it is one call. */
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	while (at < size) {
		off_t data = lseek(from, at, SEEK_DATA), hole;
		int rc;

		if (data < 0)
			return errno == ENXIO ? 0 : -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		rc = copy_range(from, to, data, hole);
		if (rc < 0)
			return rc;
		at = hole;
	}
	return 0;
}

/* Makes `name` in the directory <root>/templates, complete at once. */
static int make_empty(struct engine *engine, int dir, const char *name, int64_t size,
		      bool with_journal, struct error *err)
{
	own_mem char *unfinished = str_format("%s.%d.tmp", name, (int)getpid());
	own_mem char *path = str_format("%s/templates/%s", engine->root, unfinished);
	own_fd int fd = openat(dir, unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int rc = fd < 0 || ftruncate(fd, size) < 0 ? -errno : 0;

	if (rc < 0)
		rc = fail(err, rc, "create %s", path);
	if (rc == 0)
		rc = format(path, with_journal, err);
	if (rc == 0 && (fsync(fd) < 0 || renameat(dir, unfinished, dir, name) < 0))
		rc = fail(err, -errno, "keep an empty file system");
	if (rc < 0)
		unlinkat(dir, unfinished, 0);
	return rc;
}

static int open_empty(struct engine *engine, int64_t size, bool with_journal, struct error *err)
{
	own_mem char *name = str_format("empty-%lld-%s.ext4", (long long)size,
					with_journal ? "journal" : "bare");
	own_fd int dir = dir_open(engine->root_fd, "templates", 0700, err);
	int fd, rc;

	if (dir < 0)
		return dir;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	rc = make_empty(engine, dir, name, size, with_journal, err);
	if (rc < 0)
		return rc;
	fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? fail(err, -errno, "open %s", name) : fd;
}

static int copy_to(int from, int dirfd, const char *path, struct error *err)
{
	own_mem char *unfinished = str_format("%s.new", path);
	own_fd int to = openat(dirfd, unfinished, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct stat st;
	int rc = to < 0 || fstat(from, &st) < 0 ? -errno : copy_sparse(from, to, st.st_size);

	if (rc == 0 && renameat(dirfd, unfinished, dirfd, path) < 0)
		rc = -errno;
	return rc < 0 ? fail(err, rc, "make the writable layer's disk") : 0;
}

int vm_disk_copy(struct engine *engine, int dirfd, const char *path, int64_t size,
		 bool with_journal, struct error *err)
{
	own_fd int empty = open_empty(engine, size, with_journal, err);

	return empty < 0 ? empty : copy_to(empty, dirfd, path, err);
}

int vm_disk_copy_usual(const char *template, int dirfd, const char *path, struct error *err)
{
	own_mem char *from = str_format("%s/" VM_DISK_NAME, template);
	own_fd int usual = open(from, O_RDONLY | O_CLOEXEC);

	return usual < 0 ? fail(err, -errno, "open %s", from) : copy_to(usual, dirfd, path, err);
}

/* A machine that was killed may not have let go of its disk yet. Who has it longer than this is told of by
 * the machine that wants it. */
static void await_free(int dirfd, const char *path)
{
	const struct timespec pause = {.tv_nsec = FREE_PAUSE_MS * 1000000L};
	own_fd int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);

	for (int i = 0; i < FREE_ATTEMPTS && fd >= 0; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return;
		nanosleep(&pause, NULL);
	}
}

int vm_disk_make(struct engine *engine, const char *id, const struct vm_disk_wish *wish,
		 struct error *err)
{
	own_mem char *path = str_format("%s/" VM_DISK_NAME, workload_dir(id).path);
	int rc;

	if (faccessat(engine->root_fd, path, F_OK, 0) == 0) {
		await_free(engine->root_fd, path);
		return 0;
	}
	if (wish->template == NULL || wish->with_journal ||
	    wish->size_bytes != VM_DISK_DEFAULT_BYTES)
		return vm_disk_copy(engine, engine->root_fd, path, wish->size_bytes,
				    wish->with_journal, err);
	rc = vm_disk_copy_usual(wish->template, engine->root_fd, path, err);
	return rc < 0 ? rc : 1;
}
