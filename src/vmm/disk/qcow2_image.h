/* qcow2_image: what image.c needs of the format qcow2. */
#pragma once

#include "vmm/disk/image.h"

/* Writes an empty image to the empty file `fd`. backing "": none. */
int qcow2_create(int fd, uint64_t size, const char *backing, const char *backing_format,
		 struct error *err) must_check;
/* For a disk that is a writable qcow2 image: makes it larger. 0 or -errno. */
int qcow2_grow(struct disk *disk, uint64_t size) must_check;
/* Checks the image `fd` (image.h), which it takes; it is locked by the caller and, with `repair`,
 * writable. */
int qcow2_check(int fd, bool repair, struct disk_image_check *ret, struct error *err) must_check;
/* The number of entries of L1 that a disk of `size` bytes needs. */
uint64_t qcow2_l1_entries(uint64_t size, unsigned int cluster_bits);
