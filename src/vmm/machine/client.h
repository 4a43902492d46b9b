/*
 * client: the other end of a machine's control socket (control.h), for those who own the machine.
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

/* Connects to the control socket at `path`. Replies that take longer than `timeout_ms` are errors.
 * The descriptor or -errno. */
int control_connect(const char *path, int64_t timeout_ms, struct error *err) must_check;
/* The same for a path of any length below the directory `dirfd`. */
int control_connect_at(int dirfd, const char *path, int64_t timeout_ms,
		       struct error *err) must_check;

/* Sends a request with `count` descriptors (at most SOCK_FDS_MAX, which stay the caller's) and waits for
 * the reply, whose result becomes *ret_result (may be NULL). What the machine refuses is an error with
 * its words and code. 0, -errno; -EPROTO for what is no reply. */
int control_call(int fd, json_t *request, const int *fds, unsigned int count, json_t **ret_result,
		 struct error *err) must_check;
/* The same for a request without arguments. */
int control_do(int fd, const char *what, json_t **ret_result, struct error *err) must_check;

/* Has the machine write a snapshot to the directory `path`, which must not exist; it then does `then`:
 * "run", "pause", "stop", or NULL: what it did before. On failure nothing is left of the directory. The
 * directory appears when it is complete, and on disk if `durable`. */
int control_snapshot(int fd, const char *path, const char *then, bool durable,
		     struct error *err) must_check;
