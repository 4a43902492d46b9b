/* stack: a disk that is several files one behind the other. See disk.h. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "vmm/disk/disk.h"

struct part {
	int fd;
	uint64_t start, size; /* on the disk; of the file, the gap behind it not counted */
};

struct stack {
	struct disk disk;
	unsigned int count;
	struct part parts[DISK_STACK_MAX]; /* by `start` */
};

static struct stack *stack_of(struct disk *disk)
{
	return container_of(disk, struct stack, disk);
}

/* The last part that begins at or before `offset`; the first begins at 0. */
static const struct part *part_at(const struct stack *self, uint64_t offset)
{
	unsigned int low = 0, high = self->count;

	while (high - low > 1) {
		unsigned int middle = low + (high - low) / 2;

		if (self->parts[middle].start <= offset)
			low = middle;
		else
			high = middle;
	}
	return &self->parts[low];
}

/* How many bytes from `offset` on have one source: a file, or the gap behind it. */
static uint64_t run_length(const struct stack *self, const struct part *part, uint64_t offset)
{
	uint64_t end = part->start + part->size;

	if (offset < end)
		return end - offset;
	return (part == &self->parts[self->count - 1] ? self->disk.size_bytes : part[1].start) -
	       offset;
}

static int read_run(const struct part *part, void *data, size_t size, uint64_t offset)
{
	struct iovec one = {.iov_base = data, .iov_len = size};

	if (offset - part->start < part->size)
		return disk_transfer(part->fd, true, &one, 1, offset - part->start);
	memset(data, 0, size);
	return 0;
}

static int stack_read(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset)
{
	const struct stack *self = stack_of(disk);
	uint64_t total = 0;
	const struct part *part = part_at(self, offset);

	for (unsigned int i = 0; i < count; i++)
		total += parts[i].iov_len;
	/* Almost always: all from one file. */
	if (offset - part->start < part->size && total <= run_length(self, part, offset))
		return disk_transfer(part->fd, true, parts, count, offset - part->start);
	for (unsigned int i = 0; i < count; i++) {
		uint8_t *data = parts[i].iov_base;
		size_t left = parts[i].iov_len;

		while (left > 0) {
			uint64_t length;
			int rc;

			part = part_at(self, offset);
			length = run_length(self, part, offset);
			if (length > left)
				length = left;
			rc = read_run(part, data, (size_t)length, offset);
			if (rc < 0)
				return rc;
			data += length;
			offset += length;
			left -= (size_t)length;
		}
	}
	return 0;
}

static int stack_refuse_write(struct disk *disk, struct iovec *parts, unsigned int count,
			      uint64_t offset)
{
	(void)disk;
	(void)parts;
	(void)count;
	(void)offset;
	return -EROFS;
}

static int stack_flush(struct disk *disk)
{
	(void)disk;
	return 0;
}

static int stack_discard(struct disk *disk, uint64_t offset, uint64_t size)
{
	(void)disk;
	(void)offset;
	(void)size;
	return -EROFS;
}

static int stack_zero(struct disk *disk, uint64_t offset, uint64_t size, bool may_unmap)
{
	(void)may_unmap;
	return stack_discard(disk, offset, size);
}

static void stack_close(struct disk *disk)
{
	struct stack *self = stack_of(disk);

	for (unsigned int i = 0; i < self->count; i++)
		fd_close(&self->parts[i].fd);
	own_mem_release(&self);
}

static const struct disk_ops ops = {
	.name = "stack",
	.read = stack_read,
	.write = stack_refuse_write,
	.flush = stack_flush,
	.discard = stack_discard,
	.zero = stack_zero,
	.close = stack_close,
};

int disk_open_stack(const int *fds, unsigned int count, struct disk **ret)
{
	struct stack *self;
	uint64_t at = 0;

	if (count == 0 || count > DISK_STACK_MAX)
		return -E2BIG;
	self = mem_new(sizeof(*self));
	for (unsigned int i = 0; i < count; i++) {
		struct stat st;

		if (fstat(fds[i], &st) < 0 || !S_ISREG(st.st_mode)) {
			own_mem_release(&self);
			return -EINVAL;
		}
		self->parts[i] =
			(struct part){.fd = fds[i], .start = at, .size = (uint64_t)st.st_size};
		at += ((uint64_t)st.st_size + DISK_STACK_ALIGN - 1) &
		      ~(uint64_t)(DISK_STACK_ALIGN - 1);
	}
	self->count = count;
	self->disk =
		(struct disk){.ops = &ops, .size_bytes = at, .read_only = true, .plain_fd = -1};
	*ret = &self->disk;
	return 0;
}
