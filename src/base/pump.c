/* pump: see pump.h. */
#include "base/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

enum { TERMINAL_MAX = 1 << 20 }; /* more than the kernel keeps of what nobody has read */

static void close_both(struct pump *p)
{
	loop_remove(p->from_source);
	loop_remove(p->to_source);
	p->from_source = p->to_source = NULL;
	fd_close(&p->from);
	if (p->to >= 0 && (p->flags & PUMP_SHUTDOWN))
		shutdown(p->to, SHUT_WR);
	fd_close(&p->to);
	free(p->buffer);
	p->buffer = NULL;
	p->len = 0;
}

static void finish(struct pump *p)
{
	if (p->ended)
		return;
	p->ended = true;
	close_both(p);
	if (p->done)
		p->done(p, p->data);
}

/* What to wait for: room for what we have, or more of it. */
static void watch(struct pump *p, bool hung_up)
{
	int rc = loop_set_events(p->from_source, p->len == 0 && !hung_up ? EPOLLIN : 0);

	if (rc == 0)
		rc = loop_set_events(p->to_source, p->len > 0 ? EPOLLOUT : 0);
	if (rc < 0)
		finish(p);
}

/* 1: all is written, 0: it has to wait, negative: nobody takes it any more. */
static int write_out(struct pump *p)
{
	while (p->len > 0) {
		ssize_t n = write(p->to, p->buffer + p->at, p->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		p->at += (size_t)n;
		p->len -= (size_t)n;
	}
	return 1;
}

/* 1: something came; 0: nothing now; negative: the end. */
static int read_in(struct pump *p, bool *hung_up)
{
	const size_t size = p->ending && p->last < PUMP_BUFFER ? p->last : PUMP_BUFFER;
	ssize_t n;

	do
		n = read(p->from, p->buffer, size);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		p->last -= p->ending ? (size_t)n : 0;
		p->at = 0;
		p->len = (size_t)n;
		return 1;
	}
	if (n < 0 && errno == EAGAIN)
		return p->ending ? -EPIPE : 0;
	/* The next one may open the terminal again, before the process has ended. */
	if (n < 0 && errno == EIO && (p->flags & PUMP_TERMINAL) && !p->ending) {
		*hung_up = true;
		return 0;
	}
	return -EPIPE;
}

static void carry(struct pump *p)
{
	bool hung_up = false;

	/* So much in a row, then others have their turn. */
	for (int i = 0; i < 16 || p->ending; i++) {
		int rc = write_out(p);

		if (rc > 0)
			rc = read_in(p, &hung_up);
		if (rc < 0) {
			finish(p);
			return;
		}
		if (rc == 0)
			break;
	}
	watch(p, hung_up);
}

static void ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		  void *data)
{
	struct pump *p = data;

	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	carry(p);
}

int pump_start(struct pump *p, struct loop *loop, int from, int to, unsigned int flags,
	       void (*done)(struct pump *pump, void *data), void *data)
{
	int rc;

	*p = (struct pump){.from = from, .to = to, .flags = flags, .done = done, .data = data};
	p->buffer = mem_new(PUMP_BUFFER);
	rc = fcntl(from, F_SETFL, O_NONBLOCK) < 0 || fcntl(to, F_SETFL, O_NONBLOCK) < 0 ? -errno
											: 0;
	if (rc == 0)
		rc = loop_add_io(loop, from, EPOLLIN, ready, p, &p->from_source);
	if (rc == 0)
		rc = loop_add_io(loop, to, 0, ready, p, &p->to_source);
	if (rc < 0)
		pump_release(p);
	return rc;
}

void pump_end(struct pump *p)
{
	int size;

	if (p->ended)
		return;
	size = fcntl(p->from, F_GETPIPE_SZ);
	p->last = size > 0 ? (size_t)size : TERMINAL_MAX;
	p->ending = true;
	carry(p);
}

void pump_release(struct pump *p)
{
	p->ended = true;
	close_both(p);
}
