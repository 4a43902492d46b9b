/*
 * disk: where the sectors of a disk are kept, as one table with an implementation for each form. The
 * device in front of it (virtio/blk.c) has checked that a transfer is within the disk.
 *
 * One thread at a time uses a disk.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/own.h"

struct disk;

struct disk_ops {
	const char *name;
	/* Move whole vectors, which they may change; `offset` in bytes. 0 or -errno. */
	int (*read)(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset);
	int (*write)(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset);
	/* What was written is on the medium on return. */
	int (*flush)(struct disk *disk);
	/* The content may be forgotten; what cannot be released stays, which is success. */
	int (*discard)(struct disk *disk, uint64_t offset, uint64_t size);
	/* Reads as zero afterwards; the space may be given back if `may_unmap`. */
	int (*zero)(struct disk *disk, uint64_t offset, uint64_t size, bool may_unmap);
	void (*close)(struct disk *disk);
};

struct disk {
	const struct disk_ops *ops;
	uint64_t size_bytes;
	bool read_only;
};
static inline void disk_close(struct disk *disk)
{
	disk->ops->close(disk);
}
OWN_DEFINE(own_disk, struct disk *, disk_close);
#define own_disk __attribute__((cleanup(own_disk_release)))

/* A raw file or block device, which it takes unless it fails. -EINVAL: neither of them. */
int disk_open_raw(int fd, bool read_only, struct disk **ret) must_check;

enum { DISK_STACK_ALIGN = 4096, DISK_STACK_MAX = 256 };
/* A read-only disk that is several files one behind the other, each from a multiple of
 * DISK_STACK_ALIGN on; between them are zeroes. The files are not copied, so one page cache serves all
 * machines that have them. Takes the descriptors unless it fails. -EINVAL: one is no file, -E2BIG. */
int disk_open_stack(const int *fds, unsigned int count, struct disk **ret) must_check;

/* Moves a whole vector, over short transfers. */
int disk_transfer(int fd, bool in, struct iovec *parts, unsigned int count,
		  uint64_t offset) must_check;
