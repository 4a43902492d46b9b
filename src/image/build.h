/* build: an image of one layer from a tar that somebody produces, and its configuration. */
#pragma once

#include "image/ingest.h"

/* Pushes all bytes of a tar into `out`. Runs in a process of its own. */
typedef int image_produce_fn(image_bytes_fn *out, void *out_context, void *context,
			     struct error *err);
int image_build(struct image_store *store, const struct image_import *options,
		image_produce_fn *produce, void *context, struct image **ret,
		struct error *err) must_check;

/* The full name of `name` for a new image: tag `latest` if none, no digest. */
int image_target_name(const char *name, char out[static REFERENCE_TEXT_MAX],
		      struct error *err) must_check;
