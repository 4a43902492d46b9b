/* Tests of disks in qcow2 files. QEMU's own tools make the images and have the last word about them. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/disk/image.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SECTOR = 512, PARTS = 5 };

/* In memory: the images are synced all the time. */
static char dir[] = "/dev/shm/test-qcow2-XXXXXX";
static uint64_t random_state = 88172645463325252u;

/* xorshift: the same numbers in every run. */
static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

static char *in_dir(const char *name)
{
	return str_format("%s/%s", dir, name);
}

/* Runs a command line in the directory; fails the test unless it succeeds. */
static void shell(const char *command)
{
	own_mem char *line = str_format("cd %s && { %s; } >log 2>&1", dir, command);

	if (system(line) != 0) {
		own_mem char *log = NULL, *path = in_dir("log");
		size_t len;

		if (file_read(AT_FDCWD, path, 1 << 16, &log, &len, NULL) < 0)
			log = NULL;
		fail_msg("%s: %s", command, log ? log : "");
	}
}

static struct disk *open_disk(const char *name, unsigned int flags)
{
	own_mem char *path = in_dir(name);
	struct disk *disk = NULL;
	struct error err = {0};

	if (disk_open(path, DISK_FORMAT_AUTO, flags, &disk, &err) < 0)
		fail_msg("%s", err.text);
	return disk;
}

static void read_shadow(const char *name, uint8_t *shadow, size_t size)
{
	own_mem char *path = in_dir(name);
	own_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_read_full_at(fd, shadow, size, 0), size);
}

static void write_shadow(const char *name, const uint8_t *shadow, size_t size)
{
	own_mem char *path = in_dir(name);

	assert_int_equal(file_write(AT_FDCWD, path, shadow, size, 0600, FILE_WRITE_PLAIN, NULL), 0);
}

/* A vector of up to PARTS parts over `data`. */
static unsigned int make_parts(uint8_t *data, size_t size, struct iovec parts[PARTS])
{
	unsigned int n = 0;

	while (size > 0) {
		size_t part = n == PARTS - 1 ? size : 1 + random_below(size);

		parts[n++] = (struct iovec){data, part};
		data += part;
		size -= part;
	}
	return n;
}

static void check_read(struct disk *disk, const uint8_t *shadow, uint64_t offset, size_t size)
{
	own_mem uint8_t *data = mem_new(size + 1);
	struct iovec parts[PARTS];
	unsigned int n = make_parts(data, size, parts);

	assert_int_equal(disk->ops->read(disk, parts, n, offset), 0);
	if (memcmp(data, shadow + offset, size) != 0)
		fail_msg("%zu bytes at %llu read wrongly", size, (unsigned long long)offset);
}

static void do_write(struct disk *disk, uint8_t *shadow, uint64_t offset, size_t size)
{
	own_mem uint8_t *data = mem_new(size + 1);
	struct iovec parts[PARTS];

	for (size_t i = 0; i < size; i += SECTOR)
		memset(data + i, (int)random_below(256), SECTOR);
	memcpy(shadow + offset, data, size);
	assert_int_equal(disk->ops->write(disk, parts, make_parts(data, size, parts), offset), 0);
}

/* What was discarded is what it was, or zero. */
static void do_discard(struct disk *disk, uint8_t *shadow, uint64_t offset, size_t size)
{
	own_mem uint8_t *data = mem_new(size + 1), *zero = mem_new(SECTOR);
	struct iovec part = {data, size};

	assert_int_equal(disk->ops->discard(disk, offset, size), 0);
	assert_int_equal(disk->ops->read(disk, &part, 1, offset), 0);
	for (size_t i = 0; i < size; i += SECTOR) {
		assert_true(memcmp(data + i, shadow + offset + i, SECTOR) == 0 ||
			    memcmp(data + i, zero, SECTOR) == 0);
		memcpy(shadow + offset + i, data + i, SECTOR);
	}
}

static void do_something(struct disk *disk, uint8_t *shadow)
{
	uint64_t sectors = disk->size_bytes / SECTOR, at = random_below(sectors);
	uint64_t most = sectors - at, count;
	uint64_t offset = at * SECTOR;

	if (random_below(4) && most > 40)
		most = 40;
	count = 1 + random_below(most);
	switch (random_below(8)) {
	case 0:
		assert_int_equal(disk->ops->flush(disk), 0);
		break;
	case 1:
		assert_int_equal(disk->ops->zero(disk, offset, count * SECTOR, random_below(2)), 0);
		memset(shadow + offset, 0, count * SECTOR);
		break;
	case 2:
		do_discard(disk, shadow, offset, count * SECTOR);
		break;
	case 3:
	case 4:
		check_read(disk, shadow, offset, count * SECTOR);
		break;
	default:
		do_write(disk, shadow, offset, count * SECTOR);
	}
}

static void check_by_us(const char *name)
{
	own_mem char *path = in_dir(name);
	struct disk_image_check found;
	struct error err = {0};

	if (disk_image_check(path, DISK_FORMAT_AUTO, false, &found, &err) < 0)
		fail_msg("%s", err.text);
	if (found.errors + found.leaks > 0)
		fail_msg("%llu errors, %llu leaks: %s", (unsigned long long)found.errors,
			 (unsigned long long)found.leaks, found.first);
}

struct variant {
	const char *make;       /* makes the image "disk" */
	const char *size_bytes; /* of it, for qemu-img */
	unsigned int operations;
};

#define COMPRESSED(how)                                                                              \
	"head -c 3000000 /dev/urandom >src; yes berth | head -c 3000000 >>src; truncate -s 8001536 " \
	"src; qemu-img convert -O qcow2 -c " how " src disk"

static const struct variant variants[] = {
	{"qemu-img create -f qcow2 disk 8001536", "8001536", 300},
	{"qemu-img create -f qcow2 -o compat=0.10 disk 8001536", "8001536", 300},
	{"qemu-img create -f qcow2 -o cluster_size=512 disk 3001344", "3001344", 300},
	{"qemu-img create -f qcow2 -o cluster_size=512,refcount_bits=64 disk 9001472", "9001472",
	 300},
	{"qemu-img create -f qcow2 -o cluster_size=2M disk 20M", "20971520", 200},
	{"qemu-img create -f qcow2 -o cluster_size=4k,refcount_bits=1 disk 8M", "8388608", 300},
	{"qemu-img create -f qcow2 -o cluster_size=4k,refcount_bits=4 disk 8M", "8388608", 300},
	{"qemu-img create -f qcow2 -o preallocation=metadata disk 8M", "8388608", 300},
	{COMPRESSED(""), "8001536", 300},
	{COMPRESSED("-o compat=0.10"), "8001536", 300},
	{COMPRESSED("-o compression_type=zstd"), "8001536", 300},
	{COMPRESSED("-o cluster_size=4k"), "8001536", 300},
	{"head -c 5000192 /dev/urandom >base && qemu-img create -f qcow2 -b base -F raw disk 8001536",
	 "8001536", 300},
	{"head -c 5000192 /dev/urandom >base && "
	 "qemu-img create -f qcow2 -o compat=0.10 -b base -F raw disk 8001536",
	 "8001536", 300},
	{"head -c 5000192 /dev/urandom >src && qemu-img convert -O qcow2 -c src base && "
	 "qemu-img create -f qcow2 -b base -F qcow2 middle 7000064 && "
	 "qemu-io -c 'write -P 7 1M 2M' middle && "
	 "qemu-img create -f qcow2 -b middle -F qcow2 disk 8001536",
	 "8001536", 300},
};

static void try_variant(const struct variant *v)
{
	size_t size = strtoul(v->size_bytes, NULL, 10);
	own_mem uint8_t *shadow = mem_new(size);
	struct disk *disk;

	shell("rm -f disk src base middle shadow before");
	shell(v->make);
	shell("qemu-img convert -O raw disk before");
	read_shadow("before", shadow, size);
	disk = open_disk("disk", 0);
	assert_int_equal(disk->size_bytes, size);
	check_read(disk, shadow, 0, size);
	for (unsigned int i = 0; i < v->operations; i++) {
		do_something(disk, shadow);
		if (i % 61 == 60) {
			disk_close(disk);
			check_by_us("disk");
			disk = open_disk("disk", 0);
		}
	}
	check_read(disk, shadow, 0, size);
	disk_close(disk);
	check_by_us("disk");
	write_shadow("shadow", shadow, size);
	shell("qemu-img check -q disk && qemu-img compare -q disk shadow");
}

static void random_operations_match_qemu(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(variants); i++) {
		print_message("%s\n", variants[i].make);
		try_variant(&variants[i]);
	}
}

/* --- our own images --------------------------------------------------------------------------------- */

static void create(const char *name, uint64_t size, const char *backing)
{
	own_mem char *path = in_dir(name), *below = backing ? in_dir(backing) : NULL;
	struct disk_image_new image = {
		.format = DISK_FORMAT_QCOW2, .size_bytes = size, .backing = below};
	struct error err = {0};

	if (disk_image_create(path, &image, &err) < 0)
		fail_msg("%s", err.text);
}

static void new_images_please_qemu(void **state)
{
	own_mem uint8_t *shadow = mem_new(8 << 20);
	own_mem char *path = in_dir("disk");
	struct error err = {0};
	struct disk *disk;

	(void)state;
	shell("rm -f disk overlay shadow");
	create("disk", 5 << 20, NULL);
	shell("qemu-img check -q disk && qemu-img info disk | grep -q 'virtual size: 5 MiB'");
	disk = open_disk("disk", 0);
	for (unsigned int i = 0; i < 100; i++)
		do_something(disk, shadow);
	disk_close(disk);
	create("overlay", 0, "disk");
	shell("qemu-img info overlay | grep -q '^backing file: disk' && qemu-img check -q overlay");
	disk = open_disk("overlay", 0);
	for (unsigned int i = 0; i < 100; i++)
		do_something(disk, shadow);
	disk_close(disk);
	write_shadow("shadow", shadow, 5 << 20);
	shell("qemu-img compare -q overlay shadow");
	free(path);
	path = in_dir("overlay");
	if (disk_image_grow(path, DISK_FORMAT_AUTO, 6 << 20, &err) < 0)
		fail_msg("%s", err.text);
	shell("truncate -s 6M shadow && qemu-img compare -q overlay shadow");
	shell("qemu-img check -q overlay");
}

static unsigned int reads;
/* What is to change before a vector is written. */
static uint8_t *changing;

/* NOLINTBEGIN: the names are the linker's */
ssize_t __real_pread64(int fd, void *data, size_t size, off_t offset);
ssize_t __real_preadv64(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_pread64(int fd, void *data, size_t size, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int count, off_t offset);

ssize_t __wrap_pread64(int fd, void *data, size_t size, off_t offset)
{
	reads++;
	return __real_pread64(fd, data, size, offset);
}

ssize_t __wrap_preadv64(int fd, const struct iovec *parts, int count, off_t offset)
{
	reads++;
	return __real_preadv64(fd, parts, count, offset);
}

ssize_t __wrap_pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
	if (changing)
		memcpy(changing, "QFI\xfb", 4);
	return __real_pwritev64(fd, parts, count, offset);
}
/* NOLINTEND */

/* A guest's request is cut into its pages. */
static void many_parts_are_read_at_once(void **state)
{
	enum {
		PAGE = 4096,
		PAGES = 64,
		BEGIN = 64 << 10 /* behind the first cluster is its table */
	};
	own_mem uint8_t *shadow = mem_new(PAGES * PAGE), *data = mem_new(PAGES * PAGE);
	struct iovec parts[PAGES];
	struct disk *disk;

	(void)state;
	shell("rm -f disk");
	create("disk", 1 << 20, NULL);
	disk = open_disk("disk", 0);
	for (unsigned int i = 0; i < PAGES * PAGE; i++)
		shadow[i] = (uint8_t)random_below(256);
	for (uint64_t at = 0; at <= BEGIN; at += BEGIN)
		assert_int_equal(
			disk->ops->write(disk, &(struct iovec){shadow, PAGES * PAGE}, 1, at), 0);
	for (unsigned int i = 0; i < PAGES; i++)
		parts[i] = (struct iovec){data + i * PAGE, PAGE};
	reads = 0;
	assert_int_equal(disk->ops->read(disk, parts, PAGES, BEGIN), 0);
	assert_int_equal(reads, 1);
	assert_memory_equal(data, shadow, PAGES * PAGE);
	disk_close(disk);
}

static void a_disk_grows_over_its_l1(void **state)
{
	own_mem char *path = in_dir("disk");
	struct error err = {0};
	struct disk *disk;
	uint8_t sector[SECTOR] = {7}, got[SECTOR];
	struct iovec part = {sector, SECTOR};

	(void)state;
	shell("rm -f disk && qemu-img create -f qcow2 -o cluster_size=4k disk 8M");
	disk = open_disk("disk", 0);
	assert_int_equal(disk->ops->write(disk, &part, 1, 8191 << 10), 0);
	disk_close(disk);
	if (disk_image_grow(path, DISK_FORMAT_AUTO, UINT64_C(1) << 36, &err) < 0)
		fail_msg("%s", err.text);
	disk = open_disk("disk", 0);
	part = (struct iovec){sector, SECTOR};
	assert_int_equal(disk->ops->write(disk, &part, 1, (UINT64_C(1) << 36) - SECTOR), 0);
	part = (struct iovec){got, SECTOR};
	assert_int_equal(disk->ops->read(disk, &part, 1, 8191 << 10), 0);
	assert_memory_equal(got, sector, SECTOR);
	disk_close(disk);
	shell("qemu-img check -q disk && qemu-img info disk | grep -q 'virtual size: 64 GiB'");
}

/* --- what is refused -------------------------------------------------------------------------------- */

static void expect_refusal(const char *name, unsigned int flags, const char *words)
{
	own_mem char *path = in_dir(name);
	struct disk *disk = NULL;
	struct error err = {0};

	assert_true(disk_open(path, DISK_FORMAT_AUTO, flags, &disk, &err) < 0);
	if (strstr(err.text, words) == NULL)
		fail_msg("\"%s\" does not contain \"%s\"", err.text, words);
}

static void put(const char *name, off_t offset, const void *bytes, size_t size)
{
	own_mem char *path = in_dir(name);
	own_fd int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_full_at(fd, bytes, size, offset), 0);
}

static void refuses_what_it_cannot_do(void **state)
{
	struct disk *disk;

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 disk 1M && qemu-img snapshot -c one disk");
	expect_refusal("disk", 0, "1 internal snapshot");
	disk_close(open_disk("disk", DISK_READ_ONLY));
	shell("rm -f *; qemu-img create -f qcow2 -o data_file=data,data_file_raw=on disk 1M");
	expect_refusal("disk", 0, "external data file");
	shell("rm -f *; qemu-img create -f qcow2 -o extended_l2=on disk 1M");
	expect_refusal("disk", 0, "extended L2 entries");
	shell("rm -f *; qemu-img create -f qcow2 disk 1M");
	put("disk", 79, "\x02", 1);
	expect_refusal("disk", 0, "marked as damaged");
	put("disk", 79, "\x01", 1);
	expect_refusal("disk", 0, "out of date");
	put("disk", 75, "\x80", 1);
	expect_refusal("disk", 0, "unknown incompatible feature 39");
	shell("rm -f *; qemu-img create -f qcow2 disk 1M");
	disk = open_disk("disk", 0);
	expect_refusal("disk", 0, "is using it");
	expect_refusal("disk", DISK_READ_ONLY, "is writing to it");
	disk_close(disk);
}

/* A file can say that it is larger than any disk can be. */
static void refuses_to_follow_a_size_beyond_all_disks(void **state)
{
	own_mem char *huge = in_dir("huge"), *path = in_dir("disk");
	const struct disk_image_new image = {.format = DISK_FORMAT_QCOW2, .backing = huge};
	const struct disk_image_copy copy = {.format = DISK_FORMAT_QCOW2};
	struct error err = {0};

	(void)state;
	shell("rm -f *; truncate -s 1E huge");
	assert_int_equal(disk_image_create(path, &image, &err), -EFBIG);
	assert_int_equal(disk_image_copy(huge, path, &copy, &err), -EFBIG);
	assert_non_null(strstr(err.text, "at most 1024 TiB"));
	shell("rm huge");
}

static void a_backing_file_elsewhere_needs_consent(void **state)
{
	(void)state;
	shell("rm -rf *; mkdir sub; qemu-img create -f qcow2 -b /etc/passwd -F raw disk 1M");
	expect_refusal("disk", 0, "outside of the image's directory");
	disk_close(open_disk("disk", DISK_BACKING_ANYWHERE));
	shell("rm -f disk; ln -s /etc/passwd link; qemu-img create -f qcow2 -b link -F raw disk 1M");
	expect_refusal("disk", 0, "outside of the image's directory");
	shell("rm -f disk; truncate -s 1M base; "
	      "qemu-img create -f qcow2 -b \"$PWD/base\" -F raw sub/disk 1M");
	expect_refusal("sub/disk", 0, "outside of the image's directory");
	shell("mv sub/disk disk; "
	      "qemu-img rebase -u -b \"$PWD/disk\" -F qcow2 disk");
	expect_refusal("disk", 0, "based on itself");
	shell("qemu-img rebase -u -b nbd://host/x -F raw disk");
	expect_refusal("disk", 0, "not a file's path");
	shell("rm -rf *");
}

static void a_raw_disk_cannot_become_another_format(void **state)
{
	uint8_t sector[SECTOR] = {'Q', 'F', 'I', 0xfb}, got[SECTOR];
	struct iovec parts[2] = {{sector, 3}, {sector + 3, SECTOR - 3}};
	struct disk *disk;

	(void)state;
	shell("rm -f *; truncate -s 1M disk");
	disk = open_disk("disk", 0);
	assert_int_equal(disk->ops->write(disk, parts, 2, 0), -EPERM);
	parts[0] = (struct iovec){sector, SECTOR};
	assert_int_equal(disk->ops->write(disk, parts, 1, SECTOR), 0);
	sector[0] = 0;
	parts[0] = (struct iovec){sector, SECTOR};
	assert_int_equal(disk->ops->write(disk, parts, 1, 0), 0);
	/* A guest that changes its mind when it has been looked at. */
	parts[0] = (struct iovec){sector, 3};
	parts[1] = (struct iovec){sector + 3, SECTOR - 3};
	sector[4] = 5;
	changing = sector;
	assert_int_equal(disk->ops->write(disk, parts, 2, 0), 0);
	changing = NULL;
	assert_int_equal(disk->ops->write(disk, parts, 0, 0), 0);
	read_shadow("disk", got, SECTOR);
	assert_memory_equal(got, "\0FI\xfb\5", 5);
	disk_close(disk);
}

/* --- damage ----------------------------------------------------------------------------------------- */

static void damage_is_found_and_not_spread(void **state)
{
	/* The entry of the first cluster: it points to the first block of counts. */
	static const uint8_t entry[] = {0x80, 0, 0, 0, 0, 2, 0, 0};
	uint8_t sector[SECTOR] = {1};
	struct iovec part = {sector, SECTOR};
	struct disk *disk;

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 disk 1M && qemu-io -c 'write 0 64k' disk");
	/* L2 is in the fifth cluster, after header, reference table, its block and L1. */
	put("disk", 4 << 16, entry, sizeof(entry));
	disk = open_disk("disk", 0);
	assert_int_equal(disk->ops->write(disk, &part, 1, 0), -EIO);
	part = (struct iovec){sector, SECTOR};
	assert_int_equal(disk->ops->write(disk, &part, 1, 512 << 10), -EIO);
	assert_int_equal(disk->ops->flush(disk), -EIO);
	disk_close(disk);
	expect_refusal("disk", 0, "marked as damaged");
}

/* Without its block of counts all is free, and the new block would lie over the table that is to name it. */
static void a_table_without_a_count_is_not_overwritten(void **state)
{
	static const uint8_t zero[8];
	own_mem uint8_t *table = mem_new(1 << 16), *expected = mem_new(1 << 16);
	own_mem char *path = in_dir("disk");
	uint8_t sector[SECTOR] = {1};
	struct iovec part = {sector, SECTOR};
	struct disk *disk;
	int fd;

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 disk 1M");
	put("disk", 1 << 16, zero, sizeof(zero));
	disk = open_disk("disk", 0);
	assert_int_equal(disk->ops->write(disk, &part, 1, 0), -EIO);
	disk_close(disk);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(fd_read_full_at(fd, table, 1 << 16, 1 << 16), 1 << 16);
	close(fd);
	assert_memory_equal(table, expected, 1 << 16);
}

/* What reading takes for damage a check does, too; what the entry names is still in use. */
static void reserved_bits_of_l1_are_found(void **state)
{
	own_mem char *path = in_dir("disk");
	struct disk_image_check found;
	struct error err = {0};

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 disk 1M && qemu-io -c 'write 0 64k' disk");
	put("disk", (3 << 16) + 7, "\x01", 1);
	assert_int_equal(disk_image_check(path, DISK_FORMAT_AUTO, false, &found, &err), 0);
	assert_int_equal(found.errors, 1);
	assert_int_equal(found.leaks, 0);
	assert_non_null(strstr(found.first, "reserved bits"));
}

static void an_empty_disk_is_sound(void **state)
{
	const struct disk_image_new image = {.format = DISK_FORMAT_QCOW2};
	own_mem char *path = in_dir("disk");
	struct error err = {0};

	(void)state;
	shell("rm -f *");
	assert_int_equal(disk_image_create(path, &image, &err), 0);
	check_by_us("disk");
}

static void leaks_and_low_counts_are_mended(void **state)
{
	static const uint8_t zero[2], one[] = {0, 1};
	own_mem char *path = in_dir("disk");
	struct disk_image_check found;
	struct error err = {0};

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 disk 1M && qemu-io -c 'write -P 5 0 128k' disk");
	/* The counts begin in the third cluster: clusters 5 and 6 are data; 9 is nothing. */
	put("disk", (2 << 16) + 2 * 5, zero, 2);
	put("disk", (2 << 16) + 2 * 9, one, 2);
	shell("truncate -s 655360 disk");
	assert_int_equal(disk_image_check(path, DISK_FORMAT_AUTO, false, &found, &err), 0);
	assert_int_equal(found.errors, 1);
	assert_int_equal(found.leaks, 1);
	assert_int_equal(disk_image_check(path, DISK_FORMAT_AUTO, true, &found, &err), 0);
	assert_int_equal(found.mended, 2);
	check_by_us("disk");
	shell("qemu-img check -q disk && qemu-io -c 'read -P 5 0 128k' disk");
}

/* There are 64 of them, and only the known ones have names. */
static void an_unknown_feature_is_named_by_its_number(void **state)
{
	static const uint8_t bit34[8] = {0, 0, 0, 4};

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 disk 1M");
	put("disk", 72, bit34, sizeof(bit34));
	expect_refusal("disk", 0, "the unknown incompatible feature 34");
}

/* A count may be as large as its 64 bits: counting down to what is right would take for ever. */
static void huge_counts_are_mended(void **state)
{
	static const uint8_t huge[8] = {0x7f};
	own_mem char *path = in_dir("disk");
	struct disk_image_check found;
	struct error err = {0};

	(void)state;
	shell("rm -f *; qemu-img create -f qcow2 -o refcount_bits=64 disk 1M && "
	      "qemu-io -c 'write -P 5 0 128k' disk");
	put("disk", (2 << 16) + 8 * 5, huge, sizeof(huge));
	assert_int_equal(disk_image_check(path, DISK_FORMAT_AUTO, false, &found, &err), 0);
	assert_int_equal(found.leaks, 1);
	assert_int_equal(disk_image_check(path, DISK_FORMAT_AUTO, true, &found, &err), 0);
	assert_int_equal(found.mended, 1);
	check_by_us("disk");
	shell("qemu-img check -q disk && qemu-io -c 'read -P 5 0 128k' disk");
}

static int begin(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int finish(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_operations_match_qemu),
		cmocka_unit_test(new_images_please_qemu),
		cmocka_unit_test(many_parts_are_read_at_once),
		cmocka_unit_test(a_disk_grows_over_its_l1),
		cmocka_unit_test(refuses_what_it_cannot_do),
		cmocka_unit_test(refuses_to_follow_a_size_beyond_all_disks),
		cmocka_unit_test(a_backing_file_elsewhere_needs_consent),
		cmocka_unit_test(a_raw_disk_cannot_become_another_format),
		cmocka_unit_test(damage_is_found_and_not_spread),
		cmocka_unit_test(a_table_without_a_count_is_not_overwritten),
		cmocka_unit_test(reserved_bits_of_l1_are_found),
		cmocka_unit_test(an_empty_disk_is_sound),
		cmocka_unit_test(leaks_and_low_counts_are_mended),
		cmocka_unit_test(an_unknown_feature_is_named_by_its_number),
		cmocka_unit_test(huge_counts_are_mended),
	};

	return cmocka_run_group_tests(tests, begin, finish);
}
