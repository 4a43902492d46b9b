/*
 * decompress: a compressed stream that is pushed in comes out unpacked: gzip (several members too),
 * zstd (several frames, skippable ones as zstd:chunked has them), or as it is; of archives also xz. What it
 * is, its first bytes say.
 *
 * A bomb is met by two limits: DECOMPRESS_MAX altogether, and DECOMPRESS_RATIO_MAX to one beyond
 * DECOMPRESS_RATIO_FREE.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"
#include "image/gunzip.h"

#define DECOMPRESS_MAX (INT64_C(1) << 40)        /* 1 TiB */
#define DECOMPRESS_RATIO_FREE (INT64_C(4) << 30) /* 4 GiB */
enum {
	DECOMPRESS_RATIO_MAX = 200,
	DECOMPRESS_WINDOW_LOG_MAX = 27,
	DECOMPRESS_ROOM = 256 << 10, /* of what is unpacked, so much is delivered at a time */
};

enum compression {
	COMPRESSION_UNKNOWN,
	COMPRESSION_NONE,
	COMPRESSION_GZIP,
	COMPRESSION_ZSTD,
	COMPRESSION_XZ, /* archives only: no layer at a registry is */
};
const char *compression_name(enum compression compression);
/* COMPRESSION_UNKNOWN if it is none's name. */
enum compression compression_find(const char *name);
/* What the first bytes of a stream (at least 4 of them, or all) say. */
enum compression compression_sniff(const void *data, size_t len);
/* The same of an archive. */
enum compression compression_sniff_archive(const void *data, size_t len);

/* Receives bytes. 0, or -errno with a reason, which ends the work. */
typedef int image_bytes_fn(const void *data, size_t len, void *context, struct error *err);

struct decompressor;
void decompressor_create(image_bytes_fn *out, void *context, struct decompressor **ret);
/* Before the first byte: where to put what is unpacked, instead of a buffer of its own. `room` returns
 * DECOMPRESS_ROOM bytes, which come filled, or partly so, to `out`; then it is asked again. What comes as
 * it is goes to `out` where it is. */
typedef void *decompress_room_fn(void *context);
void decompressor_set_room(struct decompressor *d, decompress_room_fn *room);
/* Before the first byte: it is an archive. */
void decompressor_set_archive(struct decompressor *d);
/* Before the first byte: what unpacks gzip, if not the fastest there is. */
void decompressor_set_gunzip(struct decompressor *d, enum gunzip_engine engine);
void decompressor_destroy(struct decompressor *d);
OWN_DEFINE(own_decompressor, struct decompressor *, decompressor_destroy);
#define own_decompressor __attribute__((cleanup(own_decompressor_release)))

/* -EBADMSG: the stream is damaged; -EFBIG: a limit; or what `out` returned. */
int decompressor_add(struct decompressor *d, const void *data, size_t len,
		     struct error *err) must_check;
/* The stream ends here: -EBADMSG if it was not complete. */
int decompressor_finish(struct decompressor *d, struct error *err) must_check;
enum compression decompressor_kind(const struct decompressor *d);
