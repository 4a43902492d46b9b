/* qcow2_unpack: compressed clusters: raw deflate, or a zstd frame. See qcow2_priv.h. */
#include <errno.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"
#include "vmm/disk/qcow2_priv.h"

enum { WINDOW_BITS = -15 /* raw, any window */ };

static int inflate_cluster(const struct qcow2 *q, uint64_t packed_bytes)
{
	z_stream z = {.next_in = q->packed,
		      .avail_in = (uInt)packed_bytes,
		      .next_out = q->unpacked,
		      .avail_out = (uInt)q->cluster_size};
	int rc;

	if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	/* Some writers do not end the stream: the cluster is full all the same. */
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

static int unzstd_cluster(const struct qcow2 *q, uint64_t packed_bytes)
{
	ZSTD_inBuffer in = {q->packed, packed_bytes, 0};
	ZSTD_outBuffer out = {q->unpacked, q->cluster_size, 0};
	ZSTD_DStream *stream = ZSTD_createDStream();
	size_t rc = 1;

	if (stream == NULL)
		return -ENOMEM;
	/* The frame ends before the last sector does. */
	while (out.pos < out.size && !ZSTD_isError(rc)) {
		size_t in_before = in.pos, out_before = out.pos;

		rc = ZSTD_decompressStream(stream, &out, &in);
		if (in.pos == in_before && out.pos == out_before)
			break;
	}
	ZSTD_freeDStream(stream);
	return out.pos == out.size && !ZSTD_isError(rc) ? 0 : -EIO;
}

int qcow2_unpack(struct qcow2 *q, const struct qcow2_mapping *m)
{
	int rc;

	if (q->unpacked_entry == m->entry)
		return 0;
	q->unpacked_entry = 0;
	if (q->unpacked == NULL)
		q->unpacked = mem_try(q->cluster_size);
	/* What is compressed is never larger than a cluster, but for its last sector. */
	if (q->packed == NULL)
		q->packed = mem_try(q->cluster_size + 512);
	if (q->unpacked == NULL || q->packed == NULL)
		return -ENOMEM;
	if (m->bytes > q->cluster_size + 512)
		return qcow2_damaged(q, "a compressed cluster is larger than a cluster");
	rc = qcow2_read_at(q->fd, q->packed, m->bytes, m->host);
	if (rc == 0)
		rc = q->header.compression == QCOW2_ZSTD ? unzstd_cluster(q, m->bytes)
							 : inflate_cluster(q, m->bytes);
	if (rc == -EIO)
		return qcow2_damaged(q, "the compressed cluster at %llu cannot be unpacked",
				     (unsigned long long)m->host);
	if (rc == 0)
		q->unpacked_entry = m->entry;
	return rc;
}
