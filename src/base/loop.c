/* loop: see loop.h. */
#include "base/loop.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/own.h"

enum { EVENTS_PER_ROUND = 16, NS_PER_MS = 1000000 };
#define NEVER INT64_MAX
/* What runs around waiting stands together in the program, so that an idle process needs few pages. */
#define LOOP_HOT __attribute__((hot))

enum source_kind { SOURCE_IO, SOURCE_TIMER, SOURCE_SIGNAL };

struct loop_source {
	struct loop *loop;
	struct loop_source *next;
	enum source_kind kind;
	bool removed;
	int fd;              /* io: the caller's; signal: our signalfd; timer: -1 */
	uint32_t events;     /* io: as registered, 0 if not */
	int64_t deadline_ns; /* timer */
	union {
		loop_io_fn *io;
		loop_timer_fn *timer;
		loop_signal_fn *signal;
	} fn;
	void *data;
};

struct loop {
	int epoll;
	struct loop_source *sources;
	bool stopped;
	int result;
};

int loop_create(struct loop **ret)
{
	struct loop *loop = mem_new(sizeof(*loop));

	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll < 0) {
		int rc = -errno;

		free(loop);
		return rc;
	}
	*ret = loop;
	return 0;
}

static void source_free(struct loop_source *source)
{
	if (source->kind == SOURCE_SIGNAL)
		fd_close(&source->fd);
	free(source);
}

void loop_destroy(struct loop *loop)
{
	if (loop == NULL)
		return;
	for (struct loop_source *s = loop->sources, *next; s != NULL; s = next) {
		next = s->next;
		source_free(s);
	}
	fd_close(&loop->epoll);
	free(loop);
}

static struct loop_source *source_new(struct loop *loop, enum source_kind kind, int fd, void *data)
{
	struct loop_source *source = mem_new(sizeof(*source));

	source->loop = loop;
	source->kind = kind;
	source->fd = fd;
	source->data = data;
	source->deadline_ns = NEVER;
	source->next = loop->sources;
	loop->sources = source;
	return source;
}

int loop_set_events(struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};
	int operation = EPOLL_CTL_MOD;

	if (events == source->events)
		return 0;
	/* Taken out rather than set to nothing: a hung-up descriptor reports EPOLLHUP regardless. */
	if (events == 0)
		operation = EPOLL_CTL_DEL;
	else if (source->events == 0)
		operation = EPOLL_CTL_ADD;
	if (epoll_ctl(source->loop->epoll, operation, source->fd, &event) < 0)
		return -errno;
	source->events = events;
	return 0;
}

/* Registers a new source, or forgets it. */
static int publish(struct loop_source *source, uint32_t events, struct loop_source **ret)
{
	int rc = loop_set_events(source, events);

	if (rc < 0) {
		loop_remove(source);
		return rc;
	}
	if (ret != NULL)
		*ret = source;
	return 0;
}

int loop_add_io(struct loop *loop, int fd, uint32_t events, loop_io_fn *fn, void *data,
		struct loop_source **ret)
{
	struct loop_source *source = source_new(loop, SOURCE_IO, fd, data);

	source->fn.io = fn;
	return publish(source, events, ret);
}

int loop_add_timer(struct loop *loop, int64_t delay_ms, loop_timer_fn *fn, void *data,
		   struct loop_source **ret)
{
	struct loop_source *source = source_new(loop, SOURCE_TIMER, -1, data);

	source->fn.timer = fn;
	loop_set_timer(source, delay_ms);
	if (ret != NULL)
		*ret = source;
	return 0;
}

void loop_set_timer(struct loop_source *source, int64_t delay_ms)
{
	/* Further than the clock counts is never, too. */
	if (delay_ms < 0 || __builtin_mul_overflow(delay_ms, NS_PER_MS, &source->deadline_ns) ||
	    __builtin_add_overflow(source->deadline_ns, clock_monotonic_ns(), &source->deadline_ns))
		source->deadline_ns = NEVER;
}

int loop_add_signal(struct loop *loop, int signal, loop_signal_fn *fn, void *data,
		    struct loop_source **ret)
{
	struct loop_source *source;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, signal);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	source = source_new(loop, SOURCE_SIGNAL, fd, data);
	source->fn.signal = fn;
	return publish(source, EPOLLIN, ret);
}

void loop_remove(struct loop_source *source)
{
	if (source == NULL)
		return;
	if (source->events != 0)
		epoll_ctl(source->loop->epoll, EPOLL_CTL_DEL, source->fd, NULL);
	source->events = 0;
	source->deadline_ns = NEVER;
	source->removed = true;
}

/* Frees what was removed during the last round. */
LOOP_HOT static void sweep(struct loop *loop)
{
	for (struct loop_source **at = &loop->sources; *at != NULL;) {
		struct loop_source *source = *at;

		if (!source->removed) {
			at = &source->next;
			continue;
		}
		*at = source->next;
		source_free(source);
	}
}

/* Milliseconds until the next deadline, -1 if there is none. */
LOOP_HOT static int next_timeout(const struct loop *loop)
{
	int64_t first = NEVER, wait;

	for (const struct loop_source *s = loop->sources; s != NULL; s = s->next)
		if (s->deadline_ns < first)
			first = s->deadline_ns;
	if (first == NEVER)
		return -1;
	wait = (first - clock_monotonic_ns() + NS_PER_MS - 1) / NS_PER_MS;
	return wait < 0 ? 0 : wait > INT_MAX ? INT_MAX : (int)wait;
}

LOOP_HOT static void run_timers(struct loop *loop)
{
	int64_t now = clock_monotonic_ns();

	for (struct loop_source *s = loop->sources; s != NULL; s = s->next) {
		if (s->deadline_ns > now || s->removed)
			continue;
		s->deadline_ns = NEVER;
		s->fn.timer(loop, s, s->data);
	}
}

static void deliver(struct loop *loop, struct loop_source *source, uint32_t events)
{
	struct signalfd_siginfo info;

	if (source->removed)
		return;
	if (source->kind == SOURCE_IO)
		source->fn.io(loop, source, source->fd, events, source->data);
	else if (read(source->fd, &info, sizeof(info)) == sizeof(info))
		source->fn.signal(loop, source, (int)info.ssi_signo, source->data);
}

LOOP_HOT int loop_run(struct loop *loop)
{
	loop->stopped = false;
	while (!loop->stopped) {
		struct epoll_event events[EVENTS_PER_ROUND];
		int n = epoll_wait(loop->epoll, events, EVENTS_PER_ROUND, next_timeout(loop));

		if (n < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < n && !loop->stopped; i++)
			deliver(loop, events[i].data.ptr, events[i].events);
		if (!loop->stopped)
			run_timers(loop);
		sweep(loop);
	}
	return loop->result;
}

void loop_stop(struct loop *loop, int result)
{
	loop->stopped = true;
	loop->result = result;
}
