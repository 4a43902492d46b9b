/* output: a file that a command writes: whole, or not at all. */
#pragma once

#include "base/error.h"

struct output {
	int fd;
	const char *path; /* NULL: stdout */
	char *part;       /* the file under its temporary name; NULL: none */
};

/* Opens `path`, or takes stdout for NULL and "-", unless that is a terminal. A regular file is written
 * beside its place and renamed at the end; a pipe or device as it is. */
int output_open(const char *path, struct output *ret, struct error *err) must_check;
/* Ends the output: `rc` says how the work went; a failure removes what was written. Returns rc, or the
 * failure of ending. */
int output_close(struct output *output, int rc, struct error *err) must_check;
