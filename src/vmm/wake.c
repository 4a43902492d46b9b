/* wake: see wake.h. */
#include "vmm/wake.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_wake(struct loop *loop, struct loop_source *source, int fd, uint32_t events,
		    void *data)
{
	struct wake *wake = data;
	uint64_t count;

	(void)loop;
	(void)source;
	(void)events;
	if (read(fd, &count, sizeof(count)) != (ssize_t)sizeof(count))
		return;
	device_lock(wake->device);
	wake->fn(wake->device);
	device_unlock(wake->device);
}

int wake_init(struct wake *wake, struct loop *loop, struct device *device,
	      void (*fn)(struct device *device))
{
	*wake = (struct wake){.device = device, .fn = fn};
	wake->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake->fd < 0)
		return -errno;
	return loop_add_io(loop, wake->fd, EPOLLIN, on_wake, wake, &wake->source);
}

void wake_release(struct wake *wake)
{
	if (!wake->fn)
		return;
	loop_remove(wake->source);
	fd_close(&wake->fd);
}

void wake_up(struct wake *wake)
{
	const uint64_t one = 1;

	if (wake->fn && write(wake->fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}
