/*
 * rootfs_cgroup: the mount of type cgroup, made of the container's own directories.
 *
 * On v2 the container's directory is shown at the destination. On v1 the destination becomes a tmpfs
 * with one directory per hierarchy, and links for the controllers that share one. Showing a directory
 * is what mounting the hierarchy from within a cgroup namespace would give, without depending on one,
 * and it keeps the rest of the host's groups out of sight.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/rootfs_priv.h"

static struct mount_bind bind_of(const struct config_mount *m, const char *path)
{
	return (struct mount_bind){
		.source_fd = AT_FDCWD,
		.source_path = path,
		.attr_set = m->attr_set,
		.idmap_fd = -1,
	};
}

static int show_dir(const struct rootfs *r, const struct config_mount *m, const char *path,
		    int target_fd, const char *target_path, struct error *err)
{
	const struct mount_bind bind = bind_of(m, path);
	const struct mount_target where = {target_fd, r->root_fd, target_path};

	return mount_show(&bind, &where, err);
}

/* "cpu,cpuacct" is the directory of both; "name=systemd" is "systemd". */
const char *rootfs_cgroup_name(const struct cgroup_dir *dir)
{
	const char *named = str_after(dir->controllers, "name=");

	if (dir->controllers[0] == '\0')
		return "unified";
	return named ? named : dir->controllers;
}

static int link_controllers(int tmpfs, const char *controllers, struct error *err)
{
	own_strv char **names = strv_split(controllers, ',');

	if (strv_len(names) < 2)
		return 0;
	for (size_t i = 0; names[i] != NULL; i++)
		if (symlinkat(controllers, tmpfs, names[i]) < 0 && errno != EEXIST)
			return fail(err, -errno, "link the controller %s", names[i]);
	return 0;
}

/* Opens the directory first, which the classic interface needs. */
static int show_opened(const struct rootfs *r, const struct config_mount *m, int tmpfs,
		       const struct cgroup_dir *dir, struct error *err)
{
	own_mem char *path = str_format("%s/%s", m->destination, rootfs_cgroup_name(dir));
	own_fd int target = openat(tmpfs, rootfs_cgroup_name(dir),
				   O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (target < 0)
		return fail(err, -errno, "open %s", path);
	return show_dir(r, m, dir->path, target, path, err);
}

static int show_v1(const struct rootfs *r, const struct config_mount *m, int tmpfs,
		   const struct cgroup_dir *dir, struct error *err)
{
	const char *name = rootfs_cgroup_name(dir);
	const struct mount_bind bind = bind_of(m, dir->path);
	own_fd int fd = -1;

	if (mkdirat(tmpfs, name, 0755) < 0 && errno != EEXIST)
		return fail(err, -errno, "create %s/%s", m->destination, name);
	fd = mount_detach(&bind, NULL);
	if (fd < 0 || mount_attach_at(fd, tmpfs, name) < 0) {
		fd_close(&fd);
		fd = show_opened(r, m, tmpfs, dir, err);
	}
	return fd < 0 ? fd : link_controllers(tmpfs, dir->controllers, err);
}

int rootfs_mount_cgroup(const struct rootfs *r, const struct config_mount *m, int target_fd,
			struct error *err)
{
	struct mount_fs base = {
		.type = "tmpfs",
		.data = (char *[]){"mode=755", NULL},
		.attr = m->attr_set & ~(uint64_t)MOUNT_ATTR_RDONLY,
	};
	struct mount_target where = {target_fd, r->root_fd, m->destination};
	const struct cgroup_dir *unified = cgroup_unified(r->cgroup);
	own_fd int tmpfs = -1;
	int rc;

	if (r->cgroup->v2 || (strcmp(m->type, "cgroup2") == 0 && unified != NULL))
		return show_dir(r, m, unified->path, target_fd, m->destination, err);
	tmpfs = mount_new(&base, &where, err);
	if (tmpfs < 0)
		return tmpfs;
	for (size_t i = 0; i < r->cgroup->dir_count; i++) {
		rc = show_v1(r, m, tmpfs, &r->cgroup->dirs[i], err);
		if (rc < 0)
			return rc;
	}
	rc = mount_set_attr(tmpfs, false, m->attr_set & MOUNT_ATTR_RDONLY, 0);
	return rc < 0 ? fail(err, rc, "write-protect %s", m->destination) : take(tmpfs);
}
