/*
 * erofs_format: EROFS on disk, as far as we write it (Linux: fs/erofs/erofs_fs.h, Documentation/
 * filesystems/erofs.rst). All numbers are little-endian; this code runs on little-endian hosts only.
 *
 * Our files look like this, in blocks of 4096 bytes:
 *
 *     block 0      1024 unused bytes, the superblock at 1024, then a few attributes that many inodes
 *                  share (EROFS_SHARED_AT), then the root's inode (EROFS_ROOT_AT). Written last.
 *     block 1...   in the order of the tar: the data of files, whole blocks, one after the other; in
 *                  between, whenever enough has gathered, blocks with inodes and the ends of
 *                  files, which are kept right behind their inode (tail packing)
 *     at the end   blocks with the directories' inodes, then the blocks of directories
 *
 * An inode is named by its number, which is its place in the file divided by 32, because the area of
 * inodes starts at block 0 (meta_blkaddr). The superblock's field for the root's number has 16 bits:
 * that is why the root stands in block 0.
 */
#pragma once

#include <assert.h>
#include <stdint.h>

enum {
	EROFS_BLOCK_BITS = 12,
	EROFS_BLOCK = 1 << EROFS_BLOCK_BITS,
	EROFS_SLOT = 32, /* unit of inode numbers */
	EROFS_SUPER_AT = 1024,
	EROFS_SHARED_AT = EROFS_SUPER_AT + 128,
	EROFS_ROOT_AT = EROFS_SHARED_AT + 1024,
};
#define EROFS_MAGIC 0xe0f5e1e2u

enum {
	EROFS_COMPAT_CHECKSUM = 1,
	EROFS_COMPAT_MTIME = 2, /* the time of an inode is its mtime */
};
enum { EROFS_INCOMPAT_CHUNKED = 4 };

struct erofs_super {
	uint32_t magic;
	uint32_t checksum; /* crc32c of the block from here on, with 0 in this place */
	uint32_t compat;
	uint8_t block_bits;
	uint8_t ext_slots;
	uint16_t root_nid;
	uint64_t inodes;
	uint64_t build_time; /* of inodes of the compact form */
	uint32_t build_time_ns;
	uint32_t blocks;
	uint32_t meta_block;
	uint32_t xattr_block;
	uint8_t uuid[16];
	uint8_t volume[16];
	uint32_t incompat;
	uint8_t unused[44];
};
static_assert(sizeof(struct erofs_super) == 128, "the superblock's size");

/* The lowest bit of an inode's format is its form, the next three how data is laid out. */
enum {
	EROFS_EXTENDED = 1,
	EROFS_PLAIN = 0 << 1,   /* whole blocks in a row */
	EROFS_INLINE = 2 << 1,  /* the same, but the last, incomplete one follows the inode */
	EROFS_CHUNKED = 4 << 1, /* a table of equal pieces, some of which are holes */
};

/* Used where owner, size and links are small and the time is the superblock's. */
struct erofs_compact {
	uint16_t format;
	uint16_t xattr_count;
	uint16_t mode;
	uint16_t links;
	uint32_t size;
	uint32_t reserved;
	uint32_t data; /* first block, device number, or the form of the chunk table */
	uint32_t ino;
	uint16_t uid;
	uint16_t gid;
	uint32_t reserved2;
};
static_assert(sizeof(struct erofs_compact) == 32, "the compact inode's size");

struct erofs_extended {
	uint16_t format;
	uint16_t xattr_count;
	uint16_t mode;
	uint16_t reserved;
	uint64_t size;
	uint32_t data;
	uint32_t ino;
	uint32_t uid;
	uint32_t gid;
	uint64_t mtime;
	uint32_t mtime_ns;
	uint32_t links;
	uint8_t reserved2[16];
};
static_assert(sizeof(struct erofs_extended) == 64, "the extended inode's size");

/* Behind an inode with attributes: this, the numbers of shared ones, then entries. xattr_count is 1
 * plus the bytes after this header divided by 4. A shared attribute's number is its place / 4. */
struct erofs_xattr_header {
	uint32_t name_filter;
	uint8_t shared_count;
	uint8_t reserved[7];
};
static_assert(sizeof(struct erofs_xattr_header) == 12, "the attributes' header");

struct erofs_xattr_entry {
	uint8_t name_len; /* without the prefix */
	uint8_t prefix;
	uint16_t value_len;
	/* name, value, filling to 4 bytes */
};

/* A directory's block: entries ordered by name, then the names in the same order. */
struct erofs_dirent {
	uint64_t nid;
	uint16_t name_at; /* in the block */
	uint8_t type;
	uint8_t reserved;
} __attribute__((packed));
static_assert(sizeof(struct erofs_dirent) == 12, "a directory entry's size");

enum {
	EROFS_TYPE_FILE = 1,
	EROFS_TYPE_DIR = 2,
	EROFS_TYPE_CHAR = 3,
	EROFS_TYPE_BLOCK = 4,
	EROFS_TYPE_FIFO = 5,
	EROFS_TYPE_SYMLINK = 7,
};

/* The chunk table: block numbers of 4 bytes; the inode's `data` is the binary logarithm of a chunk's
 * blocks. */
#define EROFS_HOLE UINT32_MAX
enum { EROFS_CHUNK_BITS_MAX = 31 };
