/*
 * sign: puts a signature beside an image in its registry (declared in trust.h).
 *
 * What the registry holds already stays as it is: the document is extended, not written anew, so that
 * signatures of other kinds are kept. Two who sign at the same moment may lose one signature, since a
 * registry has no way to change a tag only if it is still what it was; both would see theirs missing
 * with `verify`.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/registries.h"
#include "image/store_priv.h"
#include "image/trust.h"

const char *trust_which(const struct reference *reference)
{
	return reference_has_digest(reference) ? reference->digest.text : reference->tag;
}

int trust_open_registry(const struct reference *reference, enum registry_access access,
			const struct image_remote *remote, struct registry **ret, struct error *err)
{
	own_registry_candidates struct registry_candidates places = {0};
	struct reference full = *reference;
	const struct registry_endpoint *e;
	int rc;

	/* Whom one trusts is not a matter of search lists. */
	full.short_name = false;
	rc = registries_resolve(&full, NULL, &places, err);
	if (rc < 0)
		return rc;
	e = &places.items[0].endpoints[places.items[0].endpoints_count - 1];
	return registry_open(e->registry, e->repository, e->insecure, access, remote, ret, err);
}

int trust_known_digests(struct image_store *store, const struct reference *reference,
			const struct image *image, struct digest **ret, size_t *ret_count,
			struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_mem struct digest *digests = mem_new_array(1, sizeof(*digests));
	char repository[REFERENCE_TEXT_MAX];
	size_t count = 1;
	int rc;

	digests[0] = image->manifest;
	reference_format_name(reference, repository);
	rc = db_query(store->db, &q, err,
		      "SELECT digest FROM image_digest WHERE image = ? AND repository = ? "
		      "AND digest <> ?",
		      "ttt", image->id.text, repository, image->manifest.text);
	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		digests = mem_resize(digests, count + 1, sizeof(*digests));
		rc = digest_parse(db_text(q, 0), &digests[count++], err);
	}
	if (rc < 0)
		return rc;
	*ret = take(digests);
	*ret_count = count;
	return 0;
}

struct signing {
	struct registry *registry;
	struct signature_key *key;
	struct digest manifest;
	char *payload;
	struct signature signature; /* ours */
};

/* Nobody is to sign something else than the image that is here and was looked at. */
static int compare_with_store(struct image_store *store, const struct reference *reference,
			      const struct digest *served, struct error *err)
{
	own_image struct image *image = NULL;
	own_mem struct digest *known = NULL;
	char name[REFERENCE_TEXT_MAX];
	struct error why = {0};
	size_t count;
	int rc;

	reference_format(reference, name);
	rc = image_find(store, name, &image, &why);
	if (rc == -ENOENT)
		return 0;
	if (rc < 0 && err != NULL)
		*err = why;
	if (rc == 0)
		rc = trust_known_digests(store, reference, image, &known, &count, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < count; i++)
		if (digest_eq(&known[i], served))
			return 0;
	return hint(err,
		    refuse(err, -ESTALE,
			   "the registry has another image under this name (%s) than there is here "
			   "(%s)",
			   served->text, image->manifest.text),
		    "push or pull it first, or name the digest that is to be signed");
}

/* Whether this key has made one of these signatures. */
static bool is_signed(const struct signing *s, const struct signatures *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (digest_eq(&list->items[i].payload, &s->signature.payload) &&
		    signature_verify(s->key, s->payload, strlen(s->payload), list->items[i].base64,
				     NULL) == 0)
			return true;
	return false;
}

/* The manifest of the signatures with ours in it. 1 and the document, 0 if ours is there already. */
static int extend(struct signing *s, const char *tag, json_t **ret, char **ret_type,
		  struct error *err)
{
	struct signatures ours = {.items = &s->signature, .count = 1};
	own_signatures struct signatures there = {0};
	own_json json_t *fresh = NULL, *document = NULL;
	own_mem char *text = NULL;
	struct error why = {0};
	const char *config;
	struct digest digest;
	size_t len;
	int rc = registry_manifest(s->registry, tag, &text, &len, ret_type, &digest, &why);

	fresh = signatures_manifest(&ours, &config);
	if (rc == -ENOENT) {
		*ret_type = str_copy(MEDIA_OCI_MANIFEST);
		*ret = take(fresh);
		return 1;
	}
	if (rc < 0)
		return refuse(err, rc, "%s", why.text);
	rc = signatures_parse(text, len, &there, err);
	if (rc == 0)
		rc = json_parse(text, len, tag, &document, err);
	if (rc < 0)
		return rc;
	if (is_signed(s, &there))
		return 0;
	json_array_extend(json_object_get(document, "layers"), json_object_get(fresh, "layers"));
	*ret = take(document);
	return 1;
}

static int send(struct signing *s, struct error *err)
{
	own_mem char *tag = signature_tag(&s->manifest), *type = NULL, *text = NULL;
	own_json json_t *document = NULL;
	int rc = extend(s, tag, &document, &type, err);

	if (rc <= 0)
		return rc;
	rc = registry_upload_bytes(s->registry, s->payload, strlen(s->payload), err);
	if (rc == 0)
		rc = registry_upload_bytes(s->registry, "{}", 2, err);
	text = json_text(document);
	if (rc == 0)
		rc = registry_put_manifest(s->registry, tag, type, text, strlen(text), err);
	return rc < 0 ? rc : 1;
}

static int sign(struct signing *s, struct image_store *store, const struct reference *reference,
		struct error *err)
{
	own_mem char *text = NULL, *type = NULL;
	char repository[REFERENCE_TEXT_MAX];
	size_t len;
	int rc = registry_manifest(s->registry, trust_which(reference), &text, &len, &type,
				   &s->manifest, err);

	if (rc == 0)
		rc = compare_with_store(store, reference, &s->manifest, err);
	if (rc < 0)
		return rc;
	reference_format_name(reference, repository);
	s->payload = signature_payload(repository, &s->manifest);
	s->signature.size_bytes = strlen(s->payload);
	s->signature.payload = digest_of(s->payload, strlen(s->payload));
	rc = signature_sign(s->key, s->payload, strlen(s->payload), &s->signature.base64, err);
	return rc < 0 ? rc : send(s, err);
}

int image_sign(struct image_store *store, const char *name, const char *key_file,
	       const struct image_remote *remote, struct digest *ret_signed, struct error *err)
{
	struct signing s = {0};
	struct reference reference;
	own_mem char *pem = NULL;
	size_t len;
	int rc = reference_parse(name, &reference, err);

	if (rc == 0)
		rc = file_read(AT_FDCWD, key_file, SIGNATURE_KEY_MAX, &pem, &len, err);
	if (rc == 0)
		rc = signature_key_private(pem, len, key_file, &s.key, err);
	if (pem != NULL)
		explicit_bzero(pem, len);
	if (rc == 0)
		rc = trust_open_registry(&reference, REGISTRY_PUSH, remote, &s.registry, err);
	if (rc == 0)
		rc = sign(&s, store, &reference, err);
	registry_close(s.registry);
	signature_key_free(s.key);
	free(s.payload);
	free(s.signature.base64);
	if (rc >= 0)
		*ret_signed = s.manifest;
	return rc;
}
