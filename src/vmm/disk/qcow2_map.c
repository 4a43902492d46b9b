/*
 * qcow2_map: where guest clusters are. See qcow2_priv.h.
 *
 * L1 points to L2 tables of one cluster, whose entries are:
 *
 *     63 copied (the count is one)  62 compressed  61..56 0  55..9 host offset  8..1 0  0 reads as zero
 *     compressed: 61..x sectors after the first, x-1..0 where it begins; x = 62 - (cluster bits - 8)
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_priv.h"

enum { SECTOR = 512 };

static bool lies_in(uint64_t offset, uint64_t begin, uint64_t bytes)
{
	return offset >= begin && offset - begin < bytes;
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset)
{
	const struct qcow2_header *h = &q->header;

	if (offset < q->cluster_size || offset >= QCOW2_HOST_MAX ||
	    lies_in(offset, h->l1_offset, h->l1_entries * UINT64_C(8)) ||
	    lies_in(offset, h->reftable_offset, h->reftable_clusters * q->cluster_size))
		return true;
	for (uint32_t i = 0; i < h->l1_entries; i++)
		if ((q->l1[i] & QCOW2_OFFSET_MASK) == offset)
			return true;
	for (uint64_t i = 0; i < q->reftable_entries; i++)
		if (q->reftable[i] == offset)
			return true;
	return false;
}

static int parse_packed(const struct qcow2 *q, uint64_t entry, struct qcow2_mapping *m)
{
	unsigned int x = 62 - (q->header.cluster_bits - 8);
	uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> x;

	m->kind = QCOW2_PACKED;
	m->host = entry & ((UINT64_C(1) << x) - 1);
	m->bytes = (sectors + 1) * SECTOR - m->host % SECTOR;
	return entry & QCOW2_COPIED || m->host < q->cluster_size || m->host >= QCOW2_HOST_MAX
		       ? -EINVAL
		       : 0;
}

int qcow2_map_parse(const struct qcow2 *q, uint64_t entry, struct qcow2_mapping *ret)
{
	struct qcow2_mapping m = {.entry = entry, .host = entry & QCOW2_OFFSET_MASK};
	bool zero = entry & QCOW2_ZERO && q->header.version >= 3;
	uint64_t reserved = ~(QCOW2_COPIED | QCOW2_OFFSET_MASK | (zero ? QCOW2_ZERO : 0));
	int rc = 0;

	if (entry & QCOW2_COMPRESSED) {
		rc = parse_packed(q, entry, &m);
	} else {
		m.writable = entry & QCOW2_COPIED;
		m.kind = m.host ? (zero ? QCOW2_ZERO_ALLOCATED : QCOW2_DATA)
				: (zero ? QCOW2_READS_ZERO : QCOW2_UNALLOCATED);
		if (entry & reserved || m.host % q->cluster_size ||
		    (m.host > 0 && m.host < q->cluster_size))
			rc = -EINVAL;
	}
	if (rc == 0)
		*ret = m;
	return rc;
}

static uint64_t l2_entries(const struct qcow2 *q)
{
	return q->cluster_size / 8;
}

/* The L2 table of `guest`; *ret is NULL if there is none. */
static int get_l2(struct qcow2 *q, uint64_t guest, struct qcow2_table **ret)
{
	uint64_t i = guest / q->cluster_size / l2_entries(q), entry;

	*ret = NULL;
	if (i >= q->header.l1_entries)
		return qcow2_damaged(q, "the L1 table does not cover the disk");
	entry = q->l1[i];
	if (entry == 0)
		return 0;
	if (entry & ~(QCOW2_COPIED | QCOW2_OFFSET_MASK) ||
	    (entry & QCOW2_OFFSET_MASK) % q->cluster_size ||
	    (entry & QCOW2_OFFSET_MASK) < q->cluster_size)
		return qcow2_damaged(q, "entry %llu of the L1 table is impossible",
				     (unsigned long long)i);
	return qcow2_cache_get(q, &q->l2, entry & QCOW2_OFFSET_MASK, false, ret);
}

int qcow2_map_get(struct qcow2 *q, uint64_t guest, struct qcow2_mapping *ret)
{
	struct qcow2_table *table;
	uint64_t entry = 0;
	int rc = get_l2(q, guest, &table);

	if (rc < 0)
		return rc;
	if (table)
		memcpy(&entry, table->data + guest / q->cluster_size % l2_entries(q) * 8, 8);
	if (qcow2_map_parse(q, be64toh(entry), ret) < 0)
		return qcow2_damaged(q, "the entry of the disk's byte %llu is impossible",
				     (unsigned long long)guest);
	return 0;
}

static void set_l1(struct qcow2 *q, uint64_t i, uint64_t entry)
{
	q->l1[i] = entry;
	if (q->l1_dirty_to == 0 || i < q->l1_dirty_from)
		q->l1_dirty_from = (uint32_t)i;
	if (i >= q->l1_dirty_to)
		q->l1_dirty_to = (uint32_t)i + 1;
}

/* A new, empty L2 table. */
static int make_l2(struct qcow2 *q, uint64_t guest, struct qcow2_table **ret)
{
	uint64_t i = guest / q->cluster_size / l2_entries(q), offset;
	int rc = qcow2_alloc(q, 1, &offset);

	if (rc == 0)
		rc = qcow2_cache_get(q, &q->l2, offset, true, ret);
	if (rc < 0)
		return rc;
	(*ret)->dirty = true;
	set_l1(q, i, offset | QCOW2_COPIED);
	return 0;
}

int qcow2_map_set(struct qcow2 *q, uint64_t guest, uint64_t entry)
{
	uint64_t i = guest / q->cluster_size / l2_entries(q), value = htobe64(entry), old;
	struct qcow2_mapping before;
	struct qcow2_table *table;
	uint8_t *at;
	int rc = get_l2(q, guest, &table);

	if (rc == 0 && table == NULL)
		rc = make_l2(q, guest, &table);
	else if (rc == 0 && !(q->l1[i] & QCOW2_COPIED))
		rc = qcow2_damaged(q, "an L2 table has several users, but there is no snapshot");
	if (rc < 0)
		return rc;
	at = table->data + guest / q->cluster_size % l2_entries(q) * 8;
	memcpy(&old, at, 8);
	if (qcow2_map_parse(q, be64toh(old), &before) < 0)
		return qcow2_damaged(q, "the entry of the disk's byte %llu is impossible",
				     (unsigned long long)guest);
	memcpy(at, &value, 8);
	table->dirty = true;
	/* What the new entry goes on using is not released. */
	if (before.kind == QCOW2_PACKED || before.host != (entry & QCOW2_OFFSET_MASK))
		qcow2_free_later(q, &before);
	return 0;
}

static int write_l1(struct qcow2 *q)
{
	uint32_t count = q->l1_dirty_to - q->l1_dirty_from;
	own_mem uint64_t *entries = mem_new_array(count, sizeof(*entries));
	int rc;

	for (uint32_t i = 0; i < count; i++)
		entries[i] = htobe64(q->l1[q->l1_dirty_from + i]);
	rc = fd_write_full_at(q->fd, entries, count * sizeof(*entries),
			      (off_t)(q->header.l1_offset + q->l1_dirty_from * UINT64_C(8)));
	if (rc == 0)
		q->l1_dirty_from = q->l1_dirty_to = 0;
	return rc;
}

static bool has_dirty(const struct qcow2_cache *cache)
{
	for (unsigned int i = 0; i < cache->count; i++)
		if (cache->tables[i].dirty)
			return true;
	return false;
}

static int sync_file(const struct qcow2 *q)
{
	return fdatasync(q->fd) < 0 ? -errno : 0;
}

int qcow2_map_write(struct qcow2 *q)
{
	int rc = q->broken ? -EIO : qcow2_cache_write(q, &q->refblocks);

	if (rc == 0 && has_dirty(&q->l2)) {
		rc = sync_file(q);
		if (rc == 0)
			rc = qcow2_cache_write(q, &q->l2);
	}
	if (rc == 0 && q->l1_dirty_to > 0) {
		rc = sync_file(q);
		if (rc == 0)
			rc = write_l1(q);
	}
	return rc;
}

int qcow2_map_flush(struct qcow2 *q)
{
	int rc = qcow2_map_write(q);

	if (rc == 0)
		rc = sync_file(q);
	if (rc == 0)
		rc = qcow2_free_now(q);
	return rc;
}
