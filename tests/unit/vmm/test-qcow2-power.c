/*
 * A qcow2 disk whose host loses power: everything that was written before the last completed sync is
 * there, and of what came later any part, in any order. The program's writes are recorded on their way
 * to the file (the linker puts our functions in their place) and played into a copy of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/disk/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SECTOR = 512, DISK = 2 << 20, SECTORS = DISK / SECTOR, OPERATIONS = 60 };

struct write {
	off_t offset;
	size_t size;
	uint8_t *data;
	unsigned int epoch; /* how many syncs were complete when it was made */
};

static struct write *writes;
static size_t write_count, write_capacity;
static unsigned int epoch;
static bool recording;
static uint64_t random_state;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

static void record(const void *data, size_t size, off_t offset)
{
	if (!recording || size == 0)
		return;
	writes = mem_grow(writes, write_count, &write_capacity, sizeof(*writes));
	writes[write_count++] = (struct write){offset, size, mem_copy(data, size), epoch};
}

/* NOLINTBEGIN: the names are the linker's */
ssize_t __real_pwrite64(int fd, const void *data, size_t size, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *parts, int count, off_t offset);
int __real_fdatasync(int fd);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int count, off_t offset);
int __wrap_fdatasync(int fd);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);

ssize_t __wrap_pwrite64(int fd, const void *data, size_t size, off_t offset)
{
	record(data, size, offset);
	return __real_pwrite64(fd, data, size, offset);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
	off_t at = offset;

	for (int i = 0; i < count; i++) {
		record(parts[i].iov_base, parts[i].iov_len, at);
		at += (off_t)parts[i].iov_len;
	}
	return __real_pwritev64(fd, parts, count, offset);
}

int __wrap_fdatasync(int fd)
{
	epoch++;
	return __real_fdatasync(fd);
}

/* A file system that gives nothing back: what is freed keeps its contents. */
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
	(void)fd;
	(void)mode;
	(void)offset;
	(void)size;
	errno = EOPNOTSUPP;
	return -1;
}
/* NOLINTEND */

/* What each sector was given: the number of the operation, 0 for zeroes. */
struct history {
	unsigned int now[SECTORS];
	/* Everything since then, too: the sector may have any of it. */
	bool given[SECTORS][OPERATIONS + 1];
};

static void fill(uint8_t *sector, unsigned int number)
{
	for (unsigned int i = 0; i < SECTOR; i += sizeof(number))
		memcpy(sector + i, &number, sizeof(number));
}

static void note(struct history *h, uint64_t first, uint64_t count, unsigned int number)
{
	for (uint64_t i = first; i < first + count; i++) {
		h->now[i] = number;
		h->given[i][number] = true;
	}
}

static void check_copy(const char *path, const struct history *h)
{
	own_mem uint8_t *data = mem_new(DISK);
	struct iovec part = {data, DISK};
	struct disk_image_check found;
	struct disk *disk = NULL;
	struct error err = {0};

	if (disk_image_check(path, DISK_FORMAT_QCOW2, false, &found, &err) < 0)
		fail_msg("%s", err.text);
	if (found.errors > 0)
		fail_msg("%s", found.first);
	if (disk_open(path, DISK_FORMAT_QCOW2, DISK_READ_ONLY, &disk, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(disk->ops->read(disk, &part, 1, 0), 0);
	disk_close(disk);
	for (unsigned int i = 0; i < SECTORS; i++) {
		unsigned int number;

		memcpy(&number, data + (size_t)i * SECTOR, sizeof(number));
		if (number > OPERATIONS || !h->given[i][number])
			fail_msg("sector %u has what operation %u wrote", i, number);
	}
}

/* The image as it was before all writes, and a place for a copy. */
static char *before, *copy;

/* Plays the first `count` writes into the copy, but loses some of those that were not yet synced when
 * `epochs` syncs were complete. */
static void cut(size_t count, unsigned int epochs, const struct history *h)
{
	own_fd int from = open(before, O_RDONLY | O_CLOEXEC);
	own_fd int to = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(from >= 0 && to >= 0);
	assert_true(fd_copy(from, to, UINT64_MAX) > 0);
	for (size_t i = 0; i < count; i++) {
		const struct write *w = &writes[i];
		size_t size = w->size;

		if (w->epoch >= epochs && random_below(2))
			continue;
		/* A write may be torn at a sector. */
		if (w->epoch >= epochs && random_below(4) == 0)
			size = size < SECTOR ? size : random_below(size / SECTOR + 1) * SECTOR;
		assert_int_equal(__real_pwrite64(to, w->data, size, w->offset), size);
	}
	check_copy(copy, h);
}

/* Cuts at every moment since there were `from` writes. */
static void cut_everywhere(size_t from, const struct history *h)
{
	recording = false;
	for (size_t i = from; i < write_count; i++) {
		cut(i, writes[i].epoch, h);
		/* The moment before the sync that came before this write. */
		if (i > from && writes[i].epoch > writes[i - 1].epoch)
			cut(i, writes[i - 1].epoch, h);
	}
	recording = true;
}

static void flush(struct disk *disk, struct history *h)
{
	size_t from = write_count;

	assert_int_equal(disk->ops->flush(disk), 0);
	cut_everywhere(from, h);
	memset(h->given, 0, sizeof(h->given));
	for (unsigned int i = 0; i < SECTORS; i++)
		h->given[i][h->now[i]] = true;
}

static void operate(struct disk *disk, struct history *h, unsigned int number)
{
	uint64_t first = random_below(SECTORS), count = 1 + random_below(40);
	size_t from = write_count;
	own_mem uint8_t *data = mem_new(41 * SECTOR);
	struct iovec part = {data, 0};

	if (first + count > SECTORS)
		count = SECTORS - first;
	switch (random_below(6)) {
	case 0:
		flush(disk, h);
		return;
	case 1:
		note(h, first, count, 0);
		assert_int_equal(
			disk->ops->zero(disk, first * SECTOR, count * SECTOR, random_below(2)), 0);
		break;
	default:
		for (uint64_t i = 0; i < count; i++)
			fill(data + i * SECTOR, number);
		part.iov_len = count * SECTOR;
		note(h, first, count, number);
		assert_int_equal(disk->ops->write(disk, &part, 1, first * SECTOR), 0);
	}
	cut_everywhere(from, h);
}

static void forget_writes(void)
{
	while (write_count > 0)
		free(writes[--write_count].data);
	epoch = 0;
}

static void run(const char *dir, const char *make)
{
	own_mem char *image = str_format("%s/disk", dir);
	own_mem char *line =
		str_format("cd %s && rm -f disk && %s >/dev/null && cp disk before", dir, make);
	own_mem struct history *h = mem_new(sizeof(*h));
	struct disk *disk = NULL;
	struct error err = {0};

	before = str_format("%s/before", dir);
	copy = str_format("%s/copy", dir);
	assert_int_equal(system(line), 0);
	for (unsigned int i = 0; i < SECTORS; i++)
		h->given[i][0] = true;
	if (disk_open(image, DISK_FORMAT_QCOW2, 0, &disk, &err) < 0)
		fail_msg("%s", err.text);
	recording = true;
	for (unsigned int i = 1; i <= OPERATIONS; i++) {
		operate(disk, h, i);
		recording = false;
		cut(write_count, epoch, h);
		recording = true;
	}
	recording = false;
	disk_close(disk);
	forget_writes();
	free(before);
	free(copy);
}

static void a_power_cut_loses_nothing_that_was_flushed(void **state)
{
	static const char *const images[] = {
		"qemu-img create -f qcow2 disk 2M",
		"qemu-img create -f qcow2 -o cluster_size=4k disk 2M",
		"qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 disk 2M",
		"qemu-img create -f qcow2 -o cluster_size=512,compat=0.10 disk 2M",
	};
	char dir[] = "/dev/shm/test-qcow2-power-XXXXXX";

	(void)state;
	random_state = 88172645463325252u;
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < array_size(images); i++)
		run(dir, images[i]);
	assert_int_equal(tree_remove(AT_FDCWD, dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_power_cut_loses_nothing_that_was_flushed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
