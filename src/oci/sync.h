/*
 * sync: the conversation between the runtime and the process it creates, over a socket pair.
 *
 * Each message is one byte, with descriptors or a struct error where the kind has them. The end of the
 * conversation without a message means: the child has executed its program (its end is close-on-exec),
 * or the parent is gone, upon which the child ends.
 */
#pragma once

#include "base/error.h"

enum sync_kind {
	SYNC_END = 0,        /* the other end is closed */
	SYNC_ERROR = 'e',    /* child: failed, with a struct error */
	SYNC_HOOKS = 'h',    /* child: the namespaces are there, the root is not yet changed; after
			      * SYNC_READY: hooks of its own run now, with a file that says "over" when
			      * they have succeeded (its first byte is 1) */
	SYNC_TERMINAL = 't', /* child: the pty's master, as a descriptor */
	SYNC_READY = 'r',    /* child: everything is done but executing the program */
	SYNC_GO = 'g',       /* parent: carry on */
};

/* Sends a message, with a descriptor unless `fd` is -1. */
int sync_send(int sock, enum sync_kind kind, int fd) must_check;
/* Sends an error; for a process that ends next. */
void sync_send_error(int sock, const struct error *err);
/* Receives a message. SYNC_ERROR fills *err and returns its code; *ret_fd (may be NULL) gets the
 * descriptor or -1. Returns the kind, -errno. */
int sync_receive(int sock, int *ret_fd, struct error *err) must_check;
/* After SYNC_READY: waits until the program is executed. 0 or -errno, -ECHILD if the child was killed while
 * hooks of its own ran. */
int sync_await_execution(int sock, struct error *err) must_check;
/* The child's side: waits for SYNC_GO; ends the process if the parent is gone. */
int sync_wait_go(int sock, struct error *err) must_check;
