/*
 * write: tar archives in the pax format, reproducible: the same entries give the same bytes.
 *
 * A plain ustar header where it can say everything, else an extended header in front of it. Sparse files
 * are written in GNU's format 1.0, which GNU tar, libarchive and Go's reader understand.
 */
#pragma once

#include "tar/tar.h"

/* Receives the bytes. */
typedef int tar_write_fn(const void *bytes, size_t len, void *data, struct error *err);

struct tar_writer {
	tar_write_fn *fn;
	void *data;
	uint64_t left; /* bytes of data that the entry still wants */
	uint32_t padding;
};

/* Starts an entry, in the terms of tar.h. Exactly the data of its size (its extents, if it is sparse)
 * must follow. */
int tar_write_entry(struct tar_writer *w, const struct tar_entry *e, struct error *err) must_check;
int tar_write_data(struct tar_writer *w, const void *bytes, size_t len,
		   struct error *err) must_check;
/* Ends the archive. */
int tar_write_end(struct tar_writer *w, struct error *err) must_check;
