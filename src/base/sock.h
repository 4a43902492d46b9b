/*
 * sock: Unix sockets, with paths of any length (through a directory descriptor), and descriptors
 * sent over them.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/error.h"

enum { SOCK_FDS_MAX = 8 };

/* Creates, binds (mode 0600; replaces a socket of that name, whether or not somebody listens on it:
 * the caller holds a lock) and listens. -EADDRINUSE if another kind of file has the name. `type` is SOCK_STREAM or
 * SOCK_SEQPACKET, with SOCK_NONBLOCK if wanted. Returns the descriptor or -errno. */
int sock_listen(int dirfd, const char *name, int type) must_check;
/* Connects. -errno (-ECONNREFUSED, -ENOENT if nobody listens). */
int sock_connect(int dirfd, const char *name, int type) must_check;
/* A connected pair, close-on-exec. 0 or -errno. */
int sock_pair(int type, int ret_fds[static 2]) must_check;

/* Sends `len` > 0 bytes together with `count` <= SOCK_FDS_MAX descriptors; no SIGPIPE. 0 or
 * -errno; -EMSGSIZE if a stream socket took only a part. */
int sock_send_fds(int fd, const void *data, size_t len, const int *fds, size_t count) must_check;
/* Receives one message and its descriptors (close-on-exec). Returns the byte count, 0 at the end,
 * -errno; descriptors beyond `max` are closed. -EMSGSIZE for a message longer than `len`. */
ssize_t sock_receive_fds(int fd, void *data, size_t len, int *ret_fds, size_t max,
			 size_t *ret_count) must_check;
