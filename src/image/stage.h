/*
 * stage: work that follows ours, done by a thread of its own, buffer by buffer and in order.
 *
 *     void *room = stage_room(stage);      STAGE_ROOM bytes, to be filled
 *     rc = stage_send(stage, len, err);    now the thread's, and back to us when it is done
 *     ...
 *     rc = stage_drain(stage, err);        all of it is done
 *
 * A thread, although berth otherwise divides work between processes: what passes here is what a layer
 * unpacks to, and a second process would need it copied, or in shared memory with locks that survive a
 * death. This thread lives in the process of one layer (jobs.h), which ends with it as a whole.
 *
 * One thread may call. The function's context is the thread's alone from stage_create on, and ours again
 * after stage_drain.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "base/own.h"

enum { STAGE_ROOM = 256 << 10, STAGE_BUFFERS = 4 };

/* In the thread. 0, or -errno with a reason: then nothing more is given to it. */
typedef int stage_fn(const void *data, size_t len, void *context, struct error *err);

struct stage;
int stage_create(stage_fn *fn, void *context, struct stage **ret, struct error *err) must_check;
/* Ends the thread after the buffer it is at. NULL is accepted. */
void stage_destroy(struct stage *s);
OWN_DEFINE(own_stage, struct stage *, stage_destroy);
#define own_stage __attribute__((cleanup(own_stage_release)))

/* The buffer to be filled next; the same one until it is sent. Waits until one is free. */
void *stage_room(struct stage *s);
/* Gives the first `len` bytes of it to the thread. Returns the function's error if it has failed since. */
int stage_send(struct stage *s, size_t len, struct error *err) must_check;
/* Waits until all that was sent is done. Returns the function's error, again and again. */
int stage_drain(struct stage *s, struct error *err) must_check;
