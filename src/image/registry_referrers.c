/*
 * registry_referrers: what refers to a manifest by its `subject` (OCI distribution specification 1.1,
 * "Listing Referrers", "Pushing Manifests with Subject", "Deleting Manifests").
 *
 * A registry that knows of subjects keeps the list itself, and says so with OCI-Subject. For one that does
 * not, the client keeps it: an index under the tag "sha256-<hex of the subject>".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/referrers.h"
#include "image/registry_priv.h"

static int get_tagged(void *from, const char *tag, char **ret_text, size_t *ret_len,
		      struct error *err)
{
	own_mem char *type = NULL;
	struct digest digest;

	return registry_manifest(from, tag, ret_text, ret_len, &type, &digest, err);
}

/* Appends those of the wanted type. */
static void choose(json_t *to, const json_t *from, const char *artifact_type)
{
	for (size_t i = 0; i < json_array_size(from); i++) {
		json_t *d = json_array_get(from, i);
		const char *type = json_string_value(json_object_get(d, "artifactType"));

		if (json_is_object(d) && (artifact_type == NULL || str_eq(type, artifact_type)))
			json_array_append(to, d);
	}
}

int registry_referrers(struct registry *r, const struct digest *subject, const char *artifact_type,
		       json_t **ret, struct error *err)
{
	own_mem char *escaped = artifact_type ? http_escape(artifact_type) : NULL;
	own_mem char *page = str_format("%s/referrers/%s%s%s", r->repository, subject->text,
					escaped ? "?artifactType=" : "", escaped ? escaped : "");
	own_json json_t *all = json_array();

	for (int i = 0; page != NULL; i++) {
		own_json json_t *document = NULL;
		own_mem char *next = NULL;
		int rc = registry_document(r, page, &document, &next, err);

		/* An old registry takes "referrers" for a part of a name, and says 404 or 400. */
		if (i == 0 && rc > 0 && rc != 200) {
			own_json json_t *tagged = NULL;

			rc = referrers_list(get_tagged, r, subject, &tagged, err);
			if (rc < 0)
				return rc;
			choose(all, tagged, artifact_type);
			break;
		}
		if (rc != 200)
			return rc < 0 ? rc : refuse(err, -EPROTO, "%s answered %d", r->host, rc);
		choose(all, json_object_get(document, "manifests"), artifact_type);
		if (json_array_size(all) > REGISTRY_LIST_MAX ||
		    (i + 1 == REGISTRY_PAGES_MAX && next != NULL))
			return registry_endless(r, err);
		free(page);
		page = take(next);
	}
	*ret = take(all);
	return 0;
}

/* Puts the list under the subject's tag. It refers to nothing itself. */
static int put_list(struct registry *r, const struct digest *subject, json_t *list,
		    struct error *err)
{
	own_mem char *tag = referrers_tag(subject, NULL), *text = referrers_format(list);
	own_http_response struct http_response response = {0};

	return registry_put_plain(r, tag, MEDIA_OCI_INDEX, text, strlen(text), &response, err);
}

int registry_note_referrer(struct registry *r, const struct digest *subject, json_t *descriptor,
			   struct error *err)
{
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	own_json json_t *list = NULL;
	int rc = referrers_list(get_tagged, r, subject, &list, err);

	if (rc < 0 || referrers_find(list, digest) < json_array_size(list))
		return rc;
	json_array_append(list, descriptor);
	return put_list(r, subject, list, err);
}

/* The subject of a manifest: 1, or 0 if it has none. */
static int subject_of(const json_t *manifest, struct digest *ret)
{
	const json_t *subject = json_object_get(manifest, "subject");
	const char *text = json_string_value(json_object_get(subject, "digest"));

	return text != NULL && digest_parse(text, ret, NULL) == 0;
}

int registry_note_subject(struct registry *r, const struct digest *digest, const char *type,
			  const char *text, size_t len, struct error *err)
{
	own_json json_t *manifest = NULL, *descriptor = NULL;
	const char *artifact;
	struct digest subject;

	if (json_parse(text, len, "the manifest", &manifest, NULL) < 0 ||
	    !subject_of(manifest, &subject))
		return 0;
	artifact = json_string_value(json_object_get(manifest, "artifactType"));
	if (artifact == NULL || artifact[0] == '\0')
		artifact = json_string_value(
			json_object_get(json_object_get(manifest, "config"), "mediaType"));
	descriptor = json_object();
	json_object_set_new(descriptor, "mediaType", json_string(type));
	json_object_set_new(descriptor, "digest", json_string(digest->text));
	json_object_set_new(descriptor, "size", json_integer((json_int_t)len));
	if (artifact != NULL)
		json_object_set_new(descriptor, "artifactType", json_string(artifact));
	if (json_object_get(manifest, "annotations") != NULL)
		json_object_set(descriptor, "annotations",
				json_object_get(manifest, "annotations"));
	return registry_note_referrer(r, &subject, descriptor, err);
}

/* 1 if the registry keeps the lists itself. */
static int has_referrers(struct registry *r, const struct digest *subject, struct error *err)
{
	own_mem char *path = str_format("%s/referrers/%s", r->repository, subject->text);
	own_json json_t *document = NULL;
	int rc = registry_document(r, path, &document, NULL, err);

	return rc < 0 ? rc : rc == 200;
}

int registry_forget_subject(struct registry *r, const struct digest *digest, const char *text,
			    size_t len, struct error *err)
{
	own_json json_t *manifest = NULL, *list = NULL;
	struct digest subject;
	size_t at;
	int rc;

	if (json_parse(text, len, "the manifest", &manifest, NULL) < 0 ||
	    !subject_of(manifest, &subject))
		return 0;
	rc = has_referrers(r, &subject, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	rc = referrers_list(get_tagged, r, &subject, &list, err);
	at = referrers_find(list, digest->text);
	if (rc < 0 || at == json_array_size(list))
		return rc;
	json_array_remove(list, at);
	return put_list(r, &subject, list, err);
}
