/*
 * pull: an image from its registry, or from a mirror of it.
 *
 *     name -> places (registries.conf) -> manifest, through an index -> configuration -> layers
 *
 * The documents are fetched here, the layers by fetch.c's processes, each over its own connection.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/fetch.h"
#include "image/record.h"
#include "image/registries.h"
#include "image/registry.h"
#include "image/store_priv.h"
#include "image/trust.h"

static const struct image_remote default_remote;

/* The documents that lead to an image's layers. */
struct documents {
	char *index_text, *manifest_text, *config_text;
	size_t index_len, manifest_len, config_len;
	struct digest index_digest, manifest_digest; /* index: "" if there is none */
	struct manifest manifest;
};

static void documents_release(struct documents *d)
{
	free(d->index_text);
	free(d->manifest_text);
	free(d->config_text);
	manifest_release(&d->manifest);
	memset(d, 0, sizeof(*d));
}
#define own_documents __attribute__((cleanup(documents_release)))

struct pull {
	struct image_session session;
	const struct image_remote *remote;
	struct platform platform;
	struct interrupt interrupt;
	struct policy policy;
	struct registry *registry;
	struct documents documents;
	/* In a layer's process: whether it has its own connection already. */
	bool reconnected;
};

static void tell(const struct pull *pull, enum image_step step, const char *what)
{
	struct image_progress progress = {.step = step, .what = what};

	if (pull->remote->progress != NULL)
		pull->remote->progress(&progress, pull->remote->progress_data);
}

/* The manifest that `which` names, through an index if it is one. */
static int fetch_manifest(struct pull *pull, const char *which, struct error *err)
{
	struct documents *d = &pull->documents;
	const struct descriptor *chosen;
	own_manifest struct manifest index = {0};
	own_mem char *type = NULL, *inner_type = NULL;
	int rc = registry_manifest(pull->registry, which, &d->manifest_text, &d->manifest_len,
				   &type, &d->manifest_digest, err);

	if (rc == 0)
		rc = manifest_parse(d->manifest_text, d->manifest_len, type, &d->manifest, err);
	if (rc < 0 || d->manifest.kind == MANIFEST_IMAGE)
		return rc;
	index = d->manifest;
	memset(&d->manifest, 0, sizeof(d->manifest));
	d->index_text = take(d->manifest_text);
	d->index_len = d->manifest_len;
	d->index_digest = d->manifest_digest;
	rc = manifest_select(&index, &pull->platform, &chosen, err);
	if (rc == 0)
		rc = registry_manifest(pull->registry, chosen->digest.text, &d->manifest_text,
				       &d->manifest_len, &inner_type, &d->manifest_digest, err);
	if (rc == 0)
		rc = manifest_parse(d->manifest_text, d->manifest_len, inner_type, &d->manifest,
				    err);
	if (rc == 0 && d->manifest.kind != MANIFEST_IMAGE)
		return refuse(err, -ENOTSUP, "the index leads to another index");
	return rc;
}

static int add_text(const void *data, size_t len, void *context, struct error *err)
{
	(void)err;
	buf_add(context, data, len);
	return 0;
}

/* The configuration: from the store if it is there, else from the registry. */
static int fetch_config(struct pull *pull, struct error *err)
{
	struct documents *d = &pull->documents;
	const struct descriptor *config = &d->manifest.config;
	own_buf struct buf text = {0};
	struct digest is;
	uint64_t size;
	int rc = image_have_blob(pull->session.store, &config->digest, &size, err);

	if (rc > 0)
		rc = image_blob_read(pull->session.store, &config->digest, CONFIG_SIZE_MAX,
				     &d->config_text, &d->config_len, err);
	else if (rc == 0)
		rc = registry_blob(pull->registry, &config->digest, config->size_bytes, add_text,
				   &text, err);
	if (rc < 0 || d->config_text != NULL)
		return rc;
	is = digest_of_like(&config->digest, text.data ? text.data : "", text.len);
	if (!digest_eq(&is, &config->digest))
		return refuse(err, -EBADMSG,
			      "the configuration that came has the digest %s, not %s", is.text,
			      config->digest.text);
	d->config_len = text.len;
	d->config_text = buf_take(&text);
	return 0;
}

static int stream(size_t i, image_bytes_fn *out, void *out_context, void *context,
		  struct error *err)
{
	struct pull *pull = context;
	const struct descriptor *layer = &pull->documents.manifest.layers[i];

	if (!pull->reconnected) {
		int rc = registry_reconnect(pull->registry, err);

		if (rc < 0)
			return rc;
		pull->reconnected = true;
	}
	return registry_blob(pull->registry, &layer->digest, layer->size_bytes, out, out_context,
			     err);
}

/* What the reference asks for at a registry. */
static const char *which_of(const struct reference *reference)
{
	return reference_has_digest(reference) ? reference->digest.text : reference->tag;
}

/* Asks the policy, which must agree before anything else is fetched. */
static int check_trust(struct pull *pull, const struct reference *reference, struct error *err)
{
	const struct documents *d = &pull->documents;
	const struct digest digests[] = {d->manifest_digest, d->index_digest};

	return trust_check(&pull->policy, reference, pull->registry, digests, d->index_text ? 2 : 1,
			   err);
}

/* An index was chosen from by the platform; an image that is none says itself what it is made for. Without
 * a wish it may be for another machine, as with other engines. */
static int check_platform(const struct pull *pull, struct error *err)
{
	const struct documents *d = &pull->documents;
	own_image_document struct image_document document = {0};
	char text[3 * PLATFORM_PART_MAX];
	int rc = 0;

	if (pull->remote->platform == NULL || d->index_text != NULL)
		return 0;
	rc = image_document_parse(d->config_text, d->config_len, &document, err);
	if (rc < 0 || platform_match(&pull->platform, document.os, document.architecture,
				     document.variant) > 0)
		return rc;
	platform_format(&pull->platform, text);
	return hint(err, refuse(err, -ENOENT, "the image is not made for %s", text),
		    "it is made for %.30s/%.30s; without --platform it comes all the same",
		    document.os ? document.os : "?",
		    document.architecture ? document.architecture : "?");
}

/* All but the layers, from the first place that has them. */
static int fetch_documents(struct pull *pull, const struct registry_candidate *candidate,
			   struct error *err)
{
	int rc = -ENOENT;

	for (size_t i = 0; i < candidate->endpoints_count; i++) {
		const struct registry_endpoint *e = &candidate->endpoints[i];

		error_clear(err);
		registry_close(take(pull->registry));
		documents_release(&pull->documents);
		rc = registry_open(e->registry, e->repository, e->insecure, REGISTRY_PULL,
				   pull->remote, &pull->registry, err);
		if (rc == 0)
			rc = fetch_manifest(pull, which_of(&candidate->reference), err);
		if (rc == 0)
			rc = check_trust(pull, &candidate->reference, err);
		if (rc == 0)
			rc = fetch_config(pull, err);
		if (rc == 0)
			rc = check_platform(pull, err);
		/* A mirror that does not serve is passed over, whatever its trouble is. */
		if (rc == 0 || rc == -EINTR)
			return rc;
	}
	return rc;
}

static int arrive(struct pull *pull, const struct reference *reference, struct digest *ret_id,
		  struct error *err)
{
	struct documents *d = &pull->documents;
	struct digest repo_digests[2] = {d->manifest_digest}, index;
	char name[REFERENCE_TEXT_MAX], repository[REFERENCE_TEXT_MAX];
	struct image_fetch fetch = {
		.session = &pull->session,
		.stream = stream,
		.context = pull,
		.progress = pull->remote->progress,
		.progress_data = pull->remote->progress_data,
	};
	struct image_arrival arrival = {
		.manifest_text = d->manifest_text,
		.manifest_len = d->manifest_len,
		.manifest_digest = &d->manifest_digest,
		.config_text = d->config_text,
		.config_len = d->config_len,
		.repository = repository,
		.repo_digests = repo_digests,
		.repo_digests_count = 1,
	};
	struct reference tagged = *reference;
	int rc = 0;

	reference_format_name(reference, repository);
	/* A name with a digest says which image it is; only a tag makes a name. */
	if (!reference_has_digest(reference)) {
		reference_format(&tagged, name);
		arrival.name = name;
	}
	if (d->index_text != NULL) {
		rc = image_record_small(&pull->session, d->index_text, d->index_len,
					&d->index_digest, &index, err);
		repo_digests[arrival.repo_digests_count++] = d->index_digest;
		arrival.extra_blobs = &index;
		arrival.extra_blobs_count = 1;
	}
	return rc < 0 ? rc : image_arrive(&fetch, &arrival, ret_id, err);
}

/* The first of the names that is found; what went wrong with the others is only of interest if none
 * is. */
static int pull_any(struct pull *pull, const struct registry_candidates *candidates,
		    struct digest *ret_id, struct error *err)
{
	int rc = -ENOENT;

	for (size_t i = 0; i < candidates->count; i++) {
		char name[REFERENCE_TEXT_MAX];

		reference_format(&candidates->items[i].reference, name);
		tell(pull, IMAGE_STEP_RESOLVE, name);
		error_clear(err);
		rc = trust_admit(&pull->policy, &candidates->items[i].reference, err);
		if (rc == 0)
			rc = fetch_documents(pull, &candidates->items[i], err);
		/* What is not signed as it should be is not looked for under another name. */
		if (rc == -EKEYREJECTED || rc == -EINTR)
			return rc;
		if (rc < 0)
			continue;
		rc = arrive(pull, &candidates->items[i].reference, ret_id, err);
		if (rc == 0)
			tell(pull, IMAGE_STEP_FINISH, pull->documents.manifest_digest.text);
		return rc;
	}
	return rc;
}

int image_pull(struct image_store *store, const char *name, const struct image_remote *remote,
	       struct image **ret, struct error *err)
{
	struct pull pull = {.remote = remote ? remote : &default_remote};
	own_registry_candidates struct registry_candidates candidates = {0};
	int64_t since = clock_now_ns();
	struct reference reference;
	struct error why = {0};
	struct digest id;
	int rc = reference_parse(name, &reference, err);

	if (rc == 0)
		rc = platform_parse(pull.remote->platform, &pull.platform, err);
	if (rc == 0)
		rc = registries_resolve(&reference, pull.remote->choose, &candidates, err);
	if (rc == 0)
		rc = trust_load(store->policy_path, &pull.policy, err);
	if (rc < 0)
		return rc;
	pull.interrupt = interrupt_begin();
	rc = image_session_begin(store, &pull.session, err);
	if (rc == 0)
		rc = pull_any(&pull, &candidates, &id, err);
	registry_close(pull.registry);
	policy_release(&pull.policy);
	documents_release(&pull.documents);
	image_session_end(&pull.session);
	if (rc < 0)
		rc = image_fetch_failed(store, since, rc);
	interrupt_end(&pull.interrupt, rc);
	if (rc < 0)
		return rc;
	/* Only now is it known to have been a good answer. */
	if (candidates.chosen &&
	    registries_remember(&reference, &candidates.items[0].reference, &why) < 0)
		log_failure(&why);
	rc = image_trim(store, since, NULL, NULL, err);
	return rc < 0 ? rc : image_find(store, id.text, ret, err);
}

/* Whether the image here is made for the platform that is asked for. */
static int platform_fits(const struct image *image, const struct image_remote *remote,
			 struct error *err)
{
	struct platform platform;
	int rc;

	if (remote == NULL || remote->platform == NULL)
		return 1;
	rc = platform_parse(remote->platform, &platform, err);
	if (rc < 0)
		return rc;
	return platform_match(&platform, image->os, image->architecture, image->variant) > 0;
}

static int wrong_platform(const struct image *image, const char *name, struct error *err)
{
	return hint(err,
		    refuse(err, -ENOENT, "the image \"%.200s\" here is made for %s/%s", name,
			   image->os, image->architecture),
		    "fetch the other one: berth pull --platform ... %.200s", name);
}

int image_get(struct image_store *store, const char *name, enum image_pull_policy policy,
	      const struct image_remote *remote, struct image **ret, struct error *err)
{
	own_image struct image *image = NULL;
	struct error why = {0};
	int rc, fits = 1;

	if (policy == IMAGE_PULL_ALWAYS)
		return image_pull(store, name, remote, ret, err);
	rc = image_find(store, name, &image, policy == IMAGE_PULL_NEVER ? err : &why);
	if (rc == 0)
		fits = platform_fits(image, remote, err);
	if (fits < 0)
		return fits;
	if (rc == 0 && fits && policy != IMAGE_PULL_NEWER) {
		*ret = take(image);
		return 0;
	}
	if (policy == IMAGE_PULL_NEVER)
		return rc < 0 ? rc : wrong_platform(image, name, err);
	if (rc < 0 && rc != -ENOENT) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	rc = image_pull(store, name, remote, ret, err);
	/* "newer" is content with what is here if the registry cannot be asked; not if what is newer
	 * may not come. */
	if (rc < 0 && rc != -EPERM && rc != -EKEYREJECTED && policy == IMAGE_PULL_NEWER &&
	    image != NULL && fits) {
		error_clear(err);
		*ret = take(image);
		return 0;
	}
	return rc;
}
