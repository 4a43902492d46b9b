/* login: see login.h. */
#include "image/login.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "image/auth.h"
#include "image/registries.h"
#include "image/registry.h"

static const struct image_remote default_remote;

/* "https://host/v1/" and "host/" are taken for "host"; nothing for docker.io. */
static char *registry_name(const char *s)
{
	const char *rest;

	if (str_empty(s))
		return str_copy(REFERENCE_DEFAULT_REGISTRY);
	rest = str_after(s, "https://");
	if (rest == NULL)
		rest = str_after(s, "http://");
	if (rest == NULL)
		rest = s;
	if (str_after(rest, "index.docker.io") || str_after(rest, "registry-1.docker.io"))
		return str_copy(REFERENCE_DEFAULT_REGISTRY);
	return str_copy_n(rest, strcspn(rest, "/"));
}

static int is_insecure(const char *host, bool *ret, struct error *err)
{
	own_registry_candidates struct registry_candidates places = {0};
	own_mem char *text = str_format("%s/any/image", host);
	struct reference reference;
	int rc = reference_parse(text, &reference, err);

	if (rc == 0)
		rc = registries_resolve(&reference, NULL, &places, err);
	if (rc < 0)
		return rc;
	*ret = places.items[0].endpoints[places.items[0].endpoints_count - 1].insecure;
	return 0;
}

int image_login(const char *name, const char *user, const char *password,
		const struct image_remote *remote, struct error *err)
{
	struct image_remote r = remote ? *remote : default_remote;
	own_mem char *host = registry_name(name);
	own_mem char *pair = str_format("%s:%s", user, password);
	own_registry struct registry *registry = NULL;
	own_credentials struct credentials credentials = {0};
	bool insecure = false;
	int rc = credentials_parse(pair, &credentials, err);

	r.user = pair;
	if (rc == 0)
		rc = is_insecure(host, &insecure, err);
	if (rc == 0)
		rc = registry_open(host, "", insecure, REGISTRY_PULL, &r, &registry, err);
	if (rc == 0)
		rc = registry_ping(registry, err);
	explicit_bzero(pair, strlen(pair));
	if (rc == 0)
		rc = credentials_store(r.auth_file, host, &credentials, err);
	return rc;
}

int image_logout(const char *name, const struct image_remote *remote, struct error *err)
{
	own_mem char *host = registry_name(name);

	return credentials_store(remote ? remote->auth_file : NULL, host, NULL, err);
}
