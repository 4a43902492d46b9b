/* decompress: see decompress.h. */
#include "image/decompress.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/mem.h"

enum { OUT_SIZE = 256 << 10, MAGIC_LEN = 4, GZIP_WINDOW = 15 + 16, PIECE_MAX = 1 << 30 };

struct decompressor {
	image_bytes_fn *out;
	void *context;
	enum compression kind;
	unsigned char magic[MAGIC_LEN]; /* until the kind is known */
	size_t magic_len;
	uint64_t in_bytes, out_bytes;
	z_stream gzip;
	bool gzip_open;
	bool padded; /* zeros follow the last gzip member: only more of them may come */
	ZSTD_DStream *zstd;
	bool inside; /* a member or frame has begun and not ended */
	unsigned char *buffer;
};

const char *compression_name(enum compression compression)
{
	static const char *const names[] = {"unknown", "none", "gzip", "zstd"};

	return names[compression];
}

enum compression compression_sniff(const void *data, size_t len)
{
	static const unsigned char gzip[] = {0x1f, 0x8b};
	static const unsigned char zstd[] = {0x28, 0xb5, 0x2f, 0xfd};
	const unsigned char *p = data;

	if (len >= sizeof(gzip) && memcmp(p, gzip, sizeof(gzip)) == 0)
		return COMPRESSION_GZIP;
	if (len >= sizeof(zstd) && memcmp(p, zstd, sizeof(zstd)) == 0)
		return COMPRESSION_ZSTD;
	/* A skippable frame of zstd, with which a stream may begin. */
	if (len >= MAGIC_LEN && (p[0] & 0xf0) == 0x50 && p[1] == 0x2a && p[2] == 0x4d &&
	    p[3] == 0x18)
		return COMPRESSION_ZSTD;
	return COMPRESSION_NONE;
}

void decompressor_create(image_bytes_fn *out, void *context, struct decompressor **ret)
{
	struct decompressor *d = mem_new(sizeof(*d));

	d->out = out;
	d->context = context;
	*ret = d;
}

void decompressor_destroy(struct decompressor *d)
{
	if (d == NULL)
		return;
	if (d->gzip_open)
		inflateEnd(&d->gzip);
	ZSTD_freeDStream(d->zstd);
	free(d->buffer);
	free(d);
}

enum compression decompressor_kind(const struct decompressor *d)
{
	return d->kind;
}

static int deliver(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	if (len == 0)
		return 0;
	d->out_bytes += len;
	if (d->out_bytes > DECOMPRESS_MAX)
		return refuse(err, -EFBIG, "the stream unpacks to more than %lld bytes",
			      (long long)DECOMPRESS_MAX);
	if (d->kind != COMPRESSION_NONE && d->out_bytes > DECOMPRESS_RATIO_FREE &&
	    d->out_bytes / DECOMPRESS_RATIO_MAX > d->in_bytes)
		return refuse(err, -EFBIG,
			      "the stream unpacks to more than %d times its size, as a "
			      "decompression bomb does",
			      DECOMPRESS_RATIO_MAX);
	return d->out(data, len, d->context, err);
}

/* Between two members, or before the first: zeros are padding, all else begins a member. */
static int gzip_between(struct decompressor *d, struct error *err)
{
	z_stream *z = &d->gzip;
	int code;

	if (d->padded || (d->gzip_open && *z->next_in == 0)) {
		d->padded = true;
		for (; z->avail_in > 0; z->avail_in--)
			if (*z->next_in++ != 0)
				return refuse(err, -EBADMSG,
					      "something follows the end of the gzip stream");
		return 0;
	}
	code = d->gzip_open ? inflateReset(z) : inflateInit2(z, GZIP_WINDOW);
	if (code != Z_OK)
		return refuse(err, -ENOMEM, "cannot begin to unpack gzip");
	d->gzip_open = true;
	d->inside = true;
	return 0;
}

static int gzip_add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	z_stream *z = &d->gzip;
	int rc = 0;

	/* zlib's pointer is not to const, although it only reads. */
	memcpy(&z->next_in, &data, sizeof(data));
	z->avail_in = (unsigned int)len;
	do {
		int code;

		if (!d->inside) {
			rc = z->avail_in > 0 ? gzip_between(d, err) : 0;
			continue;
		}
		z->next_out = d->buffer;
		z->avail_out = OUT_SIZE;
		code = inflate(z, Z_NO_FLUSH);
		if (code == Z_STREAM_END)
			d->inside = false;
		else if (code != Z_OK && code != Z_BUF_ERROR)
			return refuse(err, -EBADMSG, "the gzip stream is damaged: %s",
				      z->msg ? z->msg : "data error");
		rc = deliver(d, d->buffer, OUT_SIZE - z->avail_out, err);
	} while (rc == 0 && (z->avail_in > 0 || (d->inside && z->avail_out == 0)));
	return rc;
}

static int zstd_add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	ZSTD_inBuffer in = {.src = data, .size = len};
	bool more;

	if (d->zstd == NULL) {
		d->zstd = ZSTD_createDStream();
		if (d->zstd == NULL)
			return refuse(err, -ENOMEM, "cannot begin to unpack zstd");
		ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, DECOMPRESS_WINDOW_LOG_MAX);
	}
	do {
		ZSTD_outBuffer out = {.dst = d->buffer, .size = OUT_SIZE};
		size_t left = ZSTD_decompressStream(d->zstd, &out, &in);
		int rc;

		if (ZSTD_isError(left))
			return refuse(err, -EBADMSG, "the zstd stream is damaged: %s",
				      ZSTD_getErrorName(left));
		d->inside = left != 0;
		more = out.pos == out.size;
		rc = deliver(d, d->buffer, out.pos, err);
		if (rc < 0)
			return rc;
	} while (in.pos < in.size || more);
	return 0;
}

static int add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	d->in_bytes += len;
	if (len == 0)
		return 0;
	if (d->kind == COMPRESSION_NONE)
		return deliver(d, data, len, err);
	if (d->buffer == NULL)
		d->buffer = mem_new(OUT_SIZE);
	return d->kind == COMPRESSION_GZIP ? gzip_add(d, data, len, err)
					   : zstd_add(d, data, len, err);
}

/* The kind is known now, by what has been held back. */
static int begin(struct decompressor *d, struct error *err)
{
	d->kind = compression_sniff(d->magic, d->magic_len);
	return add(d, d->magic, d->magic_len, err);
}

int decompressor_add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	const char *p = data;

	while (d->kind == COMPRESSION_UNKNOWN && len > 0) {
		int rc = 0;

		d->magic[d->magic_len++] = (unsigned char)*p++;
		len--;
		if (d->magic_len == MAGIC_LEN)
			rc = begin(d, err);
		if (rc < 0)
			return rc;
	}
	while (len > 0) {
		size_t piece = len < PIECE_MAX ? len : PIECE_MAX;
		int rc = add(d, p, piece, err);

		if (rc < 0)
			return rc;
		p += piece;
		len -= piece;
	}
	return 0;
}

int decompressor_finish(struct decompressor *d, struct error *err)
{
	int rc = d->kind == COMPRESSION_UNKNOWN ? begin(d, err) : 0;

	if (rc == 0 && d->inside)
		return refuse(err, -EBADMSG, "the %s stream ends too early",
			      compression_name(d->kind));
	return rc;
}
