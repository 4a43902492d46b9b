/* settings: see settings.h. */
#include "cli/settings.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "cli/suggest.h"
#include "image/toml.h"

enum { FILE_SIZE_MAX = 1 << 16 };

static const struct args *top_of(const struct args *args)
{
	while (args_group(args) != NULL)
		args = args_group(args);
	return args;
}

/* "version" and "config" are about one call and cannot be set from outside. */
static bool is_setting(const struct option_spec *option)
{
	return strcmp(option->name, "version") != 0 && strcmp(option->name, "config") != 0;
}

static int apply_environment(struct args *args, struct error *err)
{
	const struct option_set *set = &args_command(top_of(args))->options[0];

	for (size_t i = 0; i < set->count; i++) {
		char name[64] = "BERTH_";
		const char *value;
		int rc;

		if (!is_setting(&set->options[i]))
			continue;
		for (size_t j = 0; j <= strlen(set->options[i].name); j++) {
			const char c = set->options[i].name[j];

			name[6 + j] = c == '-' ? '_' : (char)toupper((unsigned char)c);
		}
		value = getenv(name);
		if (str_empty(value))
			continue;
		rc = args_supply(args, set->options[i].name, value, err);
		if (rc < 0)
			return refuse(err, rc, "environment variable %s", name);
	}
	return 0;
}

static bool is_known(const struct args *args, const char *key, struct suggest *suggest)
{
	const struct option_set *set = &args_command(top_of(args))->options[0];
	bool known = false;

	for (size_t i = 0; i < set->count; i++) {
		if (!is_setting(&set->options[i]))
			continue;
		suggest_offer(suggest, set->options[i].name);
		known |= strcmp(set->options[i].name, key) == 0;
	}
	return known;
}

static int apply_member(struct args *args, const char *key, const json_t *value, struct error *err)
{
	struct suggest suggest = suggest_for(key);
	own_mem char *text = NULL;

	if (!is_known(args, key, &suggest)) {
		if (suggest.best != NULL)
			hint(err, 0, "did you mean \"%s\"?", suggest.best);
		return refuse(err, -EINVAL, "unknown setting \"%s\"", key);
	}
	if (json_is_string(value))
		text = str_copy(json_string_value(value));
	else if (json_is_boolean(value) || json_is_integer(value))
		text = json_text(value);
	if (str_empty(text))
		return refuse(err, -EINVAL,
			      "setting \"%s\": expected a text, a number, true or false", key);
	return args_supply(args, key, text, err);
}

/* A file that does not exist is an empty one unless it was asked for. */
static int apply_file(struct args *args, const char *path, bool required, struct error *err)
{
	own_mem char *text = NULL;
	own_json json_t *settings = NULL;
	const char *key;
	json_t *value;
	size_t len;
	int rc = file_read(AT_FDCWD, path, FILE_SIZE_MAX, &text, &len, required ? err : NULL);

	if (rc == -ENOENT && !required)
		return 0;
	if (rc < 0)
		return required ? rc : fail(err, rc, "read %s", path);
	rc = toml_parse(text, len, path, &settings, err);
	if (rc < 0)
		return rc;
	json_object_foreach (settings, key, value) {
		rc = apply_member(args, key, value, err);
		if (rc < 0)
			return refuse(err, rc, "%s", path);
	}
	return 0;
}

static int apply_user_file(struct args *args, struct error *err)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	own_mem char *path = NULL;

	if (!str_empty(config))
		path = str_format("%s/berth/berth.toml", config);
	else if (!str_empty(home))
		path = str_format("%s/.config/berth/berth.toml", home);
	return path ? apply_file(args, path, false, err) : 0;
}

int settings_apply(struct args *args, struct error *err)
{
	const char *path = args_string(args, "config");
	int rc = apply_environment(args, err);

	if (rc < 0)
		return rc;
	if (path != NULL)
		return apply_file(args, path, true, err);
	rc = apply_user_file(args, err);
	return rc < 0 ? rc : apply_file(args, "/etc/berth/berth.toml", false, err);
}
