/* ustar: writing simple tars: names of at most 100 bytes, sizes of any kind, no owners. */
#pragma once

#include "image/decompress.h"

enum { USTAR_BLOCK = 512, USTAR_NAME_MAX = 100 };

struct ustar_entry {
	const char *name;
	const char *link; /* for types '1' and '2' */
	char type;        /* '0' file, '1' hard link, '2' symbolic link, '5' directory */
	unsigned int mode;
	uint64_t size_bytes; /* of the data that the caller puts out after the header */
	int64_t mtime_s;
};
/* Puts out the header. -ENAMETOOLONG. */
int ustar_header(const struct ustar_entry *entry, image_bytes_fn *out, void *context,
		 struct error *err) must_check;
/* Fills the block after `size_bytes` of data. */
int ustar_pad(uint64_t size_bytes, image_bytes_fn *out, void *context,
	      struct error *err) must_check;
/* A whole file. */
int ustar_file(const struct ustar_entry *entry, const void *data, image_bytes_fn *out,
	       void *context, struct error *err) must_check;
/* The two empty blocks at the end. */
int ustar_end(image_bytes_fn *out, void *context, struct error *err) must_check;
