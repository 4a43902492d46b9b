/*
 * orphans: files of blobs and layers that no row speaks of. A file gets its name shortly before its row
 * is committed, so a command that was killed in between leaves one.
 */
#pragma once

#include "image/store.h"

/* `file` is relative to the root directory. */
typedef void image_orphan_fn(const char *file, bool removed, void *data);
/* Finds them, and with `remove` removes them. Needs the exclusive store lock: -EWOULDBLOCK, without
 * text, if somebody is adding just now, since then a file without a row means nothing, or if it is not
 * certain what the rows are (db_in_doubt). */
int image_orphans(struct image_store *store, bool remove, image_orphan_fn *fn, void *data,
		  struct error *err) must_check;
