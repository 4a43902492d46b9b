/*
 * erofs_priv: the parts of the EROFS writer.
 *
 *   erofs_out    the file: bytes at its end, in large writes, and the digest of them
 *   erofs_meta   blocks with inodes and tails, packed tightly
 *   erofs_inode  what an inode with its attributes looks like
 *   erofs_dir    directories, all of them at the end
 *   erofs_super  the superblock
 *   erofs        the format's functions, which put them together
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/erofs_format.h"
#include "image/erofs_verity.h"
#include "image/layer_priv.h"

/* --- erofs_out --- */

enum { OUT_BUFFER = 1 << 20 };

/* The file from its second block on. Adding never fails late: errors stick and are returned by all
 * that follows. */
struct erofs_out {
	int fd;
	unsigned char *buffer;
	size_t used;
	uint64_t at;      /* place in the file of the buffer's start */
	uint64_t started; /* writing to the disk has been asked for up to here */
	struct verity *verity;
};
void out_init(struct erofs_out *o, int fd);
void out_release(struct erofs_out *o);
static inline uint64_t out_place(const struct erofs_out *o)
{
	return o->at + o->used;
}
int out_add(struct erofs_out *o, const void *data, size_t len, struct error *err) must_check;
/* Zeros up to the next block. */
int out_align(struct erofs_out *o, struct error *err) must_check;
/* Whole blocks of zeros, which take no room on the disk. */
int out_zeros(struct erofs_out *o, uint64_t blocks, struct error *err) must_check;
/* Reads what has been added. */
int out_read(struct erofs_out *o, uint64_t place, void *out, size_t len,
	     struct error *err) must_check;
/* Writes what is left and then the first block. */
int out_end(struct erofs_out *o, const void *first_block, uint64_t *ret_size, struct digest *ret,
	    struct error *err) must_check;

/* --- erofs_meta --- */

enum { META_OPEN = 128 }; /* blocks that are being filled */

/* A place in a block of metadata: the block's number << EROFS_BLOCK_BITS | offset. Where the block is in
 * the file is known when it is written. Items too large for a block count as one, longer block. */
typedef uint64_t meta_place;

struct meta_slot {
	uint32_t block; /* its number */
	uint16_t used;  /* bytes; 0: the slot is free */
};

struct erofs_meta {
	struct erofs_out *out; /* NULL: a rehearsal, which only counts blocks */
	uint64_t dry_at;       /* the block at which it has arrived */
	unsigned char *buffer; /* of all slots */
	struct meta_slot slots[META_OPEN];
	uint32_t *written; /* where each block is in the file, META_UNWRITTEN: it is in a slot */
	size_t block_count, block_capacity;
};
#define META_UNWRITTEN UINT32_MAX

void meta_init(struct erofs_meta *m, struct erofs_out *out);
/* A rehearsal that starts at block `at`. Items may be NULL. */
void meta_init_dry(struct erofs_meta *m, uint64_t at);
void meta_release(struct erofs_meta *m);
/* Adds an item: an inode with what belongs to it, which starts at a multiple of EROFS_SLOT. If it
 * fits in a block it does not cross one. Only between files: may write blocks. */
int meta_add(struct erofs_meta *m, const void *item, size_t len, meta_place *ret,
	     struct error *err) must_check;
/* The same in two steps: room for an item, whose contents are to be written through *ret_bytes
 * before the next call. `len` at most a block. */
int meta_reserve(struct erofs_meta *m, size_t len, meta_place *ret, unsigned char **ret_bytes,
		 struct error *err) must_check;
/* Writes all that is not written yet. */
int meta_flush(struct erofs_meta *m, struct error *err) must_check;
int meta_read(struct erofs_meta *m, meta_place place, void *out, size_t len,
	      struct error *err) must_check;
/* The inode number of an item, whose block must have been written. */
static inline uint64_t meta_nid(const struct erofs_meta *m, meta_place place)
{
	uint64_t offset = place & (EROFS_BLOCK - 1);

	return ((uint64_t)m->written[place >> EROFS_BLOCK_BITS] * EROFS_BLOCK + offset) /
	       EROFS_SLOT;
}

/* --- erofs_inode --- */

struct erofs_inode {
	uint32_t mode; /* with the type */
	uint32_t uid, gid, mtime_ns, links;
	int64_t mtime;
	uint64_t size;
	uint16_t layout; /* EROFS_PLAIN, ... */
	uint32_t data;
};

/* Attributes that several inodes have alike, in the first block. */
struct erofs_shared {
	unsigned char area[EROFS_ROOT_AT - EROFS_SHARED_AT];
	size_t used;
	/* Attributes seen once: the second time one is worth sharing. */
	uint64_t seen[256];
};

/* The time that compact inodes have: that of the first entry. */
struct erofs_time {
	bool set;
	int64_t seconds;
	uint32_t ns;
};

/* The attributes of an inode as they follow it; nothing if there are none that EROFS can hold.
 * With `shared` NULL all are written out. */
void erofs_put_xattrs(struct buf *out, const struct tar_xattr *xattrs, size_t count,
		      struct erofs_shared *shared);
/* The inode, of the smallest form, in front of `xattr_bytes` of attributes. Returns its length. */
size_t erofs_put_inode(unsigned char out[static 64], const struct erofs_inode *inode,
		       size_t xattr_bytes, const struct erofs_time *time);
/* How long it will be. */
size_t erofs_inode_len(const struct erofs_inode *inode, const struct erofs_time *time);

/* --- erofs_super --- */

/* Fills what is the same in all of our files, the UUID and the checksum, and puts it into the first block, which
 * is complete but for it. */
void erofs_put_super(struct erofs_super *super, const struct digest *diffid,
		     unsigned char *first_block);

/* --- erofs_dir --- */

/* Writes all directories, and the root's inode into the first block. */
int erofs_put_dirs(struct layer_tree *t, struct erofs_meta *meta, const struct erofs_time *time,
		   struct erofs_shared *shared, unsigned char *first_block,
		   struct error *err) must_check;
