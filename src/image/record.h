/*
 * record: rows for what has arrived. Blobs and layers are recorded as they become complete, so that a
 * later try finds them; an image only when all of it is here.
 */
#pragma once

#include "image/ingest.h"
#include "image/manifest.h"
#include "image/session.h"

/* Stores a small blob that is in memory (manifest, configuration) and records it, under its digest with
 * the algorithm of `like` (NULL: sha256). */
int image_record_small(struct image_session *session, const void *data, size_t len,
		       const struct digest *like, struct digest *ret, struct error *err) must_check;
/* Records a blob that has its name already. */
int image_record_blob(struct image_session *session, const struct digest *digest, uint64_t size,
		      struct error *err) must_check;
/* Records what an ingest has brought, in one durable transaction. */
int image_record_layer(struct image_session *session, const struct ingest_result *result,
		       struct error *err) must_check;
/* True if blob or layer are recorded and their files are there with the recorded size. */
int image_have_blob(struct image_store *store, const struct digest *digest, uint64_t *ret_size,
		    struct error *err) must_check;
int image_have_layer(struct image_store *store, const struct digest *diffid,
		     struct error *err) must_check;

/* The blob that a layer was made of. */
struct image_origin {
	struct digest blob;
	uint64_t size;                /* 0: not known */
	enum compression compression; /* COMPRESSION_UNKNOWN: its first bytes say */
	bool blob_here;
};
/* 1 if the layer has one on record; else 0. */
int image_layer_origin(struct image_store *store, const struct digest *diffid,
		       struct image_origin *ret, struct error *err) must_check;
/* 1 if the layer file holds the layer's tar. */
int image_layer_holds_tar(struct image_store *store, const struct digest *diffid,
			  struct error *err) must_check;

struct image_record {
	const struct digest *id, *manifest;
	const struct image_document *document;
	const struct digest *blobs; /* all that belong to it, manifest and configuration too;
				     * those that are not here are passed over */
	size_t blobs_count;
	const char *name;                  /* full; NULL: none */
	const char *repository;            /* full, under which ... */
	const struct digest *repo_digests; /* ... these name it */
	size_t repo_digests_count;
};
/* Records the image and gives it its name, in one durable transaction. */
int image_record(struct image_session *session, const struct image_record *record,
		 struct error *err) must_check;
