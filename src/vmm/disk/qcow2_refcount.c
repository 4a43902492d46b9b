/*
 * qcow2_refcount: which host clusters are in use. See qcow2_priv.h.
 *
 * The reference table points to blocks of one cluster, each with the counts of so many clusters one
 * behind the other. A block that is needed and not there is put into the first cluster of those that it
 * counts and that is free, so it counts itself and making it needs nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_priv.h"

/* Clusters that may be counted behind the end of the file: what others have reserved. */
enum { BEHIND_END_MAX = 1 << 16 };

uint64_t qcow2_count_get(const uint8_t *block, uint64_t i, unsigned int order)
{
	unsigned int bits = 1U << order;
	uint64_t value = 0;

	if (bits < 8)
		return block[i * bits / 8] >> (i * bits % 8) & ((1U << bits) - 1);
	for (unsigned int byte = 0; byte < bits / 8; byte++)
		value = value << 8 | block[i * (bits / 8) + byte];
	return value;
}

void qcow2_count_set(uint8_t *block, uint64_t i, unsigned int order, uint64_t value)
{
	unsigned int bits = 1U << order;

	if (bits < 8) {
		unsigned int shift = (unsigned int)(i * bits % 8), mask = (1U << bits) - 1;
		uint8_t *at = &block[i * bits / 8];

		*at = (uint8_t)((*at & ~(mask << shift)) | (unsigned int)value << shift);
		return;
	}
	for (unsigned int byte = bits / 8; byte-- > 0; value >>= 8)
		block[i * (bits / 8) + byte] = (uint8_t)value;
}

static uint64_t count_max(const struct qcow2 *q)
{
	return UINT64_MAX >> (64 - (1U << q->header.refcount_order));
}

static uint64_t counts_per_block(const struct qcow2 *q)
{
	return q->cluster_size * 8 >> q->header.refcount_order;
}

bool qcow2_refcount_has_block(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster / counts_per_block(q);

	return i < q->reftable_entries && q->reftable[i] != 0;
}

/* The block that counts `cluster`; *ret is NULL if there is none. */
static int get_block(struct qcow2 *q, uint64_t cluster, struct qcow2_table **ret)
{
	uint64_t i = cluster / counts_per_block(q), offset;

	*ret = NULL;
	if (i >= q->reftable_entries || q->reftable[i] == 0)
		return 0;
	offset = q->reftable[i];
	if (offset % q->cluster_size || offset >= QCOW2_HOST_MAX)
		return qcow2_damaged(q, "entry %llu of the table of reference counts is impossible",
				     (unsigned long long)i);
	return qcow2_cache_get(q, &q->refblocks, offset, false, ret);
}

int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
	struct qcow2_table *block;
	int rc = get_block(q, cluster, &block);

	if (rc == 0)
		*ret = block ? qcow2_count_get(block->data, cluster % counts_per_block(q),
					       q->header.refcount_order)
			     : 0;
	return rc;
}

static int write_reftable_entry(struct qcow2 *q, uint64_t i)
{
	uint64_t value = htobe64(q->reftable[i]);

	return fd_write_full_at(q->fd, &value, sizeof(value),
				(off_t)(q->header.reftable_offset + i * sizeof(value)));
}

/* The tables themselves say what is free; this catches an image whose counts are wrong before one is
 * overwritten (Q4). */
static int check_free(struct qcow2 *q, uint64_t first, uint64_t clusters)
{
	for (uint64_t i = 0; i < clusters; i++)
		if (qcow2_is_metadata(q, (first + i) * q->cluster_size))
			return qcow2_damaged(q, "a table is counted as free space");
	return 0;
}

/* Makes the block that counts the free cluster `cluster`, in that very cluster. */
static int make_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster / counts_per_block(q), offset = cluster * q->cluster_size;
	struct qcow2_table *block;
	int rc = qcow2_cache_get(q, &q->refblocks, offset, true, &block);

	if (rc < 0)
		return rc;
	qcow2_count_set(block->data, cluster % counts_per_block(q), q->header.refcount_order, 1);
	rc = fd_write_full_at(q->fd, block->data, q->cluster_size, (off_t)offset);
	/* The block before what points to it. */
	if (rc == 0 && fdatasync(q->fd) < 0)
		rc = -errno;
	if (rc == 0) {
		q->reftable[i] = offset;
		rc = write_reftable_entry(q, i);
	}
	if (rc < 0) {
		q->reftable[i] = 0;
		qcow2_cache_forget(&q->refblocks, offset);
	}
	return rc;
}

/* Where a larger table goes: `blocks` blocks that count what follows, then the table. */
struct larger {
	uint64_t first; /* cluster: the first that no block of the old table could count */
	uint64_t blocks, table;
	uint64_t entries;
};

static struct larger plan_larger(const struct qcow2 *q, uint64_t entry)
{
	struct larger l = {.blocks = 1};
	uint64_t per_cluster = q->cluster_size / 8;

	l.first = entry * counts_per_block(q);
	l.entries = entry + entry / 2 + 1 + per_cluster;
	l.table = l.entries / per_cluster + 1;
	l.entries = l.table * per_cluster;
	while (l.blocks * counts_per_block(q) < l.blocks + l.table)
		l.blocks++;
	return l;
}

static int write_larger(struct qcow2 *q, const struct larger *l, uint64_t first_entry,
			const uint64_t *entries)
{
	uint64_t used = l->blocks + l->table, per_block = counts_per_block(q);
	own_mem uint64_t *table = mem_new_array(l->entries, sizeof(*table));
	own_mem uint8_t *block = NULL;
	int rc = 0;

	for (uint64_t i = 0; i < l->blocks && rc == 0; i++) {
		free(block);
		block = mem_new(q->cluster_size);
		for (uint64_t j = 0; j < per_block && i * per_block + j < used; j++)
			qcow2_count_set(block, j, q->header.refcount_order, 1);
		rc = fd_write_full_at(q->fd, block, q->cluster_size,
				      (off_t)((l->first + i) * q->cluster_size));
	}
	for (uint64_t i = 0; i < first_entry + l->blocks; i++)
		table[i] = htobe64(entries[i]);
	if (rc == 0)
		rc = fd_write_full_at(q->fd, table, l->entries * sizeof(*table),
				      (off_t)((l->first + l->blocks) * q->cluster_size));
	return rc;
}

/* One write, since both fields have to change at once. */
static int write_reftable_place(const struct qcow2 *q, uint64_t offset, uint64_t clusters)
{
	struct __attribute__((packed)) {
		uint64_t offset;
		uint32_t clusters;
	} place = {htobe64(offset), htobe32((uint32_t)clusters)};

	if (fdatasync(q->fd) < 0 ||
	    pwrite(q->fd, &place, sizeof(place), QCOW2_AT_REFTABLE) != sizeof(place) ||
	    fdatasync(q->fd) < 0)
		return errno ? -errno : -EIO;
	return 0;
}

/* Makes the table large enough for the block of `cluster`, which is beyond it. */
static int grow_reftable(struct qcow2 *q, uint64_t cluster)
{
	uint64_t entry = cluster / counts_per_block(q), old_clusters = q->header.reftable_clusters;
	uint64_t old_offset = q->header.reftable_offset, new_offset;
	struct larger l = plan_larger(q, entry);
	uint64_t *entries;
	int rc;

	if (l.table * q->cluster_size > QCOW2_REFTABLE_BYTES_MAX ||
	    (l.first + l.blocks + l.table) * q->cluster_size > QCOW2_HOST_MAX)
		return -EFBIG;
	rc = check_free(q, l.first, l.blocks + l.table);
	if (rc < 0)
		return rc;
	entries = mem_new_array(l.entries, sizeof(*entries));
	memcpy(entries, q->reftable, q->reftable_entries * sizeof(*entries));
	for (uint64_t i = 0; i < l.blocks; i++)
		entries[entry + i] = (l.first + i) * q->cluster_size;
	new_offset = (l.first + l.blocks) * q->cluster_size;
	rc = write_larger(q, &l, entry, entries);
	if (rc == 0)
		rc = write_reftable_place(q, new_offset, l.table);
	if (rc < 0) {
		free(entries);
		return rc;
	}
	free(q->reftable);
	q->reftable = entries;
	q->reftable_entries = l.entries;
	q->header.reftable_offset = new_offset;
	q->header.reftable_clusters = (uint32_t)l.table;
	for (uint64_t i = 0; i < old_clusters && rc == 0; i++)
		rc = qcow2_refcount_change(q, old_offset / q->cluster_size + i, -1);
	return rc;
}

static int wrong_count(struct qcow2 *q, uint64_t cluster)
{
	return qcow2_damaged(q, "the reference count of cluster %llu is wrong",
			     (unsigned long long)cluster);
}

int qcow2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	struct qcow2_table *block;
	int rc = get_block(q, cluster, &block);

	if (rc < 0)
		return rc;
	if (block == NULL || count > count_max(q))
		return wrong_count(q, cluster);
	qcow2_count_set(block->data, cluster % counts_per_block(q), q->header.refcount_order,
			count);
	block->dirty = true;
	if (count == 0 && cluster < q->free_hint)
		q->free_hint = cluster;
	return 0;
}

int qcow2_refcount_change(struct qcow2 *q, uint64_t cluster, int delta)
{
	uint64_t count;
	int rc = qcow2_refcount_get(q, cluster, &count);

	if (rc < 0)
		return rc;
	if ((delta < 0 && count == 0) || (delta > 0 && count == count_max(q)))
		return wrong_count(q, cluster);
	return qcow2_refcount_set(q, cluster, delta < 0 ? count - 1 : count + 1);
}

/* Makes sure that `cluster`, which is free, can be counted. 1: a table was made, which may have taken
 * that very cluster. */
static int provide_block(struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster / counts_per_block(q);
	int rc;

	if (i >= q->reftable_entries)
		rc = grow_reftable(q, cluster);
	else if (q->reftable[i] == 0)
		rc = make_block(q, cluster);
	else
		return 0;
	return rc < 0 ? rc : 1;
}

/* The first of `clusters` free ones in a row from q->free_hint on. */
static int find_free(struct qcow2 *q, uint64_t clusters, uint64_t *ret)
{
	uint64_t run = 0, at = q->free_hint;
	bool first_seen = false;

	while (run < clusters) {
		uint64_t count;
		int rc;

		if (at >= QCOW2_HOST_MAX / q->cluster_size)
			return -EFBIG;
		/* Else counts that are all wrong would be searched for ever. */
		if (at > q->end_cluster + clusters + BEHIND_END_MAX)
			return qcow2_damaged(q, "many clusters behind its end are counted");
		rc = qcow2_refcount_get(q, at, &count);
		if (rc == 0 && count == 0) {
			if (!first_seen)
				q->free_hint = at;
			first_seen = true;
			rc = check_free(q, at, 1);
			if (rc == 0)
				rc = provide_block(q, at);
		}
		if (rc < 0)
			return rc;
		/* With a new table it may be in use now: look again. */
		if (rc == 1) {
			run = 0;
			continue;
		}
		at++;
		run = count == 0 ? run + 1 : 0;
	}
	*ret = at - clusters;
	return 0;
}

int qcow2_alloc(struct qcow2 *q, uint64_t clusters, uint64_t *ret)
{
	uint64_t first = 0;
	int rc = find_free(q, clusters, &first);

	for (uint64_t i = 0; i < clusters && rc == 0; i++)
		rc = qcow2_refcount_change(q, first + i, 1);
	if (rc < 0)
		return rc;
	if (first == q->free_hint)
		q->free_hint = first + clusters;
	if (first + clusters > q->end_cluster)
		q->end_cluster = first + clusters;
	*ret = first * q->cluster_size;
	return 0;
}

static void add_free(struct qcow2 *q, uint64_t cluster)
{
	q->frees = mem_grow(q->frees, q->free_count, &q->free_capacity, sizeof(*q->frees));
	q->frees[q->free_count++] = cluster;
}

void qcow2_free_later(struct qcow2 *q, const struct qcow2_mapping *m)
{
	switch (m->kind) {
	case QCOW2_UNALLOCATED:
	case QCOW2_READS_ZERO:
		return;
	case QCOW2_ZERO_ALLOCATED:
	case QCOW2_DATA:
		add_free(q, m->host / q->cluster_size);
		return;
	case QCOW2_PACKED:
		/* It counts once in each cluster that it touches. */
		for (uint64_t c = m->host / q->cluster_size;
		     c <= (m->host + m->bytes - 1) / q->cluster_size; c++)
			add_free(q, c);
		return;
	}
}

int qcow2_free_now(struct qcow2 *q)
{
	int rc = 0;

	while (q->free_count > 0 && rc == 0) {
		uint64_t cluster = q->frees[--q->free_count], count = 1;

		rc = qcow2_refcount_change(q, cluster, -1);
		if (rc == 0)
			rc = qcow2_refcount_get(q, cluster, &count);
		/* Gives the space back where that is possible. */
		if (rc == 0 && count == 0 &&
		    fallocate(q->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE,
			      (off_t)(cluster * q->cluster_size), (off_t)q->cluster_size) < 0)
			continue;
	}
	return rc;
}
