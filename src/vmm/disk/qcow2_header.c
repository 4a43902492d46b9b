/*
 * qcow2_header: see qcow2_priv.h. All big-endian:
 *
 *      0 u32 magic, u32 version       24 u64 size               56 u32 reftable clusters
 *      8 u64 backing name's offset    32 u32 encryption         60 u32 snapshots
 *     16 u32 its size                 36 u32 L1 entries         64 u64 snapshots' offset
 *     20 u32 cluster bits             40 u64 L1 offset
 *                                     48 u64 reftable offset
 *     version 3: 72 u64 incompatible, 80 u64 compatible, 88 u64 autoclear features,
 *                96 u32 refcount order, 100 u32 header length, 104 u8 compression
 *     then extensions { u32 type, u32 size, data padded to 8 bytes } up to one of type 0
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/disk/qcow2_priv.h"

enum {
	BYTES_MAX = 64 << 10, /* what is looked at: header, extensions, backing name */
	EXTENSION_END = 0,
	REFCOUNT_ORDER_MAX = 6,
};
#define EXTENSION_BACKING_FORMAT UINT32_C(0xe2792aca)

struct bytes {
	const uint8_t *data;
	size_t size;
};

static uint32_t u32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return be32toh(value);
}

static uint64_t u64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return be64toh(value);
}

static int damaged(struct error *err, const char *what)
{
	return refuse(err, -EINVAL, "its header is damaged: %s", what);
}

/* A table of `bytes` at `offset` that lies where a table can lie. */
static bool is_table(const struct qcow2_header *h, uint64_t offset, uint64_t bytes)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;

	return offset >= cluster && offset % cluster == 0 && offset < QCOW2_HOST_MAX &&
	       bytes < QCOW2_HOST_MAX - offset;
}

static int check_tables(const struct qcow2_header *h, struct error *err)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits, per_entry = cluster * (cluster / 8);
	uint64_t needed = h->size / per_entry + (h->size % per_entry != 0);

	if (h->l1_entries > QCOW2_L1_ENTRIES_MAX)
		return damaged(err, "the L1 table is too large");
	if (h->l1_entries < needed)
		return damaged(err, "the L1 table does not cover the disk");
	if (h->l1_entries > 0 && !is_table(h, h->l1_offset, h->l1_entries * UINT64_C(8)))
		return damaged(err, "the L1 table lies in an impossible place");
	if (h->reftable_clusters == 0 || h->reftable_clusters * cluster > QCOW2_REFTABLE_BYTES_MAX)
		return damaged(err, "the table of reference counts has an impossible size");
	if (!is_table(h, h->reftable_offset, h->reftable_clusters * cluster))
		return damaged(err, "the table of reference counts lies in an impossible place");
	return 0;
}

static const char *feature_name(unsigned int bit)
{
	switch (UINT64_C(1) << bit) {
	case QCOW2_EXTERNAL_DATA:
		return "external data file";
	case QCOW2_EXTENDED_L2:
		return "extended L2 entries";
	}
	return NULL;
}

static int check_features(const struct qcow2_header *h, struct error *err)
{
	uint64_t unknown = h->incompatible & ~(uint64_t)QCOW2_INCOMPATIBLE_KNOWN;
	unsigned int bit = 0;
	const char *name;

	if (unknown == 0)
		return 0;
	while (!(unknown >> bit & 1))
		bit++;
	name = feature_name(bit);
	if (name)
		refuse(err, -ENOTSUP, "it uses the feature \"%s\", which is not supported", name);
	else
		refuse(err, -ENOTSUP, "it uses the unknown incompatible feature %u", bit);
	return hint(err, -ENOTSUP, "convert it with a program that knows the feature");
}

/* The feature-name table is only for messages and is passed over, as unknown extensions are. */
static int read_extensions(struct bytes b, size_t at, struct qcow2_header *h, struct error *err)
{
	while (at + 8 <= b.size) {
		uint32_t type = u32(b.data + at), size = u32(b.data + at + 4);

		at += 8;
		if (type == EXTENSION_END)
			return 0;
		if (size > b.size - at)
			return damaged(err, "an extension is larger than the header's cluster");
		if (type == EXTENSION_BACKING_FORMAT) {
			if (size > QCOW2_FORMAT_MAX)
				return damaged(err, "the backing file's format has a long name");
			memcpy(h->backing_format, b.data + at, size);
			h->backing_format[size] = '\0';
		}
		at += (size + 7) & ~UINT32_C(7);
	}
	return 0;
}

static int read_backing(struct bytes b, struct qcow2_header *h, struct error *err)
{
	uint64_t offset = u64(b.data + 8);
	uint32_t size = u32(b.data + 16);

	if (offset == 0 || size == 0)
		return 0;
	if (size > QCOW2_NAME_MAX)
		return damaged(err, "the backing file's name is too long");
	if (offset > b.size || size > b.size - offset)
		return damaged(err, "the backing file's name lies outside of the header's cluster");
	memcpy(h->backing, b.data + offset, size);
	h->backing[size] = '\0';
	return strlen(h->backing) == size ? 0 : damaged(err, "the backing file's name is no text");
}

static int read_version_3(struct bytes b, struct qcow2_header *h, size_t *ret_length,
			  struct error *err)
{
	*ret_length = QCOW2_V2_LENGTH;
	h->refcount_order = 4;
	if (h->version == 2)
		return 0;
	if (b.size < QCOW2_V3_LENGTH)
		return damaged(err, "it is cut off");
	h->incompatible = u64(b.data + QCOW2_AT_INCOMPATIBLE);
	h->compatible = u64(b.data + 80);
	h->autoclear = u64(b.data + QCOW2_AT_AUTOCLEAR);
	h->refcount_order = u32(b.data + 96);
	*ret_length = u32(b.data + 100);
	if (*ret_length < QCOW2_V3_LENGTH || *ret_length > b.size || *ret_length % 8)
		return damaged(err, "its length is impossible");
	if (h->refcount_order > REFCOUNT_ORDER_MAX)
		return damaged(err, "reference counts have an impossible size");
	if (h->incompatible & QCOW2_COMPRESSION && *ret_length > QCOW2_V3_LENGTH)
		h->compression = b.data[QCOW2_V3_LENGTH];
	return check_features(h, err);
}

static int parse(struct bytes b, struct qcow2_header *h, struct error *err)
{
	size_t length;
	int rc;

	h->version = u32(b.data + 4);
	h->cluster_bits = u32(b.data + 20);
	h->size = u64(b.data + QCOW2_AT_SIZE);
	h->l1_entries = u32(b.data + QCOW2_AT_L1);
	h->l1_offset = u64(b.data + QCOW2_AT_L1 + 4);
	h->reftable_offset = u64(b.data + QCOW2_AT_REFTABLE);
	h->reftable_clusters = u32(b.data + QCOW2_AT_REFTABLE + 8);
	h->snapshots = u32(b.data + 60);
	if (h->version != 2 && h->version != 3)
		return refuse(err, -ENOTSUP, "it has version %u of qcow2; 2 and 3 are supported",
			      h->version);
	if (h->cluster_bits < QCOW2_CLUSTER_BITS_MIN || h->cluster_bits > QCOW2_CLUSTER_BITS_MAX)
		return damaged(err, "clusters have an impossible size");
	if (b.size > UINT64_C(1) << h->cluster_bits)
		b.size = (size_t)1 << h->cluster_bits;
	if (u32(b.data + 32) != 0)
		return refuse(err, -ENOTSUP, "it is encrypted, which is not supported");
	rc = read_version_3(b, h, &length, err);
	if (rc == 0 && h->compression > QCOW2_ZSTD)
		rc = refuse(err, -ENOTSUP, "its clusters are compressed in an unknown way (%u)",
			    h->compression);
	if (rc == 0)
		rc = check_tables(h, err);
	if (rc == 0)
		rc = read_backing(b, h, err);
	if (rc == 0)
		rc = read_extensions(b, length, h, err);
	return rc;
}

int qcow2_header_read(int fd, struct qcow2_header *ret, struct error *err)
{
	own_mem uint8_t *data = mem_new(BYTES_MAX);
	struct qcow2_header header = {0};
	ssize_t n = fd_read_full_at(fd, data, BYTES_MAX, 0);
	int rc;

	if (n < 0)
		return fail(err, (int)n, "read its header");
	if (n < QCOW2_V2_LENGTH || u32(data) != QCOW2_MAGIC)
		return refuse(err, -EINVAL, "it is no qcow2 file");
	rc = parse((struct bytes){data, (size_t)n}, &header, err);
	if (rc == 0)
		*ret = header;
	return rc;
}
