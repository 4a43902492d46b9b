/*
 * fetch: all layers of an image into the store, several at once, from wherever they come; what is
 * here already is left alone.
 */
#pragma once

#include "image/ingest.h"
#include "image/jobs.h"
#include "image/manifest.h"

/* Pushes the bytes of layer `i` into `out`, all of them and in order. In a process of its own. */
typedef int image_stream_fn(size_t i, image_bytes_fn *out, void *out_context, void *context,
			    struct error *err);

struct image_fetch {
	struct image_session *session;
	const struct image_document *document; /* promises the diffids */
	const struct manifest *manifest; /* promises the blobs; NULL: the source has tars only */
	image_stream_fn *stream;
	void *context;
	image_progress_fn *progress;
	void *progress_data;
};
/* What a layer is after the fetch. */
struct fetched_layer {
	struct digest blob;
	uint64_t blob_size;
	enum compression compression; /* COMPRESSION_UNKNOWN: what the blob in the store is */
};
/* Fills `ret` (one for each layer of the document, the caller's). */
int image_fetch_layers(const struct image_fetch *fetch, struct fetched_layer *ret,
		       struct error *err) must_check;

/* A source's image as a whole: `image_fetch_layers`, then its documents, then its rows. */
struct image_arrival {
	const char *manifest_text; /* NULL: an OCI manifest is made */
	size_t manifest_len;
	const struct digest *manifest_digest; /* under which it is kept; NULL: its sha256 */
	const char *config_text;
	size_t config_len;
	const char *name; /* full; NULL: none */
	const char *repository;
	const struct digest *repo_digests;
	size_t repo_digests_count;
	const struct digest *extra_blobs; /* recorded already (an index) */
	size_t extra_blobs_count;
};
/* `fetch` without document and manifest, which come from the texts. */
int image_arrive(struct image_fetch *fetch, const struct image_arrival *arrival,
		 struct digest *ret_id, struct error *err) must_check;
/* To be called after a failed session has ended: drops what it brought, unless a later try could go on
 * from there (the network broke, or the user interrupted). Returns rc. */
int image_fetch_failed(struct image_store *store, int64_t since_ns, int rc);
