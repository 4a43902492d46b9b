/* output: see output.h. */
#include "vmm/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/own.h"

enum {
	PIECE = 512, /* what one that says it has room takes without waiting: PIPE_BUF is not less */
	DRAIN_MS = 1000,
};

/* A pseudo terminal's master would be another one if it were opened anew. */
static bool is_master(int fd)
{
	unsigned int number;

	return ioctl(fd, TIOCGPTN, &number) == 0;
}

void output_init(struct output *output, int fd)
{
	char path[32];
	struct stat st;
	bool pipe, terminal;
	int again;

	*output = (struct output){.fd = fd};
	if (fd < 0 || fstat(fd, &st) < 0 || S_ISREG(st.st_mode))
		return;
	pipe = S_ISFIFO(st.st_mode);
	terminal = isatty(fd) && !is_master(fd);
	output->ask = true;
	if (!pipe && !terminal)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (again >= 0)
		*output = (struct output){.fd = again, .own = true};
}

void output_release(struct output *output)
{
	if (output->own)
		fd_close(&output->fd);
	output->fd = -1;
}

static bool has_room(const struct output *output, int timeout_ms)
{
	struct pollfd room = {.fd = output->fd, .events = POLLOUT};

	return poll(&room, 1, timeout_ms) > 0;
}

size_t output_write(struct output *output, const void *data, size_t size)
{
	const uint8_t *from = data;
	size_t done = 0;

	while (done < size && output->fd >= 0 && !output->gone) {
		size_t part = output->ask && size - done > PIECE ? PIECE : size - done;
		ssize_t n;

		if (output->ask && !has_room(output, 0))
			return done;
		n = write(output->fd, from + done, part);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return done;
		if (n < 0) /* a reader that has gone must not stop the guest */
			output->gone = true;
		else
			done += (size_t)n;
	}
	return size;
}

void output_drain(struct output *output, const void *data, size_t size)
{
	size_t done = 0, n;

	do {
		n = output_write(output, (const uint8_t *)data + done, size - done);
		done += n;
	} while (done < size && has_room(output, DRAIN_MS));
}
