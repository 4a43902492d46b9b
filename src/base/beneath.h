/*
 * beneath: paths inside a root file system that somebody else controls.
 *
 * Resolution is the kernel's (openat2): links are followed as if the root were "/", and neither ".."
 * nor an absolute link nor a magic link of /proc leads out. Needs Linux 5.6.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* Opens `path` as seen from the root directory `root_fd`. `flags` as for open; O_CLOEXEC is added.
 * Returns the descriptor or -errno. */
int beneath_open(int root_fd, const char *path, int flags, mode_t mode) must_check;
/* The same for what exists, without following any link, not even inside: -ELOOP. ".." that leads out is
 * -EXDEV. */
int beneath_open_plain(int root_fd, const char *path, int flags) must_check;
/* Opens the directory `path` (O_PATH), creating what is missing with `mode`; links in the existing
 * part are followed inside the root. Returns the descriptor or -errno. */
int beneath_make_dir(int root_fd, const char *path, mode_t mode) must_check;
/* Opens the parent directory of `path` (O_PATH, created if `make` is set) and sets *ret_name to the
 * last component, which points into `path`. -EINVAL if there is none, or it is "." or "..". */
int beneath_parent(int root_fd, const char *path, bool make, mode_t mode,
		   const char **ret_name) must_check;
/* "/proc/self/fd/N" for calls that only take a path. */
struct fd_path {
	char text[32];
};
struct fd_path fd_path(int fd);
