/* config: see config.h. Here: the whole, what is at its top, and the hooks. */
#include "oci/config.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "oci/config_priv.h"

const char *const config_hook_names[HOOK_KINDS] = {
	[HOOK_PRESTART] = "prestart",
	[HOOK_CREATE_RUNTIME] = "createRuntime",
	[HOOK_CREATE_CONTAINER] = "createContainer",
	[HOOK_START_CONTAINER] = "startContainer",
	[HOOK_POSTSTART] = "poststart",
	[HOOK_POSTSTOP] = "poststop",
};

/* --- hooks -------------------------------------------------------------------------------------- */

static int parse_hook(struct config *c, const struct json_at *at, struct config_hook *hook,
		      struct error *err)
{
	int64_t timeout = 0;
	int rc;

	if ((rc = config_absolute_path(at, "path", JSON_REQUIRED, &hook->path, err)) < 0 ||
	    (rc = config_strings(c, at, "args", &hook->args, err)) < 0 ||
	    (rc = config_strings(c, at, "env", &hook->env, err)) < 0)
		return rc;
	if (hook->args == NULL || hook->args[0] == NULL) {
		hook->args = config_alloc(c, 2, sizeof(char *));
		memcpy(hook->args, &hook->path, sizeof(char *));
	}
	rc = json_get_int(at, "timeout", JSON_OPTIONAL, 1, INT_MAX, &timeout, err);
	hook->timeout_seconds = (int)timeout;
	return rc;
}

static int parse_hooks(struct config *c, const struct json_at *root, struct error *err)
{
	struct json_at hooks, array, item;
	int rc = json_object_at(root, "hooks", JSON_OPTIONAL, &hooks, err);

	if (rc <= 0)
		return rc;
	for (size_t kind = 0; kind < HOOK_KINDS; kind++) {
		struct config_hooks *list = &c->hooks[kind];

		rc = config_list(c, &hooks, config_hook_names[kind], sizeof(*list->items), &array,
				 &list->items, &list->count, err);
		if (rc < 0)
			return rc;
		for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++)
			if (parse_hook(c, &item, &list->items[i], err) < 0)
				return -EINVAL;
	}
	return 0;
}

/* --- the whole ---------------------------------------------------------------------------------- */

static int parse_version(struct config *c, const struct json_at *root, struct error *err)
{
	struct json_at at;
	int rc = json_member(root, "ociVersion", JSON_REQUIRED, &at, err);

	if (rc < 0)
		return rc;
	rc = json_as_string(&at, &c->oci_version, err);
	if (rc < 0)
		return rc;
	/* Any 1.x is compatible by the rules of semantic versioning. */
	if (strncmp(c->oci_version, "1.", 2) != 0 || c->oci_version[2] < '0' ||
	    c->oci_version[2] > '9')
		return json_refuse(err, &at, "version \"%s\" is not supported, only 1.x is",
				   c->oci_version);
	return 0;
}

static int parse_top(struct config *c, const struct json_at *root, struct error *err)
{
	static const char *const foreign[] = {"windows", "solaris", "vm", "zos"};
	struct json_at at;
	const char *key;
	json_t *value;
	int rc = json_object_at(root, "root", JSON_OPTIONAL, &at, err);

	if (rc > 0 &&
	    ((rc = json_get_string(&at, "path", JSON_REQUIRED, &c->root_path, err)) < 0 ||
	     (rc = json_get_bool(&at, "readonly", JSON_OPTIONAL, &c->root_readonly, err)) < 0))
		return rc;
	if (rc < 0 ||
	    (rc = json_get_string(root, "hostname", JSON_OPTIONAL, &c->hostname, err)) < 0 ||
	    (rc = json_get_string(root, "domainname", JSON_OPTIONAL, &c->domainname, err)) < 0 ||
	    (rc = json_object_at(root, "annotations", JSON_OPTIONAL, &at, err)) < 0)
		return rc;
	if (rc > 0) {
		c->annotations = at.value;
		json_object_foreach (at.value, key, value) {
			struct json_at entry = {.value = value, .up = &at, .key = key};
			const char *text;

			if (json_as_string(&entry, &text, err) < 0)
				return -EINVAL;
		}
	}
	for (size_t i = 0; i < array_size(foreign); i++)
		if (json_object_get(root->value, foreign[i]) != NULL)
			return refuse(err, -EINVAL, "%s: this runtime is for Linux containers only",
				      foreign[i]);
	return 0;
}

int config_parse(json_t *json, struct config **ret, struct error *err)
{
	own_config struct config *c = mem_new(sizeof(*c));
	struct json_at root, process;
	int rc;

	c->json = json_incref(json);
	root = json_root(json);
	if ((rc = json_as_object(&root, err)) < 0 || (rc = parse_version(c, &root, err)) < 0 ||
	    (rc = parse_top(c, &root, err)) < 0 ||
	    (rc = json_object_at(&root, "process", JSON_OPTIONAL, &process, err)) < 0)
		return rc;
	if (rc > 0) {
		c->has_process = true;
		rc = config_parse_process(c, &process, &c->process, err);
		if (rc < 0)
			return rc;
	}
	c->process.keep_groups = str_eq(
		json_string_value(json_object_get(c->annotations, "run.oci.keep_original_groups")),
		"1");
	if ((rc = config_parse_mounts(c, &root, err)) < 0 ||
	    (rc = parse_hooks(c, &root, err)) < 0 || (rc = config_parse_linux(c, &root, err)) < 0 ||
	    (rc = config_check(c, &root, err)) < 0)
		return rc;
	*ret = take(c);
	return 0;
}
