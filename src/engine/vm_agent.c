/*
 * vm_agent: talking with the agent in a machine. The machine's socket is a Unix socket of the VMM: a
 * line "CONNECT <port>" is answered by "OK <number>" when the guest has accepted, and from then on the
 * connection is the guest's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/own.h"
#include "base/sock.h"
#include "base/str.h"
#include "engine/vm.h"
#include "guest/protocol.h"
#include "vmm/machine/client.h"

struct vm_path vm_path(const char *id, const char *name)
{
	struct vm_path path;

	snprintf(path.text, sizeof(path.text), "%s/%s", id, name);
	return path;
}

int vm_agent_dial(int state_fd, const char *path, const char *stream)
{
	own_fd int fd = sock_connect(state_fd, path, SOCK_STREAM);
	own_json json_t *first = json_object();
	struct frame_out out = {0};
	char line[32];
	int rc;

	if (fd < 0)
		return fd;
	json_object_set_new(first, "version", json_integer(AGENT_VERSION));
	json_set_string(first, "stream", stream);
	snprintf(line, sizeof(line), "CONNECT %d\n", AGENT_PORT);
	buf_add_str(&out.data, line);
	frame_add(&out, first);
	/* Short enough for any socket's buffer. */
	rc = frame_flush(&out, fd);
	frame_out_release(&out);
	if (rc == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		rc = -errno;
	return rc < 0 ? rc : take(fd);
}

/* Byte by byte: what follows the line is the guest's. */
static int read_line(struct vm_dial *dial)
{
	while (dial->line_len < sizeof(dial->line) - 1) {
		ssize_t n = read(dial->fd, dial->line + dial->line_len, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			return -EPIPE;
		if (dial->line[dial->line_len] == '\n')
			return str_after(dial->line, "OK ") != NULL ? 1 : -EPROTO;
		dial->line_len++;
	}
	return -EPROTO;
}

int vm_agent_answered(struct vm_dial *dial, struct error *err)
{
	own_json json_t *answer = NULL;
	int rc;

	if (!dial->greeted) {
		rc = read_line(dial);
		if (rc <= 0)
			return rc;
		dial->greeted = true;
		dial->in.stop_after = true;
	}
	rc = frame_receive(&dial->in, dial->fd, &answer);
	if (rc <= 0)
		return rc;
	rc = frame_get_error(answer, err);
	return rc < 0 ? rc : 1;
}

static int await(int fd, int64_t deadline_ns)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int64_t left = (deadline_ns - clock_monotonic_ns()) / 1000000;
	int rc = left <= 0 ? 0 : poll(&poll_fd, 1, (int)left);

	if (rc < 0 && errno != EINTR)
		return -errno;
	return rc == 0 ? -ETIMEDOUT : 0;
}

static int finish_dial(int fd, int64_t deadline_ns, struct error *err)
{
	struct vm_dial dial = {.fd = fd};
	int rc;

	while ((rc = vm_agent_answered(&dial, err)) == 0 && (rc = await(fd, deadline_ns)) == 0)
		;
	frame_in_release(&dial.in);
	return rc < 0 ? rc : 0;
}

static int exchange(int fd, const json_t *request, int64_t deadline_ns, json_t **ret,
		    struct error *err)
{
	own_json json_t *answer = NULL;
	struct frame_out out = {0};
	struct frame_in in = {0};
	int rc;

	frame_add(&out, request);
	rc = frame_flush(&out, fd);
	frame_out_release(&out);
	if (rc > 0)
		rc = -EMSGSIZE;
	while (rc == 0 && (rc = frame_receive(&in, fd, &answer)) == 0)
		rc = await(fd, deadline_ns);
	frame_in_release(&in);
	if (rc < 0)
		return rc;
	rc = frame_get_error(answer, err);
	if (rc == 0 && ret != NULL)
		*ret = json_incref(answer);
	return rc;
}

static int refuse_answer(int rc, const struct error *why, struct error *err)
{
	if (why->text[0] != '\0') {
		rc = refuse(err, rc, "%s", why->text);
		return why->exit_status ? exit_with(err, rc, why->exit_status) : rc;
	}
	if (rc == -ETIMEDOUT)
		return refuse(err, rc, "its virtual machine does not answer");
	return refuse(err, -ESRCH, "its virtual machine has ended");
}

int vm_agent_connect(struct engine *engine, const char *id, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + VM_ANSWER_MS * INT64_C(1000000);
	own_fd int state_fd = open(engine->state, O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_fd int fd = -1;
	struct error why = {0};
	int rc;

	if (state_fd < 0)
		return fail(err, -errno, "open %s", engine->state);
	rc = fd = vm_agent_dial(state_fd, vm_path(id, "vsock").text, NULL);
	if (rc == -ENOENT || rc == -ECONNREFUSED)
		return refuse(err, -ESRCH, "container not running");
	if (rc >= 0)
		rc = finish_dial(fd, deadline, &why);
	return rc < 0 ? refuse_answer(rc, &why, err) : take(fd);
}

static int connect_control(struct engine *engine, const char *id, struct error *err)
{
	own_fd int state_fd = open(engine->state, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return state_fd < 0 ? fail(err, -errno, "open %s", engine->state)
			    : control_connect_at(state_fd, vm_path(id, "control").text,
						 VM_ANSWER_MS, err);
}

int vm_wake(struct engine *engine, const char *id)
{
	own_fd int fd = connect_control(engine, id, NULL);

	return fd < 0 || control_do(fd, "wake", NULL, NULL) < 0 ? -1 : take(fd);
}

int vm_set_paused(struct engine *engine, const char *id, const char *what, struct error *err)
{
	own_fd int fd = connect_control(engine, id, err);

	return fd < 0 ? fd : control_do(fd, what, NULL, err);
}

int vm_agent_ask(struct engine *engine, const char *id, json_t *request, json_t **ret_answer,
		 struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + VM_ANSWER_MS * INT64_C(1000000);
	own_json json_t *owned = request;
	own_fd int awake = vm_wake(engine, id);
	own_fd int fd = vm_agent_connect(engine, id, err);
	struct error why = {0};
	int rc;

	(void)awake; /* a paused machine answers as long as this is open */
	if (fd < 0)
		return fd;
	rc = exchange(fd, owned, deadline, ret_answer, &why);
	return rc < 0 ? refuse_answer(rc, &why, err) : 0;
}
