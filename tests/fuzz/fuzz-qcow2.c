/* Fuzzes disks in qcow2 files: the bytes are a file that is opened, read, written, checked and mended.
 * Reads and writes must stay in the disk; what was written must be read again; an image that contradicts
 * itself nowhere stays so. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_image.h"
#include "vmm/disk/qcow2_priv.h"

enum {
	PIECE = 1536,
	TABLE_MAX = 32 << 10,
	CLUSTER_BITS_MAX = 12,
	BACKING = 3 << 10,
	GROWTH = 16 << 10,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The input as a file in memory: the same one again, which costs less than a new one. */
static int get_file(const uint8_t *data, size_t len)
{
	static int file = -1;
	int fd;

	if (file < 0)
		file = memfd_create("disk", MFD_CLOEXEC);
	fd = fcntl(file, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || ftruncate(fd, (off_t)len) < 0 || fd_write_full_at(fd, data, len, 0) < 0)
		abort();
	return fd;
}

static void use(struct disk *disk)
{
	uint8_t piece[PIECE], got[PIECE];
	struct iovec part;

	for (unsigned int i = 0; i < 8; i++) {
		uint64_t offset = disk->size_bytes / 8 * i & ~(uint64_t)511;

		if (disk->size_bytes < PIECE || offset > disk->size_bytes - PIECE)
			continue;
		part = (struct iovec){got, PIECE};
		if (disk->ops->read(disk, &part, 1, offset) < 0 || disk->read_only)
			continue;
		memset(piece, (int)i + 1, PIECE);
		part = (struct iovec){piece, PIECE};
		if (disk->ops->write(disk, &part, 1, offset) < 0)
			continue;
		part = (struct iovec){got, PIECE};
		if (disk->ops->read(disk, &part, 1, offset) == 0 && memcmp(piece, got, PIECE) != 0)
			abort();
		if (i == 5 && disk->ops->flush(disk) < 0)
			continue;
		if (i % 3 == 1 && disk->ops->zero(disk, offset, PIECE, true) < 0)
			continue;
		if (i % 3 == 2 && disk->ops->discard(disk, offset, PIECE) < 0)
			continue;
	}
}

/* Large tables only take time. */
static bool is_small(const struct qcow2_header *h)
{
	return h->cluster_bits <= CLUSTER_BITS_MAX && h->l1_entries <= TABLE_MAX / 8 &&
	       (uint64_t)h->reftable_clusters << h->cluster_bits <= TABLE_MAX;
}

/* Shorter than most disks, and different from what is written. */
static struct disk *make_backing(void)
{
	static const uint8_t data[BACKING] = {[0 ... BACKING - 1] = 0xba};
	int fd = memfd_create("backing", MFD_CLOEXEC);
	struct disk *disk;

	if (fd < 0 || fd_write_full(fd, data, sizeof(data)) < 0 ||
	    disk_open_raw(fd, true, &disk) < 0)
		abort();
	return disk;
}

/* Takes the file. With `grow` the disk is made larger before it is used. */
static void try(int fd, const struct qcow2_header *header, bool read_only, bool grow)
{
	own_fd int owned = fd;
	struct qcow2 *q = NULL;
	struct error err = {0};

	if (qcow2_open(fd, read_only, header, &q, &err) < 0)
		return;
	(void)take(owned);
	if (header->backing[0])
		q->backing = make_backing();
	/* The tables of a disk as small as these would never have to make place for each other. */
	q->l2.count = q->refblocks.count = QCOW2_CACHE_TABLES_MIN;
	if (!grow || qcow2_grow(&q->disk, q->disk.size_bytes + GROWTH) == 0)
		use(&q->disk);
	disk_close(&q->disk);
}

/* Whether the image contradicts itself nowhere. */
static bool is_sound(int fd)
{
	struct disk_image_check found;

	return qcow2_check(fd, false, &found, NULL) == 0 && found.errors == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	own_mem struct qcow2_header *header = mem_new(sizeof(*header));
	own_fd int fd = get_file(data, len);
	struct disk_image_check found;
	struct error err = {0};
	bool sound;

	log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN, 2);
	if (qcow2_header_read(fd, header, &err) < 0) {
		if (err.text[0] == '\0')
			abort();
		return 0;
	}
	if (!is_small(header))
		return 0;
	try(fcntl(fd, F_DUPFD_CLOEXEC, 0), header, true, false);
	sound = is_sound(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	try(fcntl(fd, F_DUPFD_CLOEXEC, 0), header, false, len % 2);
	if (sound && !is_sound(fcntl(fd, F_DUPFD_CLOEXEC, 0)))
		abort();
	if (qcow2_check(get_file(data, len), true, &found, &err) < 0 && err.text[0] == '\0')
		abort();
	return 0;
}
