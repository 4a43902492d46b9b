/* tar_priv: what the files of the tar reader share. */
#pragma once

#include <sys/types.h>

#include "base/str.h"
#include "tar/tar.h"

/* A header block as it stands in the archive. Fields are text, not always terminated. */
struct tar_header {
	char name[100];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char link[100];
	char magic[8]; /* magic and version */
	char uname[32];
	char gname[32];
	char major[8];
	char minor[8];
	char prefix[155]; /* GNU and star keep other things here */
	char pad[12];
};

/* GNU's use of the prefix field for sparse files. */
enum {
	GNU_SPARSE_AT = 386, /* four pairs of offset and length, 12 bytes each */
	GNU_SPARSE_PAIRS = 4,
	GNU_SPARSE_MORE_AT = 482, /* nonzero: extension blocks follow */
	GNU_REAL_SIZE_AT = 483,
	GNU_EXTENSION_PAIRS = 21,    /* of an extension block, */
	GNU_EXTENSION_MORE_AT = 504, /* and whether another one follows */
};

enum tar_dialect { TAR_V7, TAR_USTAR, TAR_STAR, TAR_GNU };

/* What a pax header said of the next entry. */
enum pax_have {
	PAX_PATH = 1 << 0,
	PAX_LINK = 1 << 1,
	PAX_SIZE = 1 << 2,
	PAX_UID = 1 << 3,
	PAX_GID = 1 << 4,
	PAX_MTIME = 1 << 5,
	PAX_SPARSE_NAME = 1 << 6, /* path is GNU.sparse.name, which wins */
	PAX_REAL_SIZE = 1 << 7,
	PAX_SPARSE_MAP = 1 << 8, /* the extents are known */
	PAX_SPARSE_1_0 = 1 << 9, /* they stand in front of the data */
};
struct pax {
	unsigned int have; /* enum pax_have */
	struct buf path, link;
	int64_t size, uid, gid, real_size;
	int64_t mtime;
	uint32_t mtime_ns;
	int64_t sparse_major, sparse_minor;
	int64_t pending_offset; /* GNU.sparse.offset that waits for its numbytes; -1: none */
};

/* The extents of one sparse file, in the making. */
struct tar_map {
	struct tar_extent *items;
	size_t count, capacity;
	uint64_t data_bytes; /* sum of the lengths */

	/* While it is parsed as text: */
	int64_t expected; /* pieces to come, -1: not known yet */
	int64_t offset;   /* of the piece whose length comes next, -1: the offset comes next */
	int64_t number;   /* its digits so far, -1: none */
};
/* Forgets all pieces. */
void tar_map_begin(struct tar_map *map);
/* Appends a piece. -EBADMSG if it does not follow the ones before. Empty ones are dropped. */
int tar_map_add(struct tar_map *map, int64_t offset, int64_t len, struct error *err) must_check;
/* Parses the next bytes of a map that stands in front of a file's data (GNU sparse 1.0):
 * "count\noffset\nlength\n...". Returns 1 if it is complete, 0 if more is needed. */
int tar_map_parse(struct tar_map *map, const char *text, size_t len, struct error *err) must_check;

struct tar_xattrs {
	struct tar_xattr *items;
	size_t count, capacity;
};
void tar_xattrs_clear(struct tar_xattrs *x);

/* header.c */
/* A number field: octal, or base 256. -EBADMSG. */
int tar_number(const char *field, size_t len, const char *what, int64_t *ret,
	       struct error *err) must_check;
int tar_check_header(const struct tar_header *h, struct error *err) must_check;
enum tar_dialect tar_dialect(const struct tar_header *h);
void tar_header_name(const struct tar_header *h, struct buf *out);
/* Fills what the header says of an entry, without names, size, or what a pax header overrides. */
int tar_header_entry(const struct tar_header *h, struct tar_entry *e, struct error *err) must_check;

/* pax.c */
void pax_clear(struct pax *pax);
int pax_parse(struct pax *pax, struct tar_xattrs *xattrs, struct tar_map *map, const char *text,
	      size_t len, struct error *err) must_check;
