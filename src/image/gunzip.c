/* gunzip: see gunzip.h. */
#include "image/gunzip.h"

#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/dylib.h"
#include "base/mem.h"

enum { GZIP_WINDOW = 15 + 16 };

/* A member's header (RFC 1952, 2.3): its fixed part; then, as its flags say, the extra field with its
 * length in front, the name and the comment, which end with a NUL, and a CRC of all this. */
enum header_part { FIXED, EXTRA_LEN, EXTRA, NAME, COMMENT, CRC, BODY };
enum {
	FIXED_LEN = 10,
	FLAGS_AT = 3,
	FLAG_CRC = 2,
	FLAG_EXTRA = 4,
	FLAG_NAME = 8,
	FLAG_COMMENT = 16,
	FLAGS_RESERVED = 0xe0,
	METHOD_DEFLATE = 8,
};
struct header {
	enum header_part part;
	unsigned char flags;
	unsigned char bytes[FIXED_LEN]; /* of a part of fixed length */
	size_t have;
	size_t extra_left;
	uLong crc;
};

struct isal_api {
	void (*init)(struct inflate_state *state);
	void (*reset)(struct inflate_state *state);
	int (*inflate)(struct inflate_state *state);
};

static const struct dylib_symbol isal_symbols[] = {
	DYLIB_SYMBOL(struct isal_api, init, "isal_inflate_init"),
	DYLIB_SYMBOL(struct isal_api, reset, "isal_inflate_reset"),
	DYLIB_SYMBOL(struct isal_api, inflate, "isal_inflate"),
};

struct gunzip {
	bool ended; /* the last member; the next step begins one */
	struct isal_api api;
	struct inflate_state *isal; /* NULL: zlib does the work */
	struct header header;       /* for igzip, which does not read all of them rightly */
	z_stream zlib;
};

static int isal_begin(struct gunzip *g, struct error *err)
{
	int rc = dylib_load("libisal.so.2", "libisal2", isal_symbols, array_size(isal_symbols),
			    &g->api, err);

	if (rc < 0)
		return rc;
	g->isal = mem_new(sizeof(*g->isal));
	g->api.init(g->isal);
	g->isal->crc_flag = ISAL_GZIP_NO_HDR_VER;
	return 0;
}

static int zlib_begin(struct gunzip *g, struct error *err)
{
	return inflateInit2(&g->zlib, GZIP_WINDOW) == Z_OK
		       ? 0
		       : refuse(err, -ENOMEM, "cannot begin to unpack gzip");
}

int gunzip_create(enum gunzip_engine engine, struct gunzip **ret, struct error *err)
{
	own_mem struct gunzip *g = mem_new(sizeof(*g));
	int rc = -ENOENT;

	if (engine != GUNZIP_ZLIB)
		rc = isal_begin(g, engine == GUNZIP_ANY ? NULL : err);
	if (rc < 0 && engine != GUNZIP_ISAL)
		rc = zlib_begin(g, err);
	if (rc < 0)
		return rc;
	*ret = take(g);
	return 0;
}

void gunzip_destroy(struct gunzip *g)
{
	if (g == NULL)
		return;
	if (g->isal == NULL)
		inflateEnd(&g->zlib);
	free(g->isal);
	free(g);
}

static const char *isal_reason(int code)
{
	switch (code) {
	case ISAL_INCORRECT_CHECKSUM:
		return "incorrect data check";
	case ISAL_INVALID_LOOKBACK:
		return "invalid distance too far back";
	default:
		return "invalid code";
	}
}

/* Takes what belongs to a part of fixed length. True when it is complete. */
static bool take_fixed(struct header *h, struct gunzip_step *step, size_t len)
{
	while (h->have < len && step->in_len > 0) {
		h->bytes[h->have++] = *step->in++;
		step->in_len--;
	}
	if (h->have < len)
		return false;
	h->have = 0;
	if (h->part != CRC)
		h->crc = crc32(h->crc, h->bytes, (uInt)len);
	return true;
}

/* Takes a text up to its NUL. True when that has come. */
static bool take_text(struct header *h, struct gunzip_step *step)
{
	const unsigned char *end = memchr(step->in, 0, step->in_len);
	size_t len = end ? (size_t)(end - step->in) + 1 : step->in_len;

	h->crc = crc32(h->crc, step->in, (uInt)len);
	step->in += len;
	step->in_len -= len;
	return end != NULL;
}

static bool take_extra(struct header *h, struct gunzip_step *step)
{
	size_t len = step->in_len < h->extra_left ? step->in_len : h->extra_left;

	h->crc = crc32(h->crc, step->in, (uInt)len);
	h->extra_left -= len;
	step->in += len;
	step->in_len -= len;
	return h->extra_left == 0;
}

static const char *check_fixed(struct header *h)
{
	h->flags = h->bytes[FLAGS_AT];
	if (h->bytes[0] != 0x1f || h->bytes[1] != 0x8b)
		return "incorrect header check";
	if (h->bytes[2] != METHOD_DEFLATE)
		return "unknown compression method";
	return h->flags & FLAGS_RESERVED ? "unknown header flags set" : NULL;
}

/* One part of the header, or what has come of it. 1 if it is complete. */
static int header_part(struct header *h, struct gunzip_step *step, const char **ret_reason)
{
	switch (h->part) {
	case FIXED:
		if (!take_fixed(h, step, FIXED_LEN))
			return 0;
		*ret_reason = check_fixed(h);
		return 1;
	case EXTRA_LEN:
		if ((h->flags & FLAG_EXTRA) && !take_fixed(h, step, 2))
			return 0;
		h->extra_left = h->flags & FLAG_EXTRA ? h->bytes[0] | h->bytes[1] << 8 : 0;
		return 1;
	case EXTRA:
		return take_extra(h, step);
	case NAME:
		return !(h->flags & FLAG_NAME) || take_text(h, step);
	case COMMENT:
		return !(h->flags & FLAG_COMMENT) || take_text(h, step);
	case CRC:
		if (!(h->flags & FLAG_CRC))
			return 1;
		if (!take_fixed(h, step, 2))
			return 0;
		if ((h->crc & 0xffff) != (uLong)(h->bytes[0] | h->bytes[1] << 8))
			*ret_reason = "header crc mismatch";
		return 1;
	case BODY:
		break;
	}
	return 0;
}

/* Reads of the header what has come. */
static int read_header(struct header *h, struct gunzip_step *step, struct error *err)
{
	const char *reason = NULL;

	while (h->part != BODY && reason == NULL && header_part(h, step, &reason))
		h->part++;
	if (reason != NULL)
		return refuse(err, -EBADMSG, "the gzip stream is damaged: %s", reason);
	return 0;
}

static int isal_step(struct gunzip *g, struct gunzip_step *step, struct error *err)
{
	struct inflate_state *s = g->isal;
	int code;

	if (g->ended) {
		g->api.reset(s);
		s->crc_flag = ISAL_GZIP_NO_HDR_VER;
		memset(&g->header, 0, sizeof(g->header));
	}
	code = read_header(&g->header, step, err);
	if (code < 0 || g->header.part != BODY)
		return code;
	/* The pointer is not to const, although it only reads. */
	memcpy(&s->next_in, &step->in, sizeof(step->in));
	s->avail_in = (uint32_t)step->in_len;
	s->next_out = step->out;
	s->avail_out = (uint32_t)step->out_len;
	code = g->api.inflate(s);
	if (code < 0 || code == ISAL_NEED_DICT)
		return refuse(err, -EBADMSG, "the gzip stream is damaged: %s", isal_reason(code));
	step->in = s->next_in;
	step->in_len = s->avail_in;
	step->out = s->next_out;
	step->out_len = s->avail_out;
	/* What it has unpacked but not delivered yet comes first. */
	return s->block_state == ISAL_BLOCK_FINISH && s->tmp_out_processed == s->tmp_out_valid;
}

static int zlib_step(struct gunzip *g, struct gunzip_step *step, struct error *err)
{
	z_stream *z = &g->zlib;
	int code;

	if (g->ended)
		inflateReset(z);
	memcpy(&z->next_in, &step->in, sizeof(step->in));
	z->avail_in = (uInt)step->in_len;
	z->next_out = step->out;
	z->avail_out = (uInt)step->out_len;
	code = inflate(z, Z_NO_FLUSH);
	if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
		return refuse(err, -EBADMSG, "the gzip stream is damaged: %s",
			      z->msg ? z->msg : "data error");
	step->in = z->next_in;
	step->in_len = z->avail_in;
	step->out = z->next_out;
	step->out_len = z->avail_out;
	return code == Z_STREAM_END;
}

int gunzip_step(struct gunzip *g, struct gunzip_step *step, struct error *err)
{
	size_t in_len = step->in_len, out_len = step->out_len;
	int rc = g->isal ? isal_step(g, step, err) : zlib_step(g, step, err);

	if (rc < 0)
		return rc;
	g->ended = rc > 0;
	/* Nobody shall be able to make us turn round on the spot. */
	if (rc == 0 && in_len > 0 && out_len > 0 && step->in_len == in_len &&
	    step->out_len == out_len)
		return refuse(err, -EBADMSG, "the gzip stream is damaged: it does not go on");
	return rc;
}
