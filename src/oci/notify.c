/* notify: see notify.h. */
#include "oci/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"
#include "oci/config_priv.h"
#include "oci/mount_attr.h"
#include "oci/runtime.h"

#define NOTIFY_SOCKET NOTIFY_DIR "/notify"

enum { MESSAGE_MAX = 4096 };

bool notify_wanted(const struct config *c, const char *host_socket)
{
	return host_socket != NULL && host_socket[0] == '/' &&
	       env_get(c->process.env, "NOTIFY_SOCKET") == NULL;
}

static char *own_text(struct config *c, char *text)
{
	const size_t size = strlen(text) + 1;
	char *copy = config_alloc(c, size, 1);

	memcpy(copy, text, size);
	free(text);
	return copy;
}

static void add_mount(struct config *c, const char *source, const char *destination)
{
	struct config_mount *mounts = config_alloc(c, c->mount_count + 1, sizeof(*mounts));

	if (c->mount_count > 0)
		memcpy(mounts, c->mounts, c->mount_count * sizeof(*mounts));
	mounts[c->mount_count++] = (struct config_mount){
		.destination = destination,
		.type = "bind",
		.source = source,
		.bind = true,
		.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV,
	};
	c->mounts = mounts;
}

static void add_variable(struct config *c, const char *host_socket)
{
	size_t n = 0;
	char **env;

	while (c->process.env != NULL && c->process.env[n] != NULL)
		n++;
	env = config_alloc(c, n + 2, sizeof(*env));
	if (n > 0)
		memcpy(env, c->process.env, n * sizeof(*env));
	env[n] = own_text(c, str_format("NOTIFY_SOCKET=%s/notify", host_socket));
	c->process.env = env;
}

/* The socket, in the place of one that nobody reads from any more. */
static int make_socket(int dir_fd)
{
	own_fd int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	/* Through the descriptor: paths of sockets are short. */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" NOTIFY_SOCKET,
		 dir_fd);
	unlinkat(dir_fd, NOTIFY_SOCKET, 0);
	if (sock < 0 || bind(sock, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    fchmodat(dir_fd, NOTIFY_SOCKET, 0777, 0) < 0)
		return -errno;
	return take(sock);
}

int notify_add(struct config *c, const struct container *container, const char *state_root,
	       const char *host_socket, struct error *err)
{
	int sock = -1;

	if (mkdirat(container->dir_fd, NOTIFY_DIR, 0755) == 0 &&
	    fchmodat(container->dir_fd, NOTIFY_DIR, 0755, 0) == 0)
		sock = make_socket(container->dir_fd);
	else
		sock = -errno;
	if (sock < 0)
		return fail(err, sock, "create the readiness socket");
	add_mount(c, own_text(c, str_format("%s/%s/" NOTIFY_DIR, state_root, container->id)),
		  own_text(c, str_copy(host_socket)));
	add_variable(c, host_socket);
	return sock;
}

/* --- the other side ----------------------------------------------------------------------------- */

int oci_notify_open(const char *state_root, const char *id, struct error *err)
{
	own_container struct container *container = NULL;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &container, err);

	if (rc < 0)
		return rc;
	if (faccessat(container->dir_fd, NOTIFY_DIR, F_OK, 0) < 0)
		return -ENOENT;
	rc = make_socket(container->dir_fd);
	return rc < 0 ? fail(err, rc, "create the readiness socket") : rc;
}

static bool says_ready(char *message)
{
	char *save = NULL;

	for (char *line = strtok_r(message, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (str_eq(line, "READY=1"))
			return true;
	return false;
}

static void tell(const char *host_socket, pid_t pid)
{
	own_fd int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	own_mem char *main_pid = str_format("MAINPID=%d", (int)pid);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const char *const messages[] = {"READY=1", main_pid};

	if (sock < 0 || strlen(host_socket) >= sizeof(address.sun_path))
		return;
	strcpy(address.sun_path, host_socket);
	/* A manager that is gone has nobody to be told. */
	for (size_t i = 0; i < array_size(messages); i++)
		if (sendto(sock, messages[i], strlen(messages[i]), MSG_NOSIGNAL,
			   (struct sockaddr *)&address, sizeof(address)) < 0)
			return;
}

bool oci_notify_pass(int sock, const char *host_socket, pid_t pid)
{
	char message[MESSAGE_MAX + 1];
	ssize_t n;

	/* Without room for descriptors none is received. */
	while ((n = recv(sock, message, MESSAGE_MAX, 0)) >= 0) {
		message[n] = '\0';
		if (says_ready(message)) {
			tell(host_socket, pid);
			return true;
		}
	}
	return false;
}

void oci_notify_wait(int sock, const char *host_socket, pid_t pid, int pidfd)
{
	struct pollfd fds[] = {{.fd = sock, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};

	for (;;) {
		if (poll(fds, array_size(fds), -1) < 0 && errno != EINTR)
			return;
		if (fds[0].revents && oci_notify_pass(sock, host_socket, pid))
			return;
		if (fds[1].revents)
			return;
	}
}
