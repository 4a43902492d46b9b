/* registries: see registries.h. */
#include "image/registries.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/registries_priv.h"

void registry_candidates_release(struct registry_candidates *c)
{
	for (size_t i = 0; i < c->count; i++)
		free(c->items[i].endpoints);
	free(c->items);
	memset(c, 0, sizeof(*c));
}

/* How much of a name, with its tag or digest, a prefix covers; 0: it is for something else. "*.host" stands
 * for all hosts below. */
static size_t prefix_match(const char *prefix, const char *name)
{
	size_t len = strlen(prefix);

	if (str_after(prefix, "*.") != NULL) {
		const char *at = strstr(name, prefix + 1);

		/* The beginning must be one of a host. */
		if (at == NULL || at == name || strcspn(name, "/:@") < (size_t)(at - name))
			return 0;
		len = (size_t)(at - name) + len - 1;
	} else if (strncmp(prefix, name, len) != 0) {
		return 0;
	}
	return strchr("/:@", name[len]) != NULL ? len : 0;
}

static const char *text_of(const json_t *table, const char *key)
{
	const char *text = json_string_value(json_object_get(table, key));

	return str_empty(text) ? NULL : text;
}

/* The [[registry]] with the longest prefix that fits; of equal ones the last, which a later file says.
 * *ret_covered is how much of the name its prefix covers. */
static const json_t *find_rule(const json_t *all, const char *name, size_t *ret_covered)
{
	const json_t *list = json_object_get(all, "registry"), *best = NULL;
	size_t best_len = 0;

	*ret_covered = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *rule = json_array_get(list, i);
		const char *prefix = text_of(rule, "prefix");
		size_t covered = prefix_match(prefix, name), len = strlen(prefix);

		if (covered > 0 && len >= best_len) {
			best = rule;
			best_len = len;
			*ret_covered = covered;
		}
	}
	return best;
}

/* `location` instead of the first `covered` bytes of the name, which has neither tag nor digest. */
static int rewrite(const char *name, size_t covered, const char *location, bool insecure,
		   struct registry_endpoint *ret, struct error *err)
{
	const size_t len = strlen(name);
	own_mem char *whole =
		location ? str_format("%s%s", location, name + (covered < len ? covered : len))
			 : str_copy(name);
	struct reference parsed;
	char *slash = strchr(whole, '/');

	if (slash == NULL || reference_parse(whole, &parsed, NULL) < 0 ||
	    (size_t)(slash - whole) >= sizeof(ret->registry) ||
	    strlen(slash + 1) >= sizeof(ret->repository))
		return refuse(err, -EINVAL, "registries.conf: \"%.200s\" is no place for an image",
			      whole);
	if (!parsed.default_tag)
		return refuse(err, -ENOTSUP,
			      "registries.conf: the location \"%.200s\" has a tag or digest, which "
			      "is not supported",
			      location);
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

static int add_mirrors(const json_t *rule, const char *name, size_t covered,
		       const struct reference *reference, struct registry_candidate *c,
		       struct error *err)
{
	const json_t *mirrors = json_object_get(rule, "mirror");
	bool digest_only = json_is_true(json_object_get(rule, "mirror-by-digest-only"));
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < json_array_size(mirrors); i++) {
		const json_t *mirror = json_array_get(mirrors, i);
		const char *by = text_of(mirror, "pull-from-mirror");
		bool only = digest_only || str_eq(by, "digest-only");

		if (only && !reference_has_digest(reference))
			continue;
		if (str_eq(by, "tag-only") && reference_has_digest(reference))
			continue;
		rc = rewrite(name, covered, text_of(mirror, "location"), is_insecure(mirror),
			     &c->endpoints[c->endpoints_count], err);
		c->endpoints_count++;
	}
	return rc;
}

static int add_candidate(const json_t *all, const struct reference *reference,
			 struct registry_candidates *list, struct error *err)
{
	struct registry_candidate *c = &list->items[list->count];
	char name[REFERENCE_TEXT_MAX], full[REFERENCE_TEXT_MAX];
	const json_t *rule;
	size_t covered;
	int rc;

	reference_format_name(reference, name);
	reference_format(reference, full);
	rule = find_rule(all, full, &covered);
	if (json_is_true(json_object_get(rule, "blocked")))
		return refuse(err, -EPERM, "%s is blocked by registries.conf", name);
	list->count++;
	c->reference = *reference;
	c->endpoints = mem_new_array(REGISTRIES_MIRRORS_MAX + 1, sizeof(*c->endpoints));
	rc = add_mirrors(rule, name, covered, reference, c, err);
	if (rc == 0)
		rc = rewrite(name, covered, text_of(rule, "location"), is_insecure(rule),
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

/* What an alias stands for: 1, or 0 if there is none. */
static int find_alias(const json_t *all, const struct reference *reference, struct reference *ret,
		      struct error *err)
{
	const char *plain = str_after(reference->repository, "library/");
	const char *name = plain ? plain : reference->repository;
	const char *alias = text_of(json_object_get(all, "aliases"), name);
	int rc;

	/* An empty one takes back what an earlier file said. */
	if (alias == NULL)
		return 0;
	rc = reference_parse(alias, ret, err);
	if (rc == 0 && (ret->short_name || !ret->default_tag))
		rc = refuse(err, -EINVAL, "it must have a registry, and neither tag nor digest");
	if (rc < 0)
		return refuse(err, rc, "registries.conf: the alias \"%.100s\"", name);
	memcpy(ret->tag, reference->tag, sizeof(ret->tag));
	ret->digest = reference->digest;
	return 1;
}

/* The full names that a short one may stand for; none if nothing is said about it. */
static int list_full_names(const json_t *all, const struct reference *reference,
			   struct reference *ret, size_t *ret_count, struct error *err)
{
	const json_t *search = json_object_get(all, "unqualified-search-registries");
	int rc = find_alias(all, reference, &ret[0], err);

	*ret_count = 0;
	if (rc != 0) {
		*ret_count = rc > 0;
		return rc < 0 ? rc : 0;
	}
	for (size_t i = 0; i < json_array_size(search); i++) {
		const char *registry = json_string_value(json_array_get(search, i));

		if (at_registry(reference, registry, &ret[*ret_count]))
			++*ret_count;
	}
	return 0;
}

/* What to do about a short name that may stand for several images: says it is ambiguous, or has one of
 * them chosen. */
static int choose_one(const json_t *all, const struct reference *reference, image_choose_fn *choose,
		      struct registry_candidates *list, struct error *err)
{
	const char *mode = text_of(all, "short-name-mode");
	own_strv char **names = NULL;
	own_mem char *text = NULL;
	char name[REFERENCE_TEXT_MAX];
	int chosen;

	if (str_eq(mode, "disabled") || (choose == NULL && !str_eq(mode, "enforcing")))
		return 0;
	for (size_t i = 0; i < list->count; i++) {
		reference_format(&list->items[i].reference, name);
		strv_push(&names, name);
	}
	reference_format_familiar(reference, name);
	if (choose != NULL) {
		const struct registry_candidate first = list->items[0];

		chosen = choose(name, names, err);
		if (chosen < 0)
			return chosen;
		list->items[0] = list->items[chosen];
		list->items[chosen] = first;
		while (list->count > 1)
			free(list->items[--list->count].endpoints);
		list->chosen = true;
		return 0;
	}
	text = strv_join(names, ", ");
	return hint(err,
		    refuse(err, -EINVAL,
			   "the name \"%.200s\" may stand for several images, and "
			   "registries.conf has the short-name-mode \"enforcing\"",
			   name),
		    "give the whole name: %.400s", text);
}

/* What a short name stands for. A place that is blocked is no place to look; if all are, that is said. */
static int add_short(const json_t *all, const struct reference *reference, image_choose_fn *choose,
		     struct registry_candidates *list, struct error *err)
{
	own_mem struct reference *names = mem_new_array(REGISTRIES_SEARCHED_MAX, sizeof(*names));
	size_t count;
	int rc = list_full_names(all, reference, names, &count, err), blocked = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct error why = {0};

		rc = add_candidate(all, &names[i], list, &why);
		if (rc < 0 && err != NULL)
			*err = why;
		if (rc == -EPERM) {
			blocked = rc;
			rc = 0;
		}
	}
	if (rc == 0 && list->count == 0)
		return blocked;
	if (rc == 0)
		error_clear(err);
	return rc == 0 && list->count > 1 ? choose_one(all, reference, choose, list, err) : rc;
}

int registries_resolve(const struct reference *reference, image_choose_fn *choose,
		       struct registry_candidates *ret, struct error *err)
{
	own_registry_candidates struct registry_candidates list = {0};
	own_json json_t *all = NULL;
	int rc = registries_read(&all, err);

	if (rc < 0)
		return rc;
	list.items = mem_new_array(REGISTRIES_SEARCHED_MAX + 1, sizeof(*list.items));
	if (reference->short_name)
		rc = add_short(all, reference, choose, &list, err);
	if (rc == 0 && list.count == 0)
		rc = add_candidate(all, reference, &list, err);
	if (rc < 0)
		return rc;
	*ret = list;
	memset(&list, 0, sizeof(list));
	return 0;
}

int registries_full_names(const struct reference *reference, struct reference **ret,
			  size_t *ret_count, struct error *err)
{
	own_mem struct reference *names = mem_new_array(REGISTRIES_SEARCHED_MAX, sizeof(*names));
	own_json json_t *all = NULL;
	int rc = registries_read(&all, err);

	if (rc == 0)
		rc = list_full_names(all, reference, names, ret_count, err);
	if (rc == 0)
		*ret = take(names);
	return rc;
}

int registries_helpers(char ***ret, struct error *err)
{
	own_json json_t *all = NULL;
	struct json_at root;
	int rc = registries_read(&all, err);

	if (rc < 0)
		return rc;
	root = json_root(all);
	rc = json_get_strv(&root, "credential-helpers", JSON_OPTIONAL, ret, err);
	if (rc == 0)
		strv_push(ret, REGISTRIES_AUTH_FILES);
	return rc < 0 ? rc : 0;
}

int registries_searched(char ***ret, struct error *err)
{
	own_json json_t *all = NULL;
	const json_t *search;
	char **hosts = NULL;
	int rc = registries_read(&all, err);

	if (rc < 0)
		return rc;
	search = json_object_get(all, "unqualified-search-registries");
	for (size_t i = 0; i < json_array_size(search); i++)
		if (json_is_string(json_array_get(search, i)))
			strv_push(&hosts, json_string_value(json_array_get(search, i)));
	if (hosts == NULL)
		strv_push(&hosts, REFERENCE_DEFAULT_REGISTRY);
	*ret = hosts;
	return 0;
}
