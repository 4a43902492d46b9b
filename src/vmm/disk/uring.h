/*
 * uring: reads of a file, and waiting for its medium, that go on while the caller does other things: Linux's
 * io_uring (io_uring(7)), by its system calls.
 *
 * The ring is shut in before it is used: the kernel takes no operation from it but reading and flushing, so
 * that whoever breaks into the process gains nothing by it.
 *
 * One thread at a time uses a ring. What a request names must stay as it is until the request is done.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

struct uring;

struct uring_done {
	void *tag;
	int result; /* bytes read, 0 for a flush, or -errno */
};

/* Makes a ring for up to `depth` requests at once (a power of two). -ENOSYS, -EPERM and others: the host
 * has none for us, and the caller does without. */
int uring_create(unsigned int depth, struct uring **ret) must_check;
/* Nothing may be under way. */
void uring_destroy(struct uring *ring);

/* A descriptor that is readable while something is done and has not been taken. */
int uring_fd(const struct uring *ring);

/* Prepare a request; there are fewer than `depth`. They begin with uring_submit. */
void uring_read(struct uring *ring, int fd, const struct iovec *parts, unsigned int count,
		uint64_t offset, void *tag);
void uring_flush(struct uring *ring, int fd, void *tag);
/* Whether something is prepared. */
bool uring_has_prepared(const struct uring *ring);
/* Begins what has been prepared, and waits until `wait` requests or more are done. What the host has in
 * memory is read on return. 0 or -errno: then what has been prepared stays so. */
int uring_submit(struct uring *ring, unsigned int wait) must_check;
/* The next one that is done; false: none is now. */
bool uring_take(struct uring *ring, struct uring_done *ret);
