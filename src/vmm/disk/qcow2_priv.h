/*
 * qcow2_priv: the parts of the format qcow2 (QEMU's docs/interop/qcow2.txt), versions 2 and 3.
 *
 *     qcow2.c           the disk's operations on guest clusters; opening
 *     qcow2_header.c    the header and its extensions
 *     qcow2_cache.c     tables of one cluster, held in memory
 *     qcow2_map.c       L1 and L2: where a guest cluster is
 *     qcow2_refcount.c  which host clusters are in use
 *     qcow2_unpack.c    compressed clusters
 *     qcow2_create.c    new images; growing
 *     qcow2_check.c     the whole image looked through, and mended
 *
 * What may be on the medium, after a power cut as well as after a kill:
 *   Q1  a cluster that a table points to has a reference count of at least one, and its contents were
 *       written before the pointer: counts and data first, sync, L2, sync, L1.
 *   Q2  a count is lowered only after nothing on the medium points to the cluster any more.
 *   Q3  so a crash leaves at most clusters that are counted and used by nothing ("leaked").
 *   Q4  once anything of the image contradicts itself nothing more is written to it, but for the mark in
 *       its header that it is damaged.
 */
#pragma once

#include <endian.h>

#include "vmm/disk/disk.h"

#define QCOW2_MAGIC UINT32_C(0x514649fb)
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
#define QCOW2_COPIED (UINT64_C(1) << 63)
#define QCOW2_COMPRESSED (UINT64_C(1) << 62)
#define QCOW2_ZERO UINT64_C(1)
#define QCOW2_HOST_MAX (UINT64_C(1) << 56)

enum {
	QCOW2_CLUSTER_BITS_MIN = 9,
	QCOW2_CLUSTER_BITS_MAX = 21,
	QCOW2_CLUSTER_BITS = 16, /* of what we make */
	QCOW2_L1_ENTRIES_MAX = (32 << 20) / 8,
	QCOW2_REFTABLE_BYTES_MAX = 8 << 20,
	QCOW2_NAME_MAX = 1023,
	QCOW2_FORMAT_MAX = 15,
	QCOW2_CACHE_BYTES = 1 << 20, /* of each of the two caches */
	QCOW2_CACHE_TABLES_MIN = 2,
	QCOW2_CACHE_TABLES_MAX = 64,
	/* incompatible features */
	QCOW2_DIRTY = 1 << 0,
	QCOW2_CORRUPT = 1 << 1,
	QCOW2_EXTERNAL_DATA = 1 << 2,
	QCOW2_COMPRESSION = 1 << 3,
	QCOW2_EXTENDED_L2 = 1 << 4,
	QCOW2_INCOMPATIBLE_KNOWN = QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_COMPRESSION,
	/* where fields of the header are */
	QCOW2_AT_SIZE = 24,
	QCOW2_AT_L1 = 36, /* u32 entries, u64 offset */
	QCOW2_AT_REFTABLE = 48,
	QCOW2_AT_INCOMPATIBLE = 72,
	QCOW2_AT_AUTOCLEAR = 88,
	QCOW2_V2_LENGTH = 72,
	QCOW2_V3_LENGTH = 104,
};

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

/* The header in the host's byte order, checked (qcow2_header_read). */
struct qcow2_header {
	uint32_t version;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t snapshots;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order;          /* a count has 1 << refcount_order bits */
	uint8_t compression;              /* enum qcow2_compression */
	char backing[QCOW2_NAME_MAX + 1]; /* "": none */
	char backing_format[QCOW2_FORMAT_MAX + 1];
};

/* What the contents of a file say that it is: qcow2, or else raw. */
int qcow2_sniff(int fd, enum disk_format *ret, struct error *err) must_check;
/* Reads and checks it. -EINVAL: it is no qcow2 file, or damaged; -ENOTSUP: a feature that is not
 * supported, by name. */
int qcow2_header_read(int fd, struct qcow2_header *ret, struct error *err) must_check;

struct qcow2_table {
	uint64_t offset; /* in the file; 0: the place is free */
	uint64_t last_use;
	bool dirty;
	uint8_t *data; /* one cluster, in the file's byte order; NULL until it is needed */
};

struct qcow2_cache {
	struct qcow2_table tables[QCOW2_CACHE_TABLES_MAX];
	unsigned int count;
	uint64_t clock;
};

struct qcow2 {
	struct disk disk;
	int fd;
	struct qcow2_header header;
	uint64_t cluster_size;
	struct disk *backing; /* NULL: none */

	uint64_t *l1; /* header.l1_entries, the host's byte order */
	uint32_t l1_dirty_from, l1_dirty_to;
	struct qcow2_cache l2;

	uint64_t *reftable; /* reftable_entries, the host's byte order */
	uint64_t reftable_entries;
	struct qcow2_cache refblocks;
	uint64_t free_hint;   /* no cluster below it is free */
	uint64_t end_cluster; /* behind the last one of the file */
	/* Clusters to lower the count of when nothing on the medium points to them (Q2). */
	uint64_t *frees;
	size_t free_count, free_capacity;

	uint8_t *bounce; /* one cluster */
	/* The compressed cluster that was read last: guests read them in small pieces. */
	uint8_t *unpacked, *packed;
	uint64_t unpacked_entry; /* its L2 entry; 0: none */
	bool broken;             /* Q4 */
};

static inline struct qcow2 *qcow2_of(struct disk *disk)
{
	return (struct qcow2 *)(void *)disk; /* its first member */
}

static inline uint64_t qcow2_round_up(const struct qcow2 *q, uint64_t size)
{
	return (size + q->cluster_size - 1) & ~(q->cluster_size - 1);
}

/* Opens what follows the header: tables and caches. The descriptor is taken unless it fails. */
int qcow2_open(int fd, bool read_only, const struct qcow2_header *header, struct qcow2 **ret,
	       struct error *err) must_check;

/* Something contradicts itself: says so once, marks the image, writes nothing any more. -EIO. */
int qcow2_damaged(struct qcow2 *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The file's bytes; what lies behind its end reads as zero. 0 or -errno. */
int qcow2_read_at(int fd, void *data, size_t size, uint64_t offset) must_check;

/* --- tables --- */

void qcow2_cache_init(struct qcow2_cache *cache, uint64_t cluster_size);
void qcow2_cache_release(struct qcow2_cache *cache);
/* The table at `offset`, read if `fresh` is false, else cleared. It stays valid until the next call for
 * the same cache. */
int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *cache, uint64_t offset, bool fresh,
		    struct qcow2_table **ret) must_check;
/* Writes the dirty ones. */
int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *cache) must_check;
/* Forgets the table at `offset`, if it is there. */
void qcow2_cache_forget(struct qcow2_cache *cache, uint64_t offset);

/* --- where guest clusters are --- */

enum qcow2_kind {
	QCOW2_UNALLOCATED,    /* as the backing file, or zero */
	QCOW2_READS_ZERO,     /* zero, without a cluster */
	QCOW2_ZERO_ALLOCATED, /* zero, with a cluster in reserve */
	QCOW2_DATA,
	QCOW2_PACKED, /* compressed */
};

struct qcow2_mapping {
	enum qcow2_kind kind;
	uint64_t host;  /* where the cluster, or the compressed data, begins */
	uint64_t bytes; /* of the compressed data, rounded up to sectors */
	uint64_t entry;
	bool writable; /* only we have it */
};

/* Takes an L2 entry apart. -EINVAL: it says something impossible. */
int qcow2_map_parse(const struct qcow2 *q, uint64_t entry, struct qcow2_mapping *ret) must_check;
int qcow2_map_get(struct qcow2 *q, uint64_t guest, struct qcow2_mapping *ret) must_check;
/* Changes it in memory; what the old entry had is released in due time. */
int qcow2_map_set(struct qcow2 *q, uint64_t guest, uint64_t entry) must_check;
/* Brings counts, tables and L1 to the file in the order of Q1, without a last sync. */
int qcow2_map_write(struct qcow2 *q) must_check;
/* Everything on the medium, then the clusters that are free by that. */
int qcow2_map_flush(struct qcow2 *q) must_check;
/* True if the host cluster at `offset` is a table, the header, or beyond what can be. */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset);

/* --- counts --- */

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret) must_check;
/* False: no block counts it; it can be allocated, but its count not be changed. */
bool qcow2_refcount_has_block(const struct qcow2 *q, uint64_t cluster);
/* By one, up or down. */
int qcow2_refcount_change(struct qcow2 *q, uint64_t cluster, int delta) must_check;
int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count) must_check;
/* Clusters one behind the other, counted once. *ret: where they begin. */
int qcow2_alloc(struct qcow2 *q, uint64_t clusters, uint64_t *ret) must_check;
/* Notes that a mapping is not used any more. */
void qcow2_free_later(struct qcow2 *q, const struct qcow2_mapping *mapping);
/* Lowers the counts that are due. */
int qcow2_free_now(struct qcow2 *q) must_check;
/* Counts in a refcount block in the file's form. */
uint64_t qcow2_count_get(const uint8_t *block, uint64_t i, unsigned int order);
void qcow2_count_set(uint8_t *block, uint64_t i, unsigned int order, uint64_t value);

/* --- compressed clusters --- */

/* Reads the one of `mapping` into q->unpacked. */
int qcow2_unpack(struct qcow2 *q, const struct qcow2_mapping *mapping) must_check;

/* --- moving bytes --- */

/* A piece of a vector. Returns the number of parts in `ret`, which has room for `count`. */
unsigned int qcow2_cut(const struct iovec *parts, unsigned int count, uint64_t skip, uint64_t size,
		       struct iovec *ret);
