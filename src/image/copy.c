/*
 * copy: see copy.h.
 *
 * What is to be copied is found out first: the manifests, each behind those that it is made of, and the
 * blobs, each once. Then the blobs go over, several at once, each in a process of its own that reads with
 * one hand and writes with the other; then the manifests, so that the destination never has one whose
 * parts it lacks; the name last.
 */
#include "image/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/depot.h"
#include "image/jobs.h"
#include "image/manifest.h"
#include "image/platform.h"
#include "image/referrers.h"

enum { DEPTH_MAX = 6, MANIFESTS_MAX = 4096, BLOBS_MAX = 100000, AT_ONCE = 3 };

static const struct image_remote default_remote;

struct document {
	char *text, *type;
	size_t len;
	struct digest digest, subject; /* subject: "" if it has none */
	json_t *descriptor;            /* for the list of what refers to its subject */
	char *tag;                     /* a signature's; or NULL */
};

struct blob {
	struct digest digest;
	uint64_t size;
};

struct copying {
	const struct image_copy *options;
	struct depot *from, *to;
	struct document *documents;
	size_t documents_count, documents_capacity;
	struct blob *blobs;
	size_t blobs_count, blobs_capacity;
};

static void copying_release(struct copying *c)
{
	depot_close(c->from);
	depot_close(c->to);
	for (size_t i = 0; i < c->documents_count; i++) {
		struct document *d = &c->documents[i];

		free(d->text);
		free(d->type);
		free(d->tag);
		json_decref(d->descriptor);
	}
	free(c->documents);
	free(c->blobs);
}

/* --- finding out ----------------------------------------------------------------------------------- */

static int add_blob(struct copying *c, const json_t *descriptor, struct error *err)
{
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	const char *type = json_string_value(json_object_get(descriptor, "mediaType"));
	const json_t *size = json_object_get(descriptor, "size");
	struct blob blob;

	if (digest == NULL || !json_is_integer(size) || json_integer_value(size) < 0)
		return refuse(err, -EINVAL, "a descriptor has no digest or no size");
	if (digest_parse(digest, &blob.digest, err) < 0)
		return -EINVAL;
	/* Foreign layers are not in registries, and are not put there. */
	if (type != NULL && (strstr(type, "foreign") || strstr(type, "nondistributable")))
		return 0;
	blob.size = (uint64_t)json_integer_value(size);
	for (size_t i = 0; i < c->blobs_count; i++)
		if (digest_eq(&c->blobs[i].digest, &blob.digest))
			return 0;
	if (c->blobs_count == BLOBS_MAX)
		return refuse(err, -EFBIG, "more than %d blobs", BLOBS_MAX);
	c->blobs = mem_grow(c->blobs, c->blobs_count, &c->blobs_capacity, sizeof(*c->blobs));
	c->blobs[c->blobs_count++] = blob;
	return 0;
}

static int find(struct copying *c, const char *which, const char *tag, int depth,
		struct error *err);

static struct document *find_known(struct copying *c, const char *digest)
{
	for (size_t i = 0; i < c->documents_count; i++)
		if (str_eq(c->documents[i].digest.text, digest) && c->documents[i].tag == NULL)
			return &c->documents[i];
	return NULL;
}

static bool is_manifest(const char *type)
{
	return type == NULL || str_eq(type, MEDIA_OCI_MANIFEST) || str_eq(type, MEDIA_OCI_INDEX) ||
	       str_eq(type, MEDIA_DOCKER_MANIFEST) || str_eq(type, MEDIA_DOCKER_INDEX);
}

/* What a manifest or index is made of. */
static int find_parts(struct copying *c, const json_t *document, int depth, struct error *err)
{
	const json_t *config = json_object_get(document, "config"), *list;
	int rc = json_is_object(config) ? add_blob(c, config, err) : 0;

	list = json_object_get(document, "layers");
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = add_blob(c, json_array_get(list, i), err);
	/* The artifact manifests of OCI 1.1's release candidates. */
	list = json_object_get(document, "blobs");
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++)
		rc = add_blob(c, json_array_get(list, i), err);
	list = json_object_get(document, "manifests");
	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
		const json_t *part = json_array_get(list, i);
		const char *digest = json_string_value(json_object_get(part, "digest"));

		if (digest == NULL)
			rc = refuse(err, -EINVAL, "a descriptor has no digest");
		else if (is_manifest(json_string_value(json_object_get(part, "mediaType"))))
			rc = find(c, digest, NULL, depth + 1, err);
		else
			rc = add_blob(c, part, err);
	}
	return rc;
}

/* Signatures of cosign and what else it attaches, by their tags. */
static int find_tagged(struct copying *c, const struct digest *digest, int depth, struct error *err)
{
	static const char *const suffixes[] = {"sig", "att", "sbom"};

	for (size_t i = 0; i < array_size(suffixes); i++) {
		own_mem char *tag = referrers_tag(digest, suffixes[i]);
		struct error why = {0};
		int rc = find(c, tag, tag, depth, &why);

		if (rc < 0 && rc != -ENOENT) {
			if (err != NULL)
				*err = why;
			return rc;
		}
	}
	return 0;
}

static int find_referrers(struct copying *c, const struct digest *digest, int depth,
			  struct error *err)
{
	own_json json_t *list = NULL;
	int rc = depot_referrers(c->from, digest, &list, err);

	for (size_t i = 0; rc == 0 && i < json_array_size(list); i++) {
		const json_t *d = json_array_get(list, i);
		const char *which = json_string_value(json_object_get(d, "digest"));
		struct document *found;

		if (which == NULL)
			continue;
		rc = find(c, which, NULL, depth, err);
		found = rc == 0 ? find_known(c, which) : NULL;
		if (found != NULL && found->descriptor == NULL) {
			found->descriptor = json_deep_copy(d);
			found->subject = *digest;
		}
	}
	return rc < 0 ? rc : find_tagged(c, digest, depth, err);
}

/* The manifest for the platform out of an index, if only one is wanted. 1: `*ret` is its digest. */
static int choose(const struct copying *c, const struct document *d, struct digest *ret,
		  struct error *err)
{
	own_manifest struct manifest index = {0};
	const struct descriptor *best;
	struct platform platform;
	int rc = manifest_parse(d->text, d->len, d->type, &index, err);

	if (rc == 0)
		rc = platform_parse(c->options->source->platform, &platform, err);
	if (rc == 0)
		rc = manifest_select(&index, &platform, &best, err);
	if (rc < 0)
		return rc;
	*ret = best->digest;
	return 1;
}

static int find_document(struct copying *c, struct document *d, const json_t *json, int depth,
			 struct error *err)
{
	int rc = find_parts(c, json, depth, err);

	if (rc < 0)
		return rc;
	if (c->documents_count == MANIFESTS_MAX)
		return refuse(err, -EFBIG, "more than %d manifests", MANIFESTS_MAX);
	c->documents = mem_grow(c->documents, c->documents_count, &c->documents_capacity,
				sizeof(*c->documents));
	c->documents[c->documents_count++] = *d;
	*d = (struct document){0};
	return 0;
}

/* A manifest and what belongs to it, once; and once more for each tag, which goes over as well. */
static int find(struct copying *c, const char *which, const char *tag, int depth, struct error *err)
{
	own_json json_t *json = NULL;
	struct document d = {0};
	struct digest digest;
	bool known;
	int rc;

	if (tag == NULL && find_known(c, which) != NULL)
		return 0;
	if (depth > DEPTH_MAX)
		return refuse(err, -ELOOP, "manifests lead to manifests without end");
	rc = depot_manifest(c->from, which, &d.text, &d.len, &d.type, &d.digest, err);
	if (rc == 0)
		rc = json_parse(d.text, d.len, "the manifest", &json, err);
	digest = d.digest;
	known = rc == 0 && find_known(c, digest.text) != NULL;
	if (rc == 0 && (!known || tag != NULL)) {
		d.tag = str_copy(tag);
		rc = find_document(c, &d, json, depth, err);
	}
	if (rc == 0 && !known && (c->options->flags & IMAGE_COPY_REFERRERS))
		rc = find_referrers(c, &digest, depth + 1, err);
	free(d.text);
	free(d.type);
	free(d.tag);
	return rc;
}

/* --- carrying over --------------------------------------------------------------------------------- */

struct carrying {
	struct depot_blob *blob;
	struct digest_state state;
	uint64_t size;
	struct image_job_meter *meter;
};

static int carry(const void *data, size_t len, void *context, struct error *err)
{
	struct carrying *carrying = context;

	digest_add(&carrying->state, data, len);
	carrying->size += len;
	carrying->meter->done_bytes += len;
	return depot_blob_add(carrying->blob, data, len, err);
}

static int copy_bytes(struct copying *c, const struct blob *blob, struct image_job_meter *meter,
		      struct error *err)
{
	own_depot_blob struct depot_blob *to = NULL;
	struct carrying carrying = {.meter = meter};
	struct digest is;
	int rc = depot_blob_begin(c->to, &to, err);

	carrying.blob = to;
	digest_begin(&carrying.state, &blob->digest);
	if (rc == 0)
		rc = depot_read_blob(c->from, &blob->digest, blob->size, carry, &carrying, err);
	digest_end(&carrying.state, &is);
	if (rc == 0 && (carrying.size != blob->size || !digest_eq(&is, &blob->digest)))
		rc = refuse(err, -EBADMSG, "what came is %s with %llu bytes, not as promised",
			    is.text, (unsigned long long)carrying.size);
	return rc < 0 ? rc : depot_blob_finish(to, &blob->digest, err);
}

/* A job: one blob. */
static int copy_blob(size_t i, struct image_job_meter *meter, void *result, void *context,
		     struct error *err)
{
	struct copying *c = context;
	const struct blob *blob = &c->blobs[i];
	int rc = depot_reconnect(c->from, err);

	(void)result;
	meter->total_bytes = blob->size;
	if (rc == 0)
		rc = depot_reconnect(c->to, err);
	if (rc == 0)
		rc = depot_has_blob(c->to, &blob->digest, err);
	if (rc == 0 && depot_take_blob(c->to, c->from, &blob->digest, NULL) > 0)
		rc = 1;
	meter->was_there = rc > 0;
	if (rc == 0)
		rc = copy_bytes(c, blob, meter, err);
	return rc < 0 ? refuse(err, rc, "copy %s", blob->digest.text) : 0;
}

static int copied(size_t i, const void *result, void *context, struct error *err)
{
	(void)i;
	(void)result;
	(void)context;
	(void)err;
	return 0;
}

static const char *blob_name(size_t i, void *context)
{
	const struct copying *c = context;

	return c->blobs[i].digest.text;
}

static int copy_blobs(struct copying *c, struct error *err)
{
	const struct image_jobs jobs = {
		.count = c->blobs_count,
		.at_once = AT_ONCE,
		.context = c,
		.run = copy_blob,
		.done = copied,
		.name = blob_name,
		.progress = c->options->source->progress,
		.progress_data = c->options->source->progress_data,
	};
	/* The processes inherit the authorization that this gets. */
	int rc = c->blobs_count > 0 ? depot_has_blob(c->to, &c->blobs[0].digest, err) : 0;

	return rc < 0 ? rc : image_jobs_run(&jobs, err);
}

static int copy_documents(struct copying *c, const struct digest *top, struct error *err)
{
	const char *which = depot_which(c->to);
	struct digest as_digest;
	int rc = 0;

	for (int last = 0; rc == 0 && last < 2; last++)
		for (size_t i = 0; rc == 0 && i < c->documents_count; i++) {
			const struct document *d = &c->documents[i];
			bool is_top = digest_eq(&d->digest, top) && d->tag == NULL;
			struct depot_manifest m = {
				.text = d->text,
				.len = d->len,
				.digest = d->digest,
				.type = d->type,
				.name = d->tag,
				.subject = d->subject.text[0] ? &d->subject : NULL,
				.descriptor = d->descriptor,
			};

			if (is_top != (last == 1))
				continue;
			if (is_top && which != NULL && digest_parse(which, &as_digest, NULL) < 0)
				m.name = which;
			rc = depot_put_manifest(c->to, &m, err);
		}
	return rc;
}

/* Everything from the manifest that is asked for, or the platform's one in it, down; *ret is its digest. */
static int find_all(struct copying *c, struct digest *ret, struct error *err)
{
	own_mem char *text = NULL, *type = NULL;
	struct document top = {0};
	size_t len;
	int rc = depot_manifest(c->from, depot_which(c->from), &text, &len, &type, ret, err);

	if (rc < 0)
		return rc;
	if (!(c->options->flags & IMAGE_COPY_ALL)) {
		own_json json_t *json = NULL;

		rc = json_parse(text, len, "the manifest", &json, err);
		top = (struct document){.text = text, .len = len, .type = type};
		if (rc == 0 && json_object_get(json, "manifests") != NULL)
			rc = choose(c, &top, ret, err);
		if (rc < 0)
			return rc;
	}
	return find(c, ret->text, NULL, 1, err);
}

static int check_target(const struct copying *c, const struct digest *top, struct error *err)
{
	const char *which = depot_which(c->to);
	struct digest wanted;

	if (which == NULL || digest_parse(which, &wanted, NULL) < 0 || digest_eq(&wanted, top))
		return 0;
	return refuse(err, -EINVAL, "\"%s\" has another digest than what would be copied, %s",
		      c->options->to, top->text);
}

int image_copy(const struct image_copy *copy, struct digest *ret, struct error *err)
{
	struct image_copy options = *copy;
	struct copying c = {.options = &options};
	const struct interrupt interrupt = interrupt_begin();
	struct digest top;
	int rc;

	if (options.source == NULL)
		options.source = &default_remote;
	if (options.target == NULL)
		options.target = &default_remote;
	rc = depot_open(options.from, REGISTRY_PULL, options.source, &c.from, err);
	if (rc == 0)
		rc = find_all(&c, &top, err);
	if (rc < 0)
		rc = refuse(err, rc, "read \"%s\"", options.from);
	if (rc == 0)
		rc = depot_open(options.to, REGISTRY_PUSH, options.target, &c.to, err);
	if (rc == 0)
		rc = check_target(&c, &top, err);
	if (rc == 0)
		rc = copy_blobs(&c, err);
	if (rc == 0)
		rc = copy_documents(&c, &top, err);
	copying_release(&c);
	interrupt_end(&interrupt, rc);
	if (rc < 0)
		return rc;
	*ret = top;
	return 0;
}
