/*
 * layer_tree: the names of a layer that is being written, in memory.
 *
 * Holds what must be known until the end: which names there are, what is a directory with which
 * metadata, and which names are links to one object. Nodes and directories are numbers, so that a
 * million entries take little memory. What a file contains is the format's affair: the tree only keeps
 * a number for it, the object.
 *
 * Invariants
 *   N1  node 0 is the root, and directory 0 its directory.
 *   N2  the name of a live node is unique in its directory; a dead node is found by nobody.
 *   N3  an object's `links` is the number of live nodes that have it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "tar/tar.h"

#define TREE_NONE UINT32_MAX

enum node_kind {
	NODE_DEAD,
	NODE_DIR,
	NODE_FILE,
	NODE_SYMLINK,
	NODE_CHAR,
	NODE_BLOCK,
	NODE_FIFO,
	NODE_WHITEOUT,
};

/* Owner, mode and so on of a directory, kept until the end. */
struct tree_meta {
	uint32_t mode, uid, gid, mtime_ns;
	int64_t mtime;
};

struct tree_node {
	uint32_t parent; /* a node */
	uint32_t next;   /* sibling, in no order */
	uint32_t hash_next;
	uint32_t thing; /* directory or object */
	uint32_t name;  /* offset of its bytes */
	uint8_t name_len;
	uint8_t kind; /* enum node_kind */
};

struct tree_dir {
	struct tree_meta meta;
	uint32_t node;
	uint32_t first; /* child */
	uint32_t depth;
	bool implicit; /* no entry of its own so far, only of what is in it */
	bool opaque;   /* what lower layers have in it is hidden */
	struct tar_xattr *xattrs;
	uint32_t xattr_count;
};

struct tree_object {
	uint64_t place; /* the format's */
	uint32_t links;
	uint32_t extra; /* the format's */
};

struct layer_tree {
	struct tree_node *nodes;
	uint32_t node_count, node_capacity;
	struct tree_dir *dirs;
	uint32_t dir_count, dir_capacity;
	struct tree_object *objects;
	uint32_t object_count, object_capacity;
	char *names;
	size_t names_len, names_capacity;
	uint32_t *buckets;
	uint32_t bucket_count; /* a power of two */
	uint64_t seed[2];
	size_t xattr_bytes;         /* kept for directories */
	const char *overlay_prefix; /* of overlayfs's own attributes in this layer */
};

void tree_init(struct layer_tree *t);
void tree_release(struct layer_tree *t);

static inline const char *tree_name(const struct layer_tree *t, uint32_t node)
{
	return t->names + t->nodes[node].name; /* nodes[node].name_len bytes */
}
static inline struct tree_dir *tree_dir(struct layer_tree *t, uint32_t node)
{
	return &t->dirs[t->nodes[node].thing];
}
static inline enum node_kind tree_kind(const struct layer_tree *t, uint32_t node)
{
	return (enum node_kind)t->nodes[node].kind;
}

/* The node of that name in the directory `parent`, or TREE_NONE. */
uint32_t tree_find(const struct layer_tree *t, uint32_t parent, const char *name, size_t len);
/* Adds a name that is not there yet; name_len <= 255. `thing` is an object, whose links it counts, or
 * for NODE_DIR is made. -EFBIG beyond the limits of layer.h. */
int tree_add(struct layer_tree *t, uint32_t parent, const char *name, size_t len,
	     enum node_kind kind, uint32_t object, uint32_t *ret_node,
	     struct error *err) must_check;
/* A new object without names. */
uint32_t tree_add_object(struct layer_tree *t, uint64_t place, uint32_t extra);
/* Takes a node away, with all that is in it. */
void tree_kill(struct layer_tree *t, uint32_t node);
/* Replaces a directory's attributes with copies. -EFBIG. */
int tree_set_xattrs(struct layer_tree *t, uint32_t dir_node, const struct tar_xattr *xattrs,
		    size_t count, struct error *err) must_check;
/* The live children of a directory, ordered by the bytes of their names. The caller frees *ret. */
size_t tree_children(const struct layer_tree *t, uint32_t dir_node, uint32_t **ret);
/* Whether the directory has live whiteouts in it. */
bool tree_has_whiteouts(const struct layer_tree *t, uint32_t dir_node);
/* The path of a node ("a/b", "." for the root), for messages and for names below a descriptor. */
char *tree_path(const struct layer_tree *t, uint32_t node);
