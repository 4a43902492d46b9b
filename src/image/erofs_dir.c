/*
 * erofs_dir: the directories, written when all names are known; see erofs_priv.h.
 *
 * A directory's entries name its children's inodes and its parent's, and so directories name each
 * other: all places must be known before the first is written. They are found in a rehearsal, which
 * goes through the same steps with a meta that writes nothing. Then come the blocks with the inodes of
 * directories and the last, incomplete block of each; then the complete blocks of all.
 */
#include "image/erofs_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"

struct plan {
	uint32_t *children; /* ordered nodes */
	uint32_t count;
	uint32_t links;
	uint64_t size;
	uint64_t blocks; /* that are written as blocks */
	uint64_t first;  /* of them */
	uint64_t nid;
	bool tail; /* the last block is kept with the inode */
	struct buf xattrs;
};

struct dirs {
	struct layer_tree *t;
	struct erofs_meta *meta;
	const struct erofs_time *time;
	struct plan *plans; /* one per directory of the tree */
};

/* One entry, in order. The order puts "." and ".." among the names. */
struct entry {
	const char *name;
	size_t len;
	uint32_t node;
};
struct walk {
	const struct layer_tree *t;
	const struct plan *plan;
	uint32_t node; /* the directory */
	uint32_t child;
	int dots; /* 0: neither "." nor ".." has been, 1, 2: both */
};

static bool peek(const struct walk *w, struct entry *ret)
{
	struct entry dot = {.name = "..", .len = (size_t)w->dots + 1, .node = w->node};
	uint32_t node;
	size_t common;
	int order;

	if (w->dots == 1)
		dot.node = w->t->nodes[w->node].parent;
	if (w->child == w->plan->count) {
		*ret = dot;
		return w->dots < 2;
	}
	node = w->plan->children[w->child];
	*ret = (struct entry){tree_name(w->t, node), w->t->nodes[node].name_len, node};
	if (w->dots == 2)
		return true;
	common = dot.len < ret->len ? dot.len : ret->len;
	order = memcmp(dot.name, ret->name, common);
	if (order < 0 || (order == 0 && dot.len < ret->len))
		*ret = dot;
	return true;
}

static void advance(struct walk *w, const struct entry *e)
{
	if (w->child < w->plan->count && e->node == w->plan->children[w->child])
		w->child++;
	else
		w->dots++;
}

static uint8_t dirent_type(enum node_kind kind)
{
	switch (kind) {
	case NODE_DIR:
		return EROFS_TYPE_DIR;
	case NODE_SYMLINK:
		return EROFS_TYPE_SYMLINK;
	case NODE_CHAR:
	case NODE_WHITEOUT:
		return EROFS_TYPE_CHAR;
	case NODE_BLOCK:
		return EROFS_TYPE_BLOCK;
	case NODE_FIFO:
		return EROFS_TYPE_FIFO;
	case NODE_FILE:
	case NODE_DEAD:
		break;
	}
	return EROFS_TYPE_FILE;
}

static uint64_t node_nid(const struct dirs *d, uint32_t node)
{
	uint32_t thing = d->t->nodes[node].thing;

	if (tree_kind(d->t, node) == NODE_DIR)
		return d->plans[thing].nid;
	return meta_nid(d->meta, d->t->objects[thing].place);
}

/* How many entries the next block takes, and their bytes. */
static unsigned int measure_block(struct walk *w, size_t *ret_bytes)
{
	unsigned int count = 0;
	size_t bytes = 0;
	struct entry e;

	while (peek(w, &e)) {
		if (bytes + sizeof(struct erofs_dirent) + e.len > EROFS_BLOCK)
			break;
		bytes += sizeof(struct erofs_dirent) + e.len;
		count++;
		advance(w, &e);
	}
	*ret_bytes = bytes;
	return count;
}

/* Writes the next block into `out`, of EROFS_BLOCK zeros. Returns its bytes. */
static size_t put_block(const struct dirs *d, struct walk *w, unsigned char *out)
{
	struct walk measure = *w;
	size_t bytes = 0;
	unsigned int count = measure_block(&measure, &bytes);
	size_t name_at = count * sizeof(struct erofs_dirent);
	struct entry e;

	for (unsigned int i = 0; i < count && peek(w, &e); i++) {
		struct erofs_dirent dirent = {
			.nid = node_nid(d, e.node),
			.name_at = (uint16_t)name_at,
			.type = dirent_type(tree_kind(d->t, e.node)),
		};

		memcpy(out + i * sizeof(dirent), &dirent, sizeof(dirent));
		memcpy(out + name_at, e.name, e.len);
		name_at += e.len;
		advance(w, &e);
	}
	return bytes;
}

static struct erofs_inode dir_inode(const struct dirs *d, uint32_t dir)
{
	const struct tree_meta *meta = &d->t->dirs[dir].meta;
	const struct plan *plan = &d->plans[dir];

	return (struct erofs_inode){
		.mode = S_IFDIR | meta->mode,
		.uid = meta->uid,
		.gid = meta->gid,
		.mtime = meta->mtime,
		.mtime_ns = meta->mtime_ns,
		.links = plan->links,
		.size = plan->size,
		.layout = plan->tail ? EROFS_INLINE : EROFS_PLAIN,
		.data = (uint32_t)plan->first,
	};
}

static void put_dir_xattrs(struct buf *out, const struct layer_tree *t, const struct tree_dir *dir,
			   struct erofs_shared *shared)
{
	size_t count = dir->xattr_count;
	own_mem struct tar_xattr *all = mem_new_array(count + 3, sizeof(*all));
	own_mem char *opaque = NULL, *origin = NULL, *implied = NULL;
	char yes[] = "y";

	if (count > 0)
		memcpy(all, dir->xattrs, count * sizeof(*all));
	/* No tar can have brought attributes of these names: see layer_build.c. */
	if (dir->opaque) {
		opaque = str_format("%sopaque", t->overlay_prefix);
		all[count++] = (struct tar_xattr){.name = opaque, .value = yes, .len = 1};
	}
	if (tree_has_whiteouts(t, dir->node)) {
		origin = str_format("%sorigin", t->overlay_prefix);
		all[count++] = (struct tar_xattr){.name = origin, .value = yes, .len = 0};
	}
	if (dir->implicit && dir->node == 0) {
		implied = str_format("%simplied", t->overlay_prefix);
		all[count++] = (struct tar_xattr){.name = implied, .value = yes, .len = 0};
	}
	erofs_put_xattrs(out, all, count, shared);
}

/* Everything about a directory but where it will be. */
static void make_plan(struct dirs *d, uint32_t dir, struct erofs_shared *shared)
{
	struct tree_dir *td = &d->t->dirs[dir];
	struct plan *plan = &d->plans[dir];
	struct walk w = {.t = d->t, .plan = plan, .node = td->node};
	struct erofs_inode inode;
	size_t bytes = 0, last = 0;

	plan->count = (uint32_t)tree_children(d->t, td->node, &plan->children);
	plan->links = 2;
	for (uint32_t i = 0; i < plan->count; i++)
		plan->links += tree_kind(d->t, plan->children[i]) == NODE_DIR;
	while (measure_block(&w, &bytes) > 0) {
		last = bytes;
		plan->blocks++;
	}
	plan->size = (plan->blocks - 1) * EROFS_BLOCK + last;
	put_dir_xattrs(&plan->xattrs, d->t, td, shared);
	inode = dir_inode(d, dir);
	/* The root's inode has a place of its own, without room for entries. */
	plan->tail = dir != 0 && last < EROFS_BLOCK &&
		     erofs_inode_len(&inode, d->time) + plan->xattrs.len + last <= EROFS_BLOCK;
	if (plan->tail)
		plan->blocks--;
}

static size_t tail_len(const struct plan *plan)
{
	return plan->tail ? (size_t)(plan->size % EROFS_BLOCK) : 0;
}

/* Writes a directory's inode, attributes and, if it is kept there, last block. */
static void put_dir_inode(const struct dirs *d, uint32_t dir, struct buf *item)
{
	const struct plan *plan = &d->plans[dir];
	struct erofs_inode inode = dir_inode(d, dir);
	unsigned char bytes[64], *block;
	struct walk w = {.t = d->t, .plan = plan, .node = d->t->dirs[dir].node};
	size_t used = 0;

	buf_clear(item);
	buf_add(item, bytes, erofs_put_inode(bytes, &inode, plan->xattrs.len, d->time));
	buf_add(item, plan->xattrs.data, plan->xattrs.len);
	if (!plan->tail)
		return;
	for (uint64_t i = 0; i < plan->blocks; i++)
		measure_block(&w, &used);
	block = mem_new(EROFS_BLOCK);
	used = put_block(d, &w, block);
	buf_add(item, block, used);
	free(block);
}

static bool is_live(const struct layer_tree *t, uint32_t dir)
{
	return tree_kind(t, t->dirs[dir].node) == NODE_DIR &&
	       t->nodes[t->dirs[dir].node].thing == dir;
}

/* Finds the place of everything. */
static int rehearse(struct dirs *d, struct erofs_shared *shared, struct error *err)
{
	struct layer_tree *t = d->t;
	struct erofs_meta dry;
	meta_place *places = mem_new_array(t->dir_count, sizeof(*places));
	uint64_t next;
	int rc = 0;

	meta_init_dry(&dry, out_place(d->meta->out) / EROFS_BLOCK);
	for (uint32_t i = 0; i < t->dir_count && rc >= 0; i++) {
		struct erofs_inode inode;

		if (!is_live(t, i))
			continue;
		make_plan(d, i, shared);
		if (i == 0)
			continue;
		inode = dir_inode(d, i);
		rc = meta_add(&dry, NULL,
			      erofs_inode_len(&inode, d->time) + d->plans[i].xattrs.len +
				      tail_len(&d->plans[i]),
			      &places[i], err);
	}
	if (rc >= 0)
		rc = meta_flush(&dry, err);
	next = dry.dry_at;
	d->plans[0].nid = EROFS_ROOT_AT / EROFS_SLOT;
	for (uint32_t i = 0; i < t->dir_count && rc >= 0; i++) {
		if (!is_live(t, i))
			continue;
		if (i > 0)
			d->plans[i].nid = meta_nid(&dry, places[i]);
		d->plans[i].first = d->plans[i].blocks > 0 ? next : 0;
		next += d->plans[i].blocks;
	}
	meta_release(&dry);
	free(places);
	return rc;
}

static int put_inodes(struct dirs *d, struct error *err)
{
	own_buf struct buf item = {0};
	int rc = 0;

	for (uint32_t i = 1; i < d->t->dir_count && rc >= 0; i++) {
		meta_place place = 0;

		if (!is_live(d->t, i))
			continue;
		put_dir_inode(d, i, &item);
		rc = meta_add(d->meta, item.data, item.len, &place, err);
	}
	return rc < 0 ? rc : meta_flush(d->meta, err);
}

static int put_blocks(const struct dirs *d, uint32_t dir, struct error *err)
{
	struct walk w = {.t = d->t, .plan = &d->plans[dir], .node = d->t->dirs[dir].node};
	own_mem unsigned char *block = mem_new(EROFS_BLOCK);
	int rc = 0;

	for (uint64_t i = 0; i < d->plans[dir].blocks && rc >= 0; i++) {
		memset(block, 0, EROFS_BLOCK);
		put_block(d, &w, block);
		rc = out_add(d->meta->out, block, EROFS_BLOCK, err);
	}
	return rc;
}

static int put_root(struct dirs *d, unsigned char *first_block, struct error *err)
{
	own_buf struct buf item = {0};

	put_dir_inode(d, 0, &item);
	if (item.len > EROFS_BLOCK - EROFS_ROOT_AT)
		return refuse(err, -EFBIG,
			      "the root directory's extended attributes are too large");
	memcpy(first_block + EROFS_ROOT_AT, item.data, item.len);
	return 0;
}

int erofs_put_dirs(struct layer_tree *t, struct erofs_meta *meta, const struct erofs_time *time,
		   struct erofs_shared *shared, unsigned char *first_block, struct error *err)
{
	struct dirs d = {.t = t, .meta = meta, .time = time};
	int rc = meta_flush(meta, err);

	if (rc >= 0)
		rc = out_align(meta->out, err);
	if (rc < 0)
		return rc;
	d.plans = mem_new_array(t->dir_count, sizeof(*d.plans));
	rc = rehearse(&d, shared, err);
	if (rc >= 0)
		rc = put_inodes(&d, err);
	for (uint32_t i = 0; i < t->dir_count && rc >= 0; i++)
		if (is_live(t, i))
			rc = put_blocks(&d, i, err);
	if (rc >= 0)
		rc = put_root(&d, first_block, err);
	for (uint32_t i = 0; i < t->dir_count; i++) {
		free(d.plans[i].children);
		buf_release(&d.plans[i].xattrs);
	}
	free(d.plans);
	return rc;
}
