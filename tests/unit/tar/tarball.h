/*
 * tarball: tars made by hand, byte by byte, so that tests can say what no proper program writes.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* What is not set is a plain value: mode 0644, owner 0:0, time 0, ustar. */
struct ball_entry {
	const char *name;
	char type; /* 0 is '0' */
	const char *link;
	const char *data;
	size_t len; /* 0: strlen(data) */
	int64_t mtime;
	unsigned int mode, uid, gid, major, minor;
	const char *size_field; /* raw, instead of the true one */
	const char *uid_field;
	char v7; /* no magic */
};

/* Adds a header and the data, padded. */
void ball_add(struct buf *ball, const struct ball_entry *e);
/* Adds an extended header with one record, in front of the entry that is added next. */
void ball_pax(struct buf *ball, const char *key, const char *value, size_t len);
/* Adds an extended header with these bytes. */
void ball_pax_raw(struct buf *ball, const char *text, size_t len);
void ball_end(struct buf *ball);
