/*
 * erofs: the layer format `erofs`, one EROFS file (see erofs_format.h for how it looks).
 *
 * A regular file's whole blocks go to the end of the file as they come. At its end its inode, its
 * attributes and its last, incomplete block go together into a block of metadata. Nothing that is
 * written is changed again, because its digest has been taken: a file that turns out to have several
 * names gets a second inode at the end, the first one is forgotten. So is the data of a file that a
 * later entry replaces.
 */
#include "image/erofs_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "image/layer_recipe.h"

enum {
	CHUNKS_MAX = 1 << 18, /* in the table of one sparse file */
};

struct erofs_body {
	struct layer_body base;
	struct erofs_out out;
	struct erofs_meta meta;
	struct erofs_shared shared;
	struct erofs_time time;
	bool any_chunks;

	/* The file whose data is coming. */
	struct erofs_inode inode;
	struct buf item;    /* its attributes, then what else goes behind the inode */
	uint64_t at;        /* how much of it has come, holes included */
	uint64_t to_blocks; /* so much goes into blocks, the rest is its tail */
	unsigned char tail[EROFS_BLOCK];
	unsigned int chunk_bits; /* of a sparse file */
	uint32_t *chunks;
	uint64_t chunk_count;
	uint64_t chunk; /* the one being written; UINT64_MAX: none */
};

static struct erofs_body *erofs_body(struct layer_body *b)
{
	return container_of(b, struct erofs_body, base);
}

static int erofs_begin(int layers_fd, struct layer_tree *tree, struct layer_body **ret,
		       struct error *err)
{
	struct erofs_body *b = mem_new(sizeof(*b));
	int fd = layer_make_unfinished(layers_fd, false, b->base.name, err);

	if (fd < 0) {
		free(b);
		return fd;
	}
	b->base.format = &layer_erofs;
	b->base.layers_fd = layers_fd;
	b->base.tree = tree;
	b->base.fd = fd;
	out_init(&b->out, fd);
	meta_init(&b->meta, &b->out);
	*ret = &b->base;
	return 0;
}

static void erofs_discard(struct layer_body *base)
{
	struct erofs_body *b = erofs_body(base);

	/* Unlinking before closing: the lock must hold as long as the name does. */
	if (base->name[0] != '\0')
		(void)unlinkat(base->layers_fd, base->name, 0);
	fd_close(&base->fd);
	meta_release(&b->meta);
	out_release(&b->out);
	buf_release(&b->item);
	free(b->chunks);
	free(b);
}

static void fill_inode(struct erofs_body *b, uint32_t type, const struct tar_entry *e)
{
	b->inode = (struct erofs_inode){
		.mode = type | e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime = e->mtime,
		.mtime_ns = e->mtime_ns,
		.links = 1,
	};
	buf_clear(&b->item);
	erofs_put_xattrs(&b->item, e->xattrs, e->xattr_count, &b->shared);
	if (!b->time.set && e->mtime >= 0)
		b->time = (struct erofs_time){true, e->mtime, e->mtime_ns};
}

/* Puts the inode in front of b->item, whose first `xattr_bytes` are attributes, and adds both. */
static int put_item(struct erofs_body *b, size_t xattr_bytes, uint32_t *ret_object,
		    struct error *err)
{
	unsigned char head[64], *bytes = NULL;
	size_t head_len = erofs_put_inode(head, &b->inode, xattr_bytes, &b->time);
	size_t len = head_len + b->item.len;
	meta_place place = 0;
	int rc;

	if (len <= EROFS_BLOCK) {
		rc = meta_reserve(&b->meta, len, &place, &bytes, err);
		if (rc < 0)
			return rc;
		memcpy(bytes, head, head_len);
		if (b->item.len > 0)
			memcpy(bytes + head_len, b->item.data, b->item.len);
	} else {
		own_buf struct buf all = {0};

		buf_add(&all, head, head_len);
		buf_add(&all, b->item.data, b->item.len);
		rc = meta_add(&b->meta, all.data, all.len, &place, err);
		if (rc < 0)
			return rc;
	}
	*ret_object = tree_add_object(b->base.tree, place, (uint32_t)len);
	return 0;
}

/* Whether a sparse file is worth a table: one with a hole, and more than a block. */
static bool wants_chunks(const struct tar_entry *e)
{
	uint64_t data = 0;

	for (size_t i = 0; i < e->extent_count; i++)
		data += e->extents[i].len;
	return e->sparse && data < e->size && e->size > EROFS_BLOCK;
}

static void begin_chunks(struct erofs_body *b)
{
	uint64_t blocks = (b->inode.size + EROFS_BLOCK - 1) / EROFS_BLOCK;

	b->chunk_bits = 0;
	while (blocks >> b->chunk_bits > CHUNKS_MAX)
		b->chunk_bits++;
	b->chunk_count = (blocks + (1u << b->chunk_bits) - 1) >> b->chunk_bits;
	b->chunks = mem_new_array(b->chunk_count, sizeof(*b->chunks));
	memset(b->chunks, 0xff, b->chunk_count * sizeof(*b->chunks));
	b->chunk = UINT64_MAX;
	b->inode.layout = EROFS_CHUNKED;
	b->inode.data = b->chunk_bits;
	b->any_chunks = true;
}

static int erofs_file_begin(struct layer_body *base, uint32_t parent, const char *name, size_t len,
			    const struct tar_entry *e, struct error *err)
{
	struct erofs_body *b = erofs_body(base);
	size_t tail = e->size % EROFS_BLOCK;

	(void)parent, (void)name, (void)len, (void)err;
	fill_inode(b, S_IFREG, e);
	b->inode.size = e->size;
	b->at = 0;
	b->to_blocks = e->size;
	if (wants_chunks(e)) {
		begin_chunks(b);
		return 0;
	}
	if (tail > 0 && erofs_inode_len(&b->inode, &b->time) + b->item.len + tail <= EROFS_BLOCK) {
		b->inode.layout = EROFS_INLINE;
		b->to_blocks = e->size - tail;
	}
	if (b->to_blocks > 0)
		b->inode.data = (uint32_t)(out_place(&b->out) / EROFS_BLOCK);
	return 0;
}

static int put_data(struct erofs_body *b, const void *data, size_t len, struct error *err)
{
	const unsigned char *p = data;
	int rc = 0;

	if (b->at < b->to_blocks) {
		size_t n = len < b->to_blocks - b->at ? len : (size_t)(b->to_blocks - b->at);

		rc = out_add(&b->out, p, n, err);
		b->at += n;
		p += n;
		len -= n;
	}
	if (len > 0) {
		memcpy(b->tail + (b->at - b->to_blocks), p, len);
		b->at += len;
	}
	return rc;
}

/* Zeros up to `offset`, for small holes. */
static int put_zeros(struct erofs_body *b, uint64_t offset, struct error *err)
{
	static const unsigned char zeros[EROFS_BLOCK];
	int rc = 0;

	while (b->at < offset && rc >= 0)
		rc = put_data(b, zeros,
			      offset - b->at < EROFS_BLOCK ? (size_t)(offset - b->at) : EROFS_BLOCK,
			      err);
	return rc;
}

/* In a chunk that has been begun: zeros up to `offset`, which take no room if there are many. */
static int chunk_zeros(struct erofs_body *b, uint64_t offset, struct error *err)
{
	uint64_t block = (b->at + EROFS_BLOCK - 1) / EROFS_BLOCK;
	uint64_t blocks = offset / EROFS_BLOCK > block ? offset / EROFS_BLOCK - block : 0;
	int rc;

	if (blocks < 16)
		return put_zeros(b, offset, err);
	rc = put_zeros(b, block * EROFS_BLOCK, err);
	if (rc >= 0)
		rc = out_zeros(&b->out, blocks, err);
	b->at = (block + blocks) * EROFS_BLOCK;
	return rc < 0 ? rc : put_zeros(b, offset, err);
}

static uint64_t chunk_end(const struct erofs_body *b, uint64_t chunk)
{
	uint64_t end = (chunk + 1) << (b->chunk_bits + EROFS_BLOCK_BITS);

	return end < b->inode.size ? end : b->inode.size;
}

static int end_chunk(struct erofs_body *b, struct error *err)
{
	int rc;

	if (b->chunk == UINT64_MAX)
		return 0;
	rc = chunk_zeros(b, chunk_end(b, b->chunk), err);
	b->chunk = UINT64_MAX;
	return rc < 0 ? rc : out_align(&b->out, err);
}

static int begin_chunk(struct erofs_body *b, uint64_t chunk, struct error *err)
{
	int rc = end_chunk(b, err);

	if (rc < 0)
		return rc;
	b->chunk = chunk;
	b->at = chunk << (b->chunk_bits + EROFS_BLOCK_BITS);
	b->chunks[chunk] = (uint32_t)(out_place(&b->out) / EROFS_BLOCK);
	return 0;
}

static int put_sparse(struct erofs_body *b, uint64_t offset, const unsigned char *data, size_t len,
		      struct error *err)
{
	while (len > 0) {
		uint64_t chunk = offset >> (b->chunk_bits + EROFS_BLOCK_BITS);
		size_t n = len;
		int rc = chunk == b->chunk ? 0 : begin_chunk(b, chunk, err);

		if (n > chunk_end(b, chunk) - offset)
			n = (size_t)(chunk_end(b, chunk) - offset);
		if (rc >= 0)
			rc = chunk_zeros(b, offset, err);
		if (rc >= 0)
			rc = put_data(b, data, n, err);
		if (rc < 0)
			return rc;
		offset += n;
		data += n;
		len -= n;
	}
	return 0;
}

static int erofs_file_data(struct layer_body *base, uint64_t offset, const void *data, size_t len,
			   struct error *err)
{
	struct erofs_body *b = erofs_body(base);
	int rc;

	if (b->inode.layout == EROFS_CHUNKED)
		return put_sparse(b, offset, data, len, err);
	rc = put_zeros(b, offset, err);
	return rc < 0 ? rc : put_data(b, data, len, err);
}

static int erofs_file_end(struct layer_body *base, uint32_t *ret_object, struct error *err)
{
	struct erofs_body *b = erofs_body(base);
	size_t xattr_bytes = b->item.len;
	int rc;

	if (b->inode.layout == EROFS_CHUNKED) {
		rc = end_chunk(b, err);
		buf_add(&b->item, b->chunks, b->chunk_count * sizeof(*b->chunks));
		free(b->chunks);
		b->chunks = NULL;
	} else {
		rc = put_zeros(b, b->inode.size, err);
		if (rc >= 0)
			rc = out_align(&b->out, err);
		buf_add(&b->item, b->tail, (size_t)(b->inode.size - b->to_blocks));
	}
	return rc < 0 ? rc : put_item(b, xattr_bytes, ret_object, err);
}

/* A link's target goes behind the inode, or into a block of its own. */
static int put_target(struct erofs_body *b, const char *target, struct error *err)
{
	size_t len = strlen(target);
	int rc;

	b->inode.size = len;
	if (erofs_inode_len(&b->inode, &b->time) + b->item.len + len <= EROFS_BLOCK) {
		b->inode.layout = EROFS_INLINE;
		buf_add(&b->item, target, len);
		return 0;
	}
	b->inode.data = (uint32_t)(out_place(&b->out) / EROFS_BLOCK);
	rc = out_add(&b->out, target, len, err);
	return rc < 0 ? rc : out_align(&b->out, err);
}

static int erofs_special(struct layer_body *base, uint32_t parent, const char *name, size_t len,
			 enum node_kind kind, const struct tar_entry *e, uint32_t *ret_object,
			 struct error *err)
{
	struct erofs_body *b = erofs_body(base);
	size_t xattr_bytes;
	int rc = 0;

	(void)parent, (void)name, (void)len;
	if (kind == NODE_WHITEOUT) {
		/* Nobody sees more of it than that it is there. */
		struct tar_entry nothing = {.mtime = b->time.set ? b->time.seconds : e->mtime,
					    .mtime_ns = b->time.set ? b->time.ns : e->mtime_ns};

		fill_inode(b, S_IFCHR, &nothing);
		return put_item(b, b->item.len, ret_object, err);
	}
	fill_inode(b,
		   kind == NODE_SYMLINK ? S_IFLNK
		   : kind == NODE_CHAR  ? S_IFCHR
		   : kind == NODE_BLOCK ? S_IFBLK
					: S_IFIFO,
		   e);
	xattr_bytes = b->item.len;
	if (kind == NODE_SYMLINK) {
		/* As Linux has them, whatever the archive says. */
		b->inode.mode = S_IFLNK | 0777;
		rc = put_target(b, e->link, err);
	} else if (kind != NODE_FIFO) {
		if (e->major > 0xfff || e->minor > 0xfffff)
			return refuse(err, -EBADMSG, "%s: no device has the number %u:%u", e->path,
				      e->major, e->minor);
		b->inode.data = (e->minor & 0xff) | e->major << 8 | (e->minor & ~0xffu) << 12;
	}
	return rc < 0 ? rc : put_item(b, xattr_bytes, ret_object, err);
}

static int erofs_dir(struct layer_body *b, uint32_t node, struct error *err)
{
	(void)b, (void)node, (void)err;
	return 0;
}

static int erofs_link(struct layer_body *b, uint32_t target, uint32_t parent, const char *name,
		      size_t len, struct error *err)
{
	(void)b, (void)target, (void)parent, (void)name, (void)len, (void)err;
	return 0;
}

static int erofs_read_link(struct layer_body *base, uint32_t node, char *out, struct error *err)
{
	struct erofs_body *b = erofs_body(base);
	const struct tree_object *o = &base->tree->objects[base->tree->nodes[node].thing];
	struct erofs_extended e = {0};
	size_t head = o->extra < sizeof(e) ? o->extra : sizeof(e);
	uint64_t size;
	uint32_t data;
	int rc = meta_read(&b->meta, o->place, &e, head, err);

	if (rc < 0)
		return rc;
	size = e.size;
	data = e.data;
	if (!(e.format & EROFS_EXTENDED)) {
		struct erofs_compact c;

		memcpy(&c, &e, sizeof(c));
		size = c.size;
		data = c.data;
	}
	out[size] = '\0';
	if ((e.format & ~EROFS_EXTENDED) == EROFS_INLINE)
		return meta_read(&b->meta, o->place + o->extra - size, out, size, err);
	return out_read(&b->out, (uint64_t)data * EROFS_BLOCK, out, size, err);
}

/* Gives files with several names an inode that says so. Counts the inodes. */
static int put_links(struct erofs_body *b, uint64_t *ret_inodes, struct error *err)
{
	struct layer_tree *t = b->base.tree;
	own_buf struct buf item = {0};
	int rc = 0;

	for (uint32_t i = 0; i < t->object_count && rc >= 0; i++) {
		struct tree_object *o = &t->objects[i];
		struct erofs_extended e;
		struct erofs_compact c;

		*ret_inodes += o->links > 0;
		if (o->links <= 1)
			continue;
		buf_clear(&item);
		buf_reserve(&item, o->extra);
		rc = meta_read(&b->meta, o->place, item.data, o->extra, err);
		if (rc < 0)
			return rc;
		item.len = o->extra;
		memcpy(&c, item.data, sizeof(c));
		if (c.format & EROFS_EXTENDED) {
			memcpy(&e, item.data, sizeof(e));
			e.links = o->links;
			memcpy(item.data, &e, sizeof(e));
		} else {
			c.links = (uint16_t)o->links;
			memcpy(item.data, &c, sizeof(c));
		}
		rc = meta_add(&b->meta, item.data, item.len, &o->place, err);
	}
	return rc;
}

static void put_super(struct erofs_body *b, unsigned char *first_block, const struct digest *diffid,
		      uint64_t inodes)
{
	struct erofs_super s = {
		.root_nid = EROFS_ROOT_AT / EROFS_SLOT,
		.inodes = inodes,
		.build_time = b->time.set ? (uint64_t)b->time.seconds : 0,
		.build_time_ns = b->time.set ? b->time.ns : 0,
		.blocks = (uint32_t)(out_place(&b->out) / EROFS_BLOCK),
		.incompat = b->any_chunks ? EROFS_INCOMPAT_CHUNKED : 0,
	};

	memcpy(first_block + EROFS_SHARED_AT, b->shared.area, sizeof(b->shared.area));
	erofs_put_super(&s, diffid, first_block);
}

int erofs_complete(struct layer_body *base, const struct digest *diffid, struct layer_info *ret,
		   struct error *err)
{
	struct erofs_body *b = erofs_body(base);
	own_mem unsigned char *first_block = mem_new(EROFS_BLOCK);
	uint64_t inodes = 0;
	int rc = put_links(b, &inodes, err);

	if (rc >= 0)
		rc = erofs_put_dirs(base->tree, &b->meta, &b->time, &b->shared, first_block, err);
	for (uint32_t i = 0; i < base->tree->dir_count; i++)
		inodes += tree_kind(base->tree, base->tree->dirs[i].node) == NODE_DIR;
	if (rc < 0)
		return rc;
	put_super(b, first_block, diffid, inodes);
	/* Behind what the superblock says is the file system. */
	if (base->recipe != NULL) {
		rc = recipe_put(base->recipe, base->tree, &b->meta, &b->out, err);
		if (rc < 0)
			return rc;
	}
	return out_end(&b->out, first_block, &ret->size_bytes, &ret->digest, err);
}

/* From now on the kernel checks what is read of the file, where it can. Not earlier: nobody may write to it,
 * and its descriptor for writing holds the lock of the unfinished file. A host that cannot, or a kill before
 * this, leaves a layer that is checked by reading it. */
static void enable_verity(struct layer_body *base, const char *name)
{
	own_fd int fd = openat(base->layers_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	fd_close(&base->fd);
	if (fd >= 0 && verity_enable(fd) < 0)
		return;
}

static int erofs_finish(struct layer_body *base, const struct digest *diffid,
			struct layer_info *ret, struct error *err)
{
	char name[LAYER_FILE_NAME_MAX];
	bool existed = false;
	int rc = erofs_complete(base, diffid, ret, err);

	if (rc < 0)
		return rc;
	if (fsync(base->fd) < 0)
		return fail(err, -errno, "write the layer file");
	layer_file_name(name, &layer_erofs, diffid);
	rc = layer_publish(base->layers_fd, base->name, name, &existed, err);
	/* One of another length is damaged, or it holds its tar and ours does not, or the other way
	 * round: what is recorded next is ours. */
	if (rc >= 0 && existed)
		rc = layer_replace_other(base->layers_fd, base->name, name, ret->size_bytes,
					 &existed, err);
	if (rc < 0 || existed)
		return rc;
	base->name[0] = '\0';
	enable_verity(base, name);
	return 0;
}

static int erofs_size(int layers_fd, const char *name, uint64_t *ret_bytes, struct error *err)
{
	struct stat st;

	if (fstatat(layers_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return fail(err, -errno, "look at %s", name);
	if (!S_ISREG(st.st_mode))
		return refuse(err, -EUCLEAN, "%s is not a regular file", name);
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

static int erofs_digest(int layers_fd, const char *name, struct digest *ret, struct error *err)
{
	own_fd int fd = openat(layers_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int rc;

	if (fd < 0)
		return fail(err, -errno, "open %s", name);
	rc = verity_measure(fd, ret);
	if (rc == 0)
		return 0;
	rc = verity_of_fd(fd, ret);
	return rc < 0 ? fail(err, rc, "read %s", name) : 0;
}

static int erofs_unlink(int layers_fd, const char *name, struct error *err)
{
	if (unlinkat(layers_fd, name, 0) < 0 && errno != ENOENT)
		return fail(err, -errno, "remove %s", name);
	return 0;
}

const struct layer_format layer_erofs = {
	.name = "erofs",
	.suffix = ".erofs",
	.keeps_recipe = true,
	.begin = erofs_begin,
	.file_begin = erofs_file_begin,
	.file_data = erofs_file_data,
	.file_end = erofs_file_end,
	.special = erofs_special,
	.dir = erofs_dir,
	.link = erofs_link,
	.remove = erofs_dir,
	.read_link = erofs_read_link,
	.finish = erofs_finish,
	.discard = erofs_discard,
	.size = erofs_size,
	.digest = erofs_digest,
	.unlink = erofs_unlink,
	.mount = layer_mount_file,
};
