/*
 * layer_tree: see layer_tree.h.
 *
 * One hash table finds names: the key is (parent, name), the hash is SipHash with a random key, since
 * whoever made the tar chooses the names. Dead nodes stay in their directory's list of children, which
 * is only walked at the end.
 */
#include "image/layer_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/random.h"
#include "base/str.h"
#include "image/layer.h"

static uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

/* SipHash-1-3 over the parent's number and the name. */
static uint32_t hash(const struct layer_tree *t, uint32_t parent, const char *name, size_t len)
{
	uint64_t v[4] = {
		t->seed[0] ^ 0x736f6d6570736575,
		t->seed[1] ^ 0x646f72616e646f6d,
		t->seed[0] ^ 0x6c7967656e657261,
		t->seed[1] ^ 0x7465646279746573,
	};
	uint64_t word;

	sip_word(v, (uint64_t)len << 32 | parent);
	for (; len >= 8; name += 8, len -= 8) {
		memcpy(&word, name, 8);
		sip_word(v, word);
	}
	word = 0;
	memcpy(&word, name, len);
	sip_word(v, word);
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return (uint32_t)(v[0] ^ v[1] ^ v[2] ^ v[3]);
}

void tree_init(struct layer_tree *t)
{
	memset(t, 0, sizeof(*t));
	random_bytes(t->seed, sizeof(t->seed));
	t->bucket_count = 1024;
	t->buckets = mem_new_array(t->bucket_count, sizeof(*t->buckets));
	memset(t->buckets, 0xff, t->bucket_count * sizeof(*t->buckets));
	t->node_capacity = t->dir_capacity = t->object_capacity = 64;
	t->nodes = mem_new_array(t->node_capacity, sizeof(*t->nodes));
	t->dirs = mem_new_array(t->dir_capacity, sizeof(*t->dirs));
	t->objects = mem_new_array(t->object_capacity, sizeof(*t->objects));
	t->nodes[0] = (struct tree_node){.kind = NODE_DIR, .next = TREE_NONE};
	t->dirs[0] = (struct tree_dir){.first = TREE_NONE, .implicit = true, .meta.mode = 0755};
	t->node_count = t->dir_count = 1;
	t->names = mem_new(64);
	t->names_capacity = 64;
}

static void free_xattrs(struct tar_xattr *xattrs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(xattrs[i].name);
		free(xattrs[i].value);
	}
	free(xattrs);
}

void tree_release(struct layer_tree *t)
{
	for (uint32_t i = 0; i < t->dir_count; i++)
		free_xattrs(t->dirs[i].xattrs, t->dirs[i].xattr_count);
	free(t->nodes);
	free(t->dirs);
	free(t->objects);
	free(t->names);
	free(t->buckets);
	memset(t, 0, sizeof(*t));
}

uint32_t tree_find(const struct layer_tree *t, uint32_t parent, const char *name, size_t len)
{
	uint32_t at = t->buckets[hash(t, parent, name, len) & (t->bucket_count - 1)];

	for (; at != TREE_NONE; at = t->nodes[at].hash_next) {
		const struct tree_node *node = &t->nodes[at];

		if (node->parent == parent && node->name_len == len &&
		    memcmp(t->names + node->name, name, len) == 0)
			return at;
	}
	return TREE_NONE;
}

static void hash_insert(struct layer_tree *t, uint32_t at)
{
	struct tree_node *node = &t->nodes[at];
	uint32_t *bucket =
		&t->buckets[hash(t, node->parent, t->names + node->name, node->name_len) &
			    (t->bucket_count - 1)];

	node->hash_next = *bucket;
	*bucket = at;
}

static void hash_remove(struct layer_tree *t, uint32_t at)
{
	struct tree_node *node = &t->nodes[at];
	uint32_t *link = &t->buckets[hash(t, node->parent, t->names + node->name, node->name_len) &
				     (t->bucket_count - 1)];

	while (*link != at)
		link = &t->nodes[*link].hash_next;
	*link = node->hash_next;
}

static void grow_buckets(struct layer_tree *t)
{
	t->bucket_count *= 4;
	t->buckets = mem_resize(t->buckets, t->bucket_count, sizeof(*t->buckets));
	memset(t->buckets, 0xff, t->bucket_count * sizeof(*t->buckets));
	for (uint32_t i = 1; i < t->node_count; i++)
		if (t->nodes[i].kind != NODE_DEAD)
			hash_insert(t, i);
}

/* By half, not by doubling: the promise about memory counts what is reserved. */
static void *grow(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
	if (count < *capacity)
		return items;
	*capacity += *capacity / 2;
	return mem_resize(items, *capacity, size);
}

static uint32_t add_dir(struct layer_tree *t, uint32_t node, uint32_t depth)
{
	t->dirs = grow(t->dirs, t->dir_count, &t->dir_capacity, sizeof(*t->dirs));
	t->dirs[t->dir_count] = (struct tree_dir){.node = node,
						  .first = TREE_NONE,
						  .depth = depth,
						  .implicit = true,
						  .meta.mode = 0755};
	return t->dir_count++;
}

static uint32_t add_name(struct layer_tree *t, const char *name, size_t len)
{
	uint32_t at = (uint32_t)t->names_len;

	if (t->names_capacity - t->names_len < len) {
		t->names_capacity += t->names_capacity / 2 + len;
		t->names = mem_resize(t->names, t->names_capacity, 1);
	}
	memcpy(t->names + at, name, len);
	t->names_len += len;
	return at;
}

int tree_add(struct layer_tree *t, uint32_t parent, const char *name, size_t len,
	     enum node_kind kind, uint32_t object, uint32_t *ret_node, struct error *err)
{
	uint32_t at = t->node_count;
	uint32_t depth = tree_dir(t, parent)->depth + 1;
	struct tree_node *node;

	if (at > LAYER_ENTRIES_MAX)
		return refuse(err, -EFBIG, "the layer has more than %d entries", LAYER_ENTRIES_MAX);
	if (kind == NODE_DIR && depth > LAYER_DEPTH_MAX)
		return refuse(err, -EFBIG, "the layer has directories more than %d deep",
			      LAYER_DEPTH_MAX);
	t->nodes = grow(t->nodes, t->node_count, &t->node_capacity, sizeof(*t->nodes));
	t->node_count++;
	node = &t->nodes[at];
	*node = (struct tree_node){
		.parent = parent,
		.next = tree_dir(t, parent)->first,
		.thing = object,
		.name = add_name(t, name, len),
		.name_len = (uint8_t)len,
		.kind = (uint8_t)kind,
	};
	tree_dir(t, parent)->first = at;
	if (kind == NODE_DIR)
		node->thing = add_dir(t, at, depth);
	else
		t->objects[object].links++;
	if (t->node_count > t->bucket_count * 2)
		grow_buckets(t);
	else
		hash_insert(t, at);
	*ret_node = at;
	return 0;
}

uint32_t tree_add_object(struct layer_tree *t, uint64_t place, uint32_t extra)
{
	t->objects = grow(t->objects, t->object_count, &t->object_capacity, sizeof(*t->objects));
	t->objects[t->object_count] = (struct tree_object){.place = place, .extra = extra};
	return t->object_count++;
}

static void drop_xattrs(struct layer_tree *t, struct tree_dir *dir)
{
	for (uint32_t i = 0; i < dir->xattr_count; i++)
		t->xattr_bytes -= strlen(dir->xattrs[i].name) + dir->xattrs[i].len + 64;
	free_xattrs(dir->xattrs, dir->xattr_count);
	dir->xattrs = NULL;
	dir->xattr_count = 0;
}

void tree_kill(struct layer_tree *t, uint32_t node)
{
	uint32_t at = node;

	/* Depth first without a stack: the way down is through the first child left, which is taken
	 * off its directory's list on the way up. */
	for (;;) {
		struct tree_dir *dir = tree_kind(t, at) == NODE_DIR ? tree_dir(t, at) : NULL;
		uint32_t parent = t->nodes[at].parent;

		if (dir != NULL && dir->first != TREE_NONE) {
			uint32_t child = dir->first;

			if (tree_kind(t, child) == NODE_DEAD)
				dir->first = t->nodes[child].next;
			else
				at = child;
			continue;
		}
		if (dir != NULL)
			drop_xattrs(t, dir);
		else
			t->objects[t->nodes[at].thing].links--;
		hash_remove(t, at);
		t->nodes[at].kind = NODE_DEAD;
		if (at == node)
			return;
		at = parent;
	}
}

int tree_set_xattrs(struct layer_tree *t, uint32_t dir_node, const struct tar_xattr *xattrs,
		    size_t count, struct error *err)
{
	struct tree_dir *dir = tree_dir(t, dir_node);

	drop_xattrs(t, dir);
	for (size_t i = 0; i < count; i++)
		t->xattr_bytes += strlen(xattrs[i].name) + xattrs[i].len + 64;
	dir->xattrs = count > 0 ? mem_new_array(count, sizeof(*dir->xattrs)) : NULL;
	dir->xattr_count = (uint32_t)count;
	for (size_t i = 0; i < count; i++) {
		dir->xattrs[i].name = str_copy(xattrs[i].name);
		dir->xattrs[i].value = mem_copy(xattrs[i].value, xattrs[i].len);
		dir->xattrs[i].len = xattrs[i].len;
	}
	if (t->xattr_bytes > LAYER_DIR_XATTRS_MAX)
		return refuse(err, -EFBIG,
			      "the directories' extended attributes take more than %d bytes",
			      LAYER_DIR_XATTRS_MAX);
	return 0;
}

static int compare_names(const void *a, const void *b, void *tree)
{
	const struct layer_tree *t = tree;
	const struct tree_node *x = &t->nodes[*(const uint32_t *)a];
	const struct tree_node *y = &t->nodes[*(const uint32_t *)b];
	size_t common = x->name_len < y->name_len ? x->name_len : y->name_len;
	int order = memcmp(t->names + x->name, t->names + y->name, common);

	return order != 0 ? order : (int)x->name_len - (int)y->name_len;
}

size_t tree_children(const struct layer_tree *t, uint32_t dir_node, uint32_t **ret)
{
	uint32_t first = t->dirs[t->nodes[dir_node].thing].first;
	size_t count = 0;
	uint32_t *children;

	for (uint32_t at = first; at != TREE_NONE; at = t->nodes[at].next)
		count += tree_kind(t, at) != NODE_DEAD;
	children = mem_new_array(count, sizeof(*children));
	count = 0;
	for (uint32_t at = first; at != TREE_NONE; at = t->nodes[at].next)
		if (tree_kind(t, at) != NODE_DEAD)
			children[count++] = at;
	/* The cast: qsort_r hands the tree back as it got it. */
	qsort_r(children, count, sizeof(*children), compare_names, (void *)(uintptr_t)t);
	*ret = children;
	return count;
}

bool tree_has_whiteouts(const struct layer_tree *t, uint32_t dir_node)
{
	uint32_t at = t->dirs[t->nodes[dir_node].thing].first;

	while (at != TREE_NONE && tree_kind(t, at) != NODE_WHITEOUT)
		at = t->nodes[at].next;
	return at != TREE_NONE;
}

char *tree_path(const struct layer_tree *t, uint32_t node)
{
	size_t len = 0;
	char *path;

	if (node == 0)
		return str_copy(".");
	for (uint32_t at = node; at != 0; at = t->nodes[at].parent)
		len += t->nodes[at].name_len + 1u;
	path = mem_new(len);
	for (uint32_t at = node; at != 0; at = t->nodes[at].parent) {
		len -= t->nodes[at].name_len + 1u;
		memcpy(path + len, tree_name(t, at), t->nodes[at].name_len);
		if (at != node)
			path[len + t->nodes[at].name_len] = '/';
	}
	return path;
}
