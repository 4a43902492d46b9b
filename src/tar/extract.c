/* extract: see extract.h. */
#include "tar/extract.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "tar/tar.h"

enum { SPECIAL_BITS = 07000, DIRS_MAX = 4 << 20 };

struct meta {
	uint32_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
};

/* A directory that gets its mode and time at the end. */
struct made_dir {
	char *path;
	struct meta meta;
};

struct extract {
	struct tar_sink sink;
	struct tar_reader *reader;
	struct extract_options options;
	char *dir;
	uint64_t bytes;
	struct made_dir *dirs;
	size_t dirs_count, dirs_capacity;

	/* The entry that is being made: `temporary` in `parent_fd` becomes `name`. */
	int parent_fd, file_fd;
	char *path; /* below the root */
	const char *name;
	char temporary[40];
	bool temporary_made;
	struct tar_entry entry;
	struct meta meta;
};

static struct extract *extract_of(struct tar_sink *sink)
{
	return container_of(sink, struct extract, sink);
}

static int open_below(const struct extract *x, const char *path, int flags)
{
	return x->options.flags & EXTRACT_FOLLOW
		       ? beneath_open(x->options.root_fd, path, flags, 0)
		       : beneath_open_plain(x->options.root_fd, path, flags);
}

/* The path below the root of a name in the archive; NULL if it leads out. "" is the directory itself. */
static char *path_of(const struct extract *x, const char *name)
{
	struct buf b = {0};

	buf_add_str(&b, x->dir);
	while (*name != '\0') {
		size_t len = strcspn(name, "/");

		if (len == 2 && name[0] == '.' && name[1] == '.') {
			buf_release(&b);
			return NULL;
		}
		if (len > 0 && !(len == 1 && name[0] == '.')) {
			if (b.len > 0)
				buf_add_char(&b, '/');
			buf_add(&b, name, len);
		}
		name += len;
		name += strspn(name, "/");
	}
	return buf_take(&b);
}

/* Opens the parent of `path`; *ret_name points into it. */
static int open_parent(const struct extract *x, const char *path, const char **ret_name,
		       struct error *err)
{
	const char *slash = strrchr(path, '/');
	own_mem char *parent = slash ? str_copy_n(path, (size_t)(slash - path)) : str_copy("");
	int fd = open_below(x, parent, O_PATH | O_DIRECTORY);

	if (fd == -ELOOP)
		return refuse(err, fd, "%s leads over a link", path);
	if (fd == -ENOENT)
		return refuse(err, fd, "there is no directory %s", parent);
	if (fd < 0)
		return fail(err, fd, "open %s", parent);
	*ret_name = slash ? slash + 1 : path;
	return fd;
}

static struct meta meta_of(const struct extract *x, const struct tar_entry *e)
{
	const bool own = x->options.flags & EXTRACT_OWNERS;

	return (struct meta){
		.mode = x->options.flags & EXTRACT_SPECIAL ? e->mode : e->mode & ~SPECIAL_BITS,
		.uid = own ? e->uid : x->options.uid,
		.gid = own ? e->gid : x->options.gid,
		.mtime = {.tv_sec = (time_t)e->mtime, .tv_nsec = e->mtime_ns},
	};
}

/* Owner first: a new one takes set-id bits and capabilities away. All of it is done to one and the same file, whatever
 * becomes of its name meanwhile: chmod would follow a link. */
static int set_meta(int dirfd, const char *name, const struct meta *m, const char *path,
		    struct error *err)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, m->mtime};
	own_fd int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "open %s", path);
	if (fchownat(fd, "", m->uid, m->gid, AT_EMPTY_PATH) < 0)
		return fail(err, -errno, "give %s to %u:%u", path, m->uid, m->gid);
	if (!S_ISLNK(st.st_mode) && chmod(fd_path(fd).text, m->mode) < 0)
		return fail(err, -errno, "set the mode of %s", path);
	if (utimensat(fd, "", times, AT_EMPTY_PATH) < 0)
		return fail(err, -errno, "set the time of %s", path);
	return 0;
}

/* After the owner, with whose change capabilities go. */
static int set_xattrs(const struct extract *x, struct error *err)
{
	const struct tar_entry *e = &x->entry;
	struct fd_path dir = fd_path(x->parent_fd);
	own_mem char *full = str_format("%s/%s", dir.text, x->temporary);

	if (!(x->options.flags & EXTRACT_SPECIAL) || e->type == TAR_HARD_LINK)
		return 0;
	for (size_t i = 0; i < e->xattr_count; i++) {
		const struct tar_xattr *a = &e->xattrs[i];

		if (lsetxattr(full, a->name, a->value, a->len, 0) < 0 && errno != EOPNOTSUPP &&
		    errno != EPERM)
			return fail(err, -errno, "set the attribute %s of %s", a->name, x->path);
	}
	return 0;
}

static int add_dir(struct extract *x, const struct tar_entry *e, struct error *err)
{
	own_fd int parent = -1;
	const char *name;
	struct made_dir *dir;
	struct stat st;

	if (x->dirs_count == DIRS_MAX)
		return refuse(err, -EFBIG, "more than %d directories", DIRS_MAX);
	/* The directory that is extracted into is the receiver's. */
	if (strcmp(x->path, x->dir) == 0)
		return 0;
	parent = open_parent(x, x->path, &name, err);
	if (parent < 0)
		return parent;
	if (mkdirat(parent, name, 0700) < 0) {
		own_fd int there = -1;

		if (errno != EEXIST)
			return fail(err, -errno, "make the directory %s", x->path);
		/* Perhaps a link to one, where links may be followed. */
		there = open_below(x, x->path, O_PATH | O_DIRECTORY);
		if (there < 0)
			return refuse(
				err, -EEXIST,
				"%s is there and is no directory: a directory cannot replace it",
				x->path);
		if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
			return 0;
	}
	x->dirs = mem_grow(x->dirs, x->dirs_count, &x->dirs_capacity, sizeof(*x->dirs));
	dir = &x->dirs[x->dirs_count++];
	*dir = (struct made_dir){.path = str_copy(x->path), .meta = meta_of(x, e)};
	return 0;
}

/* The target of a hard link is a name in the same archive. */
static int make_link(struct extract *x, const struct tar_entry *e, struct error *err)
{
	own_mem char *target = path_of(x, e->link);
	own_fd int from = -1;
	const char *name = NULL;
	struct stat st;

	if (target == NULL)
		return refuse(err, -EBADMSG, "%s links out of the archive", e->path);
	from = open_parent(x, target, &name, err);
	if (from < 0)
		return from;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode))
		return refuse(err, -EBADMSG, "%s links to %s, which is not there", e->path,
			      e->link);
	if (linkat(from, name, x->parent_fd, x->temporary, 0) < 0)
		return fail(err, -errno, "link %s to %s", x->path, target);
	return 0;
}

static int make_device(struct extract *x, const struct tar_entry *e, struct error *err)
{
	const mode_t type = e->type == TAR_CHAR ? S_IFCHR : S_IFBLK;

	if (!(x->options.flags & EXTRACT_SPECIAL))
		return hint(err, refuse(err, -EPERM, "%s is a device", x->path),
			    "devices are only copied with --archive");
	if (mknodat(x->parent_fd, x->temporary, type | 0600, makedev(e->major, e->minor)) < 0)
		return fail(err, -errno, "make the device %s", x->path);
	return 0;
}

/* Makes the temporary of anything but a directory. */
static int make(struct extract *x, const struct tar_entry *e, struct error *err)
{
	switch (e->type) {
	case TAR_FILE:
		x->file_fd = openat(x->parent_fd, x->temporary,
				    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		return x->file_fd < 0 ? fail(err, -errno, "create %s", x->path) : 0;
	case TAR_HARD_LINK:
		return make_link(x, e, err);
	case TAR_SYMLINK:
		return symlinkat(e->link, x->parent_fd, x->temporary) < 0
			       ? fail(err, -errno, "make the link %s", x->path)
			       : 0;
	case TAR_FIFO:
		return mknodat(x->parent_fd, x->temporary, S_IFIFO | 0600, 0) < 0
			       ? fail(err, -errno, "make the FIFO %s", x->path)
			       : 0;
	case TAR_CHAR:
	case TAR_BLOCK_DEVICE:
		return make_device(x, e, err);
	case TAR_DIR:
		break;
	}
	return refuse(err, -EBADMSG, "%s is of an unknown type", x->path);
}

static int on_entry(struct tar_sink *sink, const struct tar_entry *e, struct error *err)
{
	struct extract *x = extract_of(sink);
	struct stat st;
	int rc;

	free(x->path);
	x->path = path_of(x, e->path);
	if (x->path == NULL)
		return refuse(err, -EBADMSG, "%s leads out of the archive", e->path);
	if (e->type == TAR_DIR)
		return add_dir(x, e, err);
	if (strcmp(x->path, x->dir) == 0)
		return refuse(err, -EBADMSG, "%s has no name", e->path);
	x->parent_fd = open_parent(x, x->path, &x->name, err);
	if (x->parent_fd < 0)
		return x->parent_fd;
	if (fstatat(x->parent_fd, x->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return refuse(err, -EEXIST, "%s is a directory: a file cannot replace it", x->path);
	strcpy(x->temporary, ".berth-");
	random_hex(x->temporary + strlen(x->temporary), 12);
	rc = make(x, e, err);
	if (rc < 0)
		return rc;
	x->temporary_made = true;
	x->entry = *e;
	x->meta = meta_of(x, e);
	/* A file's come at its end, when all has been written. */
	if (e->type == TAR_HARD_LINK || e->type == TAR_FILE)
		return 0;
	return set_meta(x->parent_fd, x->temporary, &x->meta, x->path, err);
}

static int on_data(struct tar_sink *sink, uint64_t offset, const void *data, size_t len,
		   struct error *err)
{
	struct extract *x = extract_of(sink);
	int rc = fd_write_full_at(x->file_fd, data, len, (off_t)offset);

	x->bytes += len;
	return rc < 0 ? fail(err, rc, "write %s", x->path) : 0;
}

static void drop_entry(struct extract *x)
{
	if (x->temporary_made)
		unlinkat(x->parent_fd, x->temporary, 0);
	x->temporary_made = false;
	fd_close(&x->file_fd);
	fd_close(&x->parent_fd);
}

static int finish_file(struct extract *x, struct error *err)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, x->meta.mtime};

	if (ftruncate(x->file_fd, (off_t)x->entry.size) < 0)
		return fail(err, -errno, "write %s", x->path);
	if (fchown(x->file_fd, x->meta.uid, x->meta.gid) < 0)
		return fail(err, -errno, "give %s to %u:%u", x->path, x->meta.uid, x->meta.gid);
	if (fchmod(x->file_fd, x->meta.mode) < 0)
		return fail(err, -errno, "set the mode of %s", x->path);
	if (futimens(x->file_fd, times) < 0)
		return fail(err, -errno, "set the time of %s", x->path);
	return 0;
}

static int on_end(struct tar_sink *sink, struct error *err)
{
	struct extract *x = extract_of(sink);
	int rc = 0;

	if (!x->temporary_made)
		return 0;
	if (x->file_fd >= 0)
		rc = finish_file(x, err);
	if (rc == 0)
		rc = set_xattrs(x, err);
	if (rc == 0 && renameat(x->parent_fd, x->temporary, x->parent_fd, x->name) < 0)
		rc = fail(err, -errno, "create %s", x->path);
	if (rc == 0) {
		/* A second name of one file: renaming onto itself leaves both. */
		unlinkat(x->parent_fd, x->temporary, 0);
		x->temporary_made = false;
	}
	drop_entry(x);
	return rc;
}

static const struct tar_sink_ops sink_ops = {
	.entry = on_entry,
	.data = on_data,
	.end = on_end,
};

int extract_begin(const struct extract_options *options, struct extract **ret, struct error *err)
{
	own_extract struct extract *x = mem_new(sizeof(*x));
	const char *dir = options->dir + strspn(options->dir, "/");
	own_fd int there = -1;

	x->sink.ops = &sink_ops;
	x->options = *options;
	x->parent_fd = x->file_fd = -1;
	x->dir = str_copy_n(dir, strlen(dir));
	while (str_ends_with(x->dir, "/"))
		x->dir[strlen(x->dir) - 1] = '\0';
	there = open_below(x, x->dir, O_PATH | O_DIRECTORY);
	if (there < 0)
		return fail(err, there, "open the directory /%s", x->dir);
	x->reader = tar_reader_create(&x->sink);
	*ret = take(x);
	return 0;
}

int extract_add(struct extract *x, const void *data, size_t len, struct error *err)
{
	return tar_reader_add(x->reader, data, len, err);
}

int extract_finish(struct extract *x, struct error *err)
{
	int rc = tar_reader_finish(x->reader, err);

	/* The innermost first, since what is made in a directory changes its time. */
	for (size_t i = x->dirs_count; rc == 0 && i-- > 0;) {
		const struct made_dir *d = &x->dirs[i];
		const char *name;
		own_fd int parent = open_parent(x, d->path, &name, err);

		rc = parent < 0 ? parent : set_meta(parent, name, &d->meta, d->path, err);
	}
	return rc;
}

void extract_close(struct extract *x)
{
	if (x == NULL)
		return;
	drop_entry(x);
	tar_reader_destroy(x->reader);
	for (size_t i = 0; i < x->dirs_count; i++)
		free(x->dirs[i].path);
	free(x->dirs);
	free(x->dir);
	free(x->path);
	free(x);
}

uint64_t extract_bytes(const struct extract *x)
{
	return x->bytes;
}
