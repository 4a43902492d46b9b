/*
 * tar: reading tar archives that anybody may have made, as their bytes arrive.
 *
 * Understood: v7, ustar, pax, star's and GNU's dialects; numbers in octal and base 256; long names and
 * links of either dialect; sparse files in GNU's four forms; times before 1970 and with fractions;
 * extended attributes as star and libarchive write them. Not applied, as container engines do not
 * either: global pax headers, user names, ACLs as text.
 *
 * The reader is pushed, not pulling, so that it can stand in the middle of a pipeline without a thread;
 * it hands file data on without copying it. Names are bytes: nothing is decoded, and nothing is said
 * here of what a name may point to.
 *
 * Invariants
 *   T1  what the sink sees does not depend on how the input was cut into pieces.
 *   T2  for each entry: entry(), then data() with rising, disjoint ranges within [0, size), then end().
 *   T3  path and link are not empty where the type needs them, and contain no NUL.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	TAR_BLOCK = 512,
	TAR_META_MAX = 1 << 20,    /* bytes of one extended header */
	TAR_EXTENTS_MAX = 1 << 18, /* pieces of one sparse file */
	TAR_XATTRS_MAX = 1024,
};
#define TAR_SIZE_MAX (INT64_C(1) << 60)

enum tar_type {
	TAR_FILE,
	TAR_HARD_LINK,
	TAR_SYMLINK,
	TAR_CHAR,
	TAR_BLOCK_DEVICE,
	TAR_DIR,
	TAR_FIFO,
};

struct tar_xattr {
	char *name; /* "user.mime_type" */
	void *value;
	size_t len;
};

struct tar_extent {
	uint64_t offset;
	uint64_t len; /* not 0 */
};

/* One entry. All that it points to is the reader's, until end() returns. */
struct tar_entry {
	enum tar_type type;
	const char *path;
	const char *link; /* of symbolic and hard links */
	uint32_t mode;    /* 07777 at most */
	uint32_t uid, gid;
	int64_t mtime; /* seconds */
	uint32_t mtime_ns;
	uint32_t major, minor; /* of devices */
	uint64_t size;         /* of files, with holes */
	const struct tar_xattr *xattrs;
	size_t xattr_count;
	bool sparse; /* then only `extents` have data, the rest are holes */
	const struct tar_extent *extents;
	size_t extent_count;
};

/* Who receives the entries. An error ends the reading and is returned by tar_reader_add. */
struct tar_sink;
/* Whoever only wants to know what there is leaves `data` and `end` out. */
struct tar_sink_ops {
	int (*entry)(struct tar_sink *sink, const struct tar_entry *entry, struct error *err);
	int (*data)(struct tar_sink *sink, uint64_t offset, const void *data, size_t len,
		    struct error *err);
	int (*end)(struct tar_sink *sink, struct error *err);
};
struct tar_sink {
	const struct tar_sink_ops *ops;
};

struct tar_reader;
/* `sink` must outlive the reader. */
struct tar_reader *tar_reader_create(struct tar_sink *sink);
void tar_reader_destroy(struct tar_reader *r);
/* Takes bytes. -EBADMSG for a malformed archive, -EFBIG for a limit, what the sink returned. After an
 * error the reader can only be destroyed. */
int tar_reader_add(struct tar_reader *r, const void *data, size_t len,
		   struct error *err) must_check;
/* Says that there are no more bytes. -EBADMSG if something is missing. */
int tar_reader_finish(struct tar_reader *r, struct error *err) must_check;

/* Says of a file that begins with these bytes, and is no tar, what it is instead, as far as one can tell.
 * Returns -ENOTSUP (it is compressed in a way that is not read) or -EBADMSG. */
int tar_refuse(const void *data, size_t len, struct error *err);
