/*
 * unpack: the layer format `directory`, for hosts that may not mount EROFS.
 *
 * The same tree decides about names as for a layer file; what arrives here are names that exist in it,
 * without links among their directories. Each is reached from the root's descriptor by openat2, so not
 * even a tree that somebody changes at the same time leads out. Directories stay accessible to us only
 * until the end, when they get their owners, modes and times, the innermost first.
 */
#include "image/layer_priv.h"

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
#include "base/proc.h"
#include "tar/pack.h"

struct unpack {
	struct layer_body base;
	uint32_t parent; /* the directory that parent_fd is, TREE_NONE: none */
	int parent_fd;

	/* The file whose data is coming. */
	int file;
	struct tree_meta meta;
	uint64_t size;
	uint64_t at;
	struct tar_xattr *xattrs;
	size_t xattr_count;
	char *file_path; /* for messages */
	bool one_owner;  /* there is no other id here that files could belong to */
};

static struct unpack *unpack_of(struct layer_body *b)
{
	return container_of(b, struct unpack, base);
}

static int unpack_begin(int layers_fd, struct layer_tree *tree, struct layer_body **ret,
			struct error *err)
{
	struct unpack *u = mem_new(sizeof(*u));
	int fd = layer_make_unfinished(layers_fd, true, u->base.name, err);

	if (fd < 0) {
		free(u);
		return fd;
	}
	u->base.format = &layer_directory;
	u->base.layers_fd = layers_fd;
	u->base.tree = tree;
	u->base.fd = fd;
	u->parent = TREE_NONE;
	u->parent_fd = u->file = -1;
	u->one_owner = proc_has_one_id();
	*ret = &u->base;
	return 0;
}

static void drop_xattrs(struct unpack *u)
{
	for (size_t i = 0; i < u->xattr_count; i++) {
		free(u->xattrs[i].name);
		free(u->xattrs[i].value);
	}
	free(u->xattrs);
	u->xattrs = NULL;
	u->xattr_count = 0;
}

static void unpack_discard(struct layer_body *b)
{
	struct unpack *u = unpack_of(b);

	fd_close(&u->file);
	fd_close(&u->parent_fd);
	drop_xattrs(u);
	free(u->file_path);
	if (b->name[0] != '\0' && tree_remove(b->layers_fd, b->name, NULL) < 0)
		(void)0; /* recovery will try again */
	fd_close(&b->fd);
	free(u);
}

/* The descriptor of a directory, which stays ours. */
static int reach(struct unpack *u, uint32_t node, struct error *err)
{
	own_mem char *path = NULL;
	int fd;

	if (node == u->parent)
		return u->parent_fd;
	path = tree_path(u->base.tree, node);
	fd = beneath_open(u->base.fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd < 0)
		return fail(err, fd, "open %s in the layer", path);
	fd_close(&u->parent_fd);
	u->parent_fd = fd;
	u->parent = node;
	return fd;
}

static struct tree_meta meta_of(const struct tar_entry *e)
{
	return (struct tree_meta){
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime = e->mtime,
		.mtime_ns = e->mtime_ns,
	};
}

/* Attributes that this file system has no place for are left out, as all engines do. */
static int set_xattrs(const char *fd_name, const struct tar_xattr *xattrs, size_t count,
		      const char *path, struct error *err)
{
	for (size_t i = 0; i < count; i++) {
		if (lsetxattr(fd_name, xattrs[i].name, xattrs[i].value, xattrs[i].len, 0) == 0 ||
		    errno == EOPNOTSUPP)
			continue;
		/* Without privileges trusted and security attributes cannot be had. */
		if (errno == EPERM && !str_after(xattrs[i].name, "user."))
			continue;
		return fail(err, -errno, "set the attribute %s of %s", xattrs[i].name, path);
	}
	return 0;
}

/* Gives `name` in the directory `fd`, or with "" that file itself, to its owner. Where there is one id only,
 * all belongs to that. */
static int give(const struct unpack *u, int fd, const char *name, const struct tree_meta *m,
		const char *path, struct error *err)
{
	const int flags = AT_SYMLINK_NOFOLLOW | (name[0] == '\0' ? AT_EMPTY_PATH : 0);
	int rc = fchownat(fd, name, m->uid, m->gid, flags) < 0 ? -errno : 0;

	if (rc == -EINVAL && u->one_owner)
		rc = fchownat(fd, name, geteuid(), getegid(), flags) < 0 ? -errno : 0;
	if (rc == 0)
		return 0;
	return hint(err, fail(err, rc, "give %s to %u:%u", path, m->uid, m->gid),
		    "without root's rights only ids mapped into the user namespace can own files: "
		    "/etc/subuid, /etc/subgid");
}

/* Sets owner, mode, attributes and times of `name` in the directory `dirfd`, in the order in which one
 * does not undo the other: a new owner takes set-id bits and capabilities away. */
static int set_meta(const struct unpack *u, int dirfd, const char *name, bool is_link,
		    const struct tree_meta *m, const struct tar_xattr *xattrs, size_t count,
		    const char *path, struct error *err)
{
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = (time_t)m->mtime, .tv_nsec = m->mtime_ns},
	};
	struct fd_path dir = fd_path(dirfd);
	own_mem char *full = str_format("%s/%s", dir.text, name);
	int rc;

	rc = give(u, dirfd, name, m, path, err);
	if (rc < 0)
		return rc;
	if (!is_link && fchmodat(dirfd, name, m->mode, 0) < 0)
		return fail(err, -errno, "set the mode of %s", path);
	rc = set_xattrs(full, xattrs, count, path, err);
	if (rc >= 0 && utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		rc = fail(err, -errno, "set the time of %s", path);
	return rc;
}

static int unpack_file_begin(struct layer_body *b, uint32_t parent, const char *name, size_t len,
			     const struct tar_entry *e, struct error *err)
{
	struct unpack *u = unpack_of(b);
	own_mem char *text = str_copy_n(name, len);
	int dir = reach(u, parent, err);

	if (dir < 0)
		return dir;
	u->file = openat(dir, text, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (u->file < 0)
		return fail(err, -errno, "make %s", e->path);
	u->meta = meta_of(e);
	u->size = e->size;
	u->at = 0;
	drop_xattrs(u);
	u->xattrs = mem_new_array(e->xattr_count, sizeof(*u->xattrs));
	for (size_t i = 0; i < e->xattr_count; i++) {
		u->xattrs[i].name = str_copy(e->xattrs[i].name);
		u->xattrs[i].value = mem_copy(e->xattrs[i].value, e->xattrs[i].len);
		u->xattrs[i].len = e->xattrs[i].len;
	}
	u->xattr_count = e->xattr_count;
	free(u->file_path);
	u->file_path = str_copy(e->path);
	return 0;
}

static int unpack_file_data(struct layer_body *b, uint64_t offset, const void *data, size_t len,
			    struct error *err)
{
	struct unpack *u = unpack_of(b);
	int rc = fd_write_full_at(u->file, data, len, (off_t)offset);

	u->at = offset + len;
	return rc < 0 ? fail(err, rc, "write %s", u->file_path) : 0;
}

static int unpack_file_end(struct layer_body *b, uint32_t *ret_object, struct error *err)
{
	struct unpack *u = unpack_of(b);
	const struct timespec times[2] = {
		{.tv_nsec = UTIME_OMIT},
		{.tv_sec = (time_t)u->meta.mtime, .tv_nsec = u->meta.mtime_ns},
	};
	struct fd_path path = fd_path(u->file);
	int rc = 0;

	if (u->at < u->size && ftruncate(u->file, (off_t)u->size) < 0)
		return fail(err, -errno, "write %s", u->file_path);
	rc = give(u, u->file, "", &u->meta, u->file_path, err);
	if (rc < 0)
		return rc;
	if (fchmod(u->file, u->meta.mode) < 0)
		return fail(err, -errno, "set the mode of %s", u->file_path);
	for (size_t i = 0; i < u->xattr_count && rc == 0; i++)
		if (fsetxattr(u->file, u->xattrs[i].name, u->xattrs[i].value, u->xattrs[i].len, 0) <
			    0 &&
		    errno != EOPNOTSUPP &&
		    !(errno == EPERM && !str_after(u->xattrs[i].name, "user.")))
			rc = fail(err, -errno, "set the attribute %s of %s", u->xattrs[i].name,
				  u->file_path);
	(void)path;
	if (rc == 0 && futimens(u->file, times) < 0)
		rc = fail(err, -errno, "set the time of %s", u->file_path);
	fd_close(&u->file);
	*ret_object = tree_add_object(b->tree, 0, 0);
	return rc;
}

static int make_special(int dir, const char *name, enum node_kind kind, const struct tar_entry *e)
{
	mode_t type = kind == NODE_FIFO ? S_IFIFO : kind == NODE_BLOCK ? S_IFBLK : S_IFCHR;
	dev_t device = kind == NODE_CHAR || kind == NODE_BLOCK ? makedev(e->major, e->minor) : 0;

	if (kind == NODE_SYMLINK)
		return symlinkat(e->link, dir, name) < 0 ? -errno : 0;
	if (mknodat(dir, name, type | 0600, device) == 0)
		return 0;
	/* A user namespace may not make devices, and nobody in it could use one: an empty file keeps
	 * the name. */
	if (errno == EPERM && (kind == NODE_CHAR || kind == NODE_BLOCK))
		return mknodat(dir, name, S_IFREG | 0600, 0) < 0 ? -errno : 0;
	return -errno;
}

static int unpack_special(struct layer_body *b, uint32_t parent, const char *name, size_t len,
			  enum node_kind kind, const struct tar_entry *e, uint32_t *ret_object,
			  struct error *err)
{
	own_mem char *text = str_copy_n(name, len);
	const struct tree_meta meta = meta_of(e);
	int dir = reach(unpack_of(b), parent, err);
	int rc;

	if (dir < 0)
		return dir;
	rc = make_special(dir, text, kind, e);
	if (rc < 0)
		return fail(err, rc, "make %s", e->path);
	*ret_object = tree_add_object(b->tree, 0, 0);
	if (kind == NODE_WHITEOUT)
		return 0;
	return set_meta(unpack_of(b), dir, text, kind == NODE_SYMLINK, &meta, e->xattrs,
			e->xattr_count, e->path, err);
}

static int unpack_dir(struct layer_body *b, uint32_t node, struct error *err)
{
	const struct tree_node *n = &b->tree->nodes[node];
	own_mem char *name = str_copy_n(tree_name(b->tree, node), n->name_len);
	int dir = reach(unpack_of(b), n->parent, err);

	if (dir < 0)
		return dir;
	if (mkdirat(dir, name, 0700) < 0)
		return fail(err, -errno, "make %s", name);
	return 0;
}

static int unpack_link(struct layer_body *b, uint32_t target, uint32_t parent, const char *name,
		       size_t len, struct error *err)
{
	own_mem char *text = str_copy_n(name, len), *from = tree_path(b->tree, target);
	own_fd int source = -1;
	const char *last = NULL;
	int dir = reach(unpack_of(b), parent, err);

	if (dir < 0)
		return dir;
	source = beneath_parent(b->fd, from, false, 0, &last);
	if (source < 0)
		return fail(err, source, "open %s in the layer", from);
	if (linkat(source, last, dir, text, 0) < 0)
		return fail(err, -errno, "link %s to %s", text, from);
	return 0;
}

static int unpack_remove(struct layer_body *b, uint32_t node, struct error *err)
{
	const struct tree_node *n = &b->tree->nodes[node];
	own_mem char *name = str_copy_n(tree_name(b->tree, node), n->name_len);
	struct unpack *u = unpack_of(b);
	int dir = reach(u, n->parent, err);

	return dir < 0 ? dir : tree_remove(dir, name, err);
}

static int unpack_read_link(struct layer_body *b, uint32_t node, char *out, struct error *err)
{
	const struct tree_node *n = &b->tree->nodes[node];
	own_mem char *name = str_copy_n(tree_name(b->tree, node), n->name_len);
	int dir = reach(unpack_of(b), n->parent, err);
	ssize_t len;

	if (dir < 0)
		return dir;
	len = readlinkat(dir, name, out, LAYER_PATH_MAX);
	if (len < 0)
		return fail(err, -errno, "read the link %s", name);
	out[len] = '\0';
	return 0;
}

static int finish_dir(struct layer_body *b, const struct tree_dir *dir, struct error *err)
{
	own_mem char *path = tree_path(b->tree, dir->node);
	own_fd int fd = beneath_open(b->fd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	struct fd_path self = fd_path(fd);
	const struct {
		const char *name, *value;
		bool wanted;
	} marks[] = {
		{"opaque", "y", dir->opaque},
		{"origin", "", tree_has_whiteouts(b->tree, dir->node)},
		{"implied", "", dir->implicit && dir->node == 0},
	};

	if (fd < 0)
		return fail(err, fd, "open %s in the layer", path);
	for (size_t i = 0; i < array_size(marks); i++) {
		own_mem char *name = str_format("%s%s", b->tree->overlay_prefix, marks[i].name);

		if (marks[i].wanted &&
		    setxattr(self.text, name, marks[i].value, strlen(marks[i].value), 0) < 0)
			return fail(err, -errno, "set the attribute %s of %s", name, path);
	}
	return set_meta(unpack_of(b), fd, ".", false, &dir->meta, dir->xattrs, dir->xattr_count,
			path, err);
}

static int unpack_finish(struct layer_body *b, const struct digest *diffid, struct layer_info *ret,
			 struct error *err)
{
	char name[LAYER_FILE_NAME_MAX];
	bool existed = false;
	int rc = 0;

	/* A directory is made after the one it is in, so its number is larger. */
	for (uint32_t i = b->tree->dir_count; i-- > 0 && rc >= 0;)
		if (tree_kind(b->tree, b->tree->dirs[i].node) == NODE_DIR)
			rc = finish_dir(b, &b->tree->dirs[i], err);
	/* Before that a file system may not have decided how many blocks it needs. */
	if (rc >= 0 && syncfs(b->fd) < 0)
		rc = fail(err, -errno, "write the layer");
	if (rc >= 0)
		rc = layer_directory.digest(b->layers_fd, b->name, &ret->digest, err);
	if (rc >= 0)
		rc = layer_directory.size(b->layers_fd, b->name, &ret->size_bytes, err);
	if (rc < 0)
		return rc;
	layer_file_name(name, &layer_directory, diffid);
	rc = layer_publish(b->layers_fd, b->name, name, &existed, err);
	if (rc >= 0 && !existed)
		b->name[0] = '\0';
	return rc;
}

static int unpack_size(int layers_fd, const char *name, uint64_t *ret_bytes, struct error *err)
{
	own_fd int fd = openat(layers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	uint64_t in_files;

	return fd < 0 ? fail(err, -errno, "open %s", name)
		      : pack_usage(fd, ret_bytes, &in_files, err);
}

static int add_to_digest(const void *data, size_t len, void *state, struct error *err)
{
	(void)err;
	digest_add(state, data, len);
	return 0;
}

/* The digest of a tree is that of the tar that is made of it, which is always the same. */
static int unpack_digest(int layers_fd, const char *name, struct digest *ret, struct error *err)
{
	own_fd int fd = openat(layers_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const struct pack_options options = {.kind = PACK_OVERLAY};
	struct digest_state state;
	int rc;

	if (fd < 0)
		return fail(err, -errno, "open %s", name);
	digest_begin(&state, NULL);
	rc = pack_tree(fd, &options, add_to_digest, &state, err);
	if (rc >= 0)
		digest_end(&state, ret);
	return rc;
}

static int unpack_unlink(int layers_fd, const char *name, struct error *err)
{
	return tree_remove(layers_fd, name, err);
}

const struct layer_format layer_directory = {
	.name = "directory",
	.suffix = ".dir",
	.begin = unpack_begin,
	.file_begin = unpack_file_begin,
	.file_data = unpack_file_data,
	.file_end = unpack_file_end,
	.special = unpack_special,
	.dir = unpack_dir,
	.link = unpack_link,
	.remove = unpack_remove,
	.read_link = unpack_read_link,
	.finish = unpack_finish,
	.discard = unpack_discard,
	.size = unpack_size,
	.digest = unpack_digest,
	.unlink = unpack_unlink,
};
