/*
 * depot: a place that holds manifests and blobs by digest, and names for some of them: a repository at a
 * registry, or a directory with an OCI layout. For copy.h.
 */
#pragma once

#include "image/registry.h"

struct depot;
/* What is being written into a depot. */
struct depot_blob;

/* `text` as copy.h says. `remote` must outlive the depot. A directory is made if it is to be written. */
int depot_open(const char *text, enum registry_access access, const struct image_remote *remote,
	       struct depot **ret, struct error *err) must_check;
void depot_close(struct depot *depot);
OWN_DEFINE(own_depot, struct depot *, depot_close);
#define own_depot __attribute__((cleanup(own_depot_release)))
/* In a child after fork. */
int depot_reconnect(struct depot *depot, struct error *err) must_check;

/* The tag or digest that the text names; NULL: a directory with only one manifest. Borrowed. */
const char *depot_which(const struct depot *depot);
/* A manifest by tag or digest, verified. -ENOENT. */
int depot_manifest(struct depot *depot, const char *which, char **ret_text, size_t *ret_len,
		   char **ret_type, struct digest *ret_digest, struct error *err) must_check;
/* Descriptors of what refers to the manifest, an array. */
int depot_referrers(struct depot *depot, const struct digest *subject, json_t **ret,
		    struct error *err) must_check;
/* 1 if it is there. */
int depot_has_blob(struct depot *depot, const struct digest *digest, struct error *err) must_check;
int depot_read_blob(struct depot *depot, const struct digest *digest, uint64_t size,
		    image_bytes_fn *out, void *context, struct error *err) must_check;
/* 1 if the blob could be had from `from` without sending it: another repository of the same registry. */
int depot_take_blob(struct depot *depot, const struct depot *from, const struct digest *digest,
		    struct error *err) must_check;

int depot_blob_begin(struct depot *depot, struct depot_blob **ret, struct error *err) must_check;
int depot_blob_add(struct depot_blob *blob, const void *data, size_t len,
		   struct error *err) must_check;
/* Gives it its name. The caller has compared the digest. */
int depot_blob_finish(struct depot_blob *blob, const struct digest *digest,
		      struct error *err) must_check;
void depot_blob_close(struct depot_blob *blob);
OWN_DEFINE(own_depot_blob, struct depot_blob *, depot_blob_close);
#define own_depot_blob __attribute__((cleanup(own_depot_blob_release)))

/* Stores a manifest: by its digest, and with `name` (a tag, or NULL) under that, too. `subject`, if it has
 * one, and its descriptor let it be found as a referrer. */
struct depot_manifest {
	const char *text, *type, *name;
	size_t len;
	struct digest digest;
	const struct digest *subject; /* or NULL */
	json_t *descriptor;           /* with a subject. Borrowed */
};
int depot_put_manifest(struct depot *depot, const struct depot_manifest *manifest,
		       struct error *err) must_check;
