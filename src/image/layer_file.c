/* layer_file: how the files of layers come to be and are named, whatever their format. */
#include "image/layer_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "base/random.h"

const char *layer_overlay_prefix(void)
{
	/* In any user namespace but the initial one trusted attributes are refused. */
	return proc_is_root() ? "trusted.overlay." : "user.overlay.";
}

void layer_file_name(char out[static LAYER_FILE_NAME_MAX], const struct layer_format *format,
		     const struct digest *diffid)
{
	snprintf(out, LAYER_FILE_NAME_MAX, "%s%s", digest_hex(diffid), format->suffix);
}

/* Opens what has just been made and locks it. -EAGAIN if recovery was faster and took it away. */
static int lock_unfinished(int layers_fd, const char *name, int flags)
{
	own_fd int fd = openat(layers_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? -EAGAIN : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_nlink == 0)
		return -EAGAIN;
	return take(fd);
}

int layer_make_unfinished(int layers_fd, bool directory, char name[static LAYER_FILE_NAME_MAX],
			  struct error *err)
{
	int fd;

	do {
		char digits[33];

		random_hex(digits, 16);
		snprintf(name, LAYER_FILE_NAME_MAX, LAYER_UNFINISHED "%s", digits);
		if (directory && mkdirat(layers_fd, name, 0700) < 0)
			return fail(err, -errno, "make a directory for a layer");
		fd = lock_unfinished(layers_fd, name,
				     directory ? O_RDONLY | O_DIRECTORY
					       : O_RDWR | O_CREAT | O_EXCL);
	} while (fd == -EAGAIN);
	return fd < 0 ? fail(err, fd, "make a layer file") : fd;
}

int layer_publish(int layers_fd, const char *unfinished, const char *name, bool *ret_existed,
		  struct error *err)
{
	int rc = renameat2(layers_fd, unfinished, layers_fd, name, RENAME_NOREPLACE) < 0 ? -errno
											 : 0;

	/* Where the file system has no such rename the plain one does: what it may replace is the
	 * same layer, except a directory, which it refuses to replace. */
	if (rc == -EINVAL)
		rc = renameat(layers_fd, unfinished, layers_fd, name) < 0 ? -errno : 0;
	*ret_existed = rc == -EEXIST || rc == -ENOTEMPTY;
	if (rc < 0 && !*ret_existed)
		return fail(err, rc, "name the layer %s", name);
	rc = dir_sync(layers_fd);
	return rc < 0 ? fail(err, rc, "write the directory of layers") : 0;
}

int layer_replace_other(int layers_fd, const char *unfinished, const char *name, uint64_t bytes,
			bool *ret_stays, struct error *err)
{
	struct stat st;
	int rc;

	*ret_stays = fstatat(layers_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		     (uint64_t)st.st_size == bytes;
	if (*ret_stays)
		return 0;
	rc = renameat(layers_fd, unfinished, layers_fd, name) < 0 ? -errno : dir_sync(layers_fd);
	return rc < 0 ? fail(err, rc, "name the layer %s", name) : 0;
}
