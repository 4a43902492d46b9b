/* input: see input.h. While the buffer is not empty the descriptor is not read: a device that takes
 * nothing costs nothing, and what the user types ahead stays with the kernel. */
#include "vmm/input.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/own.h"

enum { PREFIX = 1 /* ctrl-a */ };

static void deliver(struct input *input)
{
	size_t taken = input->count ? input->ops->deliver(input, input->buffer, input->count) : 0;

	input->count -= taken;
	memmove(input->buffer, input->buffer + taken, input->count);
	if (input->source && loop_set_events(input->source, input->count ? 0 : EPOLLIN) < 0)
		loop_remove(take(input->source));
}

/* Takes the escape sequences out: ctrl-a x ends, ctrl-a ctrl-a is one ctrl-a. */
static size_t filter(struct input *input, size_t count)
{
	size_t kept = 0;

	for (size_t i = 0; i < count; i++) {
		char c = input->buffer[i];

		if (input->after_prefix) {
			input->after_prefix = false;
			if (c == 'x') {
				input->ops->escape(input);
				continue;
			}
			if (c != PREFIX)
				continue;
		} else if (c == PREFIX) {
			input->after_prefix = true;
			continue;
		}
		input->buffer[kept++] = c;
	}
	return kept;
}

static void on_readable(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
			void *data)
{
	struct input *input = data;
	ssize_t got;

	(void)loop;
	(void)source;
	(void)events;
	got = read(fd, input->buffer, sizeof(input->buffer));
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (got <= 0) {
		loop_remove(take(input->source));
		return;
	}
	input->count = input->has_escape ? filter(input, (size_t)got) : (size_t)got;
	deliver(input);
}

static void on_wake(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void *data)
{
	uint64_t value;

	(void)loop;
	(void)source;
	(void)events;
	if (read(fd, &value, sizeof(value)) == (ssize_t)sizeof(value))
		deliver(data);
}

int input_init(struct input *input, const struct input_ops *ops, struct loop *loop, int fd,
	       bool has_escape)
{
	int rc;

	*input = (struct input){.ops = ops, .loop = loop, .fd = fd, .has_escape = has_escape};
	input->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (input->wake_fd < 0)
		return -errno;
	rc = loop_add_io(loop, input->wake_fd, EPOLLIN, on_wake, input, &input->wake_source);
	if (rc < 0)
		return rc;
	rc = loop_add_io(loop, fd, EPOLLIN, on_readable, input, &input->source);
	/* A plain file cannot be waited for, /dev/null is one: there is nothing to type then. */
	return rc == -EPERM ? 0 : rc;
}

void input_release(struct input *input)
{
	if (!input->loop)
		return;
	loop_remove(input->source);
	loop_remove(input->wake_source);
	fd_close(&input->wake_fd);
	input->loop = NULL;
}

void input_wake(struct input *input)
{
	uint64_t one = 1;

	if (input->loop && write(input->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}
