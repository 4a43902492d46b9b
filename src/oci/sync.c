/* sync: see sync.h. */
#include "oci/sync.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/own.h"
#include "base/sock.h"

struct message {
	unsigned char kind;
	struct error err;
};

int sync_send(int sock, enum sync_kind kind, int fd)
{
	const unsigned char byte = (unsigned char)kind;

	return sock_send_fds(sock, &byte, 1, &fd, fd >= 0 ? 1 : 0);
}

void sync_send_error(int sock, const struct error *err)
{
	struct message m = {.kind = SYNC_ERROR, .err = *err};

	/* If nobody listens any more there is nobody to tell. */
	if (send(sock, &m, sizeof(m), MSG_NOSIGNAL) < 0)
		return;
}

int sync_receive(int sock, int *ret_fd, struct error *err)
{
	struct message m = {0};
	own_fd int fd = -1;
	size_t count = 0;
	ssize_t n = sock_receive_fds(sock, &m, sizeof(m), &fd, 1, &count);

	/* It ended without having read all that we sent. What it said before is still to be had: that
	 * error is reported once. */
	if (n == -ECONNRESET)
		n = sock_receive_fds(sock, &m, sizeof(m), &fd, 1, &count);
	if (n == -ECONNRESET)
		n = 0;
	if (n < 0)
		return fail(err, (int)n, "talk to the container's process");
	if (n == 0)
		return SYNC_END;
	if (m.kind == SYNC_ERROR && n == sizeof(m)) {
		m.err.text[sizeof(m.err.text) - 1] = m.err.hint[sizeof(m.err.hint) - 1] = '\0';
		if (err != NULL)
			*err = m.err;
		return m.err.code < 0 ? m.err.code : -EIO;
	}
	if (ret_fd != NULL)
		*ret_fd = take(fd);
	return m.kind;
}

int sync_await_execution(int sock, struct error *err)
{
	own_fd int hooks = -1;
	char over = 0;
	int kind = sync_receive(sock, &hooks, err);

	if (kind == SYNC_HOOKS)
		kind = sync_receive(sock, NULL, err);
	if (kind < 0)
		return kind;
	if (hooks >= 0 && (pread(hooks, &over, 1, 0) != 1 || over == 0))
		return refuse(err, -ECHILD,
			      "hooks.startContainer: the container was killed while one ran");
	return 0;
}

int sync_wait_go(int sock, struct error *err)
{
	int rc = sync_receive(sock, NULL, err);

	if (rc == SYNC_END)
		_exit(1);
	if (rc != SYNC_GO)
		return rc < 0 ? rc : refuse(err, -EPROTO, "unexpected message from the runtime");
	return 0;
}
