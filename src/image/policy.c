/* policy: see policy.h. */
#include "image/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"

static void requirement_release(struct policy_requirement *q)
{
	strv_free(q->key_paths);
	strv_free(q->key_datas);
	free(q->signed_identity);
	free(q->prefix);
	free(q->reason);
}

void policy_release(struct policy *policy)
{
	for (size_t i = 0; i < policy->count; i++) {
		struct policy_scope *scope = &policy->scopes[i];

		for (size_t j = 0; j < scope->count; j++)
			requirement_release(&scope->requirements[j]);
		free(scope->requirements);
		free(scope->name);
	}
	free(policy->scopes);
	free(policy->path);
	*policy = (struct policy){0};
}

/* --- parsing -------------------------------------------------------------------------------------- */

/* Refuses members that we do not know: a misspelt condition must not be taken for none. */
static int check_members(const struct json_at *object, const char *const *known, size_t count,
			 struct error *err)
{
	const char *key;
	json_t *value;

	json_object_foreach (object->value, key, value) {
		size_t i = 0;

		while (i < count && !str_eq(key, known[i]))
			i++;
		if (i == count)
			return json_refuse(err, object, "\"%.64s\" is not known here", key);
	}
	return 0;
}

/* The types of signedIdentity, with the members that they need. */
static const struct identity_type {
	const char *type;
	enum policy_identity identity;
	const char *name, *prefix;
} identity_types[] = {
	{"matchRepoDigestOrExact", POLICY_IDENTITY_IMAGE, NULL, NULL},
	{"matchExact", POLICY_IDENTITY_EXACT, NULL, NULL},
	{"matchRepository", POLICY_IDENTITY_REPOSITORY, NULL, NULL},
	{"remapIdentity", POLICY_IDENTITY_REMAPPED, "signedPrefix", "prefix"},
	{"exactRepository", POLICY_IDENTITY_OTHER_REPOSITORY, "dockerRepository", NULL},
	{"exactReference", POLICY_IDENTITY_OTHER_EXACT, "dockerReference", NULL},
};

static int read_name(const struct json_at *identity, const char *key, char **ret, struct error *err)
{
	const char *text = NULL;
	int rc = key ? json_get_string(identity, key, JSON_REQUIRED, &text, err) : 0;

	*ret = str_copy(text);
	return rc < 0 ? rc : 0;
}

static int parse_identity(const struct json_at *at, struct policy_requirement *q, struct error *err)
{
	const struct identity_type *t = identity_types;
	const struct identity_type *end = t + array_size(identity_types);
	struct json_at identity;
	struct reference r;
	const char *type;
	int rc = json_object_at(at, "signedIdentity", JSON_OPTIONAL, &identity, err);

	if (rc > 0)
		rc = json_get_string(&identity, "type", JSON_REQUIRED, &type, err);
	if (rc <= 0)
		return rc;
	while (t < end && !str_eq(t->type, type))
		t++;
	if (t == end)
		return json_refuse(err, &identity, "the type \"%.64s\" is not known", type);
	q->identity = t->identity;
	rc = read_name(&identity, t->name, &q->signed_identity, err);
	if (rc == 0)
		rc = read_name(&identity, t->prefix, &q->prefix, err);
	if (rc == 0 && t->identity == POLICY_IDENTITY_OTHER_EXACT &&
	    (reference_parse(q->signed_identity, &r, NULL) < 0 || r.default_tag))
		return json_refuse(err, &identity, "dockerReference needs a tag");
	return rc;
}

static int parse_signed(const struct json_at *at, struct policy_requirement *q, struct error *err)
{
	static const char *const known[] = {"type",    "keyPath",  "keyPaths",
					    "keyData", "keyDatas", "signedIdentity"};
	static const char *const others[] = {"fulcio",
					     "pki",
					     "rekorPublicKeyPath",
					     "rekorPublicKeyPaths",
					     "rekorPublicKeyData",
					     "rekorPublicKeyDatas"};
	const char *path = NULL, *data = NULL;
	int rc;

	/* Conditions that other programs know must not make the whole policy unreadable. */
	for (size_t i = 0; i < array_size(others); i++) {
		if (json_object_get(at->value, others[i]) == NULL)
			continue;
		q->kind = POLICY_REJECT;
		q->reason = str_format("it asks for %s, which is not supported", others[i]);
		return 0;
	}
	q->kind = POLICY_SIGNED;
	rc = check_members(at, known, array_size(known), err);
	if (rc >= 0)
		rc = json_get_string(at, "keyPath", JSON_OPTIONAL, &path, err);
	if (rc >= 0)
		rc = json_get_string(at, "keyData", JSON_OPTIONAL, &data, err);
	if (rc >= 0)
		rc = json_get_strv(at, "keyPaths", JSON_OPTIONAL, &q->key_paths, err);
	if (rc >= 0)
		rc = json_get_strv(at, "keyDatas", JSON_OPTIONAL, &q->key_datas, err);
	if (rc < 0)
		return rc;
	if ((path != NULL) + (data != NULL) + (q->key_paths != NULL) + (q->key_datas != NULL) != 1)
		return json_refuse(err, at, "needs one of keyPath, keyPaths, keyData and keyDatas");
	if (path != NULL)
		strv_push(&q->key_paths, path);
	if (data != NULL)
		strv_push(&q->key_datas, data);
	return parse_identity(at, q, err);
}

static int parse_requirement(const struct json_at *at, struct policy_requirement *q,
			     struct error *err)
{
	static const char *const plain[] = {"type"};
	const char *type;
	int rc = json_get_string(at, "type", JSON_REQUIRED, &type, err);

	if (rc < 0)
		return rc;
	if (str_eq(type, "sigstoreSigned"))
		return parse_signed(at, q, err);
	q->kind = POLICY_REJECT;
	if (str_eq(type, "signedBy")) {
		q->reason =
			str_copy("it asks for GPG signatures (signedBy), which are not supported");
		return 0;
	}
	if (str_eq(type, "insecureAcceptAnything"))
		q->kind = POLICY_ACCEPT;
	else if (!str_eq(type, "reject"))
		return json_refuse(err, at, "the type \"%.64s\" is not known", type);
	return check_members(at, plain, array_size(plain), err);
}

/* Parses the requirements of one scope and appends it. */
static int parse_scope(struct policy *policy, const char *name, const struct json_at *list,
		       struct error *err)
{
	const size_t count = json_array_size(list->value);
	struct policy_scope *scope;
	struct json_at item;

	if (!json_is_array(list->value) || count == 0)
		return json_refuse(err, list, "expected at least one requirement in an array");
	policy->scopes = mem_resize(policy->scopes, policy->count + 1, sizeof(*policy->scopes));
	scope = &policy->scopes[policy->count++];
	*scope = (struct policy_scope){
		.name = str_copy(name),
		.requirements = mem_new_array(count, sizeof(*scope->requirements)),
	};
	for (size_t i = 0; json_element(list, i, &item); i++) {
		int rc;

		scope->count = i + 1;
		rc = parse_requirement(&item, &scope->requirements[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int parse_root(struct policy *policy, const struct json_at *root, struct error *err)
{
	static const char *const known[] = {"default", "transports"};
	struct json_at list, transports, docker;
	const char *name;
	json_t *value;
	int rc = check_members(root, known, array_size(known), err);

	if (rc >= 0)
		rc = json_array_at(root, "default", JSON_REQUIRED, &list, err);
	if (rc >= 0)
		rc = parse_scope(policy, NULL, &list, err);
	if (rc >= 0)
		rc = json_object_at(root, "transports", JSON_OPTIONAL, &transports, err);
	if (rc > 0)
		rc = json_object_at(&transports, "docker", JSON_OPTIONAL, &docker, err);
	if (rc <= 0)
		return rc;
	json_object_foreach (docker.value, name, value) {
		struct json_at scope = {.value = value, .up = &docker, .key = name};

		rc = parse_scope(policy, name, &scope, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int policy_parse(const char *text, size_t len, const char *path, struct policy *ret,
		 struct error *err)
{
	own_policy struct policy policy = {0};
	own_json json_t *value = NULL;
	struct json_at root;
	int rc = json_parse(text, len, path, &value, err);

	if (rc < 0)
		return rc;
	root = json_root(value);
	policy.path = str_copy(path);
	rc = parse_root(&policy, &root, err);
	if (rc < 0)
		return refuse(err, rc, "policy %s", path);
	*ret = policy;
	policy = (struct policy){0};
	return 0;
}

int policy_load(const char *path, struct policy *ret, struct error *err)
{
	const char *home = getenv("HOME");
	own_mem char *users = home ? str_format("%s/.config/berth/policy.json", home) : NULL;
	const char *const places[] = {path, users, "/etc/berth/policy.json",
				      "/etc/containers/policy.json"};

	for (size_t i = 0; i < array_size(places); i++) {
		struct error why = {0};
		own_mem char *text = NULL;
		size_t len;
		int rc;

		if (places[i] == NULL)
			continue;
		rc = file_read(AT_FDCWD, places[i], POLICY_FILE_MAX, &text, &len, &why);
		if (rc == -ENOENT && path == NULL)
			continue;
		if (rc < 0)
			return refuse(err, rc, "image policy: %s", why.text);
		return policy_parse(text, len, places[i], ret, err);
	}
	*ret = (struct policy){0};
	return 0;
}

/* --- deciding ------------------------------------------------------------------------------------- */

static const struct policy_scope *find_scope(const struct policy *policy, const char *name)
{
	for (size_t i = 0; i < policy->count; i++)
		if (str_eq(policy->scopes[i].name, name))
			return &policy->scopes[i];
	return NULL;
}

/* "*.example.org" matches hosts below the domain; the longest pattern wins. */
static const struct policy_scope *find_domain(const struct policy *policy, const char *registry)
{
	for (const char *dot = strchr(registry, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
		own_mem char *pattern = str_format("*%s", dot);
		const struct policy_scope *scope = find_scope(policy, pattern);

		if (scope != NULL)
			return scope;
	}
	return NULL;
}

const struct policy_scope *policy_find(const struct policy *policy, const struct reference *r)
{
	char name[REFERENCE_TEXT_MAX];
	const struct policy_scope *scope;

	if (policy->path == NULL)
		return NULL;
	reference_format(r, name);
	scope = find_scope(policy, name);
	if (scope == NULL) {
		reference_format_name(r, name);
		scope = find_scope(policy, name);
	}
	/* The repository's parents, up to the registry itself. */
	for (char *slash; scope == NULL && (slash = strrchr(name, '/')) != NULL;) {
		*slash = '\0';
		scope = find_scope(policy, name);
	}
	if (scope == NULL)
		scope = find_domain(policy, r->registry);
	if (scope == NULL)
		scope = find_scope(policy, "");
	return scope != NULL ? scope : find_scope(policy, NULL);
}

const struct policy_scope *policy_default(const struct policy *policy)
{
	return policy->path ? find_scope(policy, NULL) : NULL;
}

bool policy_wants_signatures(const struct policy_scope *scope)
{
	for (size_t i = 0; scope != NULL && i < scope->count; i++)
		if (scope->requirements[i].kind == POLICY_SIGNED)
			return true;
	return false;
}

int policy_check_rejects(const struct policy *policy, const struct policy_scope *scope,
			 const struct reference *r, struct error *err)
{
	char name[REFERENCE_TEXT_MAX];

	reference_format_familiar(r, name);
	for (size_t i = 0; scope != NULL && i < scope->count; i++) {
		const struct policy_requirement *q = &scope->requirements[i];

		if (q->kind != POLICY_REJECT)
			continue;
		return hint(err,
			    refuse(err, -EPERM, "the policy %s does not allow \"%s\"%s%s",
				   policy->path, name, q->reason ? ": " : "",
				   q->reason ? q->reason : ""),
			    "see the entry for %s in that file",
			    str_empty(scope->name) ? "the default" : scope->name);
	}
	return 0;
}
