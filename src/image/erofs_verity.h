/*
 * erofs_verity: the fs-verity digest of a file (Linux: Documentation/filesystems/fsverity.rst; SHA-256,
 * blocks of 4096 bytes, no salt) that is written from its second block on and whose first block comes
 * last. A plain digest would have to start with the first block, and so read everything again; a tree
 * of digests does not, and the kernel can check it by itself, page by page, where it is enabled.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"

struct verity;

struct verity *verity_create(void);
void verity_destroy(struct verity *v);
/* The next `count` blocks, from the file's second on. */
void verity_add(struct verity *v, const void *blocks, size_t count);
/* The same for blocks of zeros. */
void verity_add_zeros(struct verity *v, uint64_t count);
/* The first block, with which the file is complete. */
void verity_end(struct verity *v, const void *first_block, struct digest *ret);
/* The digest of a file of any size, read from its start. 0 or -errno. */
int verity_of_fd(int fd, struct digest *ret) must_check;
/* What the kernel says of a file on which fs-verity is enabled. -ENODATA or -EOPNOTSUPP if not. */
int verity_measure(int fd, struct digest *ret) must_check;
/* Makes the file immutable, and its pages checked by the kernel. Nobody may have it open for writing. -EOPNOTSUPP
 * or -ENOTTY where the file system or the kernel cannot. */
int verity_enable(int fd) must_check;
