/*
 * pack: a tree on the disk as a tar: sorted, reproducible, pax where ustar is not enough. For export,
 * commit and copies. Nothing outside of the tree is followed, and somebody may be changing it meanwhile.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "tar/write.h"

enum {
	PACK_DEPTH_MAX = 2048, /* directories within directories */
	PACK_PATH_MAX = 4095,  /* bytes of a name or a link's target */
	PACK_NAME_MAX = 255,   /* bytes of one component */
};

enum pack_kind {
	PACK_PLAIN,   /* the tree as it is: export */
	PACK_OVERLAY, /* an upper directory of overlayfs: whiteouts become OCI's */
};
enum pack_flags {
	PACK_NAMES = 1,  /* files come without their contents: for who asks what there is */
	PACK_MOUNTS = 2, /* goes into what is mounted inside as well, else that is left out */
};
struct pack_options {
	enum pack_kind kind;
	unsigned int flags; /* enum pack_flags */
	/* Paths ("etc/hosts") of empty files and empty directories to leave out; NULL: none. */
	const char *const *stubs;
};

/* The tar of the tree that the directory `root_fd` is. An error of `fn` ends it. */
int pack_tree(int root_fd, const struct pack_options *options, tar_write_fn *fn, void *data,
	      struct error *err) must_check;
/* One file, link or directory with all that is in it: `name` in the directory `dirfd`, which becomes
 * `as` in the archive. -ENOENT: there is none. */
int pack_one(int dirfd, const char *name, const char *as, const struct pack_options *options,
	     tar_write_fn *fn, void *data, struct error *err) must_check;
/* What a tree takes: blocks on the disk (directories too), and bytes in files, each file once. */
int pack_usage(int root_fd, uint64_t *ret_disk_bytes, uint64_t *ret_file_bytes,
	       struct error *err) must_check;
