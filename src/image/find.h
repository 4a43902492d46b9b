/* find: what registries have, without fetching it. */
#pragma once

#include "image/store.h"

/* A repository that was found. */
struct image_found {
	const char *name;        /* with the registry */
	const char *description; /* "" if unknown */
	int64_t stars;
	bool official;
};
typedef int image_found_fn(const struct image_found *found, void *data, struct error *err);
/* Looks for `term` ("registry/part of a name"; without a registry at those for short names), at most
 * `limit` at each registry. */
int image_search(const char *term, size_t limit, const struct image_remote *remote,
		 image_found_fn *fn, void *data, struct error *err) must_check;

/* `name` is the repository with its registry. */
typedef int image_tag_fn(const char *name, const char *tag, void *data, struct error *err);
/* The first `limit` tags of a repository, sorted. -ENOENT: there is no such repository. */
int image_list_tags(const char *name, size_t limit, const struct image_remote *remote,
		    image_tag_fn *fn, void *data, struct error *err) must_check;

/* Deletes what a name stands for from its registry: a tag, or with a digest the manifest; with `blob` the
 * blob of that digest. */
int image_delete_remote(const char *name, bool blob, const struct image_remote *remote,
			struct error *err) must_check;
/* The descriptors of what refers to an image, an array; of one artifact type only, or of all (NULL). */
int image_referrers(const char *name, const char *artifact_type, const struct image_remote *remote,
		    json_t **ret, struct error *err) must_check;
