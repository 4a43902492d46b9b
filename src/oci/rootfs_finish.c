/* rootfs_finish: what is hidden or not to be written to, and the change of root. See rootfs.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "oci/rootfs.h"
#include "oci/rootfs_priv.h"
#include "oci/self_map.h"

static int protect_paths(const struct rootfs *r, struct error *err)
{
	char **paths = r->config->linux_.readonly_paths;

	for (size_t i = 0; paths != NULL && paths[i] != NULL; i++) {
		own_fd int target = beneath_open(r->root_fd, paths[i], O_PATH, 0), fd = -1;
		struct mount_bind bind = {
			.source_fd = target,
			.recursive = true,
			.attr_set_rec = MOUNT_ATTR_RDONLY,
			.idmap_fd = -1,
		};
		struct mount_target where = {target, r->root_fd, paths[i]};

		if (target == -ENOENT || target == -ENOTDIR)
			continue;
		if (target < 0)
			return fail(err, target, "linux.readonlyPaths[%zu]: %s", i, paths[i]);
		fd = mount_show(&bind, &where, err);
		if (fd == -ENOSYS) { /* no mount_setattr: the path itself only */
			error_clear(err);
			bind.attr_set = MOUNT_ATTR_RDONLY;
			bind.attr_set_rec = 0;
			fd = mount_show(&bind, &where, err);
		}
		if (fd < 0)
			return fail(err, fd, "linux.readonlyPaths[%zu]: %s", i, paths[i]);
	}
	return 0;
}

/* Hides directories below one empty, read-only tmpfs, files below the host's verified /dev/null:
 * nothing that the container could have put in the place of either is used. */
static int mask_paths(const struct rootfs *r, struct error *err)
{
	char **paths = r->config->linux_.masked_paths;
	own_fd int empty_fd = -1;

	for (size_t i = 0; paths != NULL && paths[i] != NULL; i++) {
		own_fd int target = beneath_open(r->root_fd, paths[i], O_PATH, 0);
		struct mount_target where = {target, r->root_fd, paths[i]};
		struct mount_bind bind = {.source_fd = r->null_fd, .idmap_fd = -1};
		struct mount_fs empty = {
			.type = "tmpfs",
			.attr = MOUNT_ATTR_RDONLY,
			.data = (char *[]){"nr_inodes=1", NULL},
		};
		struct stat st;
		int fd;

		if (target == -ENOENT || target == -ENOTDIR)
			continue;
		if (target < 0 || fstat(target, &st) < 0)
			return fail(err, target < 0 ? target : -errno, "linux.maskedPaths[%zu]: %s",
				    i, paths[i]);
		bind.source_fd = S_ISDIR(st.st_mode) ? empty_fd : r->null_fd;
		bind.attr_set = S_ISDIR(st.st_mode) ? MOUNT_ATTR_RDONLY : 0;
		fd = bind.source_fd < 0 ? mount_new(&empty, &where, err)
					: mount_show(&bind, &where, err);
		if (fd < 0)
			return fail(err, fd, "linux.maskedPaths[%zu]: %s", i, paths[i]);
		if (bind.source_fd < 0)
			empty_fd = fd;
		else
			fd_close(&fd);
	}
	return 0;
}

/* The mount that we run from belongs to no namespace (self.c). Attached to the old root it goes away with
 * that, without a wait of its own. Nobody else is in this namespace to see it. */
static void drop_own_mount(const struct rootfs *r)
{
	const int kept = self_mount_fd();
	own_fd int own = kept < 0 ? open("/proc/self/exe", O_PATH | O_CLOEXEC) : -1;

	/* On any file of the old root. Where it is a mount of the host's or a file in memory it stays what
	 * it is. */
	if (mount_attach(kept < 0 ? own : kept, r->null_fd) < 0)
		return;
}

/* A /dev that is to be read-only could not be filled before. */
static int protect_dev(const struct rootfs *r, struct error *err)
{
	for (size_t i = 0; i < r->config->mount_count; i++) {
		const struct config_mount *m = &r->config->mounts[i];
		own_fd int fd = -1;
		int rc;

		if (!rootfs_is_dev(m) || !((m->attr_set | m->attr_set_rec) & MOUNT_ATTR_RDONLY))
			continue;
		fd = beneath_open(r->root_fd, m->destination, O_PATH | O_DIRECTORY, 0);
		rc = fd < 0 ? fd : mount_set_attr(fd, false, MOUNT_ATTR_RDONLY, 0);
		if (rc < 0)
			return fail(err, rc, "mounts[%zu]: make /dev read-only", i);
	}
	return 0;
}

static int pivot(const struct rootfs *r, struct error *err)
{
	drop_own_mount(r);
	/* The old root lands on top of the new one at the same place and is taken off again: no
	 * directory for it is needed. Being a slave of the host's, its removal does not reach that. */
	if (fchdir(r->root_fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return fail(err, -errno, "change the root (pivot_root)");
	if (umount2(".", MNT_DETACH) < 0)
		return fail(err, -errno, "take off the old root");
	return chdir("/") < 0 ? fail(err, -errno, "change to /") : 0;
}

/* A procfs or sysfs of the host that stays mounted, although out of sight, would allow the container to
 * mount an unmasked one in a user namespace of its own: take them off, or cover what is locked. */
static int hide_kernel_mounts(const struct rootfs *r, struct error *err)
{
	enum { MOUNTINFO_MAX = 16 << 20 };
	own_mem char *text = NULL, *root = mem_new(PATH_MAX);
	char *save = NULL;
	size_t len;
	ssize_t n = readlink(fd_path(r->root_fd).text, root, PATH_MAX - 1);
	int rc = file_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, &len, err);

	if (rc < 0 || n < 0)
		return rc < 0 ? rc : fail(err, -errno, "find the root's path");
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *type = strstr(line, " - ");
		own_mem char *path = mem_new(PATH_MAX);

		if (type == NULL || sscanf(line, "%*s %*s %*s %*s %4095s", path) != 1 ||
		    (strncmp(type + 3, "proc ", 5) != 0 && strncmp(type + 3, "sysfs ", 6) != 0) ||
		    (strncmp(path, root, (size_t)n) == 0 && (path[n] == '/' || path[n] == '\0')))
			continue;
		if (umount2(path, MNT_DETACH) == 0)
			continue;
		if ((errno != EINVAL && errno != EPERM) ||
		    mount("tmpfs", path, "tmpfs", 0, NULL) < 0)
			return fail(err, -errno, "hide %s", path);
	}
	return 0;
}

/* In a namespace that others share, their root has to stay. */
static int change_root(const struct rootfs *r, struct error *err)
{
	if (fchdir(r->root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return fail(err, -errno, "change the root (chroot)");
	return 0;
}

/* For a root that cannot be pivoted from (an initial ramfs): move the new root over the old one. */
static int move_root(const struct rootfs *r, struct error *err)
{
	int rc = hide_kernel_mounts(r, err);

	if (rc < 0)
		return rc;
	if (fchdir(r->root_fd) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return fail(err, -errno, "change the root (move)");
	return 0;
}

int rootfs_finish(struct rootfs *r, struct error *err)
{
	const unsigned long asked = r->config->linux_.rootfs_propagation;
	int rc;

	if ((rc = protect_dev(r, err)) < 0 || (rc = protect_paths(r, err)) < 0 ||
	    (rc = mask_paths(r, err)) < 0)
		return rc;
	if (r->config->root_readonly) {
		rc = mount_set_attr(r->root_fd, false, MOUNT_ATTR_RDONLY, 0);
		if (rc < 0)
			return fail(err, rc, "root.readonly");
	}
	rc = r->shared ? change_root(r, err) : r->no_pivot ? move_root(r, err) : pivot(r, err);
	if (rc < 0 || r->shared)
		return rc;
	if (asked != 0 && mount(NULL, "/", NULL, asked, NULL) < 0)
		return fail(err, -errno, "linux.rootfsPropagation");
	return 0;
}
