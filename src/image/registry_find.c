/*
 * registry_find: what a registry has: tags, repositories (OCI distribution
 * specification 1.1, "Content Discovery"; docker's /v1/search and /v2/_catalog).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/registry_priv.h"

struct sink {
	struct buf text;
};

static int add_text(const void *data, size_t len, void *context, struct error *err)
{
	struct sink *sink = context;

	if (len > REGISTRY_DOCUMENT_MAX - sink->text.len)
		return refuse(err, -EFBIG, "the answer is larger than %d bytes",
			      REGISTRY_DOCUMENT_MAX);
	buf_add(&sink->text, data, len);
	return 0;
}

/* The address in `Link: </v2/...>; rel="next"`; NULL. It must be the registry's own. */
static char *next_page(struct registry *r, const char *link)
{
	own_mem char *home = str_format("%s://%s", r->scheme, r->api_host), *target = NULL;
	own_mem char *url = NULL;
	const char *end;

	if (link == NULL || link[0] != '<' || strstr(link, "next") == NULL)
		return NULL;
	end = strchr(link, '>');
	if (end == NULL)
		return NULL;
	target = str_copy_n(link + 1, (size_t)(end - link - 1));
	if (registry_absolute(r, target, &url, NULL) < 0 || !http_same_origin(url, home))
		return NULL;
	return take(url);
}

int registry_document(struct registry *r, const char *path, json_t **ret, char **next,
		      struct error *err)
{
	const bool absolute = str_after(path, "http://") || str_after(path, "https://");
	own_http_response struct http_response response = {0};
	char accept[] = "Accept: application/json, " MEDIA_OCI_INDEX;
	char *headers[] = {accept, NULL};
	struct sink sink = {0};
	own_mem char *text = NULL;
	struct http_request q = {
		.method = "GET", .headers = headers, .out = add_text, .out_context = &sink};
	size_t len;
	int rc = registry_send(r, &q, absolute ? path : NULL, absolute ? NULL : path, &response,
			       err);

	len = sink.text.len;
	text = buf_take(&sink.text);
	if (rc < 0)
		return rc;
	if (response.status != 200)
		return (int)response.status;
	rc = json_parse(text, len, r->host, ret, err);
	if (rc < 0)
		return rc;
	if (next != NULL)
		*next = next_page(r, response.link);
	return 200;
}

/* --- lists of names -------------------------------------------------------------------------------- */

int registry_endless(struct registry *r, struct error *err)
{
	return refuse(err, -EFBIG,
		      "%s has more on its list than the %d entries or %d pages that are read",
		      r->host, REGISTRY_LIST_MAX, REGISTRY_PAGES_MAX);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* All pages of a list: the strings in the member `key` go to `fn`. Returns the status of the first
 * page, or what `fn` returned. */
static int read_names(struct registry *r, const char *path, const char *key,
		      int (*fn)(const char *name, void *data), void *data, struct error *err)
{
	own_mem char *page = str_copy(path);
	size_t count = 0;
	int status = 200;

	for (int i = 0; page != NULL; i++) {
		own_json json_t *document = NULL;
		own_mem char *next = NULL;
		const json_t *names;
		int rc = registry_document(r, page, &document, &next, err);

		if (rc != 200)
			return i == 0 || rc < 0 ? rc : 200;
		names = json_object_get(document, key);
		for (size_t k = 0; k < json_array_size(names); k++) {
			const char *name = json_string_value(json_array_get(names, k));

			if (name == NULL)
				continue;
			if (++count > REGISTRY_LIST_MAX)
				return registry_endless(r, err);
			if (fn(name, data) != 0)
				return status;
		}
		if (i + 1 == REGISTRY_PAGES_MAX && next != NULL)
			return registry_endless(r, err);
		free(page);
		page = take(next);
	}
	return status;
}

static int push_name(const char *name, void *data)
{
	strv_push(data, name);
	return 0;
}

int registry_tags(struct registry *r, char ***ret, struct error *err)
{
	own_mem char *path = str_format("%s/tags/list?n=%d", r->repository, REGISTRY_PAGE);
	own_strv char **tags = NULL;
	int rc = read_names(r, path, "tags", push_name, &tags, err);

	if (rc == 404)
		return refuse(err, -ENOENT, "%s has no repository %s", r->host, r->repository);
	if (rc > 0 && rc != 200)
		return registry_status(r, &(struct http_response){.status = rc}, r->repository,
				       err);
	if (rc < 0)
		return rc;
	if (tags != NULL)
		qsort(tags, strv_len(tags), sizeof(*tags), compare_names);
	*ret = take(tags);
	return 0;
}

/* --- search ---------------------------------------------------------------------------------------- */

struct search {
	struct registry *registry;
	const char *term;
	size_t left;
	registry_found_fn *fn;
	void *data;
	struct error *err;
	int rc;
};

static int tell(struct search *s, const char *name, const json_t *found)
{
	const char *description = json_string_value(json_object_get(found, "description"));
	own_mem char *full = str_format("%s/%s", s->registry->host, name);
	const struct registry_found f = {
		.name = full,
		.description = description ? description : "",
		.stars = json_integer_value(json_object_get(found, "star_count")),
		.official = json_is_true(json_object_get(found, "is_official")),
	};

	if (s->left == 0)
		return 1;
	s->left--;
	s->rc = s->fn(&f, s->data, s->err);
	return s->rc != 0;
}

static int tell_matching(const char *name, void *data)
{
	struct search *s = data;

	return strstr(name, s->term) != NULL ? tell(s, name, NULL) : s->left == 0;
}

int registry_search(struct registry *r, const char *term, size_t limit, registry_found_fn *fn,
		    void *data, struct error *err)
{
	struct search s = {
		.registry = r, .term = term, .left = limit, .fn = fn, .data = data, .err = err};
	own_mem char *escaped = http_escape(term);
	own_mem char *host =
		str_copy(str_eq(r->host, "docker.io") ? "index.docker.io" : r->api_host);
	own_mem char *url = NULL, *catalog = str_format("_catalog?n=%d", REGISTRY_PAGE);
	own_json json_t *document = NULL;
	const json_t *results;
	/* Finds out how to talk, and who we are. */
	int rc = registry_ping(r, err);

	if (rc < 0)
		return rc;
	url = str_format("%s://%s/v1/search?q=%s&n=%zu", r->scheme, host, escaped, limit);
	rc = registry_document(r, url, &document, NULL, NULL);
	results = json_object_get(document, "results");
	if (rc == 200 && json_is_array(results)) {
		for (size_t i = 0; s.rc == 0 && i < json_array_size(results); i++) {
			const json_t *found = json_array_get(results, i);
			const char *name = json_string_value(json_object_get(found, "name"));

			if (name != NULL && tell(&s, name, found) != 0)
				break;
		}
		return s.rc;
	}
	rc = read_names(r, catalog, "repositories", tell_matching, &s, err);
	if (rc < 0 || rc == 200)
		return rc < 0 ? rc : s.rc;
	return refuse(err, -ENOTSUP, "%s does not let itself be searched (it answered %d)", r->host,
		      rc);
}
