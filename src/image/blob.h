/* blob: the files under <root>/blobs/<algorithm>, as the tables know them. */
#pragma once

#include "image/decompress.h"
#include "image/store.h"

/* The directory of the blobs, created if it is missing. Borrowed. */
int image_store_blobs_fd(struct image_store *store, struct error *err) must_check;
/* Opens a blob for reading. Returns the descriptor. */
int image_blob_open(struct image_store *store, const struct digest *digest, uint64_t *ret_size,
		    struct error *err) must_check;
/* Reads a small blob whole and verifies its digest. */
int image_blob_read(struct image_store *store, const struct digest *digest, size_t max,
		    char **ret_text, size_t *ret_len, struct error *err) must_check;
/* Pushes what a descriptor holds from its position on. */
int image_fd_stream(int fd, image_bytes_fn *out, void *context, struct error *err) must_check;
/* Pushes the bytes of a blob. */
int image_blob_stream(struct image_store *store, const struct digest *blob, image_bytes_fn *out,
		      void *context, struct error *err) must_check;
