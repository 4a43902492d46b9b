/*
 * path: one path of a root directory that somebody else controls and may be changing: what is there, and
 * its tar. Links among the directories are followed as if the root were "/" (base/beneath.h).
 */
#pragma once

#include <stdint.h>

#include "tar/write.h"

/* What is at a path. */
struct tar_path {
	uint32_t mode; /* as st_mode */
	uint64_t size_bytes;
	int64_t mtime_ns;
	char *target; /* of a link, the caller's; else NULL */
};
/* Looks at an absolute path; a link at its end is not followed. -ENOENT. */
int tar_path_stat(int root_fd, const char *path, struct tar_path *ret,
		  struct error *err) must_check;
/* The path with all that is in it, mounts too, under the name `as`; "." is for the contents of a
 * directory. */
int tar_path_pack(int root_fd, const char *path, const char *as, tar_write_fn *fn, void *data,
		  struct error *err) must_check;
