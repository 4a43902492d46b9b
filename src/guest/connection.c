/*
 * connection: who is connected to the agent. Its first message makes a connection one for requests, or
 * a stream that waits until a request names it.
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
#include "base/str.h"
#include "guest/agent.h"
#include "guest/protocol.h"

enum { CONNECTIONS_MAX = 256 };

struct connection {
	struct connection *next;
	struct agent *agent;
	struct loop_source *source;
	int fd;
	bool introduced;
	char *stream; /* its name while it waits */
	struct frame_in in;
	struct frame_out out;
};

static void close_connection(struct connection *c)
{
	struct connection **at = &c->agent->connections;

	if (c->source == NULL)
		return;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	loop_remove(c->source);
	c->source = NULL;
	fd_close(&c->fd);
	c->next = c->agent->dead;
	c->agent->dead = c;
	process_disown(c->agent, c);
}

void agent_sweep(struct agent *agent)
{
	while (agent->dead != NULL) {
		struct connection *c = agent->dead;

		agent->dead = c->next;
		frame_in_release(&c->in);
		frame_out_release(&c->out);
		free(c->stream);
		free(c);
	}
}

int connection_fd(const struct connection *c)
{
	return c->fd;
}

void connection_close(struct connection *c)
{
	close_connection(c);
}

static void flush(struct connection *c)
{
	int rc = frame_flush(&c->out, c->fd);

	if (rc >= 0)
		rc = loop_set_events(c->source, EPOLLIN | (rc > 0 ? EPOLLOUT : 0U));
	if (rc < 0)
		close_connection(c);
}

void connection_send(struct connection *c, const json_t *message)
{
	if (c->source == NULL)
		return;
	frame_add(&c->out, message);
	flush(c);
}

static void refuse_and_close(struct connection *c, const struct error *why)
{
	own_json json_t *answer = json_object();

	json_object_set_new(answer, "error", frame_error(why));
	connection_send(c, answer);
	close_connection(c);
}

/* The first message. */
static void introduce(struct connection *c, json_t *message)
{
	own_json json_t *answer = json_object();
	const struct json_at at = json_root(message);
	const char *stream = NULL;
	struct error why = {0};
	unsigned int waiting = 0;
	int64_t version = 0;
	int rc = json_get_int(&at, "version", JSON_REQUIRED, 0, INT32_MAX, &version, &why);

	if (rc > 0 && version != AGENT_VERSION)
		rc = refuse(&why, -EPROTO, "the agent speaks version %d, not %d", AGENT_VERSION,
			    (int)version);
	if (rc > 0)
		rc = json_get_string(&at, "stream", JSON_OPTIONAL, &stream, &why);
	for (const struct connection *o = c->agent->connections; o != NULL; o = o->next)
		waiting += o->stream != NULL;
	if (rc >= 0 && stream && waiting >= AGENT_STREAMS_MAX)
		rc = refuse(&why, -EMFILE, "too many streams wait");
	if (rc < 0) {
		refuse_and_close(c, &why);
		return;
	}
	c->introduced = true;
	connection_send(c, answer);
	if (c->source == NULL || stream == NULL)
		return;
	c->stream = str_copy(stream);
	/* What follows belongs to whoever takes it. */
	if (loop_set_events(c->source, 0) < 0)
		close_connection(c);
}

static void receive(struct connection *c)
{
	while (c->source != NULL && c->stream == NULL) {
		own_json json_t *message = NULL;
		int rc;

		c->in.stop_after = !c->introduced;
		rc = frame_receive(&c->in, c->fd, &message);
		if (rc == 0)
			return;
		if (rc < 0)
			close_connection(c);
		else if (!c->introduced)
			introduce(c, message);
		else
			agent_request(c->agent, c, message);
	}
}

static void ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		  void *data)
{
	struct connection *c = data;
	struct agent *agent = c->agent;

	(void)loop;
	(void)source;
	(void)fd;
	agent_sweep(agent);
	if (events & EPOLLOUT)
		flush(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		receive(c);
}

int agent_take_stream(struct agent *agent, const char *name, struct error *err)
{
	for (struct connection *c = agent->connections; c != NULL; c = c->next) {
		int fd;

		if (!str_eq(c->stream, name))
			continue;
		fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return fail(err, -errno, "take stream %s", name);
		close_connection(c);
		return fd;
	}
	return refuse(err, -ENOENT, "there is no stream %s", name);
}

static void accept_ready(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			 void *data)
{
	struct agent *agent = data;
	struct connection *c;
	unsigned int count = 0;
	int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)source;
	(void)events;
	agent_sweep(agent);
	for (c = agent->connections; c != NULL; c = c->next)
		count++;
	if (accepted < 0 || count >= CONNECTIONS_MAX) {
		fd_close(&accepted);
		return;
	}
	c = mem_new(sizeof(*c));
	c->agent = agent;
	c->fd = accepted;
	if (loop_add_io(loop, accepted, EPOLLIN, ready, c, &c->source) < 0) {
		fd_close(&accepted);
		free(c);
		return;
	}
	c->next = agent->connections;
	agent->connections = c;
}

int agent_listen(struct agent *agent, int listen_fd)
{
	agent->listen_fd = listen_fd;
	return loop_add_io(agent->loop, listen_fd, EPOLLIN, accept_ready, agent, NULL);
}
