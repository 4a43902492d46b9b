/*
 * layer_use: layers that are mounted for those who use them; see layer.h.
 *
 *     <state>/layers/<hex>        the mount point
 *     <state>/layers/<hex>.lock   held shared by every user, exclusively by who takes the mount away
 *     <state>/layers              itself is locked while something is mounted below it
 *
 * Users never wait for each other but for the moment of mounting. A user that is killed lets go by
 * that. Who finds that it was the last removes the mount, the mount point and the lock file; a user that
 * has waited for a lock file which is gone by then starts again.
 */
#include "image/layer_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/hex.h"

/* The lock file of a layer, locked, or -errno (-EWOULDBLOCK with `wait` false). */
static int lock_layer(int dir, const char *hex, enum file_lock_mode mode, bool wait)
{
	char name[LAYER_FILE_NAME_MAX];

	snprintf(name, sizeof(name), "%s.lock", hex);
	return file_lock(dir, name, mode, wait);
}

/* Opens the mount point if something is mounted there. -ENOENT if not. */
static int open_mounted(int dir, const char *hex)
{
	own_fd int fd = openat(dir, hex, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statx stx;

	if (fd < 0)
		return -errno;
	if (statx(fd, "", AT_EMPTY_PATH, 0, &stx) < 0)
		return -errno;
	if (!(stx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return -ENOENT;
	return take(fd);
}

/* Removes all that is of a layer in the state. Its lock is held exclusively. */
static int tidy(int dir, const char *hex)
{
	struct fd_path parent = fd_path(dir);
	own_mem char *path = str_format("%s/%s", parent.text, hex);
	own_mem char *lock = str_format("%s.lock", hex);
	int rc = 0;

	for (;;) {
		own_fd int fd = open_mounted(dir, hex);

		if (fd < 0)
			break;
		/* Detached, because somebody may be looking around in it without a lock. */
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return -errno;
	}
	if (unlinkat(dir, hex, AT_REMOVEDIR) < 0 && errno != ENOENT)
		rc = -errno;
	if (unlinkat(dir, lock, 0) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}

/* Mounts the layer. Its lock is held shared. Returns the root's descriptor. */
static int mount_layer(int layers_fd, int dir, const struct digest *diffid, struct error *err)
{
	const char *hex = digest_hex(diffid);
	/* An own description of the directory: locks belong to descriptions. */
	own_fd int mutex = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_fd int root = -1;

	if (mutex < 0)
		return fail(err, -errno, "open the directory of mounted layers");
	while (flock(mutex, LOCK_EX) < 0)
		if (errno != EINTR)
			return fail(err, -errno, "lock the directory of mounted layers");
	root = open_mounted(dir, hex);
	if (root >= 0)
		return take(root);
	root = layer_open(layers_fd, diffid, err);
	if (root < 0)
		return root;
	if (mkdirat(dir, hex, 0700) < 0 && errno != EEXIST)
		return fail(err, -errno, "make a mount point for layer %s", diffid->text);
	if (move_mount(root, "", dir, hex, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return fail(err, -errno, "mount layer %s", diffid->text);
	return take(root);
}

int layer_use(int layers_fd, int state_fd, const struct digest *diffid, struct layer_use *ret,
	      struct error *err)
{
	own_fd int dir = dir_open(state_fd, "layers", 0700, err);
	own_fd int lock = -1;
	int root, rc;

	if (dir < 0)
		return dir;
	lock = lock_layer(dir, digest_hex(diffid), FILE_LOCK_SHARED, true);
	if (lock < 0)
		return fail(err, lock, "lock layer %s", diffid->text);
	root = open_mounted(dir, digest_hex(diffid));
	if (root < 0)
		root = layer_must_mount(layers_fd, diffid)
			       ? mount_layer(layers_fd, dir, diffid, err)
			       : layer_open(layers_fd, diffid, err);
	if (root < 0) {
		rc = layer_release_lock(state_fd, diffid, &lock, NULL);
		(void)rc; /* the reason is the first failure */
		return root;
	}
	ret->root_fd = root;
	ret->lock_fd = take(lock);
	return 0;
}

int layer_release_lock(int state_fd, const struct digest *diffid, int *lock_fd, struct error *err)
{
	own_fd int lock = take(*lock_fd);
	own_fd int dir = -1;
	int rc;

	if (lock < 0)
		return 0;
	rc = file_lock_change(lock, FILE_LOCK_EXCLUSIVE, false);
	if (rc == -EWOULDBLOCK)
		return 0;
	if (rc < 0)
		return fail(err, rc, "lock layer %s", diffid->text);
	dir = openat(state_fd, "layers", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return fail(err, -errno, "open the directory of mounted layers");
	rc = tidy(dir, digest_hex(diffid));
	return rc < 0 ? fail(err, rc, "unmount layer %s", diffid->text) : 0;
}

int layer_release(int state_fd, const struct digest *diffid, struct layer_use *use,
		  struct error *err)
{
	fd_close(&use->root_fd);
	return layer_release_lock(state_fd, diffid, &use->lock_fd, err);
}

int layer_remove(int layers_fd, int state_fd, const struct digest *diffid, struct error *err)
{
	own_fd int dir = dir_open(state_fd, "layers", 0700, err);
	own_fd int lock = -1;
	int rc;

	if (dir < 0)
		return dir;
	lock = lock_layer(dir, digest_hex(diffid), FILE_LOCK_EXCLUSIVE, false);
	if (lock == -EWOULDBLOCK)
		return refuse(err, -EBUSY, "layer %s is in use", diffid->text);
	if (lock < 0)
		return fail(err, lock, "lock layer %s", diffid->text);
	rc = layer_remove_files(layers_fd, diffid, err);
	if (rc < 0)
		return rc;
	rc = tidy(dir, digest_hex(diffid));
	return rc < 0 ? fail(err, rc, "unmount layer %s", diffid->text) : 0;
}

/* The names in a directory; NULL and errno set on failure. Read at once, because they are about to
 * be removed. */
static int read_names(int dirfd, char ***ret)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (dir == NULL)
		return -errno;
	while ((errno = 0, entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.')
			strv_push(ret, entry->d_name);
	return -errno;
}

/* One name in the directory of mounted layers. */
static int recover_mount(int dir, const char *name, enum layer_recover_flags flags,
			 struct layer_leftovers *found)
{
	const size_t len = strcspn(name, ".");
	own_mem char *hex = str_copy_n(name, len);
	own_fd int lock = -1, mounted = -1;
	struct digest digest;

	if (!digest_from_hex(hex, len, &digest) ||
	    (name[len] != '\0' && !str_eq(name + len, ".lock")))
		return 0;
	/* A lock file that has a mount point is met as that. */
	if (name[len] != '\0' && faccessat(dir, hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	/* The lock of a mount point may be missing, then it is made. */
	lock = lock_layer(dir, hex, FILE_LOCK_EXCLUSIVE, false);
	if (lock < 0)
		return lock == -EWOULDBLOCK ? 0 : lock;
	mounted = open_mounted(dir, hex);
	found->mounts += mounted >= 0;
	if (flags & LAYER_RECOVER_REPORT)
		return 0;
	fd_close(&mounted);
	return tidy(dir, hex);
}

static int recover_write(int layers_fd, const char *name, enum layer_recover_flags flags,
			 struct layer_leftovers *found, struct error *err)
{
	own_fd int fd = -1;

	if (str_after(name, LAYER_UNFINISHED) == NULL)
		return 0;
	fd = openat(layers_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "open %s", name);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : fail(err, -errno, "lock %s", name);
	found->writes++;
	return flags & LAYER_RECOVER_REPORT ? 0 : tree_remove(layers_fd, name, err);
}

int layer_recover(int layers_fd, int state_fd, enum layer_recover_flags flags,
		  struct layer_leftovers *ret, struct error *err)
{
	own_fd int dir = openat(state_fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_strv char **mounts = NULL, **writes = NULL;
	struct layer_leftovers found = {0};
	int rc = 0;

	if (dir < 0 && errno != ENOENT)
		return fail(err, -errno, "open the directory of mounted layers");
	if (dir >= 0)
		rc = read_names(dir, &mounts);
	for (char **name = mounts; rc >= 0 && name != NULL && *name != NULL; name++)
		rc = recover_mount(dir, *name, flags, &found);
	if (rc < 0)
		return fail(err, rc, "look for mounts of layers left behind");
	rc = read_names(layers_fd, &writes);
	if (rc < 0)
		return fail(err, rc, "look for layers left unfinished");
	for (char **name = writes; rc >= 0 && name != NULL && *name != NULL; name++)
		rc = recover_write(layers_fd, *name, flags, &found, err);
	if (rc >= 0)
		*ret = found;
	return rc;
}
