/* channel: see channel.h. */
#include "engine/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

/* Sends all of a packet. A host that is short of memory, or whose memory is in pieces, refuses a packet for
 * the moment: that is no reason to take the other side for dead. */
static int send_whole(int fd, const void *data, size_t len, bool wait)
{
	const struct timespec moment = {.tv_nsec = 1000000};

	for (;;) {
		if (send(fd, data, len, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) >= 0)
			return 0;
		if (errno == ENOBUFS || errno == ENOMEM) {
			if (!wait)
				return -EAGAIN;
			nanosleep(&moment, NULL);
		} else if (errno != EINTR) {
			return -errno;
		}
	}
}

int channel_send(int fd, const struct packet *packet, size_t len, bool wait)
{
	return send_whole(fd, packet, PACKET_HEAD + len, wait);
}

int channel_send_head(int fd, enum channel_type type, uint32_t arg, uint32_t arg2, bool wait)
{
	uint32_t head[4] = {type, arg, arg2, 0};

	_Static_assert(sizeof(head) == PACKET_HEAD, "a packet's head is four numbers");
	return send_whole(fd, head, sizeof(head), wait);
}

int channel_send_error(int fd, const struct error *why)
{
	char bytes[PACKET_HEAD + sizeof(*why)] = {0};
	uint32_t type = CHANNEL_ERROR;

	memcpy(bytes, &type, sizeof(type));
	memcpy(bytes + PACKET_HEAD, why, sizeof(*why));
	return send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

ssize_t channel_receive(int fd, struct packet *ret)
{
	ssize_t n;

	/* A peer that goes while there is something of ours that it has not read resets the connection, which the
	 * kernel says once, and before what that peer had sent: an exit code, say. */
	do
		n = recv(fd, ret, sizeof(*ret), 0);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return -errno;
	/* An empty packet is never sent: 0 is the end. */
	if (n == 0)
		return -EPIPE;
	return n < PACKET_HEAD ? -EPROTO : n - PACKET_HEAD;
}

int channel_error(const struct packet *packet, size_t len, struct error *err)
{
	struct error why;

	if (len != sizeof(why))
		return refuse(err, -EPROTO, "the other process speaks another version");
	memcpy(&why, packet->payload, sizeof(why));
	why.text[sizeof(why.text) - 1] = why.hint[sizeof(why.hint) - 1] = '\0';
	if (err != NULL)
		*err = why;
	return why.code < 0 ? why.code : -EIO;
}
