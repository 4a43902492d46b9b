/* mount: see mount.h. */
#include "oci/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/own.h"
#include "base/str.h"

/* What a kernel or an outer filter answers to a call that it does not have. */
static bool is_missing(int rc)
{
	return rc == -ENOSYS || rc == -EPERM;
}

/* --- the classic interface ---------------------------------------------------------------------- */

static unsigned long classic_flags(uint64_t attr)
{
	static const struct {
		uint64_t attr;
		unsigned long flag;
	} bits[] = {
		{MOUNT_ATTR_RDONLY, MS_RDONLY},         {MOUNT_ATTR_NOSUID, MS_NOSUID},
		{MOUNT_ATTR_NODEV, MS_NODEV},           {MOUNT_ATTR_NOEXEC, MS_NOEXEC},
		{MOUNT_ATTR_NODIRATIME, MS_NODIRATIME}, {MOUNT_ATTR_NOSYMFOLLOW, MS_NOSYMFOLLOW},
	};
	unsigned long flags = 0;

	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (attr & bits[i].attr)
			flags |= bits[i].flag;
	if ((attr & MOUNT_ATTR__ATIME) == MOUNT_ATTR_NOATIME)
		flags |= MS_NOATIME;
	else if ((attr & MOUNT_ATTR__ATIME) == MOUNT_ATTR_STRICTATIME)
		flags |= MS_STRICTATIME;
	return flags;
}

/* The flags that a mount has now: a remount has to repeat them, and may not drop locked ones. */
static unsigned long current_flags(int fd)
{
	static const struct {
		unsigned long st, ms;
	} bits[] = {
		{ST_RDONLY, MS_RDONLY},     {ST_NOSUID, MS_NOSUID},
		{ST_NODEV, MS_NODEV},       {ST_NOEXEC, MS_NOEXEC},
		{ST_NOATIME, MS_NOATIME},   {ST_NODIRATIME, MS_NODIRATIME},
		{ST_RELATIME, MS_RELATIME},
	};
	struct statvfs st;
	unsigned long flags = 0;

	if (fstatvfs(fd, &st) < 0)
		return 0;
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++)
		if (st.f_flag & bits[i].st)
			flags |= bits[i].ms;
	return flags;
}

static int classic_set_attr(int fd, bool recursive, uint64_t set, uint64_t clear)
{
	unsigned long flags = current_flags(fd);

	if (recursive || set & MOUNT_ATTR_IDMAP)
		return -ENOSYS;
	flags &= ~classic_flags(clear & ~(uint64_t)MOUNT_ATTR__ATIME);
	if (clear & MOUNT_ATTR__ATIME)
		flags &= ~(unsigned long)(MS_NOATIME | MS_RELATIME | MS_STRICTATIME);
	flags |= classic_flags(set);
	if (mount(NULL, fd_path(fd).text, NULL, MS_REMOUNT | MS_BIND | flags, NULL) < 0)
		return -errno;
	return 0;
}

/* A mount covers the descriptor it was made on; this opens what is on top of it now. Somebody may have put
 * something else there in between: not a mount, or another one, which shows another file than `source_fd`
 * (-1: of a new file system). */
static int reopen(const struct mount_target *target, int source_fd)
{
	own_fd int fd = beneath_open(target->root_fd, target->path, O_PATH, 0);
	struct statx below, above;
	struct stat source, seen;

	if (fd < 0)
		return fd;
	if (statx(target->fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &below) < 0 ||
	    statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &above) < 0)
		return -errno;
	if (below.stx_mnt_id == above.stx_mnt_id)
		return -EXDEV;
	if (source_fd >= 0 && (fstat(source_fd, &source) < 0 || fstat(fd, &seen) < 0))
		return -errno;
	return source_fd >= 0 && (source.st_dev != seen.st_dev || source.st_ino != seen.st_ino)
		       ? -EXDEV
		       : take(fd);
}

static int classic_new(const struct mount_fs *fs, const struct mount_target *target,
		       struct error *err)
{
	own_buf struct buf data = {0};
	int fd;

	for (size_t i = 0; fs->data != NULL && fs->data[i] != NULL; i++)
		buf_format(&data, "%s%s", i ? "," : "", fs->data[i]);
	if (fs->label != NULL)
		buf_format(&data, "%scontext=\"%s\"", data.len ? "," : "", fs->label);
	if (mount(fs->source ? fs->source : fs->type, fd_path(target->fd).text, fs->type,
		  classic_flags(fs->attr) | fs->super_flags, data.len ? data.data : NULL) < 0)
		return fail(err, -errno, "mount %s", fs->type);
	fd = reopen(target, -1);
	return fd < 0 ? fail(err, fd, "mount %s", fs->type) : fd;
}

static int classic_show(const struct mount_bind *b, const struct mount_target *target,
			struct error *err)
{
	own_fd int fd = -1;
	int rc = 0;

	if (b->detached || b->idmap_fd >= 0 || b->attr_set_rec != 0 || b->attr_clear_rec != 0)
		return refuse(err, -ENOSYS, "needs Linux 5.12 or later (mount_setattr)");
	if (mount(b->source_path ? b->source_path : fd_path(b->source_fd).text,
		  fd_path(target->fd).text, NULL, MS_BIND | (b->recursive ? MS_REC : 0), NULL) < 0)
		return fail(err, -errno, "bind");
	fd = reopen(target, b->source_path ? -1 : b->source_fd);
	if (fd >= 0 && (b->attr_set != 0 || b->attr_clear != 0))
		rc = classic_set_attr(fd, false, b->attr_set, b->attr_clear);
	if (fd < 0 || rc < 0)
		return fail(err, fd < 0 ? fd : rc, "set the options of a bind mount");
	return take(fd);
}

/* --- the new interface -------------------------------------------------------------------------- */

int mount_attach(int mount_fd, int target_fd)
{
	return move_mount(mount_fd, "", target_fd, "",
			  MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

int mount_attach_at(int mount_fd, int dir_fd, const char *name)
{
	return move_mount(mount_fd, "", dir_fd, name, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

static struct mount_attr attributes(uint64_t set, uint64_t clear)
{
	struct mount_attr attr = {.attr_set = set, .attr_clr = clear};

	/* An access time mode replaces the old one: the kernel wants all its bits cleared. */
	if (set & MOUNT_ATTR__ATIME)
		attr.attr_clr |= MOUNT_ATTR__ATIME;
	attr.attr_clr &= ~(set & ~(uint64_t)MOUNT_ATTR__ATIME);
	return attr;
}

static int set_attr(int mount_fd, bool recursive, uint64_t set, uint64_t clear)
{
	struct mount_attr attr = attributes(set, clear);

	if (attr.attr_set == 0 && attr.attr_clr == 0)
		return 0;
	if (mount_setattr(mount_fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return -errno;
	return 0;
}

int mount_set_attr(int mount_fd, bool recursive, uint64_t set, uint64_t clear)
{
	int rc = set_attr(mount_fd, recursive, set, clear);

	return rc == -ENOSYS ? classic_set_attr(mount_fd, recursive, set, clear) : rc;
}

int mount_propagation(int mount_fd, unsigned long kind)
{
	struct mount_attr attr = {.propagation = kind & ~(unsigned long)MS_REC};

	if (mount_setattr(mount_fd, "", AT_EMPTY_PATH | (kind & MS_REC ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) == 0)
		return 0;
	if (errno != ENOSYS)
		return -errno;
	return mount(NULL, fd_path(mount_fd).text, NULL, kind, NULL) < 0 ? -errno : 0;
}

/* The file system's own words about what is wrong: lines like "e tmpfs: Unknown parameter 'x'". */
static int fs_fail(int fs_fd, int rc, const char *type, const char *option, struct error *err)
{
	char text[256];
	ssize_t n = read(fs_fd, text, sizeof(text) - 1);

	if (n > 2) {
		text[n] = '\0';
		text[strcspn(text, "\n")] = '\0';
		return refuse(err, rc, "mount %s: %s", type, text + 2);
	}
	return option ? fail(err, rc, "mount %s: option \"%s\"", type, option)
		      : fail(err, rc, "mount %s", type);
}

static int set_option(int fs_fd, const char *option)
{
	const char *equals = strchr(option, '=');
	own_mem char *key = NULL;

	if (equals == NULL)
		return fsconfig(fs_fd, FSCONFIG_SET_FLAG, option, NULL, 0) < 0 ? -errno : 0;
	key = str_copy_n(option, (size_t)(equals - option));
	return fsconfig(fs_fd, FSCONFIG_SET_STRING, key, equals + 1, 0) < 0 ? -errno : 0;
}

static int set_super_flags(int fs_fd, unsigned int flags)
{
	static const struct {
		unsigned int flag;
		const char *name;
	} names[] = {
		{MS_RDONLY, "ro"},     {MS_SYNCHRONOUS, "sync"},  {MS_DIRSYNC, "dirsync"},
		{MS_MANDLOCK, "mand"}, {MS_LAZYTIME, "lazytime"}, {MS_I_VERSION, "iversion"},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (flags & names[i].flag &&
		    fsconfig(fs_fd, FSCONFIG_SET_FLAG, names[i].name, NULL, 0) < 0)
			return -errno;
	return 0;
}

/* Makes the file system and a detached mount of it. */
static int make_fs(int fs_fd, const struct mount_fs *fs, struct error *err)
{
	int fd, rc = 0;

	if (fsconfig(fs_fd, FSCONFIG_SET_STRING, "source", fs->source ? fs->source : fs->type, 0) <
	    0)
		return fs_fail(fs_fd, -errno, fs->type, "source", err);
	for (size_t i = 0; fs->data != NULL && fs->data[i] != NULL; i++) {
		rc = set_option(fs_fd, fs->data[i]);
		if (rc < 0)
			return fs_fail(fs_fd, rc, fs->type, fs->data[i], err);
	}
	if (fs->label != NULL && fsconfig(fs_fd, FSCONFIG_SET_STRING, "context", fs->label, 0) < 0)
		return fs_fail(fs_fd, -errno, fs->type, "context", err);
	rc = set_super_flags(fs_fd, fs->super_flags);
	if (rc < 0)
		return fs_fail(fs_fd, rc, fs->type, NULL, err);
	if (fsconfig(fs_fd, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fs_fail(fs_fd, -errno, fs->type, NULL, err);
	fd = fsmount(fs_fd, FSMOUNT_CLOEXEC, (unsigned int)fs->attr);
	return fd < 0 ? fs_fail(fs_fd, -errno, fs->type, NULL, err) : fd;
}

int mount_new(const struct mount_fs *fs, const struct mount_target *target, struct error *err)
{
	own_fd int fs_fd = fsopen(fs->type, FSOPEN_CLOEXEC), fd = -1;
	int rc;

	if (fs_fd < 0 && is_missing(-errno))
		return classic_new(fs, target, err);
	if (fs_fd < 0 && errno == ENODEV)
		return refuse(err, -ENODEV, "this kernel has no file system \"%s\"", fs->type);
	if (fs_fd < 0)
		return fail(err, -errno, "mount %s", fs->type);
	fd = make_fs(fs_fd, fs, err);
	if (fd < 0)
		return fd;
	rc = mount_attach(fd, target->fd);
	return rc < 0 ? fail(err, rc, "mount %s", fs->type) : take(fd);
}

static int set_idmap(int fd, const struct mount_bind *b, struct error *err)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_IDMAP,
		.userns_fd = (uint64_t)b->idmap_fd,
	};

	if (mount_setattr(fd, "", AT_EMPTY_PATH | (b->idmap_recursive ? AT_RECURSIVE : 0), &attr,
			  sizeof(attr)) < 0)
		return fail(err, -errno,
			    "map the ids of the mount (its file system may not allow it)");
	return 0;
}

/* A detached copy. */
static int copy_tree(const struct mount_bind *b)
{
	int fd = open_tree(b->source_fd, b->source_path ? b->source_path : "",
			   AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				   (b->recursive ? AT_RECURSIVE : 0));

	return fd < 0 ? -errno : fd;
}

/* The copy and its attributes at once, where the kernel has a call for that, and where one set of them is
 * for all that is copied. -ENOSYS: step by step. */
static int copy_with_attributes(const struct mount_bind *b)
{
	static bool missing;
	struct mount_attr attr =
		attributes(b->attr_set | b->attr_set_rec, b->attr_clear | b->attr_clear_rec);
	long fd;

	if (missing || (attr.attr_set == 0 && attr.attr_clr == 0) ||
	    (b->recursive && (b->attr_set != 0 || b->attr_clear != 0)) ||
	    ((b->attr_set_rec | b->attr_clear_rec) != 0 && (b->attr_set | b->attr_clear) != 0))
		return -ENOSYS;
	fd = syscall(SYS_open_tree_attr, b->source_fd, b->source_path ? b->source_path : "",
		     AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
			     (b->recursive ? AT_RECURSIVE : 0),
		     &attr, sizeof(attr));
	if (fd >= 0)
		return (int)fd;
	/* Whatever it is, the single steps say which of them it was. */
	missing = is_missing(-errno);
	return -ENOSYS;
}

static int copy_then_attributes(const struct mount_bind *b, struct error *err)
{
	own_fd int fd = copy_tree(b);
	int rc;

	if (fd < 0)
		return fail(err, fd, "bind");
	/* The classic call cannot do that to a detached mount: then the whole is done its way. */
	rc = set_attr(fd, true, b->attr_set_rec, b->attr_clear_rec);
	if (rc == 0)
		rc = set_attr(fd, false, b->attr_set, b->attr_clear);
	return rc < 0 ? fail(err, rc, "set the options of a bind mount") : take(fd);
}

int mount_detach(const struct mount_bind *b, struct error *err)
{
	own_fd int fd = copy_with_attributes(b);
	int rc;

	if (fd == -ENOSYS)
		fd = copy_then_attributes(b, err);
	if (fd < 0)
		return fd;
	if (b->idmap_fd >= 0 && (rc = set_idmap(fd, b, err)) < 0)
		return rc;
	return take(fd);
}

int mount_show(const struct mount_bind *b, const struct mount_target *target, struct error *err)
{
	own_fd int fd = -1;
	int rc;

	if (!b->detached) {
		fd = mount_detach(b, NULL);
		if (is_missing(fd))
			return classic_show(b, target, err);
		if (fd < 0)
			return mount_detach(b, err);
		rc = mount_attach(fd, target->fd);
		if (is_missing(rc))
			return classic_show(b, target, err);
		return rc < 0 ? fail(err, rc, "bind") : take(fd);
	}
	rc = mount_attach(b->source_fd, target->fd);
	if (rc < 0)
		return fail(err, rc, "attach a mount");
	fd = fcntl(b->source_fd, F_DUPFD_CLOEXEC, 3);
	return fd < 0 ? -errno : take(fd);
}
