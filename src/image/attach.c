/* attach: see attach.h. */
#include "image/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/manifest.h"
#include "image/registry.h"
#include "image/trust.h"

static const struct image_remote default_remote;

/* The manifest that is referred to. */
struct subject {
	struct digest digest;
	char *type;
	size_t size;
};

static void subject_release(struct subject *subject)
{
	free(subject->type);
}
#define own_subject __attribute__((cleanup(subject_release)))

/* One of the digests under which the image is known: 1 if the registry has it and it is the image's own
 * manifest, not an index. */
static int try_subject(struct registry *registry, const struct digest *digest, struct subject *ret,
		       struct error *err)
{
	own_mem char *text = NULL, *type = NULL;
	own_manifest struct manifest manifest = {0};
	struct error why = {0};
	int rc = registry_manifest(registry, digest->text, &text, &ret->size, &type, &ret->digest,
				   &why);

	if (rc == -ENOENT)
		return 0;
	if (rc == 0)
		rc = manifest_parse(text, ret->size, type, &manifest, &why);
	if (rc < 0) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	if (manifest.kind != MANIFEST_IMAGE)
		return 0;
	free(ret->type);
	ret->type = str_copy(manifest.media_type);
	return 1;
}

static int find_subject(struct image_store *store, const struct reference *reference,
			const struct image *image, struct registry *registry, struct subject *ret,
			struct error *err)
{
	own_mem struct digest *digests = NULL;
	char name[REFERENCE_TEXT_MAX];
	size_t count = 0;
	int rc = trust_known_digests(store, reference, image, &digests, &count, err);

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = try_subject(registry, &digests[i], ret, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	reference_format_familiar(reference, name);
	return hint(err,
		    refuse(err, -ENOENT,
			   "the registry does not have the image that is here as \"%s\"", name),
		    "berth push %s", name);
}

static json_t *descriptor(const char *type, const struct digest *digest, size_t size)
{
	return json_pack("{s:s, s:s, s:I}", "mediaType", type, "digest", digest->text, "size",
			 (json_int_t)size);
}

static int put(struct registry *registry, const struct subject *subject,
	       const struct image_attachment *a, struct digest *ret, struct error *err)
{
	static const char empty[] = "{}", empty_type[] = "application/vnd.oci.empty.v1+json";
	const struct digest config = digest_of(empty, 2), blob = digest_of(a->text, a->len);
	own_json json_t *manifest = NULL, *listed = NULL;
	own_mem char *text = NULL;
	int rc = registry_upload_bytes(registry, empty, 2, err);

	if (rc == 0)
		rc = registry_upload_bytes(registry, a->text, a->len, err);
	if (rc < 0)
		return rc;
	manifest = json_pack("{s:i, s:s, s:s, s:o, s:[o], s:o}", "schemaVersion", 2, "mediaType",
			     MEDIA_OCI_MANIFEST, "artifactType", a->type, "config",
			     descriptor(empty_type, &config, 2), "layers",
			     descriptor(a->type, &blob, a->len), "subject",
			     descriptor(subject->type, &subject->digest, subject->size));
	text = json_text(manifest);
	*ret = digest_of(text, strlen(text));
	listed = descriptor(MEDIA_OCI_MANIFEST, ret, strlen(text));
	json_set_string(listed, "artifactType", a->type);
	return registry_put_referrer(registry, &subject->digest, MEDIA_OCI_MANIFEST, text,
				     strlen(text), listed, err);
}

int image_attach(struct image_store *store, const char *name,
		 const struct image_attachment *attachment, const struct image_remote *remote,
		 struct digest *ret, struct error *err)
{
	own_registry struct registry *registry = NULL;
	own_image struct image *image = NULL;
	own_subject struct subject subject = {0};
	struct reference reference;
	int rc = image_find(store, name, &image, err);

	/* By its id an image is nowhere. */
	if (rc == 0 && image->name == NULL && strchr(name, '@') == NULL)
		rc = hint(err, refuse(err, -EINVAL, "\"%s\" does not say in which registry", name),
			  "give the image's name");
	if (rc == 0)
		rc = reference_parse(image->name ? image->name : name, &reference, err);
	if (rc == 0)
		rc = trust_open_registry(&reference, REGISTRY_PUSH,
					 remote ? remote : &default_remote, &registry, err);
	if (rc == 0)
		rc = find_subject(store, &reference, image, registry, &subject, err);
	return rc < 0 ? rc : put(registry, &subject, attachment, ret, err);
}
