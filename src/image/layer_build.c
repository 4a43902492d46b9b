/*
 * layer_build: from a tar's entries to a layer.
 *
 * Every name is resolved in the tree of this layer, never on the host: components one by one, symbolic
 * links of this layer followed as if its root were "/", missing directories made. What the container
 * engines do with tars is kept: a leading slash is dropped, a later entry replaces an earlier one of
 * the same name, a directory's entry on an existing directory only changes its metadata.
 *
 * Whiteouts (OCI image specification, layer.md): ".wh.NAME" hides NAME of the layers below,
 * ".wh..wh..opq" hides all that they have in its directory. Where a layer has both ".wh.NAME" and NAME,
 * in either order, NAME is new: a directory is opaque then. Other names starting ".wh..wh." are aufs's
 * own and left out.
 *
 * overlayfs only looks for whiteouts where directories are merged, or where the attribute overlay.origin
 * says that they once were: elsewhere it lists them, as names that do not exist. So a directory with
 * whiteouts in it has that attribute, empty ("origin unknown").
 *
 * Attributes named like overlayfs's own would be obeyed by it. They get another "overlay." put in
 * between, which overlayfs takes off again when it shows them (Linux 6.7; before, they are hidden).
 */
#include "image/layer_priv.h"
#include "image/layer_recipe.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { LINKS_MAX = 40 }; /* symbolic links in one name, as in the kernel */

static const char whiteout[] = ".wh.", whiteout_meta[] = ".wh..wh.",
		  whiteout_opaque[] = ".wh..wh..opq";

static bool starts(const char *name, size_t len, const char *prefix)
{
	size_t n = strlen(prefix);

	return len >= n && memcmp(name, prefix, n) == 0;
}

/* Refuses names that we would not know how to keep, or that want to lead out. *ret_dots: there are ".."
 * in it that do not. */
static int check_path(const char *path, const char *what, const char *of, bool *ret_dots,
		      struct error *err)
{
	size_t len = strlen(path), depth = 0;

	if (len > LAYER_PATH_MAX)
		return refuse(err, -EBADMSG, "%.200s...: %s of %zu bytes (at most %d)", of, what,
			      len, LAYER_PATH_MAX);
	for (const char *p = path; *p != '\0';) {
		const char *end = strchrnul(p, '/');

		if (end - p == 2 && p[0] == '.' && p[1] == '.') {
			if (depth-- == 0)
				return refuse(err, -EBADMSG, "%.300s: %s leads out with \"..\"", of,
					      what);
			*ret_dots = true;
		} else if (end > p && !(end - p == 1 && p[0] == '.')) {
			depth++;
		}
		if (end - p > LAYER_NAME_MAX)
			return refuse(err, -EBADMSG,
				      "%.300s: a component of %zu bytes (at most %d)", of,
				      (size_t)(end - p), LAYER_NAME_MAX);
		p = *end != '\0' ? end + 1 : end;
	}
	return 0;
}

/* The path without "..", each taken together with the component in front of it, as the container engines
 * do: what that component is, a link perhaps, does not matter. */
static char *clean_path(const char *path)
{
	struct buf out = {0};

	for (const char *p = path; *p != '\0';) {
		const char *end = strchrnul(p, '/');

		if (end - p == 2 && p[0] == '.' && p[1] == '.') {
			while (out.len > 0 && out.data[out.len - 1] != '/')
				out.len--;
			out.len -= out.len > 0;
		} else if (end > p && !(end - p == 1 && p[0] == '.')) {
			buf_add_char(&out, '/');
			buf_add(&out, p, (size_t)(end - p));
		}
		p = *end != '\0' ? end + 1 : end;
	}
	buf_add_char(&out, '\0');
	return out.data;
}

static void default_meta(struct tree_dir *dir, const struct tar_entry *e)
{
	dir->meta.mtime = e->mtime;
	dir->meta.mtime_ns = e->mtime_ns;
}

/* Makes a directory that has no entry of its own (yet). */
static int make_implicit(struct layer_build *b, uint32_t parent, const char *name, size_t len,
			 const struct tar_entry *e, uint32_t *ret, struct error *err)
{
	int rc = tree_add(&b->tree, parent, name, len, NODE_DIR, 0, ret, err);

	if (rc < 0)
		return rc;
	default_meta(tree_dir(&b->tree, *ret), e);
	return b->format->dir(b->body, *ret, err);
}

static int remove_node(struct layer_build *b, uint32_t node, struct error *err)
{
	int rc = b->format->remove(b->body, node, err);

	if (rc == 0)
		tree_kill(&b->tree, node);
	return rc;
}

struct walk {
	uint32_t at; /* the directory reached */
	int links;   /* followed so far */
	/* What is left to walk: `rest`, from `p` on; link targets are put in front. */
	struct buf *rest;
	size_t p;
	const struct tar_entry *e;
	bool make;
};

/* Continues the walk through the symbolic link `node`. */
static int follow(struct layer_build *b, struct walk *w, uint32_t node, struct error *err)
{
	own_buf struct buf rest = {0};
	int rc;

	if (++w->links > LINKS_MAX)
		return refuse(err, -EBADMSG, "%s: too many levels of symbolic links", w->e->path);
	rc = b->format->read_link(b->body, node, b->target, err);
	if (rc < 0)
		return rc;
	if (b->target[0] == '/')
		w->at = 0;
	buf_add_str(&rest, b->target);
	buf_add_char(&rest, '/');
	buf_add(&rest, w->rest->data + w->p, w->rest->len - w->p);
	/* What it is about to replace may be far longer than any legal path by now. */
	if (rest.len > (size_t)16 * LAYER_PATH_MAX)
		return refuse(err, -EBADMSG, "%s: its symbolic links grow without end", w->e->path);
	buf_clear(w->rest);
	buf_add(w->rest, rest.data, rest.len);
	w->p = 0;
	return 0;
}

/* One component, which names a directory or a link to one. */
static int walk_into(struct layer_build *b, struct walk *w, const char *name, size_t len,
		     struct error *err)
{
	uint32_t node = tree_find(&b->tree, w->at, name, len);
	int rc;

	if (len > LAYER_NAME_MAX)
		return refuse(err, -EBADMSG, "%s: a link leads to a component of %zu bytes",
			      w->e->path, len);
	if (node != TREE_NONE && tree_kind(&b->tree, node) == NODE_DIR) {
		w->at = node;
		return 0;
	}
	if (node != TREE_NONE && tree_kind(&b->tree, node) == NODE_SYMLINK)
		return follow(b, w, node, err);
	if (node != TREE_NONE && tree_kind(&b->tree, node) != NODE_WHITEOUT)
		return refuse(err, -EBADMSG, "%s: \"%.*s\" on its way is not a directory",
			      w->e->path, (int)len, name);
	if (!w->make)
		return -ENOENT;
	if (node != TREE_NONE) {
		uint32_t parent = w->at;

		rc = remove_node(b, node, err);
		if (rc >= 0)
			rc = make_implicit(b, parent, name, len, w->e, &w->at, err);
		if (rc >= 0)
			tree_dir(&b->tree, w->at)->opaque = true;
		return rc;
	}
	return make_implicit(b, w->at, name, len, w->e, &w->at, err);
}

/* Walks to the directory that `path` is in, making what is missing if `make` is set, and finds the
 * last component, which is in b->rest then. *ret_len is 0 for the root itself. -ENOENT without a
 * reason if something is missing. */
static int walk(struct layer_build *b, const char *path, bool make, const struct tar_entry *e,
		uint32_t *ret_parent, const char **ret_name, size_t *ret_len, struct error *err)
{
	struct walk w = {.rest = &b->rest, .e = e, .make = make};

	buf_clear(&b->rest);
	buf_add_str(&b->rest, path);
	for (;;) {
		const char *name, *end, *more;
		int rc = 0;

		while (w.p < w.rest->len && w.rest->data[w.p] == '/')
			w.p++;
		name = w.rest->data ? w.rest->data + w.p : "";
		end = strchrnul(name, '/');
		for (more = end;
		     *more == '/' ||
		     (*more == '.' && (more[1] == '/' || more[1] == '\0') && more[-1] == '/');
		     more++)
			;
		w.p += (size_t)(end - name);
		if (end == name || (end - name == 1 && name[0] == '.')) {
			if (*more == '\0') {
				*ret_parent = w.at;
				*ret_len = 0;
				return 0;
			}
		} else if (end - name == 2 && name[0] == '.' && name[1] == '.') {
			/* Only a link's target has these; at the root they stay there. */
			w.at = b->tree.nodes[w.at].parent;
		} else if (*more == '\0') {
			*ret_parent = w.at;
			*ret_name = name;
			*ret_len = (size_t)(end - name);
			return 0;
		} else {
			rc = walk_into(b, &w, name, (size_t)(end - name), err);
		}
		if (rc < 0)
			return rc;
	}
}

static void set_meta(struct tree_dir *dir, const struct tar_entry *e)
{
	dir->meta = (struct tree_meta){
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime = e->mtime,
		.mtime_ns = e->mtime_ns,
	};
	dir->implicit = false;
}

static enum node_kind kind_of(enum tar_type type)
{
	switch (type) {
	case TAR_SYMLINK:
		return NODE_SYMLINK;
	case TAR_CHAR:
		return NODE_CHAR;
	case TAR_BLOCK_DEVICE:
		return NODE_BLOCK;
	case TAR_FIFO:
		return NODE_FIFO;
	case TAR_DIR:
		return NODE_DIR;
	case TAR_FILE:
	case TAR_HARD_LINK:
		break;
	}
	return NODE_FILE;
}

static int add_dir(struct layer_build *b, uint32_t parent, const char *name, size_t len,
		   const struct tar_entry *e, struct error *err)
{
	uint32_t node = len > 0 ? tree_find(&b->tree, parent, name, len) : 0;
	bool opaque = false;
	int rc = 0;

	if (node != TREE_NONE && tree_kind(&b->tree, node) != NODE_DIR) {
		opaque = tree_kind(&b->tree, node) == NODE_WHITEOUT;
		rc = remove_node(b, node, err);
		node = TREE_NONE;
	}
	if (rc >= 0 && node == TREE_NONE)
		rc = make_implicit(b, parent, name, len, e, &node, err);
	if (rc < 0)
		return rc;
	set_meta(tree_dir(&b->tree, node), e);
	if (opaque)
		tree_dir(&b->tree, node)->opaque = true;
	return tree_set_xattrs(&b->tree, node, e->xattrs, e->xattr_count, err);
}

/* Makes room for a new name. */
static int replace(struct layer_build *b, uint32_t parent, const char *name, size_t len,
		   struct error *err)
{
	uint32_t node = tree_find(&b->tree, parent, name, len);

	return node == TREE_NONE ? 0 : remove_node(b, node, err);
}

static int add_hard_link(struct layer_build *b, uint32_t parent, const char *name, size_t len,
			 const struct tar_entry *e, struct error *err)
{
	uint32_t target_parent = 0, target = TREE_NONE, existing, node = 0;
	char kept[LAYER_NAME_MAX];
	const char *target_name = NULL;
	size_t target_len = 0;
	int rc;

	memcpy(kept, name, len); /* it lives in the buffer that the next walk uses */
	rc = walk(b, e->link, false, e, &target_parent, &target_name, &target_len, err);
	if (rc >= 0 && target_len > 0)
		target = tree_find(&b->tree, target_parent, target_name, target_len);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (target == TREE_NONE || tree_kind(&b->tree, target) == NODE_WHITEOUT)
		return refuse(err, -EBADMSG, "%s: a hard link to %s, which is not in this layer",
			      e->path, e->link);
	if (tree_kind(&b->tree, target) == NODE_DIR)
		return refuse(err, -EBADMSG, "%s: a hard link to %s, which is a directory", e->path,
			      e->link);
	existing = tree_find(&b->tree, parent, kept, len);
	if (existing == target)
		return 0;
	rc = existing == TREE_NONE ? 0 : remove_node(b, existing, err);
	if (rc < 0)
		return rc;
	if (tree_kind(&b->tree, target) == NODE_DEAD)
		return refuse(err, -EBADMSG, "%s: a hard link to %s, which it replaces", e->path,
			      e->link);
	if (b->tree.objects[b->tree.nodes[target].thing].links >= LAYER_LINKS_MAX)
		return refuse(err, -EFBIG, "%s: more than %d links to %s", e->path, LAYER_LINKS_MAX,
			      e->link);
	rc = b->format->link(b->body, target, parent, kept, len, err);
	if (rc < 0)
		return rc;
	return tree_add(&b->tree, parent, kept, len, tree_kind(&b->tree, target),
			b->tree.nodes[target].thing, &node, err);
}

static int add_special(struct layer_build *b, uint32_t parent, const char *name, size_t len,
		       enum node_kind kind, const struct tar_entry *e, struct error *err)
{
	uint32_t object = 0, node = 0;
	int rc = replace(b, parent, name, len, err);

	if (rc >= 0)
		rc = b->format->special(b->body, parent, name, len, kind, e, &object, err);
	if (rc < 0)
		return rc;
	return tree_add(&b->tree, parent, name, len, kind, object, &node, err);
}

/* A name that starts with ".wh.". */
static int add_whiteout(struct layer_build *b, uint32_t parent, const char *name, size_t len,
			const struct tar_entry *e, struct error *err)
{
	const char *hidden = name + sizeof(whiteout) - 1;
	size_t hidden_len = len - (sizeof(whiteout) - 1);
	uint32_t node;

	if (len == sizeof(whiteout_opaque) - 1 && starts(name, len, whiteout_opaque)) {
		tree_dir(&b->tree, parent)->opaque = true;
		return 0;
	}
	if (starts(name, len, whiteout_meta))
		return 0;
	if (hidden_len == 0 || (hidden_len <= 2 && memcmp(hidden, "..", hidden_len) == 0))
		return refuse(err, -EBADMSG, "%s: a whiteout that names nothing", e->path);
	node = tree_find(&b->tree, parent, hidden, hidden_len);
	if (node == TREE_NONE)
		return add_special(b, parent, hidden, hidden_len, NODE_WHITEOUT, e, err);
	if (tree_kind(&b->tree, node) == NODE_DIR)
		tree_dir(&b->tree, node)->opaque = true;
	return 0;
}

/* Renames attributes that overlayfs would take for its own. `copy` owns the new names. */
static int guard_xattrs(const char *prefix, const struct tar_entry *e, struct tar_xattr **ret,
			char ***copy, struct error *err)
{
	size_t bytes = 0;

	*ret = mem_new_array(e->xattr_count, sizeof(**ret));
	for (size_t i = 0; i < e->xattr_count; i++) {
		const char *own = str_after(e->xattrs[i].name, prefix);

		(*ret)[i] = e->xattrs[i];
		if (own != NULL) {
			strv_push_format(copy, "%soverlay.%s", prefix, own);
			(*ret)[i].name = (*copy)[strv_len(*copy) - 1];
		}
		bytes += strlen((*ret)[i].name) + (*ret)[i].len + 16;
		if (strlen((*ret)[i].name) > LAYER_NAME_MAX || (*ret)[i].len > UINT16_MAX ||
		    bytes > LAYER_XATTRS_MAX)
			return refuse(err, -EFBIG, "%s: its extended attributes are too large",
				      e->path);
	}
	return 0;
}

/* Names that have to be cleaned are replaced: *ret_path and *ret_link own the new ones. */
static int check_entry(struct tar_entry *e, char **ret_path, char **ret_link, struct error *err)
{
	bool path_dots = false, link_dots = false;
	int rc = check_path(e->path, "its name", e->path, &path_dots, err);

	if (rc >= 0 && e->type == TAR_HARD_LINK)
		rc = check_path(e->link, "the name it links to", e->path, &link_dots, err);
	if (rc < 0)
		return rc;
	if (path_dots)
		e->path = *ret_path = clean_path(e->path);
	if (link_dots)
		e->link = *ret_link = clean_path(e->link);
	if (e->type == TAR_SYMLINK && strlen(e->link) > LAYER_PATH_MAX)
		return refuse(err, -EBADMSG, "%s: a link of %zu bytes (at most %d)", e->path,
			      strlen(e->link), LAYER_PATH_MAX);
	if (e->type == TAR_FILE && e->size > (uint64_t)LAYER_FILE_SIZE_MAX)
		return refuse(err, -EFBIG, "%s: a file of %llu bytes is too large", e->path,
			      (unsigned long long)e->size);
	return 0;
}

static int add_entry(struct layer_build *b, const struct tar_entry *e, struct error *err)
{
	uint32_t parent = 0;
	const char *name = NULL;
	size_t len = 0;
	int rc = walk(b, e->path, true, e, &parent, &name, &len, err);

	if (rc < 0)
		return rc;
	if (len == 0 && e->type != TAR_DIR)
		return refuse(err, -EBADMSG, "%s: the root must be a directory", e->path);
	if (starts(name ? name : "", len, whiteout))
		return add_whiteout(b, parent, name, len, e, err);
	if (e->type == TAR_DIR)
		return add_dir(b, parent, name, len, e, err);
	if (e->type == TAR_HARD_LINK)
		return add_hard_link(b, parent, name, len, e, err);
	if (e->type != TAR_FILE)
		return add_special(b, parent, name, len, kind_of(e->type), e, err);
	rc = replace(b, parent, name, len, err);
	if (rc < 0)
		return rc;
	b->in_file = true;
	b->parent = parent;
	b->name_len = (uint8_t)len;
	memcpy(b->file_name, name, len);
	b->unpacked_bytes += e->size;
	return b->format->file_begin(b->body, parent, name, len, e, err);
}

static int on_entry(struct tar_sink *sink, const struct tar_entry *e, struct error *err)
{
	struct layer_build *b = container_of(sink, struct layer_build, sink);
	own_mem struct tar_xattr *xattrs = NULL;
	own_strv char **names = NULL;
	own_mem char *path = NULL, *link = NULL;
	struct tar_entry guarded = *e;
	int rc = check_entry(&guarded, &path, &link, err);

	b->in_file = false;
	if (rc >= 0 && e->xattr_count > 0) {
		rc = guard_xattrs(b->tree.overlay_prefix, e, &xattrs, &names, err);
		guarded.xattrs = xattrs;
	}
	return rc < 0 ? rc : add_entry(b, &guarded, err);
}

static int on_data(struct tar_sink *sink, uint64_t offset, const void *data, size_t len,
		   struct error *err)
{
	struct layer_build *b = container_of(sink, struct layer_build, sink);

	/* A whiteout with contents: nobody will ever see them. */
	if (!b->in_file)
		return 0;
	if (b->recipe != NULL)
		recipe_contents(b->recipe, offset, data, len);
	return b->format->file_data(b->body, offset, data, len, err);
}

static int on_end(struct tar_sink *sink, struct error *err)
{
	struct layer_build *b = container_of(sink, struct layer_build, sink);
	uint32_t object = 0, node = 0;
	int rc;

	if (!b->in_file)
		return 0;
	b->in_file = false;
	rc = b->format->file_end(b->body, &object, err);
	if (rc < 0)
		return rc;
	if (b->recipe != NULL)
		recipe_file_end(b->recipe, object);
	return tree_add(&b->tree, b->parent, b->file_name, b->name_len, NODE_FILE, object, &node,
			err);
}

static const struct tar_sink_ops build_ops = {
	.entry = on_entry,
	.data = on_data,
	.end = on_end,
};

void build_init(struct layer_build *b, const struct layer_format *format)
{
	memset(b, 0, sizeof(*b));
	b->sink.ops = &build_ops;
	b->format = format;
	b->target = mem_new(LAYER_PATH_MAX + 1);
	tree_init(&b->tree);
	b->tree.overlay_prefix = layer_overlay_prefix();
}

void build_release(struct layer_build *b)
{
	tree_release(&b->tree);
	recipe_destroy(b->recipe);
	free(b->target);
	buf_release(&b->rest);
}
