/*
 * compress: gzip for layers that are made here. Speed before size (level COMPRESS_LEVEL), since the
 * blob is only read again when the image leaves this host.
 */
#pragma once

#include "image/decompress.h"

enum { COMPRESS_LEVEL = 1 };

struct compressor;
/* What is pushed in comes out of `out` as one gzip member without name and time: equal input gives
 * equal output. */
int compressor_create(image_bytes_fn *out, void *context, struct compressor **ret,
		      struct error *err) must_check;
int compressor_add(struct compressor *c, const void *data, size_t len,
		   struct error *err) must_check;
int compressor_finish(struct compressor *c, struct error *err) must_check;
void compressor_destroy(struct compressor *c);
OWN_DEFINE(own_compressor, struct compressor *, compressor_destroy);
#define own_compressor __attribute__((cleanup(own_compressor_release)))
