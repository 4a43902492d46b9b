/* registries: see registries.h. */
#include "image/registries.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/toml.h"

enum { FILE_MAX = 1 << 20, MIRRORS_MAX = 16, SEARCH_MAX = 16 };

void registry_candidates_release(struct registry_candidates *c)
{
	for (size_t i = 0; i < c->count; i++)
		free(c->items[i].endpoints);
	free(c->items);
	memset(c, 0, sizeof(*c));
}

/* The main file's path; NULL if there is none. */
static char *main_file(void)
{
	const char *set = getenv("CONTAINERS_REGISTRIES_CONF"), *home = getenv("HOME");
	own_mem char *of_user = NULL;

	if (!str_empty(set))
		return str_copy(set);
	if (!str_empty(home))
		of_user = str_format("%s/.config/containers/registries.conf", home);
	if (of_user != NULL && access(of_user, R_OK) == 0)
		return take(of_user);
	return str_copy("/etc/containers/registries.conf");
}

/* Puts the members of a later file over those of earlier ones; [[registry]] adds up. */
static void merge(json_t *all, json_t *file)
{
	const char *key;
	json_t *value;

	json_object_foreach (file, key, value) {
		json_t *old = json_object_get(all, key);

		if (str_eq(key, "registry") && json_is_array(old) && json_is_array(value))
			json_array_extend(old, value);
		else if (str_eq(key, "aliases") && json_is_object(old) && json_is_object(value))
			json_object_update(old, value);
		else
			json_object_set(all, key, value);
	}
}

static int read_into(const char *path, json_t *all, struct error *err)
{
	own_mem char *text = NULL;
	own_json json_t *file = NULL;
	size_t len;
	int rc;

	if (access(path, F_OK) < 0)
		return 0;
	rc = file_read(AT_FDCWD, path, FILE_MAX, &text, &len, err);
	if (rc == 0)
		rc = toml_parse(text, len, path, &file, err);
	if (rc == 0)
		merge(all, file);
	return rc;
}

static int read_all(json_t **ret, struct error *err)
{
	own_json json_t *all = json_object();
	own_mem char *path = main_file(), *pattern = str_format("%s.d/*.conf", path);
	glob_t found = {0};
	int rc = read_into(path, all, err);

	if (rc == 0 && glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
			rc = read_into(found.gl_pathv[i], all, err);
	globfree(&found);
	if (rc < 0)
		return rc;
	*ret = take(all);
	return 0;
}

/* How much of "registry/repository" a prefix covers; 0: it is for something else. "*.host" stands for
 * all hosts below. */
static size_t prefix_match(const char *prefix, const char *name)
{
	size_t len = strlen(prefix);

	if (prefix[0] == '*' && prefix[1] == '.') {
		size_t host = strcspn(name, "/:");
		own_mem char *host_name = str_copy_n(name, host);

		return str_ends_with(host_name, prefix + 1) ? len : 0;
	}
	if (strncmp(prefix, name, len) != 0)
		return 0;
	return name[len] == '\0' || name[len] == '/' || name[len] == ':' ? len : 0;
}

static const char *text_of(const json_t *table, const char *key)
{
	return json_string_value(json_object_get(table, key));
}

/* The [[registry]] with the longest prefix that fits. */
static const json_t *find_rule(const json_t *all, const char *name)
{
	const json_t *list = json_object_get(all, "registry"), *best = NULL;
	size_t best_len = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *rule = json_array_get(list, i);
		const char *prefix = text_of(rule, "prefix");
		size_t len;

		if (prefix == NULL)
			prefix = text_of(rule, "location");
		len = prefix ? prefix_match(prefix, name) : 0;
		if (len > best_len) {
			best = rule;
			best_len = len;
		}
	}
	return best;
}

/* "location" instead of "prefix" in front of the name. */
static int rewrite(const char *name, const char *prefix, const char *location, bool insecure,
		   struct registry_endpoint *ret, struct error *err)
{
	const char *rest =
		prefix && prefix[0] != '*' ? name + strlen(prefix) : name + strcspn(name, "/");
	own_mem char *whole = location ? str_format("%s%s", location, rest) : str_copy(name);
	char *slash = strchr(whole, '/');

	if (slash == NULL || (size_t)(slash - whole) >= sizeof(ret->registry) ||
	    strlen(slash + 1) >= sizeof(ret->repository))
		return refuse(err, -EINVAL, "registries.conf: \"%.200s\" is no place for an image",
			      whole);
	*slash = '\0';
	strcpy(ret->registry, whole);
	strcpy(ret->repository, slash + 1);
	ret->insecure = insecure;
	return 0;
}

static bool is_insecure(const json_t *table)
{
	return json_is_true(json_object_get(table, "insecure"));
}

static int add_mirrors(const json_t *rule, const char *name, const char *prefix,
		       const struct reference *reference, struct registry_candidate *c,
		       struct error *err)
{
	const json_t *mirrors = json_object_get(rule, "mirror");
	bool digest_only = json_is_true(json_object_get(rule, "mirror-by-digest-only"));
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < json_array_size(mirrors) && i < MIRRORS_MAX; i++) {
		const json_t *mirror = json_array_get(mirrors, i);
		const char *location = text_of(mirror, "location");
		const char *by = text_of(mirror, "pull-from-mirror");
		bool only = digest_only || str_eq(by, "digest-only");

		if (location == NULL)
			continue;
		if (only && !reference_has_digest(reference))
			continue;
		if (str_eq(by, "tag-only") && reference_has_digest(reference))
			continue;
		rc = rewrite(name, prefix, location, is_insecure(mirror),
			     &c->endpoints[c->endpoints_count], err);
		c->endpoints_count++;
	}
	return rc;
}

static int add_candidate(const json_t *all, const struct reference *reference,
			 struct registry_candidates *list, struct error *err)
{
	struct registry_candidate *c = &list->items[list->count++];
	char name[REFERENCE_TEXT_MAX];
	const char *prefix, *location;
	const json_t *rule;
	int rc;

	reference_format_name(reference, name);
	rule = find_rule(all, name);
	c->reference = *reference;
	c->endpoints = mem_new_array(MIRRORS_MAX + 1, sizeof(*c->endpoints));
	location = text_of(rule, "location");
	prefix = text_of(rule, "prefix");
	if (prefix == NULL)
		prefix = location;
	if (json_is_true(json_object_get(rule, "blocked")))
		return refuse(err, -EPERM, "%s is blocked by registries.conf", name);
	rc = add_mirrors(rule, name, prefix, reference, c, err);
	if (rc == 0)
		rc = rewrite(name, prefix, location, is_insecure(rule),
			     &c->endpoints[c->endpoints_count], err);
	c->endpoints_count++;
	return rc;
}

/* The same name at another registry. */
static bool at_registry(const struct reference *reference, const char *registry,
			struct reference *ret)
{
	const char *repository = str_after(reference->repository, "library/");
	own_mem char *text = NULL;
	struct reference r;

	text = str_format("%s/%s", registry, repository ? repository : reference->repository);
	if (reference_parse(text, &r, NULL) < 0)
		return false;
	memcpy(r.tag, reference->tag, sizeof(r.tag));
	r.digest = reference->digest;
	*ret = r;
	return true;
}

/* What a short name stands for: an alias, or each of the registries to be searched. */
static int add_short(const json_t *all, const struct reference *reference,
		     struct registry_candidates *list, struct error *err)
{
	const char *plain = str_after(reference->repository, "library/");
	const char *alias =
		text_of(json_object_get(all, "aliases"), plain ? plain : reference->repository);
	const json_t *search = json_object_get(all, "unqualified-search-registries");
	struct reference r;
	int rc = 0;

	if (alias != NULL && reference_parse(alias, &r, NULL) == 0) {
		memcpy(r.tag, reference->tag, sizeof(r.tag));
		r.digest = reference->digest;
		return add_candidate(all, &r, list, err);
	}
	for (size_t i = 0; rc == 0 && i < json_array_size(search) && i < SEARCH_MAX; i++) {
		const char *registry = json_string_value(json_array_get(search, i));

		if (registry != NULL && at_registry(reference, registry, &r))
			rc = add_candidate(all, &r, list, err);
	}
	return rc;
}

int registries_resolve(const struct reference *reference, struct registry_candidates *ret,
		       struct error *err)
{
	own_registry_candidates struct registry_candidates list = {0};
	own_json json_t *all = NULL;
	int rc = read_all(&all, err);

	if (rc < 0)
		return rc;
	list.items = mem_new_array(SEARCH_MAX + 1, sizeof(*list.items));
	if (reference->short_name)
		rc = add_short(all, reference, &list, err);
	if (rc == 0 && list.count == 0)
		rc = add_candidate(all, reference, &list, err);
	if (rc < 0)
		return rc;
	*ret = list;
	memset(&list, 0, sizeof(list));
	return 0;
}

int registries_searched(char ***ret, struct error *err)
{
	own_json json_t *all = NULL;
	const json_t *search;
	char **hosts = NULL;
	int rc = read_all(&all, err);

	if (rc < 0)
		return rc;
	search = json_object_get(all, "unqualified-search-registries");
	for (size_t i = 0; i < json_array_size(search) && i < SEARCH_MAX; i++)
		if (json_is_string(json_array_get(search, i)))
			strv_push(&hosts, json_string_value(json_array_get(search, i)));
	if (hosts == NULL)
		strv_push(&hosts, REFERENCE_DEFAULT_REGISTRY);
	*ret = hosts;
	return 0;
}
