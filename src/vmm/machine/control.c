/*
 * control: see control.h. One client is one connection: bytes come in until there is a line, the line is
 * carried out and answered, and nothing more is read before the answer has left.
 *
 * Descriptors come with SCM_RIGHTS beside the line that needs them. Those that a request does not use
 * are closed when it has been answered.
 */
#include "vmm/machine/control.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/sock.h"
#include "vmm/machine/machine_priv.h"
#include "vmm/machine/requests.h"

struct client {
	struct control *control;
	struct loop_source *source; /* NULL: a free place */
	int fd;
	int64_t active_ns; /* when it last said something */
	bool wakes;        /* the machine runs for it, though it may be paused */
	struct request_fds fds;
	size_t in_count;
	char in[CONTROL_LINE_MAX];
	struct buf out;
	size_t out_done;
};

struct control {
	struct machine *machine;
	struct loop_source *source;
	struct client *clients[CONTROL_CLIENTS_MAX]; /* NULL: a free place */
};

static void drop_fds(struct client *client)
{
	while (client->fds.count > 0)
		fd_close(&client->fds.fds[--client->fds.count]);
}

static void drop(struct client *client)
{
	struct control *control = client->control;

	for (unsigned int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i] == client)
			control->clients[i] = NULL;
	if (client->wakes)
		machine_unwake(control->machine);
	loop_remove(client->source);
	drop_fds(client);
	fd_close(&client->fd);
	buf_release(&client->out);
	own_mem_release(&client);
}

/* Sends what there is to send. false: the client has gone. */
static bool flush(struct client *client)
{
	while (client->out_done < client->out.len) {
		ssize_t n = send(client->fd, client->out.data + client->out_done,
				 client->out.len - client->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return loop_set_events(client->source, EPOLLOUT) == 0;
		if (n < 0)
			return false;
		client->out_done += (size_t)n;
	}
	buf_clear(&client->out);
	client->out_done = 0;
	return loop_set_events(client->source, EPOLLIN) == 0;
}

static json_t *error_reply(const struct error *err)
{
	json_t *reply = json_object(), *error = json_object();

	json_object_set_new(error, "code", json_integer(err->code));
	json_object_set_new(error, "text", json_from_string(err->text));
	if (err->hint[0])
		json_object_set_new(error, "hint", json_from_string(err->hint));
	json_object_set_new(reply, "error", error);
	return reply;
}

/* The only request that is about the connection itself: until its end the machine runs. */
static bool is_wake(const struct json_at *request)
{
	return str_eq(json_string_value(json_object_get(request->value, "do")), "wake");
}

static void wake(struct client *client)
{
	if (!client->wakes)
		machine_wake(client->control->machine);
	client->wakes = true;
}

/* Carries out one line. */
static void answer(struct client *client, const char *line, size_t length)
{
	struct machine *machine = client->control->machine;
	own_json json_t *request = NULL, *result = NULL;
	own_json json_t *reply = NULL;
	own_mem char *text = NULL;
	struct error err = {0};
	struct json_at root;
	int rc = json_parse(line, length, "the request", &request, &err);

	if (rc == 0) {
		root = json_root(request);
		rc = json_as_object(&root, &err);
	}
	if (rc == 0 && is_wake(&root))
		wake(client);
	else if (rc == 0)
		rc = request_execute(machine, &root, &client->fds, &result, &err);
	drop_fds(client);
	if (rc < 0) {
		reply = error_reply(&err);
	} else {
		reply = json_object();
		json_object_set_new(reply, "result", result ? take(result) : json_object());
	}
	if (request && json_is_object(request) && json_object_get(request, "id"))
		json_object_set(reply, "id", json_object_get(request, "id"));
	text = json_text(reply);
	buf_add_str(&client->out, text);
	buf_add_char(&client->out, '\n');
}

/* Answers the lines that have come, one at a time. false: the client has gone. */
static bool answer_lines(struct client *client)
{
	while (client->out.len == 0) {
		const char *end = memchr(client->in, '\n', client->in_count);
		size_t length = end ? (size_t)(end - client->in) : 0;

		if (!end && client->in_count == sizeof(client->in)) {
			struct error err = {0};
			own_json json_t *reply = NULL;
			own_mem char *text = NULL;

			refuse(&err, -E2BIG, "a request has at most %d bytes", CONTROL_LINE_MAX);
			reply = error_reply(&err);
			text = json_text(reply);
			buf_add_str(&client->out, text);
			buf_add_char(&client->out, '\n');
			(void)flush(client);
			return false;
		}
		if (!end)
			return true;
		answer(client, client->in, length);
		client->in_count -= length + 1;
		memmove(client->in, end + 1, client->in_count);
		if (!flush(client))
			return false;
	}
	return true;
}

/* false: the client has gone. */
static bool receive(struct client *client)
{
	size_t room = sizeof(client->in) - client->in_count, got = 0;
	ssize_t n = sock_receive_fds(client->fd, client->in + client->in_count, room,
				     client->fds.fds + client->fds.count,
				     SOCK_FDS_MAX - client->fds.count, &got);

	if (n == -EAGAIN || n == -EINTR)
		return true;
	if (n <= 0)
		return false;
	client->fds.count += (unsigned int)got;
	client->in_count += (size_t)n;
	client->active_ns = clock_monotonic_ns();
	return answer_lines(client);
}

static void on_client(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		      void *data)
{
	struct client *client = data;
	bool there = true;

	(void)loop;
	(void)source;
	(void)fd;
	if (events & EPOLLOUT)
		there = flush(client) && answer_lines(client);
	else if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		there = receive(client);
	if (!there)
		drop(client);
}

/* A place for a new client: a free one, or that of the client that has been silent longest. */
static unsigned int find_place(struct control *control)
{
	unsigned int oldest = 0;

	for (unsigned int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
		if (!control->clients[i])
			return i;
		if (control->clients[i]->active_ns < control->clients[oldest]->active_ns)
			oldest = i;
	}
	drop(control->clients[oldest]);
	return oldest;
}

static void on_connection(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			  void *data)
{
	struct control *control = data;
	int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *client;
	unsigned int place;

	(void)source;
	(void)events;
	if (connection < 0)
		return;
	place = find_place(control);
	client = mem_new(sizeof(*client));
	client->control = control;
	client->fd = connection;
	client->active_ns = clock_monotonic_ns();
	control->clients[place] = client;
	if (loop_add_io(loop, connection, EPOLLIN, on_client, client, &client->source) < 0)
		drop(client);
}

int control_create(struct machine *machine, int fd, struct control **ret)
{
	struct control *control = mem_new(sizeof(*control));
	int rc;

	control->machine = machine;
	rc = loop_add_io(machine->board.loop, fd, EPOLLIN, on_connection, control,
			 &control->source);
	if (rc < 0) {
		own_mem_release(&control);
		return rc;
	}
	*ret = control;
	return 0;
}

void control_destroy(struct control *control)
{
	if (!control)
		return;
	loop_remove(control->source);
	for (unsigned int i = 0; i < CONTROL_CLIENTS_MAX; i++)
		if (control->clients[i])
			drop(control->clients[i]);
	own_mem_release(&control);
}
