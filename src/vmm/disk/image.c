/* image: see image.h. */
#include "vmm/disk/image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/disk/qcow2_image.h"
#include "vmm/disk/qcow2_priv.h"

enum { COPY_BYTES = 2 << 20, SECTOR = 512 };

/* --- new files ------------------------------------------------------------------------------------- */

/* A file that gets its name when it is complete. */
struct draft {
	char *path;
	int fd;
};

static void draft_release(struct draft *d)
{
	if (d->path)
		unlink(d->path);
	free(d->path);
	fd_close(&d->fd);
}
#define own_draft __attribute__((cleanup(draft_release)))

static int draft_begin(const char *path, struct draft *ret, struct error *err)
{
	own_mem char *name = str_format("%s.XXXXXX", path);
	struct stat st;

	if (lstat(path, &st) == 0)
		return hint(err, refuse(err, -EEXIST, "%s exists already", path),
			    "choose another name, or remove it");
	ret->fd = mkostemp(name, O_CLOEXEC);
	if (ret->fd < 0)
		return fail(err, -errno, "create %s", path);
	ret->path = take(name);
	/* As any new file: mkostemp's mode is for its owner alone, which a disk should keep. */
	return 0;
}

static int draft_finish(struct draft *d, const char *path, struct error *err)
{
	if (fsync(d->fd) < 0)
		return fail(err, -errno, "write %s", path);
	/* A link, which unlike a renaming replaces nothing. */
	if (link(d->path, path) < 0)
		return fail(err, -errno, "create %s", path);
	return 0;
}

/* --- making ---------------------------------------------------------------------------------------- */

static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == NULL ? str_copy(".") : str_copy_n(path, (size_t)(slash - path) + 1);
}

/* How the image `path` names its backing file: relative if that lies in its directory, so that both can
 * be moved together. */
static int name_backing(const char *path, const char *backing, char **ret, struct error *err)
{
	own_mem char *dir = directory_of(path), *real_dir = realpath(dir, NULL);
	own_mem char *real = realpath(backing, NULL);
	size_t len = real_dir ? strlen(real_dir) : 0;

	if (real == NULL)
		return fail(err, -errno, "find the backing file %s", backing);
	if (real_dir == NULL)
		return fail(err, -errno, "find the directory of %s", path);
	*ret = strncmp(real, real_dir, len) == 0 && real[len] == '/' ? str_copy(real + len + 1)
								     : str_copy(real);
	return 0;
}

static int check_size(uint64_t size_bytes, struct error *err)
{
	if (size_bytes <= DISK_SIZE_MAX)
		return 0;
	return refuse(err, -EFBIG, "a disk can have at most %llu TiB",
		      (unsigned long long)(DISK_SIZE_MAX >> 40));
}

static int create_qcow2(int fd, const char *path, const struct disk_image_new *image, uint64_t size,
			struct error *err)
{
	own_disk struct disk *backing = NULL;
	own_mem char *name = NULL;
	int rc;

	if (image->backing == NULL)
		return qcow2_create(fd, size, "", "", err);
	/* Opened to see that it can be, and how large it is. */
	rc = disk_open(image->backing, image->backing_format,
		       DISK_READ_ONLY | DISK_BACKING_ANYWHERE, &backing, err);
	if (rc == 0)
		rc = check_size(backing->size_bytes, err);
	if (rc == 0)
		rc = name_backing(path, image->backing, &name, err);
	if (rc < 0)
		return rc;
	return qcow2_create(fd, size ? size : backing->size_bytes, name, backing->ops->name, err);
}

int disk_image_create(const char *path, const struct disk_image_new *image, struct error *err)
{
	uint64_t size = (image->size_bytes + SECTOR - 1) / SECTOR * SECTOR;
	own_draft struct draft draft = {.fd = -1};
	int rc = check_size(image->size_bytes, err);

	if (rc < 0)
		return rc;
	if (image->backing && image->format != DISK_FORMAT_QCOW2)
		return hint(err,
			    refuse(err, -EINVAL, "only a qcow2 disk can be based on another one"),
			    "leave out the format, or say qcow2");
	rc = draft_begin(path, &draft, err);
	if (rc == 0 && image->format == DISK_FORMAT_QCOW2)
		rc = create_qcow2(draft.fd, path, image, size, err);
	else if (rc == 0 && ftruncate(draft.fd, (off_t)size) < 0)
		rc = fail(err, -errno, "write %s", path);
	return rc < 0 ? rc : draft_finish(&draft, path, err);
}

/* --- growing --------------------------------------------------------------------------------------- */

int disk_image_grow(const char *path, enum disk_format format, uint64_t size_bytes,
		    struct error *err)
{
	own_disk struct disk *disk = NULL;
	uint64_t size = (size_bytes + SECTOR - 1) / SECTOR * SECTOR;
	struct stat st;
	int rc = check_size(size_bytes, err);

	if (rc == 0)
		rc = disk_open(path, format, DISK_BACKING_ANYWHERE, &disk, err);
	if (rc < 0)
		return rc;
	if (size < disk->size_bytes)
		return hint(err,
			    refuse(err, -EINVAL,
				   "it has %llu bytes: a disk is not made smaller, "
				   "since that would cut off what is at its end",
				   (unsigned long long)disk->size_bytes),
			    "make a new disk and copy the files");
	if (str_eq(disk->ops->name, "qcow2"))
		rc = qcow2_grow(disk, size);
	else if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return refuse(err, -EINVAL, "a block device has the size that it has");
	else
		rc = truncate(path, (off_t)size) < 0 ? -errno : 0;
	return rc < 0 ? fail(err, rc, "make the disk %s larger", path) : 0;
}

/* --- copying --------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *data, size_t size)
{
	return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

/* Writes what is not zero, in pieces of a cluster. */
static int copy_piece(struct disk *to, uint8_t *data, uint64_t offset, uint64_t size)
{
	const uint64_t step = UINT64_C(1) << QCOW2_CLUSTER_BITS;

	for (uint64_t at = 0; at < size; at += step) {
		uint64_t part = size - at < step ? size - at : step;
		struct iovec io = {data + at, part};
		int rc = is_zero(data + at, part) ? 0 : to->ops->write(to, &io, 1, offset + at);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int copy_all(struct disk *from, struct disk *to, const struct disk_image_copy *options,
		    struct error *err)
{
	own_mem uint8_t *data = mem_new(COPY_BYTES);
	uint64_t size = from->size_bytes;
	int rc = 0;

	for (uint64_t at = 0; at < size && rc == 0; at += COPY_BYTES) {
		uint64_t part = size - at < COPY_BYTES ? size - at : COPY_BYTES;
		struct iovec io = {data, part};

		rc = from->ops->read(from, &io, 1, at);
		if (rc < 0)
			return fail(err, rc, "read byte %llu of the disk", (unsigned long long)at);
		rc = copy_piece(to, data, at, part);
		if (rc == 0 && options->progress)
			options->progress(at + part, size, options->data);
	}
	if (rc == 0)
		rc = to->ops->flush(to);
	return rc < 0 ? fail(err, rc, "write the copy") : 0;
}

int disk_image_copy(const char *from, const char *to, const struct disk_image_copy *options,
		    struct error *err)
{
	own_disk struct disk *source = NULL, *copy = NULL;
	own_draft struct draft draft = {.fd = -1};
	int rc = disk_open(from, options->from_format, DISK_READ_ONLY | options->flags, &source,
			   err);

	if (rc == 0)
		rc = check_size(source->size_bytes, err);
	if (rc == 0)
		rc = draft_begin(to, &draft, err);
	if (rc < 0)
		return rc;
	if (options->format == DISK_FORMAT_QCOW2)
		rc = qcow2_create(draft.fd, source->size_bytes, "", "", err);
	else if (ftruncate(draft.fd, (off_t)source->size_bytes) < 0)
		rc = fail(err, -errno, "write %s", to);
	if (rc == 0)
		rc = disk_open(draft.path, options->format, 0, &copy, err);
	if (rc == 0)
		rc = copy_all(source, copy, options, err);
	if (rc < 0)
		return rc;
	disk_close(take(copy));
	return draft_finish(&draft, to, err);
}

/* --- looking --------------------------------------------------------------------------------------- */

static int find_format(int fd, enum disk_format *format, struct error *err)
{
	return *format == DISK_FORMAT_AUTO ? qcow2_sniff(fd, format, err) : 0;
}

static int look_qcow2(int fd, struct disk_image_info *info, struct error *err)
{
	own_mem struct qcow2_header *h = mem_new(sizeof(*h));
	int rc = qcow2_header_read(fd, h, err);

	if (rc < 0)
		return rc;
	info->size_bytes = h->size;
	info->cluster_bytes = UINT64_C(1) << h->cluster_bits;
	info->version = h->version;
	info->snapshots = h->snapshots;
	info->is_zstd = h->compression == QCOW2_ZSTD;
	info->is_dirty = h->incompatible & QCOW2_DIRTY;
	info->is_damaged = h->incompatible & QCOW2_CORRUPT;
	strcpy(info->backing, h->backing);
	strcpy(info->backing_format, h->backing_format);
	return 0;
}

int disk_image_look(const char *path, enum disk_format format, struct disk_image_info *ret,
		    struct error *err)
{
	struct disk_image_info info = {.format = format};
	own_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "open %s", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return refuse(err, -EINVAL, "%s is neither a file nor a block device", path);
	rc = find_format(fd, &info.format, err);
	info.file_bytes = (uint64_t)lseek(fd, 0, SEEK_END);
	info.used_bytes = (uint64_t)st.st_blocks * 512;
	info.size_bytes = info.file_bytes;
	if (rc == 0 && info.format == DISK_FORMAT_QCOW2)
		rc = look_qcow2(fd, &info, err);
	if (rc < 0)
		return fail(err, rc, "the disk %s", path);
	*ret = info;
	return 0;
}

int disk_image_check(const char *path, enum disk_format format, bool repair,
		     struct disk_image_check *ret, struct error *err)
{
	own_fd int fd = open(path, (repair ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return fail(err, -errno, "open %s", path);
	if (flock(fd, (repair ? LOCK_EX : LOCK_SH) | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? refuse(err, -EBUSY, "%s is in use: a machine runs with it", path)
			       : fail(err, -errno, "lock %s", path);
	rc = find_format(fd, &format, err);
	if (rc == 0 && format == DISK_FORMAT_RAW)
		*ret = (struct disk_image_check){0};
	else if (rc == 0)
		rc = qcow2_check(take(fd), repair, ret, err);
	return rc < 0 ? fail(err, rc, "the disk %s", path) : 0;
}
