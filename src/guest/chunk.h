/*
 * chunk: a stream of bytes of unknown length on a connection where something follows: pieces, each with
 * its length in front in four bytes, the lowest first, and an empty one at the end. Both ends use it; the
 * other end may be hostile. For blocking sockets; a timeout of the socket's (SO_RCVTIMEO) is -ETIMEDOUT.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

enum { CHUNK_MAX = 256 << 10 };

/* Sends `len` bytes, in as many pieces as it takes. -EPIPE: nobody reads. */
int chunk_send(int fd, const void *data, size_t len) must_check;
/* Sends the end. */
int chunk_end(int fd) must_check;
/* Receives a piece into `data`, which has CHUNK_MAX bytes. Its length, 0 at the end; -EPROTO, -EPIPE. */
ssize_t chunk_receive(int fd, void *data) must_check;
