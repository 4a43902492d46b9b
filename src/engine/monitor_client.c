/*
 * monitor_client: the commands that are connected to a monitor: requests, and what is sent to them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/sock.h"
#include "engine/monitor_priv.h"

/* --- sending -------------------------------------------------------------------------------------- */

static void watch_for(struct client *c, uint32_t events)
{
	if (loop_set_events(c->source, events) < 0)
		client_remove(c);
}

/* What waited has gone, or is given up: the session may go on. */
static void drained(struct client *c)
{
	struct session *s = c->session;

	free(c->pending);
	c->pending = NULL;
	loop_remove(c->patience);
	c->patience = NULL;
	watch_for(c, EPOLLIN);
	if (s != NULL)
		session_pump(s);
}

/* It takes nothing any more. What it had sent before it went, as the line typed before the detach keys, is still to
 * be read; then comes the end. */
static void no_output(struct client *c)
{
	c->attach &= ~(uint32_t)(WORKLOAD_ATTACH_STDOUT | WORKLOAD_ATTACH_STDERR);
}

static void flush_pending(struct client *c)
{
	int rc = channel_send(c->fd, c->pending, c->pending_len, false);

	if (rc == -EAGAIN)
		return;
	if (rc < 0)
		no_output(c);
	drained(c);
}

static void out_of_patience(struct loop *loop, struct loop_source *source, void *data)
{
	(void)loop;
	(void)source;
	client_remove(data);
}

static void limit_patience(struct client *c)
{
	if (c->fd < 0 || c->pending == NULL || c->patience != NULL ||
	    (c->foreground && !c->monitor->stop_requested))
		return;
	if (loop_add_timer(c->monitor->loop, CLIENT_PATIENCE_MS, out_of_patience, c, &c->patience) <
	    0)
		c->patience = NULL;
}

void client_output(struct client *c, struct packet *packet, size_t len)
{
	int rc = channel_send(c->fd, packet, len, false);

	if (rc == 0)
		return;
	if (rc != -EAGAIN) {
		no_output(c);
		return;
	}
	c->pending = mem_copy(packet, PACKET_HEAD + len);
	c->pending_len = len;
	watch_for(c, EPOLLIN | EPOLLOUT);
	limit_patience(c);
}

void clients_hurry(struct monitor *m)
{
	for (struct client *c = m->clients; c != NULL; c = c->next)
		limit_patience(c);
}

static int send_exit(const struct client *c, int exit_code)
{
	struct monitor *m = c->monitor;
	const char *reason = c->waits != CLIENT_WAITS_NOT ? m->end_reason : NULL;
	struct packet *packet = m->scratch;

	if (reason == NULL)
		return channel_send_head(c->fd, CHANNEL_EXIT, (uint32_t)exit_code, 0, false);
	memset(packet, 0, PACKET_HEAD);
	packet->type = CHANNEL_EXIT;
	packet->arg = (uint32_t)exit_code;
	memcpy(packet->payload, reason, strlen(reason));
	return channel_send(c->fd, packet, strlen(reason), false);
}

void client_end(struct client *c, int exit_code, const struct error *why)
{
	int rc = why ? channel_send_error(c->fd, why) : send_exit(c, exit_code);

	/* Should there be no room for it, the client sees the connection end. */
	(void)rc;
	client_remove(c);
}

void client_remove(struct client *c)
{
	struct client **at = &c->monitor->clients;
	struct session *s = c->session;

	if (c->fd < 0)
		return;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	loop_remove(c->source);
	loop_remove(c->patience);
	fd_close(&c->fd);
	/* Who walks through the list may stand on it: it is freed later. */
	c->next_dead = c->monitor->dead_clients;
	c->monitor->dead_clients = c;
	c->session = NULL;
	if (s != NULL && s->stdin_once && (c->attach & WORKLOAD_ATTACH_STDIN))
		session_input_end(s);
	/* It may have held up the others. */
	if (s != NULL && c->pending != NULL)
		session_pump(s);
}

void clients_sweep(struct monitor *m)
{
	while (m->dead_clients != NULL) {
		struct client *c = m->dead_clients;

		m->dead_clients = c->next_dead;
		free(c->pending);
		free(c);
	}
}

void clients_set_input(struct monitor *m, struct session *session, bool on)
{
	for (struct client *c = m->clients; c != NULL; c = c->next)
		if (c->session == session && (c->attach & WORKLOAD_ATTACH_STDIN))
			watch_for(c, (on ? EPOLLIN : 0) | (c->pending ? EPOLLOUT : 0));
}

/* --- requests -------------------------------------------------------------------------------------- */

static void refuse_client(struct client *c, int code, const char *text)
{
	struct error why = {0};

	(void)refuse(&why, code, "%s", text);
	client_end(c, 0, &why);
}

static void answer_ok(struct client *c)
{
	if (channel_send_head(c->fd, CHANNEL_OK, 0, 0, false) < 0)
		client_remove(c);
}

static void attach(struct client *c, uint32_t flags)
{
	struct monitor *m = c->monitor;

	if (m->phase == PHASE_FINISHING) {
		refuse_client(c, -ESRCH, "it has ended");
		return;
	}
	c->session = m->main;
	c->attach = flags;
	c->waits = CLIENT_WAITS_EXIT;
	answer_ok(c);
}

static void exec(struct client *c, const struct packet *request, int text_fd)
{
	struct monitor *m = c->monitor;
	struct session *s;
	int rc;

	if (m->phase != PHASE_RUNNING || text_fd < 0) {
		refuse_client(c, -ESRCH, "it is not running");
		return;
	}
	s = session_create(m, false);
	s->tty = (request->arg2 & CHANNEL_EXEC_TTY) != 0;
	s->stdin_once = true;
	s->wants_input = (request->arg2 & CHANNEL_EXEC_STDIN) != 0;
	c->session = s;
	c->attach = request->arg;
	c->foreground = true;
	rc = helper_start(m, HELPER_EXEC, s, text_fd, s->tty);
	if (rc < 0) {
		c->session = NULL;
		session_destroy(s);
		refuse_client(c, rc, strerror(-rc));
	}
}

/* The first packet says what the connection is for; on an attached one input follows. */
static void handle(struct client *c, const struct packet *p, size_t len, int fd)
{
	struct monitor *m = c->monitor;
	int rc;

	switch ((enum channel_type)p->type) {
	case CHANNEL_ATTACH:
		attach(c, p->arg);
		return;
	case CHANNEL_EXEC:
		exec(c, p, fd);
		return;
	case CHANNEL_WAIT:
		c->waits = p->arg == 1 ? CLIENT_WAITS_EXIT : CLIENT_WAITS_END;
		return;
	case CHANNEL_SIGNAL:
		rc = monitor_signal(m, (int)p->arg);
		/* Who waits for its end is told of that, and of nothing else. */
		if (c->waits != CLIENT_WAITS_NOT)
			return;
		if (rc < 0)
			refuse_client(c, -ESRCH, "container not running");
		else
			answer_ok(c);
		return;
	case CHANNEL_STOP:
		c->waits = CLIENT_WAITS_END;
		monitor_request_stop(m, (int)p->arg, p->arg2);
		return;
	case CHANNEL_STDIN:
		if (c->session != NULL && (c->attach & WORKLOAD_ATTACH_STDIN)) {
			c->stdin_given = true;
			session_input(c->session, p->payload, len);
		}
		return;
	case CHANNEL_STDIN_END:
		if (c->session != NULL && (c->attach & WORKLOAD_ATTACH_STDIN) &&
		    c->session->stdin_once)
			session_input_end(c->session);
		return;
	case CHANNEL_RESIZE:
		if (c->session != NULL)
			session_resize(c->session, p->arg, p->arg2);
		return;
	case CHANNEL_BREAK:
		if (c->session != NULL && c->foreground)
			session_break_output(c->session, (int)p->arg);
		return;
	case CHANNEL_STARTED:
	case CHANNEL_OUTPUT:
	case CHANNEL_EXIT:
	case CHANNEL_OK:
	case CHANNEL_ERROR:
		break;
	}
	client_remove(c);
}

static void client_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			 void *data)
{
	struct client *c = data;
	struct packet *p = c->monitor->scratch;
	own_fd int received = -1;
	size_t count = 0;
	ssize_t n;

	(void)loop;
	(void)source;
	monitor_event(c->monitor);
	if (events & EPOLLOUT && c->pending != NULL) {
		flush_pending(c);
		return;
	}
	n = sock_receive_fds(fd, p, sizeof(*p), &received, 1, &count);
	/* Reset is said once, before what a client that is gone had still sent (channel_receive). */
	if (n == -EAGAIN || n == -ECONNRESET)
		return;
	if (n < PACKET_HEAD) {
		client_remove(c);
		return;
	}
	handle(c, p, (size_t)n - PACKET_HEAD, received);
}

struct client *client_add(struct monitor *m, int fd)
{
	struct client *c = mem_new(sizeof(*c));

	c->monitor = m;
	c->fd = fd;
	if (loop_add_io(m->loop, fd, EPOLLIN, client_ready, c, &c->source) < 0) {
		fd_close(&c->fd);
		free(c);
		return NULL;
	}
	c->next = m->clients;
	m->clients = c;
	return c;
}

static void accept_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			 void *data)
{
	struct monitor *m = data;
	unsigned int count = 0;
	own_fd int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)loop;
	(void)source;
	(void)events;
	for (struct client *c = m->clients; c != NULL; c = c->next)
		count++;
	monitor_event(m);
	if (client >= 0 && count < CLIENTS_MAX)
		client_add(m, take(client));
}

int clients_listen(struct monitor *m)
{
	m->listen_fd = sock_listen(m->state_dir_fd, "monitor.sock", SOCK_SEQPACKET | SOCK_NONBLOCK);
	if (m->listen_fd < 0)
		return m->listen_fd;
	return loop_add_io(m->loop, m->listen_fd, EPOLLIN, accept_ready, m, NULL);
}
