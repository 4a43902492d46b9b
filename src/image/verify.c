/*
 * verify: whether an image is what it should be (declared in trust.h): the files that are here against
 * their digests, the digests against signatures.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/manifest.h"
#include "image/store_priv.h"
#include "image/trust.h"

static const struct image_remote default_remote;

/* The layers that the tables list must be those of the configuration, whose digest is the id. */
static int compare_layers(struct image_store *store, const struct image *image, struct error *err)
{
	own_image_document struct image_document document = {0};
	bool same;
	int rc = image_read_document(store, &image->id, &document, err);

	if (rc < 0)
		return rc;
	same = document.diffids_count == image->layers_count;
	for (size_t i = 0; same && i < image->layers_count; i++)
		same = digest_eq(&document.diffids[i], &image->layers[i]);
	return same ? 0
		    : refuse(err, -EBADMSG,
			     "the layers that are recorded are not those of the configuration");
}

static int verify_files(struct image_store *store, const struct image *image, image_problem_fn *fn,
			void *data, struct image_verified *ret, struct error *err)
{
	int rc = image_verify_files(store, &image->id, fn, data, &ret->blobs, &ret->layers, err);

	if (rc > 0)
		return hint(err,
			    refuse(err, -EBADMSG, "%d of its files %s not what %s should be", rc,
				   rc == 1 ? "is" : "are", rc == 1 ? "it" : "they"),
			    "berth system check --repair");
	return rc < 0 ? rc : compare_layers(store, image, err);
}

/* The digests that lead to the image: those known here, or what the registry has now. */
static int find_digests(struct image_store *store, const struct reference *reference,
			const struct image *image, struct registry *registry, struct digest **ret,
			size_t *ret_count, struct error *err)
{
	own_mem char *text = NULL, *type = NULL;
	struct digest digest;
	size_t len;
	int rc;

	if (image != NULL)
		return trust_known_digests(store, reference, image, ret, ret_count, err);
	rc = registry_manifest(registry, trust_which(reference), &text, &len, &type, &digest, err);
	if (rc < 0)
		return rc;
	*ret = mem_new_array(1, sizeof(**ret));
	**ret = digest;
	*ret_count = 1;
	return 0;
}

static int verify_signatures(struct image_store *store, const struct reference *reference,
			     const struct image *image, const char *key_file,
			     const struct image_remote *remote, struct image_verified *ret,
			     struct error *err)
{
	own_mem char *key_path = str_copy(key_file);
	char *paths[] = {key_path, NULL};
	const struct policy_requirement by_key = {.kind = POLICY_SIGNED, .key_paths = paths};
	own_registry struct registry *registry = NULL;
	own_policy struct policy policy = {0};
	own_mem struct digest *digests = NULL;
	size_t count;
	int rc = 0;

	if (key_file == NULL)
		rc = trust_load(store->policy_path, &policy, err);
	if (rc == 0 && key_file == NULL)
		rc = trust_admit(&policy, reference, err);
	if (rc < 0)
		return rc;
	/* Neither asked for nor required; but what is not here is to be found there, at least. */
	if (key_file == NULL && image != NULL &&
	    !policy_wants_signatures(policy_find(&policy, reference)))
		return 0;
	rc = trust_open_registry(reference, REGISTRY_PULL, remote, &registry, err);
	if (rc == 0)
		rc = find_digests(store, reference, image, registry, &digests, &count, err);
	if (rc < 0)
		return rc;
	if (key_file != NULL)
		rc = trust_check_one(&by_key, reference, registry, digests, count,
				     &ret->signed_digest, err);
	else
		rc = trust_check(&policy, reference, registry, digests, count, err);
	ret->is_signed = rc == 0 && (key_file != NULL ||
				     policy_wants_signatures(policy_find(&policy, reference)));
	return rc;
}

int image_verify(struct image_store *store, const char *name, const char *key_file,
		 const struct image_remote *remote, image_problem_fn *fn, void *data,
		 struct image_verified *ret, struct error *err)
{
	struct image_verified verified = {0};
	own_image struct image *image = NULL;
	struct reference reference;
	struct error why = {0};
	const char *full;
	int rc = image_find(store, name, &image, &why);

	if (rc < 0 && rc != -ENOENT) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	verified.is_here = image != NULL;
	if (image != NULL) {
		rc = verify_files(store, image, fn, data, &verified, err);
		if (rc < 0)
			return rc;
	}
	full = image && image->name ? image->name : name;
	/* By its id an image has no place where signatures could be. */
	if (image != NULL && image->name == NULL && strchr(name, '@') == NULL) {
		if (key_file != NULL)
			return hint(
				err,
				refuse(err, -EINVAL,
				       "an id does not say in which registry the signatures are"),
				"give the image's name");
		*ret = verified;
		return 0;
	}
	rc = reference_parse(full, &reference, err);
	if (rc == 0)
		rc = verify_signatures(store, &reference, image, key_file,
				       remote ? remote : &default_remote, &verified, err);
	if (rc == 0)
		*ret = verified;
	return rc;
}
