/*
 * monitor_session: the streams of one process (the workload's first one, or an exec'd one).
 *
 *     process --pipes or terminal--> session_pump --> log (the main session only)
 *                                                \--> every attached client
 *     process <--pipe or terminal--- session_input <-- clients
 *
 * Output is pumped until nothing is there or a client has something pending (M2); that client's
 * draining calls session_pump again. Input that the process does not take is kept, and no more is read
 * from clients until it is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/tty.h"
#include "engine/monitor_priv.h"

struct session *session_create(struct monitor *m, bool is_main)
{
	struct session *s = mem_new(sizeof(*s));

	s->monitor = m;
	s->is_main = is_main;
	s->in_fd = s->out_fd[0] = s->out_fd[1] = -1;
	/* The main one first: it lives as long as the monitor. */
	if (is_main || m->sessions == NULL) {
		s->next = m->sessions;
		m->sessions = s;
	} else {
		s->next = m->sessions->next;
		m->sessions->next = s;
	}
	return s;
}

static void close_input(struct session *s)
{
	loop_remove(s->in_source);
	s->in_source = NULL;
	fd_close(&s->in_fd);
	free(s->input);
	s->input = NULL;
	s->input_len = 0;
	clients_set_input(s->monitor, s, true);
}

static void close_output(struct session *s, int i)
{
	loop_remove(s->out_source[i]);
	s->out_source[i] = NULL;
	fd_close(&s->out_fd[i]);
}

void session_reset(struct session *s)
{
	close_input(s);
	close_output(s, 0);
	close_output(s, 1);
	s->exited = s->ended = s->hung_up = s->input_ends = false;
}

void session_destroy(struct session *s)
{
	struct session **at = &s->monitor->sessions;

	session_reset(s);
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s);
}

/* --- input ---------------------------------------------------------------------------------------- */

/* Writes what is there. */
static void flush_input(struct session *s)
{
	size_t done = 0;

	while (done < s->input_len) {
		ssize_t n = write(s->in_fd, s->input + done, s->input_len - done);

		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR) {
			/* Nobody reads it any more. */
			close_input(s);
			return;
		}
	}
	memmove(s->input, s->input + done, s->input_len - done);
	s->input_len -= done;
	if (s->input_len == 0) {
		free(s->input);
		s->input = NULL;
		if (s->input_ends) {
			close_input(s);
			return;
		}
	}
	if (loop_set_events(s->in_source, s->input_len > 0 ? EPOLLOUT : 0) < 0)
		close_input(s);
	else
		clients_set_input(s->monitor, s, s->input_len == 0);
}

static void input_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			void *data)
{
	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	monitor_event(((struct session *)data)->monitor);
	flush_input(data);
}

void session_input(struct session *s, const char *data, size_t len)
{
	if (s->in_fd < 0 || len == 0)
		return;
	s->input = mem_resize(s->input, s->input_len + len, 1);
	memcpy(s->input + s->input_len, data, len);
	s->input_len += len;
	flush_input(s);
}

void session_input_end(struct session *s)
{
	/* A terminal has no end: the other side of it stays. */
	if (s->in_fd < 0 || s->tty)
		return;
	s->input_ends = true;
	if (s->input_len == 0)
		close_input(s);
}

void session_resize(struct session *s, unsigned int rows, unsigned int columns)
{
	struct tty_size size = {.rows = (unsigned short)rows, .columns = (unsigned short)columns};

	if (s->tty && s->in_fd >= 0 && tty_set_size(s->in_fd, size) < 0)
		return; /* its process has ended */
}

/* --- output --------------------------------------------------------------------------------------- */

static bool is_attached(const struct client *c, const struct session *s, int stream)
{
	return c->session == s &&
	       (c->attach & (stream == 2 ? WORKLOAD_ATTACH_STDERR : WORKLOAD_ATTACH_STDOUT));
}

static bool is_held_up(const struct session *s)
{
	for (const struct client *c = s->monitor->clients; c != NULL; c = c->next)
		if (c->session == s && c->pending != NULL)
			return true;
	return false;
}

static void deliver(struct session *s, int stream, struct packet *packet, size_t len)
{
	if (s->is_main)
		log_file_add(&s->monitor->log, stream, packet->payload, len);
	packet->type = CHANNEL_OUTPUT;
	packet->arg = (uint32_t)stream;
	packet->arg2 = packet->zero = 0;
	for (struct client *c = s->monitor->clients; c != NULL; c = c->next)
		if (is_attached(c, s, stream))
			client_output(c, packet, len);
}

/* Reads one piece. False if there is nothing now, or never again (then it is closed). */
static bool pump_one(struct session *s, int i)
{
	struct packet *packet = s->monitor->scratch;
	ssize_t n;

	do
		n = read(s->out_fd[i], packet->payload, READ_MAX);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		/* What a process wrote before it ended is there by now. Others that still have the
		 * stream open do not count. */
		if (s->exited)
			close_output(s, i);
		return false;
	}
	if (n <= 0) {
		/* A terminal says EIO when its last process has closed it: which the next one, of
		 * --init or a shell's children, may open again, so it is not the end before the
		 * process has ended. */
		if (s->tty && !s->exited)
			s->hung_up = true;
		else
			close_output(s, i);
		return false;
	}
	deliver(s, i + 1, packet, (size_t)n);
	return true;
}

void session_pump(struct session *s)
{
	/* So much in a row, then others have their turn. */
	int budget = 16;

	for (int i = 0; i < 2; i++)
		while (s->out_fd[i] >= 0 && !is_held_up(s) && (s->exited || budget-- > 0))
			if (!pump_one(s, i))
				break;
	for (int i = 0; i < 2; i++)
		if (s->out_fd[i] >= 0 && s->out_source[i] != NULL &&
		    loop_set_events(s->out_source[i], is_held_up(s) || s->hung_up ? 0 : EPOLLIN) <
			    0)
			close_output(s, i);
	if (s->exited && !s->ended && s->out_fd[0] < 0 && s->out_fd[1] < 0) {
		s->ended = true;
		monitor_session_ended(s);
	}
}

void session_break_output(struct session *s, int stream)
{
	if ((stream == 1 || stream == 2) && !s->tty)
		close_output(s, stream - 1);
}

static void output_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			 void *data)
{
	(void)loop;
	(void)source;
	(void)fd;
	(void)events;
	monitor_event(((struct session *)data)->monitor);
	session_pump(data);
}

void session_exit(struct session *s, int exit_code)
{
	s->exited = true;
	s->exit_code = exit_code;
	s->pid = 0;
	session_pump(s);
}

/* --- making them ------------------------------------------------------------------------------------ */

static int watch(struct session *s, int *fd, uint32_t events, loop_io_fn *fn,
		 struct loop_source **ret)
{
	if (fcntl(*fd, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	return loop_add_io(s->monitor->loop, *fd, events, fn, s, ret);
}

/* A pipe of which we keep `ours` (0: the reading end) in *fd and the child gets the other. */
static int make_pipe(int ours, int *fd, int *child)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	*fd = ends[ours];
	*child = ends[!ours];
	return 0;
}

int session_pipes(struct session *s, int child_stdio[3])
{
	int rc = s->wants_input ? make_pipe(1, &s->in_fd, &child_stdio[0]) : 0;

	for (int i = 0; rc == 0 && i < 2; i++)
		rc = make_pipe(0, &s->out_fd[i], &child_stdio[i + 1]);
	if (rc == 0 && s->wants_input)
		rc = watch(s, &s->in_fd, 0, input_ready, &s->in_source);
	for (int i = 0; rc == 0 && i < 2; i++)
		rc = watch(s, &s->out_fd[i], EPOLLIN, output_ready, &s->out_source[i]);
	return rc;
}

int session_terminal(struct session *s, int console_fd)
{
	int rc;

	s->tty = true;
	s->out_fd[0] = console_fd;
	/* epoll watches a descriptor once: input has a duplicate. */
	s->in_fd = fcntl(console_fd, F_DUPFD_CLOEXEC, 0);
	if (s->in_fd < 0)
		return -errno;
	rc = watch(s, &s->in_fd, 0, input_ready, &s->in_source);
	if (rc == 0)
		rc = watch(s, &s->out_fd[0], EPOLLIN, output_ready, &s->out_source[0]);
	return rc;
}
