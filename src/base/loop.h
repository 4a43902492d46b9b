/*
 * loop: one epoll loop per process. Callbacks never block. Timers are deadlines on the monotonic
 * clock. Small on purpose: the monitor of every workload contains one.
 *
 * Invariants
 *   L1  a callback may remove any source, itself included, also one whose event is pending: removed
 *       sources are freed only between rounds.
 *   L2  a source is removed before its descriptor is closed, else its number, used again, would be
 *       taken out in its place.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct loop;
struct loop_source;

/* `events` are epoll's (EPOLLIN, EPOLLOUT, EPOLLHUP, ...). */
typedef void loop_io_fn(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			void *data);
typedef void loop_timer_fn(struct loop *loop, struct loop_source *source, void *data);
typedef void loop_signal_fn(struct loop *loop, struct loop_source *source, int signal, void *data);

int loop_create(struct loop **ret) must_check;
void loop_destroy(struct loop *loop);

/* Watches a descriptor, which stays the caller's. */
int loop_add_io(struct loop *loop, int fd, uint32_t events, loop_io_fn *fn, void *data,
		struct loop_source **ret) must_check;
/* Changes what is waited for; 0 pauses. */
int loop_set_events(struct loop_source *source, uint32_t events) must_check;
/* Calls `fn` once, `delay_ms` from now; the source stays and can be set again. */
int loop_add_timer(struct loop *loop, int64_t delay_ms, loop_timer_fn *fn, void *data,
		   struct loop_source **ret) must_check;
void loop_set_timer(struct loop_source *source, int64_t delay_ms); /* negative: never */
/* Blocks the signal (for good: removing the source does not unblock it) and delivers it as an event. */
int loop_add_signal(struct loop *loop, int signal, loop_signal_fn *fn, void *data,
		    struct loop_source **ret) must_check;
void loop_remove(struct loop_source *source); /* NULL is accepted */

/* Runs until loop_stop is called from a callback; returns what was given to it, or -errno. */
int loop_run(struct loop *loop) must_check;
void loop_stop(struct loop *loop, int result);
