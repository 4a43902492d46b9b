/*
 * timer: deadlines of the machine's devices, on the monotonic clock, fired by the device thread.
 *
 * Any thread may set a timer; `fire` is called on the device thread without any lock held and takes
 * the lock of its device itself. Between two such steps the timer may have been set anew: a device
 * therefore compares the clock with its own state under its lock rather than trusting the call.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "base/error.h"

#define TIMER_NEVER INT64_MAX

struct timer {
	int64_t deadline_ns; /* monotonic; TIMER_NEVER */
	void (*fire)(struct timer *timer);
	int index; /* in the queue's array, -1 while it is not waiting */
};

enum { TIMERS_MAX = 1024 };

struct timer_queue {
	pthread_mutex_t lock;
	int fd; /* a timerfd, set to the first deadline: for the device thread's poll */
	unsigned int count;
	struct timer *waiting[TIMERS_MAX]; /* a binary heap by deadline */
};

int timer_queue_init(struct timer_queue *queue) must_check;
void timer_queue_release(struct timer_queue *queue);
/* Fires everything that is due. Called when `fd` is readable. */
void timer_queue_run(struct timer_queue *queue);

void timer_init(struct timer *timer, void (*fire)(struct timer *timer));
/* Sets, moves or (TIMER_NEVER) cancels. */
void timer_set(struct timer_queue *queue, struct timer *timer, int64_t deadline_ns);
