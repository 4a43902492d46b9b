/* trust: see trust.h. The decision itself; signing and `verify` are in sign.c and verify.c. */
#include "image/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/auth.h"

int trust_load(const char *path, struct policy *ret, struct error *err)
{
	int rc = policy_load(path, ret, err);

	return rc < 0 ? hint(err, rc, "no image is fetched or loaded until the policy can be read")
		      : 0;
}

int trust_admit(const struct policy *policy, const struct reference *reference, struct error *err)
{
	return policy_check_rejects(policy, policy_find(policy, reference), reference, err);
}

int trust_admit_unsigned(const struct policy *policy, const char *name, struct error *err)
{
	struct reference reference = {0};
	const struct policy_scope *scope;
	int rc = 0;

	if (name != NULL)
		rc = reference_parse(name, &reference, err);
	if (rc < 0)
		return rc;
	scope = name ? policy_find(policy, &reference) : policy_default(policy);
	for (size_t i = 0; scope != NULL && i < scope->count; i++) {
		const char *what = name ? name : "an image without a name";

		if (scope->requirements[i].kind == POLICY_REJECT)
			return refuse(err, -EPERM, "the policy %s does not allow %s", policy->path,
				      what);
		if (scope->requirements[i].kind == POLICY_SIGNED)
			return hint(err,
				    refuse(err, -EPERM,
					   "the policy %s wants %s to be signed, and an archive "
					   "carries no signatures",
					   policy->path, what),
				    "pull it from its registry");
	}
	return 0;
}

/* --- keys ----------------------------------------------------------------------------------------- */

struct keys {
	struct signature_key **items;
	size_t count;
};

static void keys_release(struct keys *keys)
{
	for (size_t i = 0; i < keys->count; i++)
		signature_key_free(keys->items[i]);
	free(keys->items);
}
#define own_keys __attribute__((cleanup(keys_release)))

static int add_key(struct keys *keys, const char *pem, size_t len, const char *what,
		   struct error *err)
{
	struct signature_key *key;
	int rc = signature_key_public(pem, len, what, &key, err);

	if (rc < 0)
		return rc;
	keys->items = mem_resize(keys->items, keys->count + 1, sizeof(*keys->items));
	keys->items[keys->count++] = key;
	return 0;
}

/* keyData is the PEM in base64. */
static int add_key_data(struct keys *keys, const char *base64, struct error *err)
{
	own_mem char *pem = NULL;
	size_t len;

	if (base64_decode(base64, &pem, &len) < 0)
		return refuse(err, -EINVAL, "the policy's keyData is not base64");
	return add_key(keys, pem, len, "the policy's keyData", err);
}

/* All keys of a requirement; one that cannot be read is an error, not a key less. */
static int load_keys(const struct policy_requirement *q, struct keys *keys, struct error *err)
{
	int rc = 0;

	for (char **data = q->key_datas; rc == 0 && data != NULL && *data != NULL; data++)
		rc = add_key_data(keys, *data, err);
	for (char **path = q->key_paths; rc == 0 && path != NULL && *path != NULL; path++) {
		own_mem char *pem = NULL;
		size_t len;

		rc = file_read(AT_FDCWD, *path, SIGNATURE_KEY_MAX, &pem, &len, err);
		if (rc == 0)
			rc = add_key(keys, pem, len, *path, err);
	}
	return rc;
}

/* --- signatures ------------------------------------------------------------------------------------ */

static int add_bytes(const void *data, size_t len, void *context, struct error *err)
{
	struct buf *text = context;

	if (len > SIGNATURE_PAYLOAD_MAX - text->len)
		return refuse(err, -EFBIG, "a signature's payload is too large");
	buf_add(text, data, len);
	return 0;
}

/* The signatures that the repository has of a manifest; none is success. */
static int fetch_signatures(struct registry *registry, const struct digest *manifest,
			    struct signatures *ret, struct error *err)
{
	own_mem char *tag = signature_tag(manifest), *text = NULL, *type = NULL;
	struct error why = {0};
	struct digest digest;
	size_t len;
	int rc = registry_manifest(registry, tag, &text, &len, &type, &digest, &why);

	if (rc == -ENOENT)
		return 0;
	if (rc < 0)
		return refuse(err, rc, "look for signatures: %s", why.text);
	return signatures_parse(text, len, ret, err);
}

/* What a requirement is compared with. */
struct question {
	const struct keys *keys;
	struct registry *registry;
	const struct digest *manifest;
	const char *identity;
	enum signature_tags tags;
};

/* 0 if this signature is good. */
static int try_signature(const struct question *q, const struct signature *signature,
			 struct error *err)
{
	own_buf struct buf payload = {0};
	struct digest is;
	int rc = registry_blob(q->registry, &signature->payload, signature->size_bytes, add_bytes,
			       &payload, err);

	if (rc < 0)
		return rc;
	if (payload.data == NULL)
		return refuse(err, -EKEYREJECTED, "the signature's payload is empty");
	is = digest_of_like(&signature->payload, payload.data, payload.len);
	if (!digest_eq(&is, &signature->payload))
		return refuse(err, -EKEYREJECTED,
			      "the signature's payload has the digest %s instead of %s", is.text,
			      signature->payload.text);
	rc = -EKEYREJECTED;
	for (size_t i = 0; rc < 0 && i < q->keys->count; i++) {
		error_clear(err);
		rc = signature_verify(q->keys->items[i], payload.data, payload.len,
				      signature->base64, err);
	}
	return rc < 0 ? rc
		      : signature_check_payload(payload.data, payload.len, q->manifest, q->identity,
						q->tags, err);
}

/* 1 if a signature of this manifest is good, 0 if there is none; else what is wrong with the last. */
static int try_manifest(const struct question *q, struct error *err)
{
	own_signatures struct signatures list = {0};
	int rc = fetch_signatures(q->registry, q->manifest, &list, err);

	for (size_t i = 0; rc >= 0 && i < list.count; i++) {
		error_clear(err);
		rc = try_signature(q, &list.items[i], err);
		if (rc == 0)
			return 1;
		/* A bad one, or one whose payload is gone, does not make the others bad. */
		if ((rc == -EKEYREJECTED || rc == -ENOENT) && i + 1 < list.count)
			rc = 0;
	}
	return rc == -ENOENT ? -EKEYREJECTED : rc;
}

/* The image's name with another beginning, if it has the one that is replaced. */
static void remap(const struct policy_requirement *requirement, char name[REFERENCE_TEXT_MAX])
{
	const char *rest = str_after(name, requirement->prefix);
	own_mem char *remapped = NULL;

	if (rest == NULL || strchr("/:@", *rest) == NULL)
		return;
	remapped = str_format("%s%s", requirement->signed_identity, rest);
	snprintf(name, REFERENCE_TEXT_MAX, "%s", remapped);
}

/* The name that must have been signed. */
static void expected_identity(const struct policy_requirement *requirement,
			      const struct reference *reference, char out[REFERENCE_TEXT_MAX])
{
	struct reference expected = *reference;

	if (requirement->identity == POLICY_IDENTITY_OTHER_REPOSITORY ||
	    requirement->identity == POLICY_IDENTITY_OTHER_EXACT) {
		snprintf(out, REFERENCE_TEXT_MAX, "%s", requirement->signed_identity);
		return;
	}
	memset(&expected.digest, 0, sizeof(expected.digest));
	if (requirement->identity == POLICY_IDENTITY_REPOSITORY || expected.tag[0] == '\0')
		reference_format_name(&expected, out);
	else
		reference_format(&expected, out);
	if (requirement->identity == POLICY_IDENTITY_REMAPPED)
		remap(requirement, out);
}

int trust_check_one(const struct policy_requirement *requirement, const struct reference *reference,
		    struct registry *registry, const struct digest *digests, size_t digests_count,
		    struct digest *ret_signed, struct error *err)
{
	own_keys struct keys keys = {0};
	char identity[REFERENCE_TEXT_MAX];
	struct question q = {.keys = &keys, .registry = registry, .identity = identity};
	struct error why = {0};
	bool bad = false;
	int rc = load_keys(requirement, &keys, err);

	if (rc < 0)
		return rc;
	expected_identity(requirement, reference, identity);
	if (requirement->identity == POLICY_IDENTITY_EXACT ||
	    requirement->identity == POLICY_IDENTITY_OTHER_EXACT)
		q.tags = SIGNATURE_TAGS_EQUAL;
	for (size_t i = 0; i < digests_count; i++) {
		struct error now = {0};

		q.manifest = &digests[i];
		rc = try_manifest(&q, &now);
		if (rc > 0) {
			*ret_signed = digests[i];
			return 0;
		}
		if (rc < 0 && rc != -EKEYREJECTED) {
			if (err != NULL)
				*err = now;
			return rc;
		}
		if (rc < 0)
			why = now;
		bad = bad || rc < 0;
	}
	if (bad)
		return refuse(err, -EKEYREJECTED, "no signature of \"%s\" is good: %s", identity,
			      why.text);
	return hint(err, refuse(err, -EKEYREJECTED, "\"%s\" is not signed", identity),
		    "berth sign %s --key FILE", identity);
}

int trust_check(const struct policy *policy, const struct reference *reference,
		struct registry *registry, const struct digest *digests, size_t digests_count,
		struct error *err)
{
	const struct policy_scope *scope = policy_find(policy, reference);
	struct digest which;
	int rc = policy_check_rejects(policy, scope, reference, err);

	for (size_t i = 0; rc == 0 && scope != NULL && i < scope->count; i++) {
		if (scope->requirements[i].kind != POLICY_SIGNED)
			continue;
		rc = trust_check_one(&scope->requirements[i], reference, registry, digests,
				     digests_count, &which, err);
		if (rc < 0)
			return refuse(err, rc, "the policy %s", policy->path);
	}
	return rc;
}
