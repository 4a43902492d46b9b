/*
 * pack: see pack.h. The way back from what overlayfs keeps in an
 * upper directory to what the OCI image specification says:
 *
 *   character device 0/0                       .wh.NAME
 *   empty file with overlay.whiteout           .wh.NAME  (in directories with overlay.opaque=x)
 *   directory with overlay.opaque=y            the directory and .wh..wh..opq in it
 *   overlay.overlay.X                          overlay.X (an escaped attribute of the image)
 *   overlay.* otherwise                        nothing: overlayfs's bookkeeping
 *
 * Everything is opened from its directory's descriptor and without following links, since a workload
 * may be changing the tree meanwhile. Entries are ordered by name; the first name of a file with
 * several is the file, the others are links to it.
 */
#include "tar/pack.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum {
	CHUNK = 256 * 1024,
	LEVELS_MAX = PACK_DEPTH_MAX,
	HOLE_MIN = 64 * 1024, /* smaller files are not worth a map */
};

struct level {
	int fd;
	size_t path_len; /* of the directory itself, with a slash at its end */
	char **names;
	size_t next;
};

/* A file with several names, by what stat says of it. */
struct seen {
	ino_t ino;
	dev_t dev; /* overlayfs shows files of its layers with different ones */
	char *path;
};

struct pack {
	struct tar_writer writer;
	enum pack_kind kind;
	unsigned int flags; /* enum pack_flags */
	const char *const *stubs;
	bool size_only;      /* nothing is read or written */
	uint64_t disk_bytes; /* what the files take */
	uint64_t file_bytes; /* what they contain */
	struct level *levels;
	size_t depth, levels_capacity;
	struct buf path;
	struct seen *seen; /* a hash table, its size a power of two */
	size_t seen_count, seen_size;
	char *chunk;
	struct tar_xattr *xattrs;
	size_t xattr_count, xattr_capacity;
	struct tar_extent *extents;
	size_t extent_capacity;
	/* What the attributes of the current file said. */
	bool opaque, is_whiteout;
	bool is_partial; /* its contents, or its name, are in a lower layer */
};

static void drop_xattrs(struct pack *p)
{
	for (size_t i = 0; i < p->xattr_count; i++) {
		free(p->xattrs[i].name);
		free(p->xattrs[i].value);
	}
	p->xattr_count = 0;
}

/* Sorts out an attribute of overlayfs. Returns the name under which it is to be kept, or NULL. */
static const char *overlay_xattr(struct pack *p, const char *name, const char *value, size_t len)
{
	static const char *const prefixes[] = {"trusted.overlay.", "user.overlay."};

	if (p->kind != PACK_OVERLAY)
		return name;
	for (size_t i = 0; i < array_size(prefixes); i++) {
		const char *own = str_after(name, prefixes[i]);

		if (own == NULL)
			continue;
		if (str_after(own, "overlay.") != NULL) {
			/* Escaped. What is behind the prefix twice belongs to the image. */
			static const size_t inner = sizeof("overlay.") - 1;
			size_t outer = strlen(prefixes[i]);
			char *copy = str_format("%.*s%s", (int)outer, name, own + inner);

			p->xattrs = mem_grow(p->xattrs, p->xattr_count, &p->xattr_capacity,
					     sizeof(*p->xattrs));
			p->xattrs[p->xattr_count++] = (struct tar_xattr){
				.name = copy, .value = mem_copy(value, len), .len = len};
			return NULL;
		}
		if (str_eq(own, "opaque") && len == 1 && value[0] == 'y')
			p->opaque = true;
		if (str_eq(own, "whiteout"))
			p->is_whiteout = true;
		if (str_eq(own, "redirect") || str_eq(own, "metacopy"))
			p->is_partial = true;
		return NULL;
	}
	return name;
}

static int compare_xattrs(const void *a, const void *b)
{
	return strcmp(((const struct tar_xattr *)a)->name, ((const struct tar_xattr *)b)->name);
}

/* Reads the attributes of `name` in the directory `dirfd`. */
static int read_xattrs(struct pack *p, int dirfd, const char *name, struct error *err)
{
	struct fd_path dir = fd_path(dirfd);
	own_mem char *full = str_format("%s/%s", dir.text, name);
	own_mem char *list = NULL;
	ssize_t len = llistxattr(full, NULL, 0);

	drop_xattrs(p);
	p->opaque = p->is_whiteout = p->is_partial = false;
	if (len < 0 && errno == EOPNOTSUPP)
		return 0;
	if (len > 0) {
		list = mem_new((size_t)len + 1);
		len = llistxattr(full, list, (size_t)len);
	}
	if (len < 0)
		return fail(err, -errno, "read the attributes of %s", p->path.data);
	for (const char *x = list; len > 0 && x < list + len; x += strlen(x) + 1) {
		ssize_t n = lgetxattr(full, x, p->chunk, CHUNK);
		const char *kept;

		/* Removed meanwhile, or not for us to read. */
		if (n < 0)
			continue;
		kept = overlay_xattr(p, x, p->chunk, (size_t)n);
		if (kept == NULL)
			continue;
		p->xattrs =
			mem_grow(p->xattrs, p->xattr_count, &p->xattr_capacity, sizeof(*p->xattrs));
		p->xattrs[p->xattr_count++] =
			(struct tar_xattr){.name = str_copy(kept),
					   .value = mem_copy(p->chunk, (size_t)n),
					   .len = (size_t)n};
	}
	if (p->xattr_count > 1)
		qsort(p->xattrs, p->xattr_count, sizeof(*p->xattrs), compare_xattrs);
	return 0;
}

static size_t seen_slot(const struct pack *p, dev_t dev, ino_t ino)
{
	size_t at = (size_t)(ino * 0x9e3779b97f4a7c15u >> 20) & (p->seen_size - 1);

	while (p->seen[at].path != NULL && (p->seen[at].ino != ino || p->seen[at].dev != dev))
		at = (at + 1) & (p->seen_size - 1);
	return at;
}

/* The first name of the file, or NULL if this is the first. */
static const char *first_name(struct pack *p, dev_t dev, ino_t ino)
{
	struct seen *old = p->seen;
	size_t old_size = p->seen_size, at;

	if (p->seen_count * 2 >= p->seen_size) {
		p->seen_size = old_size ? old_size * 2 : 256;
		p->seen = mem_new_array(p->seen_size, sizeof(*p->seen));
		for (size_t i = 0; i < old_size; i++)
			if (old[i].path != NULL)
				p->seen[seen_slot(p, old[i].dev, old[i].ino)] = old[i];
		free(old);
	}
	at = seen_slot(p, dev, ino);
	if (p->seen[at].path != NULL)
		return p->seen[at].path;
	p->seen[at] = (struct seen){.ino = ino, .dev = dev, .path = str_copy(p->path.data)};
	p->seen_count++;
	return NULL;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Goes into the directory `fd`, which is taken over. */
static int push_level(struct pack *p, int fd, struct error *err)
{
	int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	struct level level = {.fd = fd, .path_len = p->path.len};
	struct dirent *entry;
	size_t count = 0, capacity = 0;

	if (dir == NULL || p->depth == LEVELS_MAX) {
		int rc = dir == NULL ? -errno : -ELOOP;

		close(fd);
		return fail(err, rc, "open the directory %s", p->path.data);
	}
	while ((errno = 0, entry = readdir(dir)) != NULL) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		level.names = mem_grow(level.names, count + 1, &capacity, sizeof(*level.names));
		level.names[count++] = str_copy(entry->d_name);
		level.names[count] = NULL;
	}
	if (count > 0)
		qsort(level.names, count, sizeof(*level.names), compare_names);
	p->levels = mem_grow(p->levels, p->depth, &p->levels_capacity, sizeof(*p->levels));
	p->levels[p->depth++] = level;
	return errno != 0 ? fail(err, -errno, "read the directory %s", p->path.data) : 0;
}

static void pop_level(struct pack *p)
{
	struct level *level = &p->levels[--p->depth];

	fd_close(&level->fd);
	strv_free(level->names);
}

static struct tar_entry entry_of(struct pack *p, const struct stat *st, enum tar_type type)
{
	return (struct tar_entry){
		.type = type,
		.path = p->path.data,
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = st->st_mtim.tv_sec,
		.mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
		.xattrs = p->xattrs,
		.xattr_count = p->xattr_count,
	};
}

/* Finds the pieces of a file that have data. Leaves e->sparse unset where they are not worth it. */
static void find_extents(struct pack *p, int fd, struct tar_entry *e)
{
	off_t at = 0, first_hole;

	/* The number of blocks does not tell: EROFS counts those of holes as well. */
	if (e->size < HOLE_MIN)
		return;
	first_hole = lseek(fd, 0, SEEK_HOLE);
	if (first_hole < 0 || (uint64_t)first_hole >= e->size)
		return;
	while ((uint64_t)at < e->size && e->extent_count < TAR_EXTENTS_MAX) {
		off_t start = lseek(fd, at, SEEK_DATA), end;

		if (start < 0 && errno == ENXIO)
			break;
		end = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
		if (end < 0)
			return;
		if ((uint64_t)end > e->size)
			end = (off_t)e->size;
		if (start >= end)
			break;
		p->extents = mem_grow(p->extents, e->extent_count, &p->extent_capacity,
				      sizeof(*p->extents));
		p->extents[e->extent_count++] = (struct tar_extent){.offset = (uint64_t)start,
								    .len = (uint64_t)(end - start)};
		at = end;
	}
	if (e->extent_count == TAR_EXTENTS_MAX)
		return;
	e->extents = p->extents;
	e->sparse = true;
}

/* Data of a file that is being written to may end early: then zeros follow, as its size was said. */
static int put_range(struct pack *p, int fd, uint64_t offset, uint64_t len, struct error *err)
{
	while (len > 0) {
		size_t n = len < CHUNK ? (size_t)len : CHUNK;
		ssize_t got = fd_read_full_at(fd, p->chunk, n, (off_t)offset);
		int rc;

		if (got < 0)
			return fail(err, (int)got, "read %s", p->path.data);
		memset(p->chunk + got, 0, n - (size_t)got);
		rc = tar_write_data(&p->writer, p->chunk, n, err);
		if (rc < 0)
			return rc;
		offset += n;
		len -= n;
	}
	return 0;
}

static int put_file(struct pack *p, int dirfd, const char *name, struct error *err)
{
	own_fd int fd =
		openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct tar_entry e;
	struct stat st;
	int rc;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, -errno, "open %s", p->path.data);
	if (!S_ISREG(st.st_mode))
		return refuse(err, -EAGAIN, "%s was replaced while it was read", p->path.data);
	e = entry_of(p, &st, TAR_FILE);
	if (p->flags & PACK_NAMES)
		return tar_write_entry(&p->writer, &e, err);
	e.size = (uint64_t)st.st_size;
	find_extents(p, fd, &e);
	rc = tar_write_entry(&p->writer, &e, err);
	if (!e.sparse)
		return rc < 0 ? rc : put_range(p, fd, 0, e.size, err);
	for (size_t i = 0; i < e.extent_count && rc >= 0; i++)
		rc = put_range(p, fd, e.extents[i].offset, e.extents[i].len, err);
	return rc;
}

/* ".wh.NAME" in the place of `name`, which is the last component of the path. */
static int put_whiteout(struct pack *p, const struct stat *st, size_t dir_len, const char *hidden,
			struct error *err)
{
	own_mem char *path = str_format("%.*s.wh.%s", (int)dir_len, p->path.data, hidden);
	struct tar_entry e = {
		.type = TAR_FILE, .path = path, .mode = 0, .mtime = st->st_mtim.tv_sec};

	if (strlen(hidden) + 4 > PACK_NAME_MAX)
		return refuse(err, -ENAMETOOLONG, "%s: its name is too long for a whiteout", path);
	return tar_write_entry(&p->writer, &e, err);
}

static int put_dir(struct pack *p, int dirfd, const char *name, const struct stat *st,
		   struct error *err)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct tar_entry e;
	int rc;

	if (fd < 0)
		return fail(err, -errno, "open %s", p->path.data);
	buf_add_char(&p->path, '/');
	e = entry_of(p, st, TAR_DIR);
	rc = tar_write_entry(&p->writer, &e, err);
	if (rc >= 0 && p->opaque)
		rc = put_whiteout(p, st, p->path.len, ".wh..opq", err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return push_level(p, fd, err);
}

static int put_other(struct pack *p, int dirfd, const char *name, const struct stat *st,
		     struct error *err)
{
	struct tar_entry e = entry_of(p, st,
				      S_ISLNK(st->st_mode)   ? TAR_SYMLINK
				      : S_ISCHR(st->st_mode) ? TAR_CHAR
				      : S_ISBLK(st->st_mode) ? TAR_BLOCK_DEVICE
							     : TAR_FIFO);
	char target[PACK_PATH_MAX + 1];
	ssize_t len;

	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		e.major = major(st->st_rdev);
		e.minor = minor(st->st_rdev);
	}
	if (S_ISLNK(st->st_mode)) {
		len = readlinkat(dirfd, name, target, sizeof(target) - 1);
		if (len < 0)
			return fail(err, -errno, "read the link %s", p->path.data);
		target[len] = '\0';
		e.link = target;
	}
	return tar_write_entry(&p->writer, &e, err);
}

/* Looks at a name. 1, or 0 if there is nothing to keep of it: it has gone meanwhile, or is a socket,
 * which is nothing without the process that made it. */
static int look(struct pack *p, int dirfd, const char *name, struct stat *ret, bool *ret_mount,
		struct error *err)
{
	struct statx x;

	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &x) < 0)
		return errno == ENOENT ? 0 : fail(err, -errno, "look at %s", p->path.data);
	*ret = (struct stat){
		.st_mode = x.stx_mode,
		.st_nlink = x.stx_nlink,
		.st_uid = x.stx_uid,
		.st_gid = x.stx_gid,
		.st_ino = x.stx_ino,
		.st_size = (off_t)x.stx_size,
		.st_blocks = (blkcnt_t)x.stx_blocks,
		.st_dev = makedev(x.stx_dev_major, x.stx_dev_minor),
		.st_rdev = makedev(x.stx_rdev_major, x.stx_rdev_minor),
		.st_mtim = {.tv_sec = x.stx_mtime.tv_sec, .tv_nsec = x.stx_mtime.tv_nsec},
	};
	*ret_mount = (x.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
	return !S_ISSOCK(x.stx_mode);
}

/* True for a name that shall be left out because there is nothing in it. */
static bool is_stub(const struct pack *p, int dirfd, const char *name, const struct stat *st)
{
	own_dir DIR *dir = NULL;
	const struct dirent *entry;
	int fd;

	for (size_t i = 0;; i++) {
		if (p->stubs == NULL || p->stubs[i] == NULL)
			return false;
		if (str_eq(p->stubs[i], p->path.data))
			break;
	}
	if (!S_ISDIR(st->st_mode))
		return S_ISREG(st->st_mode) && st->st_size == 0;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (dir == NULL)
		return false;
	while ((entry = readdir(dir)) != NULL)
		if (!str_eq(entry->d_name, ".") && !str_eq(entry->d_name, ".."))
			return false;
	return true;
}

static int measure(struct pack *p, const struct level *level, const char *name,
		   const struct stat *st, struct error *err)
{
	int fd;

	if (S_ISDIR(st->st_mode) || st->st_nlink == 1 ||
	    first_name(p, st->st_dev, st->st_ino) == NULL) {
		p->disk_bytes += (uint64_t)st->st_blocks * 512;
		p->file_bytes += S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	}
	if (!S_ISDIR(st->st_mode))
		return 0;
	fd = openat(level->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "open %s", p->path.data);
	buf_add_char(&p->path, '/');
	return push_level(p, fd, err);
}

static int put_name(struct pack *p, const struct level *level, const char *name, struct error *err)
{
	const char *first = NULL;
	bool is_mount = false;
	struct stat st;
	int rc = look(p, level->fd, name, &st, &is_mount, err);

	if (rc <= 0 || (is_mount && !(p->flags & PACK_MOUNTS)) || is_stub(p, level->fd, name, &st))
		return rc < 0 ? rc : 0;
	if (p->size_only)
		return measure(p, level, name, &st, err);
	if (p->path.len > PACK_PATH_MAX)
		return refuse(err, -ENAMETOOLONG, "%.200s...: the path is too long", p->path.data);
	if (p->kind == PACK_OVERLAY && S_ISCHR(st.st_mode) && st.st_rdev == 0)
		return put_whiteout(p, &st, level->path_len, name, err);
	rc = read_xattrs(p, level->fd, name, err);
	if (rc < 0)
		return rc;
	if (p->is_partial)
		return refuse(err, -EINVAL,
			      "%s is only the changed part of a file below it: the overlay was "
			      "mounted with redirect_dir or metacopy",
			      p->path.data);
	if (p->is_whiteout && S_ISREG(st.st_mode) && st.st_size == 0)
		return put_whiteout(p, &st, level->path_len, name, err);
	if (p->kind == PACK_OVERLAY && str_after(name, ".wh.") != NULL)
		return refuse(err, -EINVAL,
			      "%s: a layer cannot have a name that starts with \".wh.\"",
			      p->path.data);
	if (S_ISDIR(st.st_mode))
		return put_dir(p, level->fd, name, &st, err);
	if (st.st_nlink > 1)
		first = first_name(p, st.st_dev, st.st_ino);
	if (first != NULL) {
		struct tar_entry e = entry_of(p, &st, TAR_HARD_LINK);

		e.link = first;
		e.xattr_count = 0;
		return tar_write_entry(&p->writer, &e, err);
	}
	return S_ISREG(st.st_mode) ? put_file(p, level->fd, name, err)
				   : put_other(p, level->fd, name, &st, err);
}

static int put_root(struct pack *p, int root_fd, struct error *err)
{
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct tar_entry e;
	struct stat st;
	int rc;

	buf_add_str(&p->path, "./");
	if (fd < 0 || fstat(fd, &st) < 0) {
		rc = fail(err, -errno, "open the tree");
		fd_close(&fd);
		return rc;
	}
	rc = read_xattrs(p, fd, ".", err);
	e = entry_of(p, &st, TAR_DIR);
	if (rc >= 0)
		rc = tar_write_entry(&p->writer, &e, err);
	buf_clear(&p->path);
	if (rc >= 0 && p->opaque)
		rc = put_whiteout(p, &st, 0, ".wh..opq", err);
	if (rc < 0) {
		close(fd);
		return rc;
	}
	return push_level(p, fd, err);
}

static int walk(struct pack *p, struct error *err)
{
	while (p->depth > 0) {
		struct level *level = &p->levels[p->depth - 1];
		const char *name = level->names ? level->names[level->next++] : NULL;
		struct level current = *level;
		int rc;

		if (name == NULL) {
			pop_level(p);
			continue;
		}
		p->path.len = level->path_len;
		buf_add_str(&p->path, name);
		rc = put_name(p, &current, name, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void release(struct pack *p)
{
	while (p->depth > 0)
		pop_level(p);
	drop_xattrs(p);
	free(p->xattrs);
	free(p->levels);
	for (size_t i = 0; i < p->seen_size; i++)
		free(p->seen[i].path);
	free(p->seen);
	free(p->chunk);
	free(p->extents);
	buf_release(&p->path);
}

static struct pack pack_begin(const struct pack_options *options, tar_write_fn *fn, void *data)
{
	return (struct pack){
		.kind = options->kind,
		.flags = options->flags,
		.stubs = options->stubs,
		.writer = {.fn = fn, .data = data},
		.chunk = mem_new(CHUNK),
	};
}

/* The rest, after the first entry has been written. */
static int pack_rest(struct pack *p, int rc, struct error *err)
{
	if (rc >= 0)
		rc = walk(p, err);
	if (rc >= 0)
		rc = tar_write_end(&p->writer, err);
	release(p);
	return rc < 0 ? rc : 0;
}

int pack_tree(int root_fd, const struct pack_options *options, tar_write_fn *fn, void *data,
	      struct error *err)
{
	struct pack p = pack_begin(options, fn, data);

	return pack_rest(&p, put_root(&p, root_fd, err), err);
}

int pack_one(int dirfd, const char *name, const char *as, const struct pack_options *options,
	     tar_write_fn *fn, void *data, struct error *err)
{
	const struct level level = {.fd = dirfd};
	struct pack p;
	int rc;

	/* What is asked for by its name is never left out, though it be a mount. */
	if (faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, -errno, "open %s", name);
	p = pack_begin(options, fn, data);
	buf_add_str(&p.path, as);
	p.flags |= PACK_MOUNTS;
	rc = put_name(&p, &level, name, err);
	p.flags = options->flags;
	return pack_rest(&p, rc, err);
}

int pack_usage(int root_fd, uint64_t *ret_disk_bytes, uint64_t *ret_file_bytes, struct error *err)
{
	struct pack p = {.kind = PACK_PLAIN, .size_only = true};
	int fd = openat(root_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc;

	buf_add_str(&p.path, "./");
	rc = fd < 0 ? fail(err, -errno, "open the tree") : push_level(&p, fd, err);
	if (rc >= 0)
		rc = walk(&p, err);
	*ret_disk_bytes = p.disk_bytes;
	*ret_file_bytes = p.file_bytes;
	release(&p);
	return rc < 0 ? rc : 0;
}
