/* turn: see turn.h. */
#include "image/turn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "image/store_priv.h"

int turn_open(struct image_store *store, const struct digest *layer, struct error *err)
{
	own_fd int dir_fd = dir_open(store->state_fd, "fetch", 0700, err);
	int fd;

	if (dir_fd < 0)
		return dir_fd;
	fd = openat(dir_fd, digest_hex(layer), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? fail(err, -errno, "open fetch/%s", digest_hex(layer)) : fd;
}

int turn_await(int turn_fd, struct error *err)
{
	while (flock(turn_fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return fail(err, -errno, "wait for another command that fetches the layer");
	return 0;
}

void turn_release(struct image_store *store, const struct digest *layer, int *turn_fd)
{
	own_fd int dir_fd = -1;

	if (*turn_fd < 0)
		return;
	/* Those who wait for this file get it still; who comes later makes a new one. If it was never
	 * ours, because the job did not get so far, it is not ours to remove. */
	dir_fd = openat(store->state_fd, "fetch", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd >= 0 && flock(*turn_fd, LOCK_EX | LOCK_NB) == 0)
		(void)unlinkat(dir_fd, digest_hex(layer), 0);
	/* Not by closing alone: children that were started since have the descriptor too. */
	(void)flock(*turn_fd, LOCK_UN);
	fd_close(turn_fd);
}

void turn_recover(struct image_store *store)
{
	own_fd int dir_fd = openat(store->state_fd, "fetch", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = dir_fd < 0 ? NULL : fdopendir(fcntl(dir_fd, F_DUPFD_CLOEXEC, 3));
	const struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		own_fd int fd =
			openat(dir_fd, entry->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)unlinkat(dir_fd, entry->d_name, 0);
	}
}
