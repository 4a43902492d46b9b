/* live: see live.h. */
#include "engine/live.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>

#include "base/file.h"

static int live_open(struct engine *engine, const char *id, int flags)
{
	char path[WORKLOAD_ID_LEN + 8];
	int fd;

	snprintf(path, sizeof(path), "%s/run", id);
	fd = openat(engine->state_fd, path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int live_create(struct engine *engine, const char *id)
{
	return live_open(engine, id, O_RDWR | O_CREAT | O_TRUNC);
}

int live_write(int fd, const struct live *live)
{
	return fd_write_full_at(fd, live, sizeof(*live), 0);
}

int live_read(struct engine *engine, const char *id, struct live *ret)
{
	own_fd int fd = live_open(engine, id, O_RDONLY);
	struct live live;
	ssize_t n;

	if (fd < 0)
		return fd;
	n = fd_read_full_at(fd, &live, sizeof(live), 0);
	if (n < 0)
		return (int)n;
	/* Empty: made, but not written yet. */
	if (n != sizeof(live) || live.version != LIVE_VERSION)
		return -ENOENT;
	*ret = live;
	return 0;
}

int live_set_paused(struct engine *engine, const char *id, bool paused)
{
	own_fd int fd = live_open(engine, id, O_RDWR);
	uint32_t value = paused;

	if (fd < 0)
		return fd;
	return fd_write_full_at(fd, &value, sizeof(value), offsetof(struct live, paused));
}
