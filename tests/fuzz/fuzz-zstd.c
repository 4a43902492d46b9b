/*
 * fuzz-zstd: streams of zstd frames and skippable ones, as zstd:chunked has them. The input says what the
 * frames are made of: a byte for the kind (a frame, of what level and with a checksum or not; a skippable
 * one; bytes as they are), a byte for the length, then the content. The first byte says in which pieces the
 * stream arrives, the second one whether and where a bit of it is turned.
 *
 * A sound stream must unpack to what went in. A damaged one must be refused with a reason or, if it is taken,
 * give what zstd itself makes of it in one go.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/decompress.h"

enum { OUT_MAX = 8 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int collect(const void *data, size_t len, void *context, struct error *err)
{
	struct buf *out = context;

	if (out->len + len > OUT_MAX)
		return refuse(err, -1, "enough");
	buf_add(out, data, len);
	return 0;
}

static void add_frame(struct buf *stream, const uint8_t *content, size_t len, int kind)
{
	ZSTD_CCtx *packer = ZSTD_createCCtx();
	size_t room = ZSTD_compressBound(len), packed;
	own_mem char *bytes = mem_new(room);

	ZSTD_CCtx_setParameter(packer, ZSTD_c_compressionLevel, kind % 8 - 2);
	ZSTD_CCtx_setParameter(packer, ZSTD_c_checksumFlag, kind & 8);
	ZSTD_CCtx_setParameter(packer, ZSTD_c_contentSizeFlag, kind & 16);
	packed = ZSTD_compress2(packer, bytes, room, content, len);
	if (ZSTD_isError(packed))
		abort();
	buf_add(stream, bytes, packed);
	ZSTD_freeCCtx(packer);
}

static void add_skippable(struct buf *stream, const uint8_t *content, size_t len, int kind)
{
	const uint32_t head[2] = {0x184d2a50u + (unsigned int)kind % 16, (uint32_t)len};

	buf_add(stream, head, sizeof(head));
	buf_add(stream, content, len);
}

/* Returns whether all of it is frames. */
static bool make_stream(const uint8_t *p, size_t len, struct buf *stream, struct buf *content)
{
	bool sound = true, first = true;

	while (len >= 2) {
		int kind = p[0];
		size_t n = p[1] < len - 2 ? p[1] : len - 2;
		/* Long runs are what compressors are for. */
		size_t times = kind & 32 ? 300 : 1;

		if (kind < 192 || first) {
			own_buf struct buf whole = {0};

			for (size_t i = 0; i < times; i++)
				buf_add(&whole, p + 2, n);
			add_frame(stream, (const uint8_t *)(whole.data ? whole.data : ""),
				  whole.len, kind);
			buf_add(content, whole.data, whole.len);
		} else if (kind < 248) {
			add_skippable(stream, p + 2, n, kind);
		} else {
			buf_add(stream, p + 2, n);
			sound = sound && n == 0;
		}
		first = false;
		p += n + 2;
		len -= n + 2;
	}
	return sound;
}

/* What zstd makes of it when it comes byte by byte; false if it finds fault with it. (With a whole frame at
 * once it looks closer: at the length of one that ends with an empty block.) */
static bool reference_unpack(const struct buf *stream, struct buf *out)
{
	enum { ROOM = 1 << 17 };
	ZSTD_DCtx *d = ZSTD_createDCtx();
	own_mem char *bytes = mem_new(ROOM);
	size_t left = 1;

	ZSTD_DCtx_setParameter(d, ZSTD_d_windowLogMax, DECOMPRESS_WINDOW_LOG_MAX);
	for (size_t at = 0; at < stream->len && !ZSTD_isError(left); at++) {
		ZSTD_inBuffer in = {stream->data + at, 1, 0};
		ZSTD_outBuffer to = {bytes, ROOM, 0};

		do {
			to.pos = 0;
			left = ZSTD_decompressStream(d, &to, &in);
			if (ZSTD_isError(left) || out->len + to.pos > OUT_MAX)
				break;
			buf_add(out, bytes, to.pos);
		} while (in.pos < in.size || (to.pos == to.size && left != 0));
	}
	ZSTD_freeDCtx(d);
	return left == 0 && out->len <= OUT_MAX;
}

static void unpack(const struct buf *stream, size_t piece, const struct buf *expected, bool sound)
{
	own_decompressor struct decompressor *d = NULL;
	own_buf struct buf out = {0};
	struct error err = {0};
	int rc = 0;

	decompressor_create(collect, &out, &d);
	for (size_t at = 0; at < stream->len && rc == 0; at += piece)
		rc = decompressor_add(d, stream->data + at,
				      stream->len - at < piece ? stream->len - at : piece, &err);
	if (rc == 0)
		rc = decompressor_finish(d, &err);
	if (rc < 0 && (sound || err.text[0] == '\0'))
		abort();
	if (rc == 0 && decompressor_kind(d) == COMPRESSION_ZSTD &&
	    (out.len != expected->len ||
	     (out.len > 0 && memcmp(out.data, expected->data, out.len) != 0)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	own_buf struct buf stream = {0}, content = {0}, again = {0};
	bool sound;

	if (len < 4)
		return 0;
	sound = make_stream(data + 2, len - 2, &stream, &content);
	if (stream.len == 0)
		return 0;
	if (data[1] & 1) {
		size_t at = (size_t)data[1] * 2654435761u % stream.len;

		stream.data[at] = (char)(stream.data[at] ^ 1 << (data[1] >> 1 & 7));
		sound = false;
	}
	if (sound)
		unpack(&stream, (size_t)data[0] * 7 + 1, &content, true);
	else if (reference_unpack(&stream, &again))
		unpack(&stream, (size_t)data[0] * 7 + 1, &again, false);
	else {
		/* It must be refused, or else be taken for something that is not zstd at all. */
		own_buf struct buf nothing = {0};
		own_decompressor struct decompressor *d = NULL;
		struct error err = {0};

		decompressor_create(collect, &nothing, &d);
		if (decompressor_add(d, stream.data, stream.len, &err) == 0 &&
		    decompressor_finish(d, &err) == 0 && decompressor_kind(d) == COMPRESSION_ZSTD)
			abort();
	}
	return 0;
}
