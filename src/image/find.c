/* find: see find.h. */
#include "image/find.h"

#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "image/registries.h"
#include "image/registry.h"
#include "image/trust.h"

struct finding {
	image_found_fn *fn;
	void *data;
};

static int tell(const struct registry_found *found, void *data, struct error *err)
{
	const struct finding *f = data;
	const struct image_found out = {
		.name = found->name,
		.description = found->description,
		.stars = found->stars,
		.official = found->official,
	};

	return f->fn(&out, f->data, err);
}

static int search_at(const char *host, const char *term, size_t limit,
		     const struct image_remote *remote, struct finding *f, struct error *err)
{
	own_registry struct registry *registry = NULL;
	own_registry_candidates struct registry_candidates places = {0};
	own_mem char *any = str_format("%s/%s", host, "x");
	struct reference reference;
	bool insecure = false;
	int rc = reference_parse(any, &reference, err);

	/* Whether registries.conf calls it insecure, or blocks it. */
	if (rc == 0)
		rc = registries_resolve(&reference, NULL, &places, err);
	if (rc == 0 && places.count > 0)
		insecure = places.items[0].endpoints[places.items[0].endpoints_count - 1].insecure;
	if (rc == 0)
		rc = registry_open(host, "", insecure, REGISTRY_PULL, remote, &registry, err);
	return rc < 0 ? rc : registry_search(registry, term, limit, tell, f, err);
}

/* True if the first part of a term names a registry, as in a reference. */
static bool has_registry(const char *term)
{
	const size_t len = strcspn(term, "/");

	return term[len] == '/' && (memchr(term, '.', len) || memchr(term, ':', len) ||
				    (len == strlen("localhost") && str_after(term, "localhost")));
}

int image_search(const char *term, size_t limit, const struct image_remote *remote,
		 image_found_fn *fn, void *data, struct error *err)
{
	struct finding f = {.fn = fn, .data = data};
	own_strv char **hosts = NULL;
	int rc = 0;

	if (has_registry(term)) {
		own_mem char *host = str_copy_n(term, strcspn(term, "/"));

		return search_at(host, strchr(term, '/') + 1, limit, remote, &f, err);
	}
	rc = registries_searched(&hosts, err);
	for (size_t i = 0; rc == 0 && hosts[i] != NULL; i++)
		rc = search_at(hosts[i], term, limit, remote, &f, err);
	return rc;
}

int image_list_tags(const char *name, size_t limit, const struct image_remote *remote,
		    image_tag_fn *fn, void *data, struct error *err)
{
	own_registry struct registry *registry = NULL;
	own_strv char **tags = NULL;
	struct reference reference;
	char full[REFERENCE_TEXT_MAX];
	int rc = reference_parse(name, &reference, err);

	if (rc == 0 && !reference.default_tag)
		rc = refuse(err, -EINVAL, "\"%s\" is not only a repository's name", name);
	if (rc == 0)
		rc = trust_open_registry(&reference, REGISTRY_PULL, remote, &registry, err);
	if (rc == 0)
		rc = registry_tags(registry, &tags, err);
	if (rc < 0)
		return rc;
	reference_format_name(&reference, full);
	for (size_t i = 0; rc == 0 && tags != NULL && tags[i] != NULL && i < limit; i++)
		rc = fn(full, tags[i], data, err);
	return rc;
}

int image_referrers(const char *name, const char *artifact_type, const struct image_remote *remote,
		    json_t **ret, struct error *err)
{
	own_registry struct registry *registry = NULL;
	own_mem char *text = NULL, *type = NULL;
	struct reference reference;
	struct digest subject;
	size_t len;
	int rc = reference_parse(name, &reference, err);

	if (rc == 0)
		rc = trust_open_registry(&reference, REGISTRY_PULL, remote, &registry, err);
	if (rc == 0)
		rc = registry_manifest(registry, trust_which(&reference), &text, &len, &type,
				       &subject, err);
	return rc < 0 ? rc : registry_referrers(registry, &subject, artifact_type, ret, err);
}

int image_delete_remote(const char *name, bool blob, const struct image_remote *remote,
			struct error *err)
{
	own_registry struct registry *registry = NULL;
	struct reference reference;
	int rc = reference_parse(name, &reference, err);

	if (rc == 0 && blob && !reference_has_digest(&reference))
		return refuse(err, -EINVAL, "a blob has no name but its digest: NAME@sha256:...");
	if (rc == 0)
		rc = trust_open_registry(&reference, REGISTRY_DELETE, remote, &registry, err);
	if (rc < 0)
		return rc;
	return blob ? registry_delete_blob(registry, &reference.digest, err)
		    : registry_delete(registry, trust_which(&reference), err);
}
