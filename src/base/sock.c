/* sock: see sock.h. */
#include "base/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/own.h"

/* sun_path holds 107 bytes only; through /proc/self/fd any directory is short. */
static int fill_address(int dirfd, const char *name, struct sockaddr_un *address)
{
	int n;

	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* The kernel would take it for a name in the abstract name space, which has no owner. */
	if (name[0] == '\0')
		return -EINVAL;
	if (dirfd == AT_FDCWD || name[0] == '/')
		n = snprintf(address->sun_path, sizeof(address->sun_path), "%s", name);
	else
		n = snprintf(address->sun_path, sizeof(address->sun_path), "/proc/self/fd/%d/%s",
			     dirfd, name);
	return n >= (int)sizeof(address->sun_path) ? -ENAMETOOLONG : 0;
}

int sock_listen(int dirfd, const char *name, int type)
{
	own_fd int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	struct stat st;
	mode_t before;
	int rc;

	if (fd < 0)
		return -errno;
	rc = fill_address(dirfd, name, &address);
	if (rc < 0)
		return rc;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode) &&
	    unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	before = umask(0177);
	rc = bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	umask(before);
	if (rc < 0)
		return rc;
	return listen(fd, 64) < 0 ? -errno : take(fd);
}

int sock_connect(int dirfd, const char *name, int type)
{
	own_fd int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
	struct sockaddr_un address;
	int rc;

	if (fd < 0)
		return -errno;
	rc = fill_address(dirfd, name, &address);
	if (rc < 0)
		return rc;
	while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		if (errno != EINTR)
			return -errno;
	return take(fd);
}

int sock_pair(int type, int ret_fds[static 2])
{
	return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ret_fds) < 0 ? -errno : 0;
}

int sock_send_fds(int fd, const void *data, size_t len, const int *fds, size_t count)
{
	union {
		char bytes[CMSG_SPACE(SOCK_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (count > SOCK_FDS_MAX)
		return -EINVAL;
	if (count > 0) {
		struct cmsghdr *header;

		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(header), fds, count * sizeof(int));
	}
	for (;;) {
		ssize_t n = sendmsg(fd, &message, MSG_NOSIGNAL);

		if (n == (ssize_t)len)
			return 0;
		if (n >= 0)
			return -EMSGSIZE;
		if (errno != EINTR)
			return -errno;
	}
}

ssize_t sock_receive_fds(int fd, void *data, size_t len, int *ret_fds, size_t max,
			 size_t *ret_count)
{
	union {
		char bytes[CMSG_SPACE(SOCK_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = data, .iov_len = len};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	size_t count = 0;
	ssize_t n;

	do
		n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(&message); h != NULL; h = CMSG_NXTHDR(&message, h)) {
		size_t here = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int received[SOCK_FDS_MAX];

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(received, CMSG_DATA(h), here * sizeof(int));
		for (size_t i = 0; i < here; i++) {
			if (count < max)
				ret_fds[count++] = received[i];
			else
				close(received[i]);
		}
	}
	if (message.msg_flags & MSG_TRUNC) {
		while (count > 0)
			close(ret_fds[--count]);
		n = -EMSGSIZE;
	}
	*ret_count = count;
	return n;
}
