/*
 * archive: the files of an image archive (a tar, perhaps compressed) or of a directory, by name, each
 * as a piece of a descriptor. The tar is read once to find its members; a compressed one, or one that
 * comes through a pipe, is first written to the session's temporary files.
 */
#pragma once

#include "image/decompress.h"
#include "image/session.h"

enum {
	ARCHIVE_MEMBERS_MAX = 100000,
	ARCHIVE_NAME_MAX = 4096,
	ARCHIVE_LINKS_MAX = 8,
};

struct archive;
/* Of a descriptor at its position, which stays the caller's. -EBADMSG: it is no archive. */
int archive_open(struct image_session *session, int fd, struct archive **ret,
		 struct error *err) must_check;
/* Of a directory. */
int archive_open_dir(const char *path, struct archive **ret, struct error *err) must_check;
void archive_close(struct archive *archive);
OWN_DEFINE(own_archive, struct archive *, archive_close);
#define own_archive __attribute__((cleanup(own_archive_release)))

/* A file within: `size` bytes from `offset` of `fd`, which is closed with the piece. */
struct archive_piece {
	int fd;
	uint64_t offset, size;
};
/* Finds a file by its name, over links inside the archive. 1 found, 0 not, -errno. */
int archive_find(struct archive *archive, const char *name, struct archive_piece *ret,
		 struct error *err) must_check;
/* Reads a small file whole. -ENOENT, -EFBIG. */
int archive_read(struct archive *archive, const char *name, size_t max, char **ret_text,
		 size_t *ret_len, struct error *err) must_check;
/* Pushes the bytes of a file. */
int archive_stream(struct archive *archive, const char *name, image_bytes_fn *out, void *context,
		   struct error *err) must_check;
