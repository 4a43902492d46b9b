/*
 * registries_file: reading registries.conf and what lies beside it.
 *
 * A setting of the wrong type or with an unknown value is refused rather than passed over: one that blocks a
 * registry must not be lost by a slip of the pen.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/registries_priv.h"
#include "image/toml.h"

enum { FILE_MAX = 1 << 20 };

static const char system_file[] = "/etc/containers/registries.conf";

/* --- checking --------------------------------------------------------------------------------------- */

static int check_flag(const struct json_at *table, const char *key, bool *ret, struct error *err)
{
	return json_get_bool(table, key, JSON_OPTIONAL, ret, err);
}

/* A place: no scheme, and no slash at its end (which is cut off). */
static int check_place(const struct json_at *table, const char *key, enum json_need need,
		       struct error *err)
{
	const char *text = NULL;
	own_mem char *cut = NULL;
	size_t len;
	int rc = json_get_string(table, key, need, &text, err);

	if (rc <= 0)
		return rc;
	if (strstr(text, "://") != NULL)
		return json_refuse(err, table, "%s \"%.200s\": it must not have a scheme", key,
				   text);
	len = strlen(text);
	while (len > 0 && text[len - 1] == '/')
		len--;
	cut = str_copy_n(text, len);
	json_set_string(table->value, key, cut);
	return 1;
}

static int check_mirror(const struct json_at *mirror, bool digest_only, struct error *err)
{
	static const char *const kinds[] = {"all", "digest-only", "tag-only"};
	const char *kind = NULL;
	bool insecure = false, known = false;
	int rc = json_as_object(mirror, err);

	if (rc == 0)
		rc = check_place(mirror, "location", JSON_REQUIRED, err);
	if (rc > 0)
		rc = check_flag(mirror, "insecure", &insecure, err);
	if (rc >= 0)
		rc = json_get_string(mirror, "pull-from-mirror", JSON_OPTIONAL, &kind, err);
	if (rc <= 0 || str_empty(kind))
		return rc < 0 ? rc : 0;
	for (size_t i = 0; i < array_size(kinds); i++)
		known = known || str_eq(kind, kinds[i]);
	if (!known)
		return json_refuse(err, mirror,
				   "pull-from-mirror is \"%.40s\": all, digest-only or tag-only",
				   kind);
	if (digest_only)
		return json_refuse(err, mirror,
				   "pull-from-mirror cannot be together with "
				   "mirror-by-digest-only");
	return 0;
}

static int check_registry(const struct json_at *table, struct error *err)
{
	bool blocked = false, insecure = false, digest_only = false;
	const char *prefix, *location;
	struct json_at mirrors, mirror;
	int rc = json_as_object(table, err);

	if (rc == 0)
		rc = check_place(table, "prefix", JSON_OPTIONAL, err);
	if (rc >= 0)
		rc = check_place(table, "location", JSON_OPTIONAL, err);
	if (rc >= 0)
		rc = check_flag(table, "blocked", &blocked, err);
	if (rc >= 0)
		rc = check_flag(table, "insecure", &insecure, err);
	if (rc >= 0)
		rc = check_flag(table, "mirror-by-digest-only", &digest_only, err);
	if (rc >= 0)
		rc = json_array_at(table, "mirror", JSON_OPTIONAL, &mirrors, err);
	if (rc > 0 && json_array_size(mirrors.value) > REGISTRIES_MIRRORS_MAX)
		return json_refuse(err, &mirrors, "more than %d mirrors", REGISTRIES_MIRRORS_MAX);
	for (size_t i = 0; rc > 0 && json_element(&mirrors, i, &mirror); i++)
		rc = check_mirror(&mirror, digest_only, err) < 0 ? -EINVAL : 1;
	if (rc < 0)
		return rc;
	prefix = json_string_value(json_object_get(table->value, "prefix"));
	location = json_string_value(json_object_get(table->value, "location"));
	if (str_empty(prefix) && str_empty(location))
		return json_refuse(err, table, "it has neither prefix nor location");
	if (str_empty(prefix))
		json_set_string(table->value, "prefix", location);
	if (str_empty(location) && str_after(prefix, "*.") == NULL)
		return json_refuse(err, table, "the prefix \"%.200s\" needs a location", prefix);
	return 0;
}

static int check_search(const struct json_at *root, struct error *err)
{
	own_strv char **list = NULL;
	int rc = json_get_strv(root, "unqualified-search-registries", JSON_OPTIONAL, &list, err);

	if (rc > 0 && strv_len(list) > REGISTRIES_SEARCHED_MAX)
		return json_refuse(err, root, "more than %d unqualified-search-registries",
				   REGISTRIES_SEARCHED_MAX);
	for (size_t i = 0; rc > 0 && list != NULL && list[i] != NULL; i++)
		if (list[i][0] == '\0' || strchr(list[i], '/') != NULL)
			return json_refuse(err, root,
					   "unqualified-search-registries: \"%.200s\" is no "
					   "registry",
					   list[i]);
	return rc;
}

static int check_aliases(const struct json_at *root, struct error *err)
{
	struct json_at aliases;
	const char *key;
	json_t *value;
	int rc = json_object_at(root, "aliases", JSON_OPTIONAL, &aliases, err);

	if (rc <= 0)
		return rc;
	json_object_foreach (aliases.value, key, value)
		if (!json_is_string(value))
			return json_refuse(err, &aliases, "\"%.100s\" stands for no name", key);
	return 0;
}

/* Compares with version 2 of the format; fills in what is left to be understood. */
static int check(json_t *file, struct error *err)
{
	struct json_at root = json_root(file), list, table;
	own_strv char **helpers = NULL;
	const char *mode = NULL;
	int rc;

	if (json_is_object(json_object_get(file, "registries")))
		return hint(err,
			    json_refuse(err, &root,
					"it is in version 1 of the format, which is not supported"),
			    "write [[registry]] tables and unqualified-search-registries: man 5 "
			    "containers-registries.conf");
	rc = json_array_at(&root, "registry", JSON_OPTIONAL, &list, err);
	for (size_t i = 0; rc > 0 && json_element(&list, i, &table); i++)
		rc = check_registry(&table, err) < 0 ? -EINVAL : 1;
	if (rc >= 0)
		rc = check_search(&root, err);
	if (rc >= 0)
		rc = check_aliases(&root, err);
	if (rc >= 0)
		rc = json_get_strv(&root, "credential-helpers", JSON_OPTIONAL, &helpers, err);
	if (rc >= 0)
		rc = json_get_string(&root, "short-name-mode", JSON_OPTIONAL, &mode, err);
	if (rc > 0 && !str_eq(mode, "enforcing") && !str_eq(mode, "permissive") &&
	    !str_eq(mode, "disabled") && !str_empty(mode))
		rc = json_refuse(err, &root,
				 "short-name-mode is \"%.40s\": enforcing, permissive or disabled",
				 mode);
	return rc < 0 ? rc : 0;
}

/* --- reading ---------------------------------------------------------------------------------------- */

/* Puts the members of a later file over those of earlier ones; [[registry]] and aliases add up. */
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

int registries_read_toml(const char *path, json_t **ret, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc;

	*ret = NULL;
	if (access(path, F_OK) < 0)
		return 0;
	rc = file_read(AT_FDCWD, path, FILE_MAX, &text, &len, err);
	return rc < 0 ? rc : toml_parse(text, len, path, ret, err);
}

static int read_into(const char *path, json_t *all, struct error *err)
{
	own_json json_t *file = NULL;
	int rc = registries_read_toml(path, &file, err);

	if (rc < 0 || file == NULL)
		return rc;
	rc = check(file, err);
	if (rc < 0)
		return refuse(err, rc, "%s", path);
	merge(all, file);
	return 0;
}

/* The files "*.conf" of the directory, by name. */
static int read_directory(const char *path, json_t *all, struct error *err)
{
	own_mem char *pattern = str_format("%s/*.conf", path);
	glob_t found = {0};
	int rc = 0;

	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; rc == 0 && i < found.gl_pathc; i++)
			rc = read_into(found.gl_pathv[i], all, err);
	globfree(&found);
	return rc;
}

int registries_read(json_t **ret, struct error *err)
{
	const char *set = getenv("CONTAINERS_REGISTRIES_CONF"), *home = getenv("HOME");
	own_mem char *of_user =
		str_empty(home) ? NULL : str_format("%s/.config/containers/registries.conf", home);
	const bool by_user = of_user != NULL && access(of_user, F_OK) == 0;
	const char *path = !str_empty(set) ? set : by_user ? of_user : system_file;
	/* A file that is named stands alone, but for the directory of its own. */
	const char *const bases[] = {!str_empty(set) ? set : system_file,
				     !str_empty(set) ? NULL : of_user};
	own_json json_t *all = json_object();
	int rc = read_into(path, all, err);

	for (size_t i = 0; rc == 0 && i < array_size(bases); i++) {
		own_mem char *dir = bases[i] ? str_format("%s.d", bases[i]) : NULL;

		if (dir != NULL)
			rc = read_directory(dir, all, err);
	}
	if (rc == 0)
		rc = registries_read_aliases(all, err);
	if (rc < 0)
		return rc;
	*ret = take(all);
	return 0;
}
