/*
 * frame: JSON objects over a stream socket, each with its length in front (protocol.h). Both ends use
 * it; the other end may be hostile. Plain values; one thread.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

enum { FRAME_MAX = 8 << 20 };

/* What has arrived of the next message. Starts zeroed. */
struct frame_in {
	struct buf data;
	bool stop_after; /* read no byte beyond the message: what follows is somebody else's */
};
/* Reads from `fd`, blocking or not. 1: *ret is the next message (an object, the caller's); 0: nothing
 * complete yet, on a non-blocking descriptor; -EPIPE at the end; -EPROTO: too long or no object. */
int frame_receive(struct frame_in *in, int fd, json_t **ret) must_check;
void frame_in_release(struct frame_in *in);

/* What waits to be sent. Starts zeroed. */
struct frame_out {
	struct buf data;
	size_t sent;
};
/* Adds a message. */
void frame_add(struct frame_out *out, const json_t *message);
/* Sends what there is. 0: all is sent; 1: more waits, on a non-blocking descriptor; -EPIPE. */
int frame_flush(struct frame_out *out, int fd) must_check;
void frame_out_release(struct frame_out *out);

/* Blocking: sends one message. 0 or -errno. */
int frame_send(int fd, const json_t *message) must_check;

/* {"code","status","text","hint"} and back. */
json_t *frame_error(const struct error *err);
/* Fills `err` if the message has an "error" and returns its code, else 0. */
int frame_get_error(const json_t *message, struct error *err) must_check;
