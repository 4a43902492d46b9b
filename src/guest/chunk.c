/* chunk: see chunk.h. */
#include "guest/chunk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum { HEAD = 4 };

static int send_all(int fd, const void *data, size_t len, int flags)
{
	const char *at = data;

	while (len > 0) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL | flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : errno == ECONNRESET ? -EPIPE : -errno;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int receive_all(int fd, void *data, size_t len)
{
	char *at = data;

	while (len > 0) {
		ssize_t n = recv(fd, at, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : errno == ECONNRESET ? -EPIPE : -errno;
		if (n == 0)
			return -EPIPE;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

static int send_head(int fd, size_t len)
{
	const unsigned char head[HEAD] = {(unsigned char)len, (unsigned char)(len >> 8),
					  (unsigned char)(len >> 16), (unsigned char)(len >> 24)};

	return send_all(fd, head, sizeof(head), len > 0 ? MSG_MORE : 0);
}

int chunk_send(int fd, const void *data, size_t len)
{
	const char *at = data;
	int rc = 0;

	while (rc == 0 && len > 0) {
		size_t n = len < CHUNK_MAX ? len : CHUNK_MAX;

		rc = send_head(fd, n);
		if (rc == 0)
			rc = send_all(fd, at, n, 0);
		at += n;
		len -= n;
	}
	return rc;
}

int chunk_end(int fd)
{
	return send_head(fd, 0);
}

ssize_t chunk_receive(int fd, void *data)
{
	unsigned char head[HEAD];
	int rc = receive_all(fd, head, sizeof(head));
	size_t len;

	if (rc < 0)
		return rc;
	len = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
	if (len > CHUNK_MAX)
		return -EPROTO;
	rc = receive_all(fd, data, len);
	return rc < 0 ? rc : (ssize_t)len;
}
