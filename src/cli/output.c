/* output: see output.h. */
#include "cli/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"
#include "base/str.h"

int output_open(const char *path, struct output *ret, struct error *err)
{
	struct stat st;
	int rc;

	*ret = (struct output){.fd = 1, .path = path};
	if (path == NULL || str_eq(path, "-")) {
		ret->path = NULL;
		return isatty(1) ? hint(err, refuse(err, -EINVAL, "stdout is a terminal"),
					"name a file with --output, or redirect to one: > FILE")
				 : 0;
	}
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		ret->fd = open(path, O_WRONLY | O_CLOEXEC);
		return ret->fd < 0 ? fail(err, -errno, "open %s", path) : 0;
	}
	ret->part = str_format("%s.part-%d", path, (int)getpid());
	ret->fd = open(ret->part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (ret->fd >= 0)
		return 0;
	rc = fail(err, -errno, "create %s", ret->part);
	free(take(ret->part));
	return rc;
}

int output_close(struct output *output, int rc, struct error *err)
{
	own_mem char *part = take(output->part);

	if (output->path == NULL)
		return rc;
	if (close(take(output->fd)) < 0 && rc >= 0)
		rc = fail(err, -errno, "write %s", output->path);
	if (part == NULL)
		return rc;
	if (rc >= 0 && rename(part, output->path) < 0)
		rc = fail(err, -errno, "rename %s to %s", part, output->path);
	if (rc < 0)
		unlink(part);
	return rc;
}
