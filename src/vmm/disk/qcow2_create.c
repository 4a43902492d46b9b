/*
 * qcow2_create: new images, and larger ones. See qcow2_priv.h, image.h.
 *
 * A new image is: header, reference table, one block of counts, L1.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_image.h"
#include "vmm/disk/qcow2_priv.h"

enum { REFCOUNT_ORDER = 4, BACKING_FORMAT_SPACE = 24 };
#define EXTENSION_BACKING_FORMAT UINT32_C(0xe2792aca)

static void put32(uint8_t *at, uint32_t value)
{
	value = htobe32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	value = htobe64(value);
	memcpy(at, &value, sizeof(value));
}

uint64_t qcow2_l1_entries(uint64_t size, unsigned int cluster_bits)
{
	uint64_t per_entry = UINT64_C(1) << (2 * cluster_bits - 3);

	return size / per_entry + (size % per_entry != 0);
}

static void write_header(uint8_t *at, const struct qcow2_header *h)
{
	size_t name_len = strlen(h->backing), format_len = strlen(h->backing_format);
	uint8_t *extension = at + QCOW2_V3_LENGTH + 8;

	put32(at, QCOW2_MAGIC);
	put32(at + 4, h->version);
	put32(at + 20, h->cluster_bits);
	put64(at + QCOW2_AT_SIZE, h->size);
	put32(at + QCOW2_AT_L1, h->l1_entries);
	put64(at + QCOW2_AT_L1 + 4, h->l1_offset);
	put64(at + QCOW2_AT_REFTABLE, h->reftable_offset);
	put32(at + QCOW2_AT_REFTABLE + 8, h->reftable_clusters);
	put32(at + 96, h->refcount_order);
	put32(at + 100, QCOW2_V3_LENGTH + 8);
	if (name_len == 0)
		return;
	put32(extension, EXTENSION_BACKING_FORMAT);
	put32(extension + 4, (uint32_t)format_len);
	memcpy(extension + 8, h->backing_format, format_len);
	/* A zero extension ends them; the name follows. */
	put64(at + 8, QCOW2_V3_LENGTH + 8 + BACKING_FORMAT_SPACE + 8);
	put32(at + 16, (uint32_t)name_len);
	memcpy(extension + BACKING_FORMAT_SPACE + 8, h->backing, name_len);
}

int qcow2_create(int fd, uint64_t size, const char *backing, const char *backing_format,
		 struct error *err)
{
	struct qcow2_header h = {.version = 3,
				 .cluster_bits = QCOW2_CLUSTER_BITS,
				 .size = size,
				 .refcount_order = REFCOUNT_ORDER};
	const uint64_t cluster = UINT64_C(1) << QCOW2_CLUSTER_BITS;
	uint64_t entries = qcow2_l1_entries(size, h.cluster_bits), l1_clusters;
	own_mem uint8_t *meta = mem_new(3 * cluster);
	int rc;

	if (strlen(backing) > QCOW2_NAME_MAX)
		return refuse(err, -ENAMETOOLONG, "the backing file's name is too long");
	l1_clusters = (entries * 8 + cluster - 1) >> QCOW2_CLUSTER_BITS;
	strcpy(h.backing, backing);
	strcpy(h.backing_format, backing_format);
	h.reftable_offset = cluster;
	h.reftable_clusters = 1;
	h.l1_entries = (uint32_t)entries;
	h.l1_offset = 3 * cluster;
	write_header(meta, &h);
	put64(meta + cluster, 2 * cluster);
	for (uint64_t i = 0; i < 3 + l1_clusters; i++)
		qcow2_count_set(meta + 2 * cluster, i, REFCOUNT_ORDER, 1);
	rc = fd_write_full_at(fd, meta, 3 * cluster, 0);
	/* L1 is a hole: all zero. */
	if (rc == 0 && ftruncate(fd, (off_t)((3 + l1_clusters) * cluster)) < 0)
		rc = -errno;
	return rc < 0 ? fail(err, rc, "write it") : 0;
}

/* A larger L1, in a new place. */
static int move_l1(struct qcow2 *q, uint64_t entries)
{
	uint64_t old_offset = q->header.l1_offset, old_entries = q->header.l1_entries, offset;
	uint64_t clusters = qcow2_round_up(q, entries * 8) / q->cluster_size;
	own_mem uint64_t *table = mem_new_array(clusters * q->cluster_size / 8, 8);
	struct __attribute__((packed)) {
		uint32_t entries;
		uint64_t offset;
	} place;
	int rc = qcow2_alloc(q, clusters, &offset);

	for (uint64_t i = 0; i < old_entries; i++)
		table[i] = htobe64(q->l1[i]);
	if (rc == 0)
		rc = fd_write_full_at(q->fd, table, clusters * q->cluster_size, (off_t)offset);
	if (rc == 0)
		rc = qcow2_map_flush(q);
	place.entries = htobe32((uint32_t)entries);
	place.offset = htobe64(offset);
	if (rc == 0)
		rc = fd_write_full_at(q->fd, &place, sizeof(place), QCOW2_AT_L1);
	if (rc == 0 && fdatasync(q->fd) < 0)
		rc = -errno;
	if (rc < 0)
		return rc;
	q->l1 = mem_resize(q->l1, entries, sizeof(*q->l1));
	memset(q->l1 + old_entries, 0, (entries - old_entries) * sizeof(*q->l1));
	q->header.l1_entries = (uint32_t)entries;
	q->header.l1_offset = offset;
	clusters = qcow2_round_up(q, old_entries * 8) / q->cluster_size;
	for (uint64_t i = 0; i < clusters && rc == 0; i++)
		rc = qcow2_refcount_change(q, old_offset / q->cluster_size + i, -1);
	return rc;
}

int qcow2_grow(struct disk *disk, uint64_t size)
{
	struct qcow2 *q = qcow2_of(disk);
	uint64_t entries = qcow2_l1_entries(size, q->header.cluster_bits), value = htobe64(size);
	uint64_t old = disk->size_bytes, tail = q->cluster_size - old % q->cluster_size;
	int rc = entries > QCOW2_L1_ENTRIES_MAX ? -EFBIG : 0;

	if (rc == 0 && entries > q->header.l1_entries)
		rc = move_l1(q, entries);
	if (rc < 0)
		return rc;
	disk->size_bytes = size;
	/* What lies behind the old end in its last cluster was never defined. */
	if (tail < q->cluster_size)
		rc = disk->ops->zero(disk, old, tail < size - old ? tail : size - old, false);
	if (rc == 0)
		rc = qcow2_map_flush(q);
	if (rc == 0)
		rc = fd_write_full_at(q->fd, &value, sizeof(value), QCOW2_AT_SIZE);
	if (rc == 0 && fdatasync(q->fd) < 0)
		rc = -errno;
	return rc;
}
