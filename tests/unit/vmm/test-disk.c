/* Tests of disks: raw files, and several files as one disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A file of `size` bytes, all `fill`. */
static int file_of(size_t size, char fill)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	char *data = mem_new(size + 1);

	memset(data, fill, size);
	assert_int_equal(fd_write_full(fd, data, size), 0);
	free(data);
	return fd;
}

static struct disk *stack_of_three(void)
{
	const int fds[] = {file_of(4096, 'a'), file_of(5000, 'b'), file_of(100, 'c')};
	struct disk *disk = NULL;

	assert_int_equal(disk_open_stack(fds, 3, &disk), 0);
	return disk;
}

/* What each byte of that disk must be. */
static char expected(uint64_t at)
{
	if (at < 4096)
		return 'a';
	if (at < 4096 + 8192)
		return at < 4096 + 5000 ? 'b' : 0;
	return at < 4096 + 8192 + 100 ? 'c' : 0;
}

static void stack_has_all_files_at_aligned_places(void **state)
{
	struct disk *disk = stack_of_three();
	const uint64_t size = 4096 + 8192 + 4096;

	(void)state;
	assert_int_equal(disk->size_bytes, size);
	assert_true(disk->read_only);
	/* Every sector-aligned window, in two vectors that are cut at an odd place. */
	for (uint64_t at = 0; at < size; at += 512)
		for (uint64_t len = 512; len <= size - at; len += 1536) {
			char data[4096 * 5];
			struct iovec parts[2] = {{data, len / 3}, {data + len / 3, len - len / 3}};

			memset(data, 'x', sizeof(data));
			assert_int_equal(disk->ops->read(disk, parts, 2, at), 0);
			for (uint64_t i = 0; i < len; i++)
				assert_int_equal(data[i], expected(at + i));
			assert_int_equal(data[len], 'x');
		}
	disk_close(disk);
}

static void stack_cannot_be_written(void **state)
{
	struct disk *disk = stack_of_three();
	char data[512] = "";
	struct iovec part = {data, sizeof(data)};

	(void)state;
	assert_int_equal(disk->ops->write(disk, &part, 1, 0), -EROFS);
	assert_int_equal(disk->ops->discard(disk, 0, 512), -EROFS);
	assert_int_equal(disk->ops->zero(disk, 0, 512, true), -EROFS);
	disk_close(disk);
}

static void stack_refuses_what_is_no_file(void **state)
{
	struct disk *disk = NULL;
	int ends[2];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(disk_open_stack(ends, 2, &disk), -EINVAL);
	assert_int_equal(disk_open_stack(ends, 0, &disk), -E2BIG);
	assert_null(disk);
	close(ends[0]);
	close(ends[1]);
}

static void raw_keeps_what_is_written_and_zeroed(void **state)
{
	int fd = file_of(8192, 'a');
	struct disk *disk = NULL;
	char data[8192];
	struct iovec part = {data, 512};

	(void)state;
	assert_int_equal(disk_open_raw(fd, false, &disk), 0);
	assert_int_equal(disk->size_bytes, 8192);
	memset(data, 'z', sizeof(data));
	assert_int_equal(disk->ops->write(disk, &part, 1, 1024), 0);
	assert_int_equal(disk->ops->zero(disk, 4096, 1024, false), 0);
	assert_int_equal(disk->ops->discard(disk, 6144, 512), 0);
	assert_int_equal(disk->ops->flush(disk), 0);
	part = (struct iovec){data, sizeof(data)};
	assert_int_equal(disk->ops->read(disk, &part, 1, 0), 0);
	assert_int_equal(data[1023], 'a');
	assert_int_equal(data[1024], 'z');
	assert_int_equal(data[1535], 'z');
	assert_int_equal(data[1536], 'a');
	assert_int_equal(data[4096], 0);
	assert_int_equal(data[5119], 0);
	assert_int_equal(data[5120], 'a');
	disk_close(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stack_has_all_files_at_aligned_places),
		cmocka_unit_test(stack_cannot_be_written),
		cmocka_unit_test(stack_refuses_what_is_no_file),
		cmocka_unit_test(raw_keeps_what_is_written_and_zeroed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
