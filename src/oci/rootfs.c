/* rootfs: the root and its mounts. See rootfs.h; devices are in rootfs_dev.c, cgroups in rootfs_cgroup.c, what is
 * hidden and the change of root in rootfs_finish.c. */
#include "oci/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/rootfs_priv.h"
#include "oci/tmpfs_copy.h"
#include "oci/userns.h"

/* --- before the process exists ------------------------------------------------------------------ */

/* A relative source is below the bundle. */
static char *source_path(const struct rootfs *r, const struct config_mount *m)
{
	return m->source[0] == '/' ? str_copy(m->source)
				   : str_format("%s/%s", r->bundle, m->source);
}

static int open_source(const struct rootfs *r, const struct config_mount *m, size_t i,
		       struct error *err)
{
	own_mem char *path = source_path(r, m);
	int fd = open(path, O_PATH | O_CLOEXEC | (m->copy_symlink ? O_NOFOLLOW : 0));

	return fd < 0 ? fail(err, -errno, "mounts[%zu]: open source %s", i, path) : fd;
}

/* The description of a bind mount without its source. */
static struct mount_bind bind_of(const struct config_mount *m)
{
	return (struct mount_bind){
		.recursive = m->recursive,
		.attr_set = m->attr_set,
		.attr_clear = m->attr_clear,
		.attr_set_rec = m->attr_set_rec,
		.attr_clear_rec = m->attr_clear_rec,
		.idmap_fd = -1,
		.idmap_recursive = m->idmap_recursive,
	};
}

static int detach_source(const struct rootfs *r, const struct config_mount *m, size_t i,
			 struct error *err)
{
	const struct config_linux *l = &r->config->linux_;
	own_fd int source = open_source(r, m, i, err), idmap = -1;
	struct mount_bind bind = bind_of(m);
	int fd;

	if (source < 0)
		return source;
	if (m->idmap) {
		bool own = m->uid_maps.count > 0;

		if (!own && l->uid_maps.count == 0)
			return refuse(err, -EINVAL,
				      "mounts[%zu]: there is no mapping for an id-mapped mount", i);
		idmap = userns_open(own ? &m->uid_maps : &l->uid_maps,
				    own ? &m->gid_maps : &l->gid_maps, err);
		if (idmap < 0)
			return fail(err, idmap, "mounts[%zu]", i);
	}
	bind.source_fd = source;
	bind.idmap_fd = idmap;
	fd = mount_detach(&bind, err);
	if (fd < 0)
		return fail(err, fd, "mounts[%zu]: %s", i, m->source);
	/* A copy made here is a peer of the host's mount; it must not let the container's mounts out. */
	(void)!mount_propagation(fd, MS_SLAVE | MS_REC);
	return fd;
}

int rootfs_prepare(struct rootfs *r, struct error *err)
{
	const struct config *c = r->config;
	const bool rootless = geteuid() != 0;

	r->root_fd = -1;
	r->source_fds = mem_new_array(c->mount_count + 1, sizeof(int));
	for (size_t i = 0; i < c->mount_count; i++)
		r->source_fds[i] = -1;
	r->null_fd = -1;
	for (size_t i = 0; i < c->mount_count; i++) {
		const struct config_mount *m = &c->mounts[i];

		if (!m->bind || m->copy_symlink || !(m->idmap || (r->user_namespace && !rootless)))
			continue;
		r->source_fds[i] = detach_source(r, m, i, err);
		if (r->source_fds[i] < 0)
			return r->source_fds[i];
	}
	return rootfs_prepare_devices(r, err);
}

void rootfs_release(struct rootfs *r)
{
	for (size_t i = 0; r->source_fds != NULL && i < r->config->mount_count; i++)
		fd_close(&r->source_fds[i]);
	free(r->source_fds);
	r->source_fds = NULL;
	for (size_t i = 0; r->device_fds != NULL && i < r->config->linux_.device_count; i++)
		fd_close(&r->device_fds[i]);
	free(r->device_fds);
	r->device_fds = NULL;
	fd_close(&r->null_fd);
	fd_close(&r->root_fd);
}

/* --- the root ----------------------------------------------------------------------------------- */

/* Shows the root path to itself, so that it is a mount that can become the root. */
static int show_root(struct rootfs *r, const char *path, struct error *err)
{
	own_fd int source = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), here = -1;
	struct mount_bind bind = {.recursive = true, .idmap_fd = -1};
	struct mount_target target;

	if (source < 0)
		return fail(err, -errno, "root.path: open %s", path);
	here = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (here < 0)
		return fail(err, -errno, "open /");
	bind.source_fd = source;
	target = (struct mount_target){.fd = source, .root_fd = here, .path = path};
	r->root_fd = mount_show(&bind, &target, err);
	return r->root_fd < 0 ? fail(err, r->root_fd, "root.path: %s", path) : 0;
}

/* A detached mount is attached on top of our own root: what we look up still starts below it, so
 * nothing is in its way and no directory is needed. */
static int attach_root(struct rootfs *r, struct error *err)
{
	own_fd int here = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc = here < 0 ? -errno : mount_attach(r->given_fd, here);

	if (rc < 0)
		return fail(err, rc, "attach the root file system");
	r->root_fd = fcntl(r->given_fd, F_DUPFD_CLOEXEC, 3);
	return r->root_fd < 0 ? -errno : 0;
}

/* Opened in our own mount namespace, while the host's /dev is in sight. */
static int open_null(struct error *err)
{
	own_fd int fd = open("/dev/null", O_PATH | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "open /dev/null");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
		return refuse(err, -ENODEV, "/dev/null of this host is not the null device");
	return take(fd);
}

int rootfs_enter(struct rootfs *r, struct error *err)
{
	const unsigned long asked = r->config->linux_.rootfs_propagation;
	own_mem char *path = NULL;
	int rc;

	/* Our mounts must not reach the host; the host's reach us unless the configuration says that
	 * they must not. A shared or unbindable root is made at the end. */
	if (!r->shared &&
	    mount(NULL, "/", NULL, (asked & MS_PRIVATE ? MS_PRIVATE : MS_SLAVE) | MS_REC, NULL) < 0)
		return fail(err, -errno, "separate the mounts from the host's");
	r->null_fd = open_null(err);
	if (r->null_fd < 0)
		return r->null_fd;
	if (r->given_fd >= 0) {
		rc = attach_root(r, err);
	} else {
		if (r->config->root_path == NULL)
			return refuse(err, -EINVAL, "root.path: is required but missing");
		path = r->config->root_path[0] == '/'
			       ? str_copy(r->config->root_path)
			       : str_format("%s/%s", r->bundle, r->config->root_path);
		rc = show_root(r, path, err);
	}
	return rc;
}

/* --- mounts ------------------------------------------------------------------------------------- */

static bool is_type(const struct config_mount *m, const char *type)
{
	return strcmp(m->type, type) == 0;
}

/* Copies the link itself. */
static int copy_link(const struct rootfs *r, const struct config_mount *m, int source,
		     struct error *err)
{
	own_fd int parent = -1;
	const char *name;
	char to[PATH_MAX];
	ssize_t n = readlinkat(source, "", to, sizeof(to) - 1);

	if (n < 0)
		return fail(err, -errno, "read the link %s", m->source);
	to[n] = '\0';
	parent = beneath_parent(r->root_fd, m->destination, true, 0755, &name);
	if (parent < 0)
		return fail(err, parent, "create %s in the container", m->destination);
	if (symlinkat(to, parent, name) < 0 && errno != EEXIST)
		return fail(err, -errno, "create the link %s in the container", m->destination);
	return 0;
}

/* Returns the new mount's descriptor, or 0x7fffffff if a link was made instead of a mount. */
enum { MADE_LINK = INT_MAX };

static int mount_bind_entry(const struct rootfs *r, const struct config_mount *m, size_t i,
			    struct error *err)
{
	struct mount_bind bind = bind_of(m);
	own_fd int source = -1, target = -1;
	struct mount_target where;
	struct stat st;
	int rc;

	if (r->source_fds[i] >= 0) {
		bind.source_fd = r->source_fds[i];
		bind.detached = true;
	} else {
		source = open_source(r, m, i, err);
		if (source < 0)
			return source;
		bind.source_fd = source;
	}
	if (fstat(bind.source_fd, &st) < 0)
		return fail(err, -errno, "look at %s", m->source);
	if (S_ISLNK(st.st_mode)) {
		rc = copy_link(r, m, source, err);
		return rc < 0 ? rc : MADE_LINK;
	}
	target = rootfs_target(r, m->destination, S_ISDIR(st.st_mode), err);
	if (target < 0)
		return target;
	where = (struct mount_target){target, r->root_fd, m->destination};
	return mount_show(&bind, &where, err);
}

/* Where a user namespace may not mount a kernel file system (its namespace is not ours, or parts of
 * the host's are covered), the host's is shown instead, as other runtimes do. */
static int mount_host_copy(const struct rootfs *r, const struct config_mount *m,
			   const struct mount_target *target, struct error *err)
{
	static const struct {
		const char *type, *path;
	} copies[] = {{"sysfs", "/sys"},
		      {"proc", "/proc"},
		      {"mqueue", "/dev/mqueue"},
		      {"cgroup", "/sys/fs/cgroup"},
		      {"cgroup2", "/sys/fs/cgroup"}};

	for (size_t i = 0; i < array_size(copies); i++) {
		struct mount_bind bind = bind_of(m);
		own_fd int source = -1;

		if (!is_type(m, copies[i].type))
			continue;
		source = open(copies[i].path, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (source < 0)
			return -EPERM;
		error_clear(err);
		bind.source_fd = source;
		bind.recursive = true;
		return mount_show(&bind, target, err);
	}
	(void)r;
	return -EPERM;
}

/* These have no backing store: "ro" is a matter of the mount. */
static bool is_kernel_fs(const char *type)
{
	static const char *const types[] = {"proc",     "sysfs",       "tmpfs",   "devpts",
					    "mqueue",   "cgroup",      "cgroup2", "securityfs",
					    "debugfs",  "tracefs",     "bpf",     "configfs",
					    "devtmpfs", "binfmt_misc", "ramfs"};

	for (size_t i = 0; i < array_size(types); i++)
		if (strcmp(types[i], type) == 0)
			return true;
	return false;
}

/* A procfs or sysfs that is mounted elsewhere than where it seems to be would be a way around what is
 * masked in it. Returns the directory, opened; -ENOENT if it is yet to be made. */
static int open_ordinary(const struct rootfs *r, const struct config_mount *m, struct error *err)
{
	own_fd int fd = beneath_open(r->root_fd, m->destination, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -ENOENT;
	return S_ISDIR(st.st_mode)
		       ? take(fd)
		       : refuse(err, -ENOTDIR, "%s must be mounted on ordinary directory",
				m->destination);
}

static bool has_option(const struct config_mount *m, const char *key)
{
	for (size_t i = 0; m->data != NULL && m->data[i] != NULL; i++)
		if (str_after(m->data[i], key) != NULL)
			return true;
	return false;
}

/* The directory that a tmpfs is mounted on decides about its mode, unless an option does. Returns the
 * options with that mode, to be freed; NULL if nothing is to be added. */
static char **options_with_mode(const struct rootfs *r, const struct config_mount *m)
{
	own_fd int fd = -1;
	char **options;
	struct stat st;

	if (!is_type(m, "tmpfs") || has_option(m, "mode="))
		return NULL;
	fd = beneath_open(r->root_fd, m->destination, O_PATH | O_DIRECTORY, 0);
	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	options = m->data ? strv_copy(m->data) : NULL;
	strv_push_format(&options, "mode=%04o", st.st_mode & 07777);
	return options;
}

bool rootfs_is_dev(const struct config_mount *m)
{
	return is_type(m, "tmpfs") &&
	       (str_eq(m->destination, "/dev") || str_eq(m->destination, "/dev/"));
}

/* Without SELinux there is nothing that a label could mean, and no file system takes one. */
static const char *label_of(const struct rootfs *r, const struct config_mount *m)
{
	const char *label = r->config->linux_.mount_label;

	if (str_empty(label) || is_type(m, "proc") || is_type(m, "sysfs") ||
	    access("/sys/fs/selinux/enforce", F_OK) < 0)
		return NULL;
	return label;
}

static int mount_fs_entry(const struct rootfs *r, const struct config_mount *m, struct error *err)
{
	own_strv char **with_mode = options_with_mode(r, m);
	struct mount_fs fs = {
		.type = m->type,
		.source = m->source,
		.data = with_mode ? with_mode : m->data,
		.super_flags = m->super_flags,
		.attr = (m->attr_set | m->attr_set_rec),
		.label = label_of(r, m),
	};
	own_fd int target = -1, fd = -1;
	struct mount_target where = {-1, r->root_fd, m->destination};
	int rc;

	if (is_type(m, "proc") || is_type(m, "sysfs")) {
		target = open_ordinary(r, m, err);
		if (target == -ENOTDIR)
			return target;
	}
	if (target < 0)
		target = rootfs_target(r, m->destination, true, err);
	where.fd = target;
	if (target < 0)
		return target;
	if ((is_type(m, "cgroup") || is_type(m, "cgroup2")) && r->cgroup != NULL &&
	    r->cgroup->dir_count > 0)
		return rootfs_mount_cgroup(r, m, target, err);
	if (fs.attr & MOUNT_ATTR_RDONLY && !is_kernel_fs(m->type))
		fs.super_flags |= MS_RDONLY;
	/* What is copied up has to be written first; and so have the devices: see protect_dev. */
	if (m->copy_up || rootfs_is_dev(m))
		fs.attr &= ~(uint64_t)MOUNT_ATTR_RDONLY;
	fd = mount_new(&fs, &where, err);
	/* Of control groups there is nothing but the host's if the container has none of its own. */
	if (fd == -EPERM &&
	    (r->user_namespace || !proc_is_root() || is_type(m, "cgroup") || is_type(m, "cgroup2")))
		return mount_host_copy(r, m, &where, err);
	if (fd < 0 || !m->copy_up)
		return take(fd);
	rc = tmpfs_copy_up(target, fd, err);
	if (rc == 0 && m->attr_set & MOUNT_ATTR_RDONLY)
		rc = mount_set_attr(fd, false, MOUNT_ATTR_RDONLY, 0);
	return rc < 0 ? fail(err, rc, "copy what %s covers", m->destination) : take(fd);
}

static int mount_entry(const struct rootfs *r, size_t i, struct error *err)
{
	const struct config_mount *m = &r->config->mounts[i];
	own_fd int fd = -1;
	int rc = m->bind ? mount_bind_entry(r, m, i, err) : mount_fs_entry(r, m, err);

	if (rc < 0)
		return fail(err, rc, "mounts[%zu]: mount %s on %s", i,
			    m->bind ? m->source : m->type, m->destination);
	if (rc == MADE_LINK)
		return 0;
	fd = rc;
	for (size_t k = 0; k < m->propagation_count; k++) {
		rc = mount_propagation(fd, m->propagation[k]);
		if (rc < 0)
			return fail(err, rc, "mounts[%zu]: propagation of %s", i, m->destination);
	}
	return 0;
}

int rootfs_mount_all(struct rootfs *r, struct error *err)
{
	for (size_t i = 0; i < r->config->mount_count; i++) {
		int rc = mount_entry(r, i, err);

		if (rc < 0)
			return rc;
	}
	return rootfs_devices(r, err);
}

int rootfs_console(struct rootfs *r, int terminal_fd, struct error *err)
{
	struct mount_bind bind = {.source_fd = terminal_fd, .idmap_fd = -1};
	own_fd int target = -1, fd = -1;
	struct mount_target where;
	struct stat st;

	/* A link there could lead the terminal to another file, which would then be hidden by it. */
	target = beneath_open(r->root_fd, "dev/console", O_PATH | O_NOFOLLOW, 0);
	if (target >= 0 && (fstat(target, &st) < 0 || S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode)))
		return refuse(err, -ELOOP, "/dev/console in the container is not a plain file");
	if (target == -ENOENT)
		target = rootfs_target(r, "/dev/console", false, err);
	if (target < 0)
		return fail(err, target, "open /dev/console in the container");
	where = (struct mount_target){target, r->root_fd, "dev/console"};
	fd = mount_show(&bind, &where, err);
	return fd < 0 ? fail(err, fd, "mount the terminal on /dev/console") : 0;
}
