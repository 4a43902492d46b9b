/*
 * file: whole files, directories, locks. Paths are relative to a directory descriptor (AT_FDCWD for
 * the current one). Every descriptor is close-on-exec. For paths inside a root file system that
 * somebody else controls use beneath.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* Reads or writes exactly `len` bytes, over short transfers and EINTR. read_full returns the number
 * of bytes, less than `len` only at the end of the file; write_full 0. -errno on failure. */
ssize_t fd_read_full(int fd, void *data, size_t len) must_check;
int fd_write_full(int fd, const void *data, size_t len) must_check;
int fd_write_full_at(int fd, const void *data, size_t len, off_t offset) must_check;
ssize_t fd_read_full_at(int fd, void *data, size_t len, off_t offset) must_check;

/* Reads all of a regular file of at most `max` bytes, also one in /proc or /sys whose size is said to
 * be 0. The text is NUL-terminated behind its `len` bytes. -EFBIG; -EISDIR for a directory, -EINVAL for
 * a FIFO or device (without blocking). */
int file_read(int dirfd, const char *path, size_t max, char **ret_text, size_t *ret_len,
	      struct error *err) must_check;
/* The same from an open descriptor of any kind, from its position on. */
int fd_read_all(int fd, size_t max, char **ret_text, size_t *ret_len) must_check;

enum file_write_flags {
	FILE_WRITE_PLAIN = 0,
	FILE_WRITE_ATOMIC = 1, /* through a temporary file and rename: readers see old or new */
	FILE_WRITE_DURABLE = 1 | 2, /* atomic, and on disk (file and directory) on return */
};
/* Creates or replaces a file, whose mode is `mode` less the umask (PLAIN keeps an existing file's). After
 * a failure an atomic write has left the old file and nothing else; the temporary "<path>.<hex>.tmp"
 * stays behind only if the process is killed. */
int file_write(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
	       enum file_write_flags flags, struct error *err) must_check;
/* One write(2) of a short text to an existing file: /proc, /sys, cgroups. 0 or -errno. */
int file_put(int dirfd, const char *path, const char *text) must_check;

/* fsync of the directory that `fd` is. */
int dir_sync(int fd) must_check;
/* Creates a directory and its missing parents. Existing ones are accepted (-ENOTDIR for a file). */
int dir_make(int dirfd, const char *path, mode_t mode, struct error *err) must_check;
/* Opens a directory, creating it like dir_make. Returns the descriptor. */
int dir_open(int dirfd, const char *path, mode_t mode, struct error *err) must_check;
/* Removes a file or a directory tree of any depth. Follows no link, also if somebody swaps entries
 * meanwhile. -EBUSY at a mount point, `name` itself included: nothing behind it is touched. A name that
 * does not exist is success. */
int tree_remove(int dirfd, const char *name, struct error *err) must_check;

/* Copies `len` bytes (or up to the end with UINT64_MAX) between descriptors at their positions, in
 * the kernel where it can. Returns the count copied or -errno. */
int64_t fd_copy(int from, int to, uint64_t len) must_check;

enum file_lock_mode { FILE_LOCK_SHARED, FILE_LOCK_EXCLUSIVE };
/* Opens (creating with mode 0600) and locks a file. The lock goes with the open file description:
 * closing it, or the death of the last process that holds it, unlocks. `wait` false: -EWOULDBLOCK if
 * it is held. Returns the descriptor. */
int file_lock(int dirfd, const char *path, enum file_lock_mode mode, bool wait) must_check;
/* Changes the mode of a held lock. 0, -EWOULDBLOCK (the old mode may be lost then, as flock says). */
int file_lock_change(int fd, enum file_lock_mode mode, bool wait) must_check;
