/*
 * image: disk images as files: making, growing, copying, looking at and checking them.
 *
 * An image that is new is made under a temporary name beside its place and renamed when it is complete
 * and on the medium, so that a name never stands for half an image.
 */
#pragma once

#include "vmm/disk/disk.h"

/* The largest disk: more than any file system of today holds. */
#define DISK_SIZE_MAX (UINT64_C(1) << 50)

struct disk_image_new {
	enum disk_format format; /* not AUTO */
	uint64_t size_bytes;     /* 0 with `backing`: the backing file's */
	const char *backing;     /* NULL: none; else a file that must not be written to any more */
	enum disk_format backing_format; /* AUTO: its contents say */
};

/* Makes an image. -EEXIST: there is a file; a size that is no multiple of 512 is rounded up. */
int disk_image_create(const char *path, const struct disk_image_new *image,
		      struct error *err) must_check;

/* Makes an image larger; what is new reads as zero. -EINVAL: that would be smaller; -EBUSY: in use. */
int disk_image_grow(const char *path, enum disk_format format, uint64_t size_bytes,
		    struct error *err) must_check;

struct disk_image_copy {
	enum disk_format from_format;
	enum disk_format format; /* of the copy; not AUTO */
	unsigned int flags;      /* DISK_BACKING_ANYWHERE */
	/* Reports progress, may be NULL. */
	void (*progress)(uint64_t done, uint64_t size, void *data);
	void *data;
};
/* Copies what a guest would read to a new image, which is based on nothing; zeroes take no space. */
int disk_image_copy(const char *from, const char *to, const struct disk_image_copy *options,
		    struct error *err) must_check;

struct disk_image_info {
	enum disk_format format;
	uint64_t size_bytes;    /* what the guest sees */
	uint64_t file_bytes;    /* how long the file is */
	uint64_t used_bytes;    /* what it takes on the host */
	uint64_t cluster_bytes; /* 0: raw */
	unsigned int version;   /* of qcow2 */
	unsigned int snapshots;
	bool is_zstd, is_dirty, is_damaged;
	char backing[1024]; /* as the image names it; "": none */
	char backing_format[16];
};
/* Reads only the file itself, which need not be whole. */
int disk_image_look(const char *path, enum disk_format format, struct disk_image_info *ret,
		    struct error *err) must_check;

struct disk_image_check {
	uint64_t clusters, used;
	uint64_t leaks;  /* clusters that are counted and used by nothing: harmless, only space */
	uint64_t errors; /* contradictions: counts that are too low, impossible entries */
	uint64_t mended; /* of both */
	char first[160]; /* the first error in words */
};
/* Compares the tables of a qcow2 image with its counts. With `repair` counts are set right, which mends
 * leaks and counts that are too low, and the marks "damaged" and "out of date" are taken away when
 * nothing is left. A raw image has nothing to check. */
int disk_image_check(const char *path, enum disk_format format, bool repair,
		     struct disk_image_check *ret, struct error *err) must_check;
