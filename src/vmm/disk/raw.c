/* raw: a disk whose sectors are a file's bytes. See disk.h. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/disk/disk.h"

struct raw {
	struct disk disk;
	int fd;
	bool guarded; /* disk_raw_guard */
};

static struct raw *raw_of(struct disk *disk)
{
	return container_of(disk, struct raw, disk);
}

void disk_advance(struct iovec **parts, unsigned int *count, size_t done)
{
	struct iovec *part = *parts;

	for (; *count > 0 && done >= part->iov_len; part++, --*count)
		done -= part->iov_len;
	if (*count > 0) {
		part->iov_base = (uint8_t *)part->iov_base + done;
		part->iov_len -= done;
	}
	*parts = part;
}

int disk_transfer_some(int fd, bool in, struct iovec **parts, unsigned int *count, uint64_t offset)
{
	while (*count > 0) {
		ssize_t n = in ? preadv(fd, *parts, (int)*count, (off_t)offset)
			       : pwritev(fd, *parts, (int)*count, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		offset += (uint64_t)n;
		disk_advance(parts, count, (size_t)n);
	}
	return 0;
}

int disk_transfer(int fd, bool in, struct iovec *parts, unsigned int count, uint64_t offset)
{
	int rc = disk_transfer_some(fd, in, &parts, &count, offset);

	return rc == 0 && count > 0 ? -EIO : rc;
}

static int raw_read(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset)
{
	return disk_transfer(raw_of(disk)->fd, true, parts, count, offset);
}

enum { HEAD = 4 };

/* The disk's first sectors, unless they begin as another format does. The guest may change its memory at
 * any time: what was looked at is what is written. */
static int write_begin(int fd, struct iovec *parts, unsigned int count)
{
	static const uint8_t magic[HEAD] = {'Q', 'F', 'I', 0xfb};
	uint8_t head[HEAD] = {0};
	struct iovec all[1 + DISK_PARTS_MAX] = {{head, HEAD}};
	unsigned int have = 0;

	for (unsigned int i = 0; i < count; i++)
		for (size_t j = 0; j < parts[i].iov_len && have < HEAD; j++)
			head[have++] = ((const uint8_t *)parts[i].iov_base)[j];
	if (have == 0) /* sectors are written whole, or none is */
		return 0;
	if (memcmp(head, magic, HEAD) == 0)
		return -EPERM;
	disk_advance(&parts, &count, HEAD);
	memcpy(all + 1, parts, count * sizeof(*parts));
	return disk_transfer(fd, false, all, 1 + count, 0);
}

static int raw_write(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset)
{
	struct raw *self = raw_of(disk);

	return self->guarded && offset == 0 ? write_begin(self->fd, parts, count)
					    : disk_transfer(self->fd, false, parts, count, offset);
}

static int raw_flush(struct disk *disk)
{
	return fdatasync(raw_of(disk)->fd) < 0 ? -errno : 0;
}

/* Neither every file system nor every device can do either: what cannot be released stays, which a
 * discard allows, and zeroes can always be written. */
static int write_zeroes(int fd, off_t offset, off_t size)
{
	static const uint8_t zeroes[64 << 10];

	while (size > 0) {
		size_t part = size < (off_t)sizeof(zeroes) ? (size_t)size : sizeof(zeroes);
		ssize_t n = pwrite(fd, zeroes, part, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		offset += n;
		size -= n;
	}
	return 0;
}

static bool is_unsupported(int code)
{
	return code == EOPNOTSUPP || code == ENODEV || code == EINVAL;
}

static int raw_discard(struct disk *disk, uint64_t offset, uint64_t size)
{
	if (fallocate(raw_of(disk)->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)offset,
		      (off_t)size) == 0 ||
	    is_unsupported(errno))
		return 0;
	return -errno;
}

static int raw_zero(struct disk *disk, uint64_t offset, uint64_t size, bool may_unmap)
{
	int mode = FALLOC_FL_KEEP_SIZE | (may_unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	if (fallocate(raw_of(disk)->fd, mode, (off_t)offset, (off_t)size) == 0)
		return 0;
	if (!is_unsupported(errno))
		return -errno;
	return write_zeroes(raw_of(disk)->fd, (off_t)offset, (off_t)size);
}

static void raw_close(struct disk *disk)
{
	struct raw *self = raw_of(disk);

	fd_close(&self->fd);
	own_mem_release(&self);
}

static const struct disk_ops ops = {
	.name = "raw",
	.read = raw_read,
	.write = raw_write,
	.flush = raw_flush,
	.discard = raw_discard,
	.zero = raw_zero,
	.close = raw_close,
};

static int size_of(int fd, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISBLK(st.st_mode))
		return ioctl(fd, BLKGETSIZE64, ret_bytes) < 0 ? -errno : 0;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

void disk_raw_guard(struct disk *disk)
{
	raw_of(disk)->guarded = true;
}

int disk_open_raw(int fd, bool read_only, struct disk **ret)
{
	struct raw *self;
	uint64_t size = 0;
	int rc = size_of(fd, &size);

	if (rc < 0)
		return rc;
	self = mem_new(sizeof(*self));
	self->disk = (struct disk){
		.ops = &ops, .size_bytes = size, .read_only = read_only, .plain_fd = fd};
	self->fd = fd;
	*ret = &self->disk;
	return 0;
}
