/*
 * qcow2_check: an image looked through. See image.h.
 *
 * What refers to each host cluster is counted, starting at the header, and compared with what the image
 * says. With `repair` the image's counts are set to what was found: lower ones last, so that a crash in
 * between leaves leaks at the worst.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_image.h"
#include "vmm/disk/qcow2_priv.h"

enum { CLUSTERS_MAX = 1 << 28 /* 1 GiB of counts */ };

struct checking {
	struct qcow2 *q;
	uint64_t clusters; /* of the file */
	uint32_t *found;   /* references to each */
	struct disk_image_check result;
};

__attribute__((format(printf, 2, 3))) static void wrong(struct checking *c, const char *fmt, ...)
{
	va_list ap;

	c->result.errors++;
	if (c->result.first[0])
		return;
	va_start(ap, fmt);
	vsnprintf(c->result.first, sizeof(c->result.first), fmt, ap);
	va_end(ap);
}

static void refer(struct checking *c, uint64_t offset, uint64_t bytes, const char *what)
{
	uint64_t first = offset / c->q->cluster_size;
	uint64_t last = (offset + bytes - 1) / c->q->cluster_size;

	for (uint64_t i = first; bytes > 0 && i <= last; i++) {
		if (i >= c->clusters) {
			wrong(c, "%s at byte %llu lies behind the end of the file", what,
			      (unsigned long long)offset);
			return;
		}
		c->found[i]++;
	}
}

static void check_entry(struct checking *c, uint64_t entry)
{
	struct qcow2_mapping m;

	if (qcow2_map_parse(c->q, entry, &m) < 0)
		wrong(c, "an L2 table has the impossible entry 0x%llx", (unsigned long long)entry);
	else if (m.kind == QCOW2_PACKED)
		refer(c, m.host, m.bytes, "a compressed cluster");
	else if (m.host)
		refer(c, m.host, c->q->cluster_size, "a cluster");
}

static int check_maps(struct checking *c)
{
	struct qcow2 *q = c->q;
	int rc = 0;

	refer(c, q->header.l1_offset, q->header.l1_entries * UINT64_C(8), "the L1 table");
	for (uint32_t i = 0; i < q->header.l1_entries && rc == 0; i++) {
		uint64_t offset = q->l1[i] & QCOW2_OFFSET_MASK;
		struct qcow2_table *table;

		if (q->l1[i] == 0)
			continue;
		/* Where it points is looked at all the same: what lies there is not to be given away. */
		if (q->l1[i] & ~(QCOW2_COPIED | QCOW2_OFFSET_MASK))
			wrong(c, "entry %u of the L1 table has reserved bits", i);
		if (offset % q->cluster_size || offset < q->cluster_size) {
			wrong(c, "entry %u of the L1 table is impossible", i);
			continue;
		}
		refer(c, offset, q->cluster_size, "an L2 table");
		rc = qcow2_cache_get(q, &q->l2, offset, false, &table);
		for (uint64_t j = 0; rc == 0 && j < q->cluster_size / 8; j++) {
			uint64_t entry;

			memcpy(&entry, table->data + j * 8, 8);
			check_entry(c, be64toh(entry));
		}
	}
	return rc;
}

static void check_counts_place(struct checking *c)
{
	struct qcow2 *q = c->q;

	refer(c, 0, q->cluster_size, "the header");
	refer(c, q->header.reftable_offset, q->header.reftable_clusters * q->cluster_size,
	      "the table of reference counts");
	for (uint64_t i = 0; i < q->reftable_entries; i++) {
		if (q->reftable[i] == 0)
			continue;
		if (q->reftable[i] % q->cluster_size || q->reftable[i] >= QCOW2_HOST_MAX)
			wrong(c, "entry %llu of the table of reference counts is impossible",
			      (unsigned long long)i);
		else
			refer(c, q->reftable[i], q->cluster_size, "a block of reference counts");
	}
}

/* Sets one count right. Where the whole block of counts is missing there is no place for it. */
static int mend(struct checking *c, uint64_t cluster)
{
	int rc;

	if (!qcow2_refcount_has_block(c->q, cluster))
		return 0;
	rc = qcow2_refcount_set(c->q, cluster, c->found[cluster]);
	if (rc == 0)
		c->result.mended++;
	return rc;
}

/* Looks at the counts; `mending` -1: those that are too high, 1: too low, 0: nothing is changed. */
static int compare(struct checking *c, int mending)
{
	for (uint64_t i = 0; i < c->clusters; i++) {
		uint64_t count;
		int rc = qcow2_refcount_get(c->q, i, &count);

		if (rc < 0)
			return rc;
		if (mending == 0) {
			c->result.used += c->found[i] > 0;
			c->result.leaks += count > c->found[i];
			if (count < c->found[i])
				wrong(c, "cluster %llu has the count %llu and %u users",
				      (unsigned long long)i, (unsigned long long)count,
				      c->found[i]);
			if (c->found[i] > 1 && c->q->header.snapshots == 0 && count <= 1)
				wrong(c, "cluster %llu has %u users", (unsigned long long)i,
				      c->found[i]);
		} else if (mending > 0 ? count < c->found[i] : count > c->found[i]) {
			rc = mend(c, i);
		}
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int unmark(struct qcow2 *q)
{
	uint64_t marks = q->header.incompatible & ~(uint64_t)(QCOW2_DIRTY | QCOW2_CORRUPT);

	if (q->header.version < 3 || marks == q->header.incompatible)
		return 0;
	marks = htobe64(marks);
	return fd_write_full_at(q->fd, &marks, sizeof(marks), QCOW2_AT_INCOMPATIBLE);
}

static int repair_counts(struct checking *c)
{
	uint64_t problems = c->result.errors + c->result.leaks;
	int rc = compare(c, 1);

	if (rc == 0)
		rc = qcow2_map_flush(c->q);
	if (rc == 0)
		rc = compare(c, -1);
	if (rc == 0)
		rc = qcow2_cache_write(c->q, &c->q->refblocks);
	/* Impossible entries stay, and so does the mark. */
	if (rc == 0 && c->result.mended >= problems)
		rc = unmark(c->q);
	if (rc == 0 && fdatasync(c->q->fd) < 0)
		rc = -errno;
	return rc;
}

static int check_all(struct checking *c, bool repair, struct error *err)
{
	int rc;

	check_counts_place(c);
	rc = check_maps(c);
	if (rc == 0)
		rc = compare(c, 0);
	if (rc == 0 && repair)
		rc = repair_counts(c);
	if (rc < 0)
		return fail(err, rc, "check it");
	return 0;
}

int qcow2_check(int fd, bool repair, struct disk_image_check *ret, struct error *err)
{
	own_mem struct qcow2_header *header = mem_new(sizeof(*header));
	own_fd int owned = fd;
	struct checking c = {0};
	struct stat st;
	int rc = qcow2_header_read(fd, header, err);

	if (rc < 0)
		return rc;
	if (header->snapshots > 0)
		return refuse(err, -ENOTSUP,
			      "it has internal snapshots, which are not looked into");
	if (fstat(fd, &st) < 0)
		return fail(err, -errno, "look at it");
	rc = qcow2_open(fd, !repair, header, &c.q, err);
	if (rc < 0)
		return rc;
	(void)take(owned);
	c.clusters = qcow2_round_up(c.q, (uint64_t)st.st_size) / c.q->cluster_size;
	c.found = c.clusters > CLUSTERS_MAX ? NULL : mem_try(c.clusters * sizeof(*c.found) + 1);
	if (c.found == NULL)
		rc = refuse(err, -EFBIG, "it is too large to be checked");
	if (rc == 0)
		rc = check_all(&c, repair, err);
	c.result.clusters = c.clusters;
	free(c.found);
	/* All that had to be has been written. */
	c.q->disk.read_only = true;
	disk_close(&c.q->disk);
	if (rc == 0)
		*ret = c.result;
	return rc;
}
