/* decompress: see decompress.h. */
#include "image/decompress.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "image/unxz.h"

enum { MAGIC_LEN = 4, PIECE_MAX = 1 << 30 };

struct decompressor {
	image_bytes_fn *out;
	void *context;
	enum compression kind;
	unsigned char magic[MAGIC_LEN]; /* until the kind is known */
	size_t magic_len;
	uint64_t in_bytes, out_bytes;
	enum gunzip_engine engine;
	struct gunzip *gunzip;
	bool padded; /* zeros follow the last gzip member: only more of them may come */
	ZSTD_DStream *zstd;
	struct unxz *unxz;
	bool archive;
	bool inside; /* a member or frame has begun and not ended */
	/* What has been unpacked and not delivered yet. */
	unsigned char *buffer; /* NULL: there is none yet */
	size_t filled;
	unsigned char *own_buffer;
	decompress_room_fn *room; /* instead of that one */
};

static const char *const names[] = {"unknown", "none", "gzip", "zstd", "xz"};

const char *compression_name(enum compression compression)
{
	return names[compression];
}

enum compression compression_find(const char *name)
{
	for (size_t i = 0; i < array_size(names); i++)
		if (strcmp(names[i], name) == 0)
			return (enum compression)i;
	return COMPRESSION_UNKNOWN;
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

enum compression compression_sniff_archive(const void *data, size_t len)
{
	static const unsigned char xz[] = {0xfd, '7', 'z', 'X'};

	if (len >= sizeof(xz) && memcmp(data, xz, sizeof(xz)) == 0)
		return COMPRESSION_XZ;
	return compression_sniff(data, len);
}

void decompressor_create(image_bytes_fn *out, void *context, struct decompressor **ret)
{
	struct decompressor *d = mem_new(sizeof(*d));

	d->out = out;
	d->context = context;
	*ret = d;
}

void decompressor_set_room(struct decompressor *d, decompress_room_fn *room)
{
	d->room = room;
}

void decompressor_set_archive(struct decompressor *d)
{
	d->archive = true;
}

void decompressor_set_gunzip(struct decompressor *d, enum gunzip_engine engine)
{
	d->engine = engine;
}

void decompressor_destroy(struct decompressor *d)
{
	if (d == NULL)
		return;
	gunzip_destroy(d->gunzip);
	ZSTD_freeDStream(d->zstd);
	unxz_destroy(d->unxz);
	free(d->own_buffer);
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

/* Where the next bytes go: there is always room for one at least. */
static unsigned char *next_room(struct decompressor *d, size_t *ret_len)
{
	if (d->buffer == NULL && d->room != NULL)
		d->buffer = d->room(d->context);
	else if (d->buffer == NULL)
		d->buffer = d->own_buffer = mem_new(DECOMPRESS_ROOM);
	*ret_len = DECOMPRESS_ROOM - d->filled;
	return d->buffer + d->filled;
}

static int flush(struct decompressor *d, struct error *err)
{
	int rc = deliver(d, d->buffer, d->filled, err);

	d->filled = 0;
	if (d->room != NULL)
		d->buffer = NULL;
	return rc;
}

/* `len` more bytes have been put there. */
static int fill(struct decompressor *d, size_t len, struct error *err)
{
	d->filled += len;
	return d->filled == DECOMPRESS_ROOM ? flush(d, err) : 0;
}

/* Between two members: zeros are padding, all else begins a member. Returns what is left. */
static int64_t gzip_between(struct decompressor *d, const unsigned char *p, size_t len,
			    struct error *err)
{
	d->padded = d->padded || *p == 0;
	d->inside = !d->padded;
	for (; d->padded && len > 0; len--)
		if (*p++ != 0)
			return refuse(err, -EBADMSG,
				      "something follows the end of the gzip stream");
	return (int64_t)len;
}

static int gzip_add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	/* Room of one byte: there may be none left of the last time. */
	struct gunzip_step step = {.in = data, .in_len = len, .out_len = 1};
	size_t room;
	int rc = 0;

	if (d->gunzip == NULL) {
		rc = gunzip_create(d->engine, &d->gunzip, err);
		d->inside = true;
	}
	while (rc == 0 && (step.in_len > 0 || (d->inside && step.out_len == 0))) {
		if (!d->inside) {
			int64_t left = gzip_between(d, step.in, step.in_len, err);

			if (left < 0)
				return (int)left;
			step.in_len = (size_t)left;
			continue;
		}
		step.out = next_room(d, &room);
		step.out_len = room;
		rc = gunzip_step(d->gunzip, &step, err);
		if (rc < 0)
			return rc;
		d->inside = rc == 0;
		rc = fill(d, room - step.out_len, err);
	}
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
		ZSTD_outBuffer out = {0};
		size_t left;
		int rc;

		out.dst = next_room(d, &out.size);
		left = ZSTD_decompressStream(d->zstd, &out, &in);
		if (ZSTD_isError(left))
			return refuse(err, -EBADMSG, "the zstd stream is damaged: %s",
				      ZSTD_getErrorName(left));
		d->inside = left != 0;
		/* At the end of a frame there is no more: to ask would begin the next one. */
		more = d->inside && out.pos == out.size;
		rc = fill(d, out.pos, err);
		if (rc < 0)
			return rc;
	} while (in.pos < in.size || more);
	return 0;
}

static int xz_add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	struct gunzip_step step = {.in = data, .in_len = len, .out_len = 1};
	int rc = d->unxz == NULL ? unxz_create(&d->unxz, err) : 0;

	/* Room that is left says that it has given all there is. */
	while (rc == 0 && (step.in_len > 0 || step.out_len == 0)) {
		size_t room;

		step.out = next_room(d, &room);
		step.out_len = room;
		rc = unxz_step(d->unxz, &step, err);
		if (rc == 0)
			rc = fill(d, room - step.out_len, err);
	}
	return rc;
}

static int add(struct decompressor *d, const void *data, size_t len, struct error *err)
{
	d->in_bytes += len;
	if (len == 0)
		return 0;
	switch (d->kind) {
	case COMPRESSION_GZIP:
		return gzip_add(d, data, len, err);
	case COMPRESSION_ZSTD:
		return zstd_add(d, data, len, err);
	case COMPRESSION_XZ:
		return xz_add(d, data, len, err);
	default:
		return deliver(d, data, len, err);
	}
}

/* The kind is known now, by what has been held back. */
static int begin(struct decompressor *d, struct error *err)
{
	d->kind = d->archive ? compression_sniff_archive(d->magic, d->magic_len)
			     : compression_sniff(d->magic, d->magic_len);
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
	if (rc == 0 && d->unxz != NULL)
		rc = unxz_finish(d->unxz, err);
	return rc < 0 || d->buffer == NULL ? rc : flush(d, err);
}
