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
	/* A file whose bytes are the sectors, which may be read without the disk; else -1. */
	int plain_fd;
};
static inline void disk_close(struct disk *disk)
{
	disk->ops->close(disk);
}
OWN_DEFINE(own_disk, struct disk *, disk_close);
#define own_disk __attribute__((cleanup(own_disk_release)))

/* The most parts of a vector that a disk is given. */
enum { DISK_PARTS_MAX = 260 };

enum disk_format { DISK_FORMAT_AUTO, DISK_FORMAT_RAW, DISK_FORMAT_QCOW2 };
/* "raw", "qcow2"; -EINVAL for anything else. */
int disk_format_parse(const char *name, enum disk_format *ret) must_check;

const char *disk_format_name(enum disk_format format);

enum disk_open_flags {
	DISK_READ_ONLY = 1,
	/* A qcow2 image may name a backing file in any directory. Without it only in the image's own and
	 * below: an image from somewhere could else show the guest any file of the host. */
	DISK_BACKING_ANYWHERE = 2,
};
/*
 * Opens a disk image with everything it is based on, and locks it: one writer, or any number of
 * readers; backing files are only read.
 *
 * With DISK_FORMAT_AUTO the contents say what it is. A disk that looked raw then refuses to be given the
 * first bytes of another format: else a guest could make the next start open files of its choice.
 * -EBUSY: somebody else has it; -EINVAL: damaged; -ENOTSUP: a feature that is not supported.
 */
int disk_open(const char *path, enum disk_format format, unsigned int flags, struct disk **ret,
	      struct error *err) must_check;

/* A raw file or block device, which it takes unless it fails. -EINVAL: neither of them. */
int disk_open_raw(int fd, bool read_only, struct disk **ret) must_check;
/* The guard that disk_open speaks of, for a disk from disk_open_raw. */
void disk_raw_guard(struct disk *disk);

enum { DISK_STACK_ALIGN = 4096, DISK_STACK_MAX = 256 };
/* A read-only disk that is several files one behind the other, each from a multiple of
 * DISK_STACK_ALIGN on; between them are zeroes. The files are not copied, so one page cache serves all
 * machines that have them. Takes the descriptors unless it fails. -EINVAL: one is no file, -E2BIG. */
int disk_open_stack(const int *fds, unsigned int count, struct disk **ret) must_check;

/* Takes `done` bytes, no more than there are, off the front of a vector. */
void disk_advance(struct iovec **parts, unsigned int *count, size_t done);
/* Moves a vector, over short transfers, up to the end of the file; what is left stands in *parts and *count. */
int disk_transfer_some(int fd, bool in, struct iovec **parts, unsigned int *count,
		       uint64_t offset) must_check;
/* Moves a whole vector. -EIO: the file ends within. */
int disk_transfer(int fd, bool in, struct iovec *parts, unsigned int count,
		  uint64_t offset) must_check;
