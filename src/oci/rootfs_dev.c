/*
 * rootfs_dev: device files and links below /dev of the container.
 *
 * The parent directory is opened beneath the root, and the file made in it by name with mknodat,
 * which follows no link: an image cannot move a device elsewhere. Where mknod is not permitted (a user
 * namespace), the host's device is bind-mounted on an empty file.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/mem.h"
#include "base/sock.h"
#include "base/str.h"
#include "oci/rootfs_priv.h"
#include "oci/mount_attr.h"
#include "oci/userns.h"

static const struct config_device standard[] = {
	{"/dev/null", 'c', 1, 3, 0666, 0, 0},    {"/dev/zero", 'c', 1, 5, 0666, 0, 0},
	{"/dev/full", 'c', 1, 7, 0666, 0, 0},    {"/dev/random", 'c', 1, 8, 0666, 0, 0},
	{"/dev/urandom", 'c', 1, 9, 0666, 0, 0}, {"/dev/tty", 'c', 5, 0, 0666, 0, 0},
};

const char *rootfs_standard_device(size_t i)
{
	return i < array_size(standard) ? standard[i].path : NULL;
}

static const char *const links[][2] = {
	{"/proc/self/fd", "fd"},
	{"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"},
	{"/proc/self/fd/2", "stderr"},
};

static mode_t type_of(const struct config_device *d)
{
	return d->type == 'c' ? S_IFCHR : d->type == 'b' ? S_IFBLK : S_IFIFO;
}

static bool is_device(const struct stat *st, const struct config_device *d)
{
	return (st->st_mode & S_IFMT) == type_of(d) &&
	       (d->type == 'p' || st->st_rdev == makedev(d->major, d->minor));
}

/* A device file in the tmpfs, which belongs to the host's own user namespace; its name is its index. */
static int make_detached(int dir_fd, const struct config_linux *l, size_t i)
{
	const struct config_device *d = &l->devices[i];
	own_mem char *name = str_format("%zu", i);
	const uint32_t uid = l->uid_maps.count ? userns_host_id(&l->uid_maps, d->uid) : d->uid;
	const uint32_t gid = l->gid_maps.count ? userns_host_id(&l->gid_maps, d->gid) : d->gid;

	if (uid == UINT32_MAX || gid == UINT32_MAX)
		return -EOVERFLOW;
	if (mknodat(dir_fd, name, type_of(d) | d->mode, makedev(d->major, d->minor)) < 0 ||
	    fchmodat(dir_fd, name, d->mode, 0) < 0 ||
	    fchownat(dir_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

/* A detached mount of that file. -EINVAL: this kernel copies only what is mounted in a namespace. */
static int clone_file(int dir_fd, size_t i)
{
	own_mem char *name = str_format("%zu", i);
	int fd = open_tree(dir_fd, name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* In a child: mounts the tmpfs in a mount namespace of its own and sends what it copies there. */
static int clone_and_send(int dir_fd, size_t i, int sock)
{
	own_fd int tree = -1;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    move_mount(dir_fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	tree = clone_file(dir_fd, i);
	return tree < 0 ? tree : sock_send_fds(sock, "", 1, &tree, 1);
}

/* The same as clone_file() before Linux 6.15. The child may attach the tmpfs: that ends with it. */
static int clone_in_child(int dir_fd, size_t i)
{
	int pair[2], fd = -1, status = 0, rc = sock_pair(SOCK_STREAM, pair);
	size_t count = 0;
	char byte;
	pid_t pid;

	if (rc < 0)
		return rc;
	pid = fork();
	if (pid == 0)
		_exit(-clone_and_send(dir_fd, i, pair[1]));
	rc = pid < 0 ? -errno : 0;
	fd_close(&pair[1]);
	if (rc == 0) {
		if (sock_receive_fds(pair[0], &byte, 1, &fd, 1, &count) < 0)
			count = 0;
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	}
	fd_close(&pair[0]);
	if (rc < 0 || count == 1)
		return rc < 0 ? rc : fd;
	return WIFEXITED(status) && WEXITSTATUS(status) ? -WEXITSTATUS(status) : -EIO;
}

static int detach_device(int dir_fd, const struct config_linux *l, size_t i)
{
	int rc = make_detached(dir_fd, l, i);

	if (rc == 0)
		rc = clone_file(dir_fd, i);
	return rc == -EINVAL ? clone_in_child(dir_fd, i) : rc;
}

static int new_tmpfs(void)
{
	own_fd int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	fd = fsmount(fs, FSMOUNT_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

int rootfs_prepare_devices(struct rootfs *r, struct error *err)
{
	const struct config_linux *l = &r->config->linux_;
	own_fd int dir = -1;

	if (!r->user_namespace || l->device_count == 0 || geteuid() != 0)
		return 0;
	r->device_fds = mem_new_array(l->device_count, sizeof(int));
	for (size_t i = 0; i < l->device_count; i++)
		r->device_fds[i] = -1;
	for (size_t i = 0; i < l->device_count; i++) {
		const struct config_device *d = &l->devices[i];
		struct stat st;

		if (d->type == 'p' || (stat(d->path, &st) == 0 && is_device(&st, d)))
			continue;
		if (dir < 0 && (dir = new_tmpfs()) == -ENOSYS)
			return refuse(err, dir,
				      "linux.devices[%zu]: in a user namespace a device that the "
				      "host does not have needs Linux 5.2 or later (fsmount)",
				      i);
		if (dir < 0)
			return fail(err, dir, "linux.devices[%zu]: mount a tmpfs", i);
		r->device_fds[i] = detach_device(dir, l, i);
		if (r->device_fds[i] < 0)
			return fail(err, r->device_fds[i], "linux.devices[%zu]: make %s", i,
				    d->path);
	}
	return 0;
}

/* Attaches what was prepared. */
static int attach_device(const struct rootfs *r, size_t i, struct error *err)
{
	const struct config_device *d = &r->config->linux_.devices[i];
	own_fd int target = rootfs_target(r, d->path, false, err);
	int rc;

	if (target < 0)
		return target;
	rc = mount_attach(r->device_fds[i], target);
	return rc < 0 ? fail(err, rc, "mount %s", d->path) : 0;
}

/* Bind-mounts the host's device. */
static int show_device(const struct rootfs *r, const struct config_device *d, struct error *err)
{
	own_fd int source = open(d->path, O_PATH | O_CLOEXEC), target = -1, fd = -1;
	struct mount_bind bind = {.source_fd = source, .idmap_fd = -1};
	struct mount_target where;
	struct stat st;

	if (source < 0 || fstat(source, &st) < 0)
		return fail(err, -errno, "open %s of the host", d->path);
	if (!is_device(&st, d))
		return refuse(err, -ENODEV, "%s of the host is another device than %u:%u", d->path,
			      d->major, d->minor);
	target = rootfs_target(r, d->path, false, err);
	if (target < 0)
		return target;
	where = (struct mount_target){target, r->root_fd, d->path};
	fd = mount_show(&bind, &where, err);
	return fd < 0 ? fd : 0;
}

/* Not by a path of /proc where it can be helped (Linux 6.6): in a mount namespace that was joined somebody else
 * decides about what is there. */
static int set_mode(int fd, mode_t mode)
{
	enum { SYS_FCHMODAT2 = 452 };

	if (syscall(SYS_FCHMODAT2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS && errno != EPERM)
		return -errno;
	return chmod(fd_path(fd).text, mode) < 0 ? -errno : 0;
}

/* Owner and mode through the descriptor of what was made, which is checked to be just that. */
static int dress(int parent, const char *name, const struct config_device *d)
{
	own_fd int fd = -1;
	struct stat st;

	/* As a rule all is as it was made. */
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && is_device(&st, d) &&
	    st.st_uid == d->uid && st.st_gid == d->gid && (st.st_mode & 07777) == d->mode)
		return 0;
	fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!is_device(&st, d))
		return -ENODEV;
	if ((st.st_uid != d->uid || st.st_gid != d->gid) &&
	    fchownat(fd, "", d->uid, d->gid, AT_EMPTY_PATH) < 0)
		return -errno;
	return (st.st_mode & 07777) != d->mode ? set_mode(fd, d->mode) : 0;
}

/* Makes it by its name in the directory `parent`. */
static int make_in(const struct rootfs *r, int parent, const char *name,
		   const struct config_device *d, struct error *err)
{
	const dev_t dev = d->type == 'p' ? 0 : makedev(d->major, d->minor);
	struct stat st;

	if (r->user_namespace && d->type != 'p')
		return show_device(r, d, err);
	if (mknodat(parent, name, type_of(d) | d->mode, dev) < 0) {
		if (errno == EPERM)
			return show_device(r, d, err);
		if (errno != EEXIST)
			return fail(err, -errno, "create device %s", d->path);
		/* Something of the image or of a mount is in the place. */
		if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return fail(err, -errno, "create device %s", d->path);
		if (is_device(&st, d))
			return 0;
		if (unlinkat(parent, name, 0) < 0 ||
		    mknodat(parent, name, type_of(d) | d->mode, dev) < 0)
			return fail(err, -errno, "replace %s by the device", d->path);
	}
	return dress(parent, name, d);
}

static int make_device(const struct rootfs *r, const struct config_device *d, struct error *err)
{
	const char *name;
	own_fd int parent = beneath_parent(r->root_fd, d->path, true, 0755, &name);

	if (parent < 0)
		return fail(err, parent, "create the directory of %s", d->path);
	return make_in(r, parent, name, d, err);
}

static bool is_listed(const struct config_linux *l, const char *path)
{
	for (size_t i = 0; i < l->device_count; i++)
		if (str_eq(l->devices[i].path, path))
			return true;
	return false;
}

/* A /dev that is the host's, or a volume's, is left as it is. */
static bool dev_is_bound(const struct config *c)
{
	bool bound = false;

	for (size_t i = 0; i < c->mount_count; i++)
		if (str_eq(c->mounts[i].destination, "/dev") ||
		    str_eq(c->mounts[i].destination, "/dev/"))
			bound = c->mounts[i].bind;
	return bound;
}

static int make_links(const struct rootfs *r, int dev, struct error *err)
{
	struct stat st;

	for (size_t i = 0; i < array_size(links); i++)
		if (symlinkat(links[i][0], dev, links[i][1]) < 0 && errno != EEXIST)
			return fail(err, -errno, "create the link /dev/%s", links[i][1]);
	if (fstatat(r->root_fd, "proc/kcore", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    symlinkat("/proc/kcore", dev, "core") < 0 && errno != EEXIST)
		return fail(err, -errno, "create the link /dev/core");
	/* The multiplexer of the container's own devpts, never one of the image. */
	if (fstatat(dev, "pts/ptmx", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	if (unlinkat(dev, "ptmx", 0) < 0 && errno != ENOENT && errno != EISDIR && errno != EBUSY &&
	    errno != EPERM)
		return fail(err, -errno, "replace /dev/ptmx");
	if (symlinkat("pts/ptmx", dev, "ptmx") < 0 && errno != EEXIST)
		return fail(err, -errno, "create the link /dev/ptmx");
	return 0;
}

/* What every container has. */
static int make_standard(const struct rootfs *r, struct error *err)
{
	own_fd int dev = beneath_make_dir(r->root_fd, "dev", 0755);
	int rc = 0;

	if (dev < 0)
		return fail(err, dev, "open /dev in the container");
	for (size_t i = 0; rc == 0 && i < array_size(standard); i++)
		if (!is_listed(&r->config->linux_, standard[i].path))
			rc = make_in(r, dev, standard[i].path + strlen("/dev/"), &standard[i], err);
	return rc < 0 ? rc : make_links(r, dev, err);
}

int rootfs_devices(const struct rootfs *r, struct error *err)
{
	const struct config_linux *l = &r->config->linux_;
	/* The modes are those given: without this each would have to be set once more. */
	const mode_t before = umask(0);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < l->device_count; i++) {
		rc = r->device_fds != NULL && r->device_fds[i] >= 0
			     ? attach_device(r, i, err)
			     : make_device(r, &l->devices[i], err);
		if (rc < 0)
			fail(err, rc, "linux.devices[%zu]", i);
	}
	if (rc == 0 && !dev_is_bound(r->config))
		rc = make_standard(r, err);
	umask(before);
	return rc;
}
