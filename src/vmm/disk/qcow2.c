/* qcow2: a disk in QEMU's copy-on-write format. See qcow2_priv.h for its parts and invariants. */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/disk/qcow2_priv.h"

enum { FREES_MAX = 64 << 10 };

int qcow2_damaged(struct qcow2 *q, const char *fmt, ...)
{
	own_mem char *what = NULL;
	uint64_t incompatible;
	va_list ap;

	if (q->broken)
		return -EIO;
	va_start(ap, fmt);
	what = str_format_va(fmt, ap);
	va_end(ap);
	q->broken = true;
	log_warn("a qcow2 disk is damaged and is not written to any more: %s", what);
	if (q->disk.read_only || q->header.version < 3)
		return -EIO;
	incompatible = htobe64(q->header.incompatible | QCOW2_CORRUPT);
	/* The mark helps whoever opens it next; without it they find the damage by themselves. */
	if (pwrite(q->fd, &incompatible, sizeof(incompatible), QCOW2_AT_INCOMPATIBLE) < 0)
		return -EIO;
	return -EIO;
}

int qcow2_read_at(int fd, void *data, size_t size, uint64_t offset)
{
	ssize_t n = fd_read_full_at(fd, data, size, (off_t)offset);

	if (n < 0)
		return (int)n;
	memset((uint8_t *)data + n, 0, size - (size_t)n);
	return 0;
}

unsigned int qcow2_cut(const struct iovec *parts, unsigned int count, uint64_t skip, uint64_t size,
		       struct iovec *ret)
{
	unsigned int made = 0;

	for (unsigned int i = 0; i < count && size > 0; i++) {
		uint64_t len = parts[i].iov_len, part;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		part = len - skip < size ? len - skip : size;
		ret[made].iov_base = (uint8_t *)parts[i].iov_base + skip;
		ret[made++].iov_len = part;
		skip = 0;
		size -= part;
	}
	return made;
}

static uint64_t size_of(const struct iovec *parts, unsigned int count)
{
	uint64_t size = 0;

	for (unsigned int i = 0; i < count; i++)
		size += parts[i].iov_len;
	return size;
}

/* --- reading --------------------------------------------------------------------------------------- */

static void fill_zero(const struct iovec *parts, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		memset(parts[i].iov_base, 0, parts[i].iov_len);
}

static void copy_to(const struct iovec *parts, unsigned int count, const uint8_t *data)
{
	for (unsigned int i = 0; i < count; data += parts[i++].iov_len)
		memcpy(parts[i].iov_base, data, parts[i].iov_len);
}

static void copy_from(const struct iovec *parts, unsigned int count, uint8_t *data)
{
	for (unsigned int i = 0; i < count; data += parts[i++].iov_len)
		memcpy(data, parts[i].iov_base, parts[i].iov_len);
}

/* From the file, whose end may come early: behind it are zeroes. */
static int read_host(const struct qcow2 *q, struct iovec *parts, unsigned int count,
		     uint64_t offset)
{
	int rc = disk_transfer_some(q->fd, true, &parts, &count, offset);

	if (rc < 0)
		return rc;
	fill_zero(parts, count);
	return 0;
}

/* From the backing file, which may be shorter. */
static int read_backing(const struct qcow2 *q, struct iovec *parts, unsigned int count,
			uint64_t offset)
{
	uint64_t size = size_of(parts, count), there = 0;
	struct iovec cut[DISK_PARTS_MAX];
	unsigned int n;

	if (q->backing && offset < q->backing->size_bytes)
		there = q->backing->size_bytes - offset;
	if (there > size)
		there = size;
	n = qcow2_cut(parts, count, there, size - there, cut);
	fill_zero(cut, n);
	if (there == 0)
		return 0;
	n = qcow2_cut(parts, count, 0, there, cut);
	return q->backing->ops->read(q->backing, cut, n, offset);
}

static int read_mapping(struct qcow2 *q, const struct qcow2_mapping *m, struct iovec *parts,
			unsigned int count, uint64_t offset)
{
	uint64_t within = offset % q->cluster_size;
	int rc;

	switch (m->kind) {
	case QCOW2_UNALLOCATED:
		return read_backing(q, parts, count, offset);
	case QCOW2_READS_ZERO:
	case QCOW2_ZERO_ALLOCATED:
		fill_zero(parts, count);
		return 0;
	case QCOW2_DATA:
		return read_host(q, parts, count, m->host + within);
	case QCOW2_PACKED:
		rc = qcow2_unpack(q, m);
		if (rc == 0)
			copy_to(parts, count, q->unpacked + within);
		return rc;
	}
	return -EIO;
}

/* True if `next`, the mapping `bytes` later, goes on where `first` is, so that both are one transfer. */
static bool goes_on(const struct qcow2_mapping *first, const struct qcow2_mapping *next,
		    uint64_t bytes)
{
	if (first->kind != next->kind || first->kind == QCOW2_PACKED)
		return false;
	return first->kind != QCOW2_DATA || next->host == first->host + bytes;
}

/* How much of `size` bytes at `offset` is one transfer with the mapping *ret. */
static int run_length(struct qcow2 *q, uint64_t offset, uint64_t size, bool writing,
		      struct qcow2_mapping *ret, uint64_t *ret_size)
{
	uint64_t begin = offset - offset % q->cluster_size, end = begin + q->cluster_size;
	int rc = qcow2_map_get(q, offset, ret);

	while (rc == 0 && end < offset + size) {
		struct qcow2_mapping next;

		rc = qcow2_map_get(q, end, &next);
		if (rc < 0 || !goes_on(ret, &next, end - begin) ||
		    (writing && next.writable != ret->writable))
			break;
		end += q->cluster_size;
	}
	*ret_size = end - offset < size ? end - offset : size;
	return rc;
}

static int qcow2_read(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset)
{
	struct qcow2 *q = qcow2_of(disk);
	uint64_t size = size_of(parts, count), done = 0;
	struct iovec cut[DISK_PARTS_MAX];

	while (done < size) {
		struct qcow2_mapping m;
		uint64_t part;
		int rc = run_length(q, offset + done, size - done, false, &m, &part);

		if (rc == 0)
			rc = read_mapping(q, &m, cut, qcow2_cut(parts, count, done, part, cut),
					  offset + done);
		if (rc < 0)
			return rc;
		done += part;
	}
	return 0;
}

/* --- writing --------------------------------------------------------------------------------------- */

/* Over clusters that are only ours, one behind the other. */
static int write_in_place(struct qcow2 *q, const struct qcow2_mapping *m, struct iovec *parts,
			  unsigned int count, uint64_t offset, uint64_t size)
{
	uint64_t within = offset % q->cluster_size;

	for (uint64_t at = 0; at < within + size; at += q->cluster_size)
		if (qcow2_is_metadata(q, m->host + at))
			return qcow2_damaged(q, "the disk's byte %llu lies in a table",
					     (unsigned long long)(offset + at));
	return disk_transfer(q->fd, false, parts, count, m->host + within);
}

/* The whole cluster as it reads now, with the parts laid over it. */
static int compose(struct qcow2 *q, const struct qcow2_mapping *m, const struct iovec *parts,
		   unsigned int count, uint64_t offset, uint64_t size)
{
	uint64_t begin = offset - offset % q->cluster_size;
	struct iovec whole = {q->bounce, q->cluster_size};
	int rc = size < q->cluster_size ? read_mapping(q, m, &whole, 1, begin) : 0;

	if (rc == 0)
		copy_from(parts, count, q->bounce + (offset - begin));
	return rc;
}

/* To a cluster that has to be made first: part of it, or all. */
static int write_new(struct qcow2 *q, const struct qcow2_mapping *m, struct iovec *parts,
		     unsigned int count, uint64_t offset, uint64_t size)
{
	uint64_t begin = offset - offset % q->cluster_size, host = m->host;
	int rc = compose(q, m, parts, count, offset, size);

	if (rc == 0 && !(m->kind == QCOW2_ZERO_ALLOCATED && m->writable))
		rc = qcow2_alloc(q, 1, &host);
	else if (rc == 0 && qcow2_is_metadata(q, host))
		rc = qcow2_damaged(q, "the disk's byte %llu lies in a table",
				   (unsigned long long)begin);
	if (rc == 0)
		rc = fd_write_full_at(q->fd, q->bounce, q->cluster_size, (off_t)host);
	return rc < 0 ? rc : qcow2_map_set(q, begin, host | QCOW2_COPIED);
}

/* Clusters to free cannot be kept in mind without end. */
static int relieve(struct qcow2 *q)
{
	if (q->broken)
		return -EIO;
	return q->free_count > FREES_MAX ? qcow2_map_flush(q) : 0;
}

static int write_part(struct qcow2 *q, struct iovec *parts, unsigned int count, uint64_t offset,
		      uint64_t size, uint64_t *ret_done)
{
	struct iovec cut[DISK_PARTS_MAX];
	struct qcow2_mapping m;
	uint64_t part, rest = q->cluster_size - offset % q->cluster_size;
	unsigned int n;
	int rc = run_length(q, offset, size, true, &m, &part);
	bool in_place = rc == 0 && m.kind == QCOW2_DATA && m.writable;

	if (rc < 0)
		return rc;
	if (!in_place && part > rest)
		part = rest;
	n = qcow2_cut(parts, count, 0, part, cut);
	*ret_done = part;
	return in_place ? write_in_place(q, &m, cut, n, offset, part)
			: write_new(q, &m, cut, n, offset, part);
}

static int qcow2_write(struct disk *disk, struct iovec *parts, unsigned int count, uint64_t offset)
{
	struct qcow2 *q = qcow2_of(disk);
	uint64_t size = size_of(parts, count), done = 0, part = 0;
	struct iovec rest[DISK_PARTS_MAX];

	for (; done < size; done += part) {
		unsigned int n = qcow2_cut(parts, count, done, size - done, rest);
		int rc = relieve(q);

		if (rc == 0)
			rc = write_part(q, rest, n, offset + done, size - done, &part);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- clearing -------------------------------------------------------------------------------------- */

/* Writes zeroes to a part of a cluster, unless it reads so already. */
static int zero_part(struct qcow2 *q, uint64_t offset, uint64_t size)
{
	own_mem uint8_t *zeroes = mem_new(size);
	struct iovec part = {zeroes, size};

	return qcow2_write(&q->disk, &part, 1, offset);
}

static int zero_cluster(struct qcow2 *q, uint64_t offset, bool may_unmap)
{
	struct qcow2_mapping m;
	int rc = qcow2_map_get(q, offset, &m);

	if (rc < 0 || m.kind == QCOW2_READS_ZERO || m.kind == QCOW2_ZERO_ALLOCATED)
		return rc;
	if (m.kind == QCOW2_UNALLOCATED && q->backing == NULL)
		return 0;
	if (q->header.version >= 3) {
		bool keep = m.kind == QCOW2_DATA && m.writable && !may_unmap;

		return qcow2_map_set(q, offset, (keep ? m.host | QCOW2_COPIED : 0) | QCOW2_ZERO);
	}
	if (q->backing == NULL && may_unmap)
		return qcow2_map_set(q, offset, 0);
	return zero_part(q, offset, q->cluster_size);
}

static int qcow2_zero(struct disk *disk, uint64_t offset, uint64_t size, bool may_unmap)
{
	struct qcow2 *q = qcow2_of(disk);
	int rc = 0;

	while (size > 0 && rc == 0) {
		uint64_t part = q->cluster_size - offset % q->cluster_size;

		rc = relieve(q);
		if (rc < 0)
			break;
		if (part > size)
			part = size;
		/* The last cluster of a disk is whole when all of the disk's part of it is. */
		if (offset % q->cluster_size == 0 &&
		    (part == q->cluster_size || offset + part == disk->size_bytes))
			rc = zero_cluster(q, offset, may_unmap);
		else
			rc = zero_part(q, offset, part);
		offset += part;
		size -= part;
	}
	return rc;
}

/* Only whole clusters are given back. In version 2 what is behind a cluster of the backing file would
 * come to light again, so nothing is done there. */
static int qcow2_discard(struct disk *disk, uint64_t offset, uint64_t size)
{
	struct qcow2 *q = qcow2_of(disk);
	uint64_t begin = qcow2_round_up(q, offset), end = offset + size;

	if (end != disk->size_bytes)
		end -= end % q->cluster_size;
	if (begin >= end || (q->header.version < 3 && q->backing))
		return q->broken ? -EIO : 0;
	return qcow2_zero(disk, begin, end - begin, true);
}

static int qcow2_flush(struct disk *disk)
{
	struct qcow2 *q = qcow2_of(disk);

	if (disk->read_only)
		return 0;
	return q->broken ? -EIO : qcow2_map_flush(q);
}

/* --- life ------------------------------------------------------------------------------------------ */

static void release(struct qcow2 *q)
{
	qcow2_cache_release(&q->l2);
	qcow2_cache_release(&q->refblocks);
	free(q->l1);
	free(q->reftable);
	free(q->frees);
	free(q->bounce);
	free(q->unpacked);
	free(q->packed);
	if (q->backing)
		disk_close(q->backing);
	fd_close(&q->fd);
	free(q);
}

static void qcow2_close(struct disk *disk)
{
	struct qcow2 *q = qcow2_of(disk);

	if (!disk->read_only && !q->broken) {
		int rc = qcow2_map_flush(q);

		/* The last counts are lowered after the flush. */
		if (rc == 0)
			rc = qcow2_cache_write(q, &q->refblocks);
		if (rc < 0)
			log_warn("the tables of a qcow2 disk could not be written: %s",
				 strerror(-rc));
	}
	release(q);
}

static const struct disk_ops ops = {
	.name = "qcow2",
	.read = qcow2_read,
	.write = qcow2_write,
	.flush = qcow2_flush,
	.discard = qcow2_discard,
	.zero = qcow2_zero,
	.close = qcow2_close,
};

static int read_table(const struct qcow2 *q, uint64_t entries, uint64_t offset, uint64_t **ret)
{
	uint64_t *table = mem_try(entries * sizeof(*table) + 1);
	int rc;

	if (table == NULL)
		return -ENOMEM;
	rc = qcow2_read_at(q->fd, table, entries * sizeof(*table), offset);
	for (uint64_t i = 0; i < entries; i++)
		table[i] = be64toh(table[i]);
	*ret = table;
	return rc;
}

static int open_tables(struct qcow2 *q)
{
	off_t end = lseek(q->fd, 0, SEEK_END);
	int rc = end < 0 ? -errno : 0;

	q->end_cluster = qcow2_round_up(q, (uint64_t)end) / q->cluster_size;
	if (rc == 0)
		rc = read_table(q, q->header.l1_entries, q->header.l1_offset, &q->l1);

	if (rc == 0)
		rc = read_table(q, q->reftable_entries, q->header.reftable_offset, &q->reftable);
	qcow2_cache_init(&q->l2, q->cluster_size);
	qcow2_cache_init(&q->refblocks, q->cluster_size);
	if (rc == 0)
		q->bounce = mem_try(q->cluster_size);
	return rc == 0 && q->bounce == NULL ? -ENOMEM : rc;
}

/* Features that only say that something else in the file is up to date: it will not be. */
static int clear_autoclear(struct qcow2 *q)
{
	uint64_t none = 0;

	if (q->header.version < 3 || q->header.autoclear == 0)
		return 0;
	q->header.autoclear = 0;
	return fd_write_full_at(q->fd, &none, sizeof(none), QCOW2_AT_AUTOCLEAR);
}

int qcow2_open(int fd, bool read_only, const struct qcow2_header *header, struct qcow2 **ret,
	       struct error *err)
{
	struct qcow2 *q = mem_new(sizeof(*q));
	int rc;

	q->disk = (struct disk){
		.ops = &ops, .size_bytes = header->size, .read_only = read_only, .plain_fd = -1};
	q->header = *header;
	q->fd = -1; /* the caller's until all has gone well */
	q->cluster_size = UINT64_C(1) << header->cluster_bits;
	q->reftable_entries = header->reftable_clusters * q->cluster_size / 8;
	q->free_hint = 1;
	q->fd = fd;
	rc = open_tables(q);
	if (rc == 0 && !read_only)
		rc = clear_autoclear(q);
	if (rc < 0) {
		q->fd = -1;
		release(q);
		return fail(err, rc, "read its tables");
	}
	*ret = q;
	return 0;
}
