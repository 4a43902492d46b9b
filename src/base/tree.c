/*
 * tree: removal of directory trees; declared in file.h.
 *
 * Works on descriptors only, so that a link put in the place of a directory leads nowhere. Recursion,
 * and with it stack and open descriptors (two a level), ends at DEPTH_MAX levels: a subtree below is
 * moved up to the top of the tree being removed, and met there again.
 *
 * Every directory is first tried with rmdir: the kernel refuses that for a mount point (EBUSY), a bind
 * mount of the same file system included, which no comparison of device numbers would find.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/random.h"

enum {
	DEPTH_MAX = 64,
	SWAPS_MAX = 100, /* how often an entry may change its kind while we look at it */
};

struct removal {
	int top_fd; /* where subtrees that are too deep are moved to */
	dev_t device;
};

static bool is_dots(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int empty_dir(struct removal *r, int fd, unsigned int depth);

/* Removes the directory `name` in `parent`, whatever is in it. */
static int remove_dir(struct removal *r, int parent, const char *name, unsigned int depth)
{
	own_fd int fd = -1;
	struct stat st;
	int rc;

	if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (depth >= DEPTH_MAX) {
		char moved[17];

		random_hex(moved, 8);
		return renameat(parent, name, r->top_fd, moved) < 0 ? -errno : 0;
	}
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != r->device)
		return -EBUSY;
	rc = empty_dir(r, fd, depth + 1);
	if (rc < 0)
		return rc;
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

/* Removes an entry of whatever kind; a racing process may change the kind between two calls. */
static int remove_entry(struct removal *r, int parent, const char *name, unsigned int depth)
{
	int rc = 0;

	for (int i = 0; i < SWAPS_MAX; i++) {
		rc = unlinkat(parent, name, 0) < 0 ? -errno : 0;
		if (rc == -EISDIR)
			rc = remove_dir(r, parent, name, depth);
		if (rc != -ENOTDIR && rc != -ELOOP)
			break;
	}
	return rc == -ENOENT ? 0 : rc;
}

static int empty_dir(struct removal *r, int fd, unsigned int depth)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = again < 0 ? NULL : fdopendir(again);
	struct dirent *entry;

	if (dir == NULL)
		return -errno;
	while ((errno = 0, entry = readdir(dir)) != NULL) {
		int rc = is_dots(entry->d_name) ? 0 : remove_entry(r, fd, entry->d_name, depth);

		if (rc < 0)
			return rc;
	}
	return errno ? -errno : 0;
}

int tree_remove(int dirfd, const char *name, struct error *err)
{
	struct removal r = {0};
	own_fd int fd = -1;
	struct stat st;
	int rc;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR && unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
		return 0;
	if (errno != EISDIR && errno != ENOTEMPTY && errno != EEXIST)
		return fail(err, -errno, "remove %s", name);
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "remove %s", name);
	r.top_fd = fd;
	r.device = st.st_dev;
	/* Subtrees moved to the top while emptying it are found by the next round. */
	do {
		rc = empty_dir(&r, fd, 0);
		if (rc < 0)
			return fail(err, rc, "remove %s", name);
		rc = unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
	} while (rc == -ENOTEMPTY || rc == -EEXIST);
	return rc < 0 ? fail(err, rc, "remove %s", name) : 0;
}
