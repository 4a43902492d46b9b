/*
 * push: an image to a registry, byte for byte as it came: what the registry lacks is sent, several blobs
 * at once, and the manifest last. Layers of which no blob is here, and none there, are packed anew (repack.h);
 * the manifest then names what they have become.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/jobs.h"
#include "image/manifest.h"
#include "image/repack.h"
#include "image/registries.h"
#include "image/registry.h"
#include "image/store_priv.h"

static const struct image_remote default_remote;

struct push {
	struct image_store *store;
	const struct image_remote *remote;
	const char *registry_name; /* as in references */
	struct registry *registry;
	struct manifest manifest;
	struct digest *blobs;         /* the configuration last */
	const struct digest *diffids; /* of the image's layers, borrowed */
	struct packed_layer *packed;  /* what the layers have become; without descriptors */
	char **others;                /* repositories of that registry which know this image */
	bool repacked;                /* layers have another digest there */
};

/* 1 if the registry has the blob already, or gets it from another of its repositories. */
static int is_there(struct push *push, const struct digest *digest, struct error *err)
{
	int rc = registry_has_blob(push->registry, digest, err);

	for (size_t k = 0; rc == 0 && push->others != NULL && push->others[k] != NULL; k++)
		rc = registry_mount(push->registry, digest, push->others[k], NULL) > 0;
	return rc;
}

/* The place in the manifest of a layer with this blob; layers_count: it is the configuration's. */
static size_t layer_of(const struct push *push, const struct digest *blob)
{
	size_t i = 0;

	while (i < push->manifest.layers_count &&
	       !digest_eq(&push->manifest.layers[i].digest, blob))
		i++;
	return i;
}

/* The blob to be sent for `digest`. */
static int open_packed(struct push *push, const struct digest *digest, struct packed_layer *ret,
		       struct error *err)
{
	size_t layer = layer_of(push, digest);

	if (layer < push->manifest.layers_count)
		return image_pack_layer(push->store, push->store->root_fd,
					&push->manifest.layers[layer], &push->diffids[layer], ret,
					err);
	ret->digest = *digest;
	ret->fd = image_blob_open(push->store, digest, &ret->size_bytes, err);
	return ret->fd < 0 ? ret->fd : 0;
}

/* A job: one blob. The result is what it has become. */
static int send_blob(size_t i, struct image_job_meter *meter, void *result, void *context,
		     struct error *err)
{
	struct push *push = context;
	own_packed_layer struct packed_layer packed = {.fd = -1};
	int rc = registry_reconnect(push->registry, err);

	if (rc == 0)
		rc = is_there(push, &push->blobs[i], err);
	meter->was_there = rc > 0;
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = open_packed(push, &push->blobs[i], &packed, err);
	/* What it has become was perhaps sent before. */
	if (rc == 0 && packed.changed)
		rc = is_there(push, &packed.digest, err);
	meter->was_there = rc > 0;
	meter->total_bytes = packed.size_bytes;
	if (rc == 0)
		rc = registry_upload(push->registry, &packed.digest, packed.fd, packed.size_bytes,
				     &meter->done_bytes, err);
	if (rc < 0)
		return refuse(err, rc, "send %s", push->blobs[i].text);
	memcpy(result, &packed, sizeof(packed));
	return 0;
}

/* Notes it for all layers that have this blob. */
static int sent(size_t i, const void *result, void *context, struct error *err)
{
	struct push *push = context;

	(void)err;
	for (size_t k = 0; k < push->manifest.layers_count; k++)
		if (digest_eq(&push->manifest.layers[k].digest, &push->blobs[i])) {
			memcpy(&push->packed[k], result, sizeof(push->packed[k]));
			push->packed[k].fd = -1;
		}
	return 0;
}

static const char *blob_name(size_t i, void *context)
{
	const struct push *push = context;

	return push->blobs[i].text;
}

/* Other repositories of the same registry from which blobs can be mounted. */
static int find_others(struct push *push, const struct digest *id, const char *target,
		       struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_mem char *prefix = str_format("%s/", push->registry_name);
	int rc = db_query(push->store->db, &q, err,
			  "SELECT DISTINCT repository FROM image_digest WHERE image = ?", "t",
			  id->text);

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		const char *repository = str_after(db_text(q, 0), prefix);

		if (repository == NULL || str_eq(repository, target))
			continue;
		strv_push(&push->others, repository);
		registry_also(push->registry, repository);
	}
	return rc;
}

/* The blobs to be sent, each once. */
static size_t list_blobs(struct push *push)
{
	const struct manifest *m = &push->manifest;
	size_t count = 0;

	push->blobs = mem_new_array(m->layers_count + 1, sizeof(*push->blobs));
	for (size_t i = 0; i <= m->layers_count; i++) {
		const struct digest *d =
			i < m->layers_count ? &m->layers[i].digest : &m->config.digest;
		bool known = false;

		for (size_t k = 0; k < count; k++)
			known = known || digest_eq(&push->blobs[k], d);
		if (!known)
			push->blobs[count++] = *d;
	}
	return count;
}

/* The manifest as it is to be put: the image's own if all layers are as it says. */
static int final_manifest(struct push *push, char **text, size_t *len, struct error *err)
{
	char *packed;
	int rc;

	for (size_t i = 0; i < push->manifest.layers_count; i++)
		push->repacked = push->repacked || push->packed[i].changed;
	if (!push->repacked)
		return 0;
	rc = image_pack_manifest(*text, *len, push->packed, push->manifest.layers_count, &packed,
				 err);
	if (rc < 0)
		return rc;
	free(*text);
	*text = packed;
	*len = strlen(packed);
	return 0;
}

static int push_image(struct push *push, const struct image *image, const char *tag,
		      struct digest *ret, struct error *err)
{
	own_mem char *text = NULL;
	struct image_jobs jobs = {
		.result_size = sizeof(struct packed_layer),
		.context = push,
		.run = send_blob,
		.done = sent,
		.name = blob_name,
		.progress = push->remote->progress,
		.progress_data = push->remote->progress_data,
	};
	size_t len;
	int rc =
		image_blob_read(push->store, &image->manifest, MANIFEST_SIZE_MAX, &text, &len, err);

	if (rc == 0)
		rc = manifest_parse(text, len, NULL, &push->manifest, err);
	if (rc == 0 && push->manifest.layers_count != image->layers_count)
		rc = refuse(err, -EBADMSG, "its manifest has %zu layers, its configuration %zu",
			    push->manifest.layers_count, image->layers_count);
	/* The processes inherit the authorization that this gets. */
	if (rc == 0)
		rc = registry_has_blob(push->registry, &push->manifest.config.digest, err);
	if (rc < 0)
		return rc;
	jobs.count = list_blobs(push);
	push->diffids = image->layers;
	push->packed = mem_new_array(image->layers_count, sizeof(*push->packed));
	rc = image_jobs_run(&jobs, err);
	if (rc == 0)
		rc = final_manifest(push, &text, &len, err);
	if (rc == 0)
		rc = registry_tag_manifest(push->registry, tag, push->manifest.media_type, text,
					   len, push->repacked ? NULL : &image->manifest, ret, err);
	return rc;
}

static int record_digest(struct image_store *store, const struct reference *target,
			 const struct image *image, const struct digest *manifest,
			 struct error *err)
{
	char repository[REFERENCE_TEXT_MAX];
	int rc;

	reference_format_name(target, repository);
	rc = db_run(store->db, err,
		    "INSERT OR IGNORE INTO image_digest (repository, digest, image) "
		    "VALUES (?, ?, ?)",
		    "ttt", repository, manifest->text, image->id.text);
	return rc < 0 ? rc : 0;
}

static int push_to(struct push *push, const struct image *image, const struct reference *target,
		   struct digest *ret, struct error *err)
{
	own_registry_candidates struct registry_candidates places = {0};
	struct reference full = *target;
	const struct registry_endpoint *e;
	int rc;

	/* Where a short name is sent is not a matter of search lists. */
	full.short_name = false;
	rc = registries_resolve(&full, NULL, &places, err);
	if (rc < 0)
		return rc;
	e = &places.items[0].endpoints[places.items[0].endpoints_count - 1];
	push->registry_name = e->registry;
	rc = registry_open(e->registry, e->repository, e->insecure, REGISTRY_PUSH, push->remote,
			   &push->registry, err);
	if (rc == 0)
		rc = find_others(push, &image->id, e->repository, err);
	if (rc == 0)
		rc = push_image(push, image, target->tag, ret, err);
	return rc < 0 ? rc : record_digest(push->store, target, image, ret, err);
}

int image_push(struct image_store *store, const char *name, const char *target,
	       const struct image_remote *remote, struct digest *ret_manifest, struct error *err)
{
	struct push push = {.store = store, .remote = remote ? remote : &default_remote};
	own_image struct image *image = NULL;
	own_fd int lock_fd = -1;
	struct interrupt interrupt;
	struct reference reference;
	struct digest manifest;
	int rc = image_find(store, name, &image, err);

	if (rc == 0 && target == NULL && image->name == NULL)
		rc = hint(err, refuse(err, -EINVAL, "\"%s\" does not say where to", name),
			  "berth push %s registry/name:tag", name);
	if (rc == 0)
		rc = reference_parse(target ? target : image->name, &reference, err);
	if (rc == 0 && reference_has_digest(&reference))
		rc = refuse(err, -EINVAL, "\"%s\" has a digest: an image is pushed to a tag",
			    target);
	if (rc < 0)
		return rc;
	/* Nothing is deleted while it is being read. */
	interrupt = interrupt_begin();
	lock_fd = image_store_lock(store, err);
	rc = lock_fd < 0 ? lock_fd : push_to(&push, image, &reference, &manifest, err);
	interrupt_end(&interrupt, rc);
	registry_close(push.registry);
	manifest_release(&push.manifest);
	free(push.blobs);
	free(push.packed);
	strv_free(push.others);
	if (rc < 0)
		return rc;
	if (push.repacked)
		log_warn("layers of %s had to be compressed anew: it has the digest %s there, "
			 "instead of %s",
			 name, manifest.text, image->manifest.text);
	*ret_manifest = manifest;
	return 0;
}
