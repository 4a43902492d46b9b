/* vsock_broker: see vsock_broker.h. */
#include "vmm/machine/vsock_broker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/sock.h"
#include "base/str.h"
#include "vmm/virtio/devices.h"

static int answer(int fd, const char *path, struct vsock_message *message)
{
	own_mem char *name = str_format("%s_%u", path, message->port);
	own_fd int client = sock_connect(AT_FDCWD, name, SOCK_STREAM | SOCK_NONBLOCK);

	message->kind = VSOCK_MESSAGE_CONNECTED;
	return sock_send_fds(fd, message, sizeof(*message), &client, client >= 0 ? 1 : 0);
}

int vsock_broker_serve(int fd, const char *path)
{
	for (;;) {
		struct vsock_message message;
		ssize_t n;
		int rc;

		do
			n = recv(fd, &message, sizeof(message), 0);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		/* The machine is what the jail is for: nonsense is not answered. */
		if (n != (ssize_t)sizeof(message) || message.kind != VSOCK_MESSAGE_CONNECT)
			continue;
		rc = answer(fd, path, &message);
		if (rc < 0)
			return rc;
	}
}
