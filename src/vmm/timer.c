/* timer: see timer.h. A binary heap in which every timer knows its place, so that moving one, which is
 * what a guest's tick does thousands of times a second, costs O(log n) and at most one system call. */
#include "vmm/timer.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/own.h"

int timer_queue_init(struct timer_queue *queue)
{
	memset(queue, 0, sizeof(*queue));
	queue->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (queue->fd < 0)
		return -errno;
	pthread_mutex_init(&queue->lock, NULL);
	return 0;
}

void timer_queue_release(struct timer_queue *queue)
{
	fd_close(&queue->fd);
	pthread_mutex_destroy(&queue->lock);
}

void timer_init(struct timer *timer, void (*fire)(struct timer *timer))
{
	*timer = (struct timer){.deadline_ns = TIMER_NEVER, .fire = fire, .index = -1};
}

static void place(struct timer_queue *queue, unsigned int i, struct timer *timer)
{
	queue->waiting[i] = timer;
	timer->index = (int)i;
}

static void sift_up(struct timer_queue *queue, unsigned int i, struct timer *timer)
{
	for (; i > 0; i = (i - 1) / 2) {
		struct timer *parent = queue->waiting[(i - 1) / 2];

		if (parent->deadline_ns <= timer->deadline_ns)
			break;
		place(queue, i, parent);
	}
	place(queue, i, timer);
}

static void sift_down(struct timer_queue *queue, unsigned int i, struct timer *timer)
{
	for (;;) {
		unsigned int child = 2 * i + 1;

		if (child >= queue->count)
			break;
		if (child + 1 < queue->count &&
		    queue->waiting[child + 1]->deadline_ns < queue->waiting[child]->deadline_ns)
			child++;
		if (queue->waiting[child]->deadline_ns >= timer->deadline_ns)
			break;
		place(queue, i, queue->waiting[child]);
		i = child;
	}
	place(queue, i, timer);
}

static void take_out(struct timer_queue *queue, struct timer *timer)
{
	unsigned int i = (unsigned int)timer->index;
	struct timer *last = queue->waiting[--queue->count];

	timer->index = -1;
	if (last == timer)
		return;
	if (i > 0 && queue->waiting[(i - 1) / 2]->deadline_ns > last->deadline_ns)
		sift_up(queue, i, last);
	else
		sift_down(queue, i, last);
}

static void arm(struct timer_queue *queue)
{
	struct itimerspec when = {0};

	if (queue->count) {
		int64_t ns = queue->waiting[0]->deadline_ns;

		/* Zero would disarm; a deadline in the past fires at once. */
		when.it_value.tv_sec = ns > 0 ? ns / 1000000000 : 0;
		when.it_value.tv_nsec = ns > 0 ? ns % 1000000000 : 1;
	}
	timerfd_settime(queue->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

void timer_set(struct timer_queue *queue, struct timer *timer, int64_t deadline_ns)
{
	const struct timer *first;
	int64_t before;

	pthread_mutex_lock(&queue->lock);
	first = queue->count ? queue->waiting[0] : NULL;
	before = first ? first->deadline_ns : TIMER_NEVER;
	if (timer->index >= 0)
		take_out(queue, timer);
	timer->deadline_ns = deadline_ns;
	if (deadline_ns != TIMER_NEVER) {
		assert(queue->count < TIMERS_MAX);
		sift_up(queue, queue->count++, timer);
	}
	/* A first deadline that moved later need not be told: the thread wakes, finds nothing due and
	 * sets the clock anew. A guest that pushes its tick ahead thus costs no system call. */
	if (queue->count && queue->waiting[0]->deadline_ns < before)
		arm(queue);
	pthread_mutex_unlock(&queue->lock);
}

void timer_queue_run(struct timer_queue *queue)
{
	uint64_t expirations;

	if (read(queue->fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN)
		return;
	pthread_mutex_lock(&queue->lock);
	for (int64_t now = clock_monotonic_ns(); queue->count;) {
		struct timer *timer = queue->waiting[0];

		if (timer->deadline_ns > now)
			break;
		take_out(queue, timer);
		timer->deadline_ns = TIMER_NEVER;
		pthread_mutex_unlock(&queue->lock);
		timer->fire(timer);
		pthread_mutex_lock(&queue->lock);
	}
	arm(queue);
	pthread_mutex_unlock(&queue->lock);
}
