/*
 * iso: small read-only volumes of a few files: ISO 9660 with Rock Ridge's names (ECMA-119, IEEE P1281 and
 * P1282), which every system can mount. The same files give the same bytes.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

enum { ISO_FILES_MAX = 16, ISO_NAME_MAX = 64, ISO_LABEL_MAX = 32 };

struct iso_file {
	const char *name;
	const void *data;
	size_t size_bytes;
};

/* Writes a volume with the files in its root directory to an empty file. -E2BIG: too many files or bytes;
 * -ENAMETOOLONG. */
int iso_write(int fd, const char *label, const struct iso_file *files,
	      unsigned int count) must_check;
