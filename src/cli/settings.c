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

static const struct option_spec *find_setting(const struct args *args, const char *key,
					      struct suggest *suggest)
{
	const struct option_set *set = &args_command(top_of(args))->options[0];

	for (size_t i = 0; i < set->count; i++) {
		if (!is_setting(&set->options[i]))
			continue;
		suggest_offer(suggest, set->options[i].name);
		if (strcmp(set->options[i].name, key) == 0)
			return &set->options[i];
	}
	return NULL;
}

/* The value behind the "=": a quoted string, or a bare word. What follows must be a comment. */
static int parse_value(char *text, const char **ret, struct error *err)
{
	char *end;

	if (*text == '"' || *text == '\'') {
		end = strchr(text + 1, *text);
		if (end == NULL || memchr(text, '\\', (size_t)(end - text)) != NULL)
			return refuse(err, -EINVAL, "a string without an end, or with a backslash");
		*ret = text + 1;
		*end++ = '\0';
	} else {
		end = text + strcspn(text, " \t#");
		*ret = text;
		if (*end == '#')
			return refuse(err, -EINVAL, "a comment without a space before it");
		if (*end != '\0')
			*end++ = '\0';
	}
	end += strspn(end, " \t");
	if (*end != '\0' && *end != '#')
		return refuse(err, -EINVAL, "unexpected text behind the value: \"%s\"", end);
	if (**ret == '\0')
		return refuse(err, -EINVAL, "the value is missing");
	return 0;
}

static int parse_line(struct args *args, char *line, struct error *err)
{
	char *equals, *key = line + strspn(line, " \t\r");
	struct suggest suggest;
	const char *value = NULL;
	size_t len = strlen(key);
	int rc;

	while (len > 0 && isspace((unsigned char)key[len - 1]))
		key[--len] = '\0';
	if (*key == '\0' || *key == '#')
		return 0;
	equals = strchr(key, '=');
	if (*key == '[' || equals == NULL)
		return refuse(err, -EINVAL, "expected: name = value");
	for (char *p = equals; p > key && (isspace((unsigned char)p[-1]));)
		*--p = '\0';
	*equals = '\0';
	suggest = suggest_for(key);
	if (find_setting(args, key, &suggest) == NULL) {
		if (suggest.best != NULL)
			hint(err, 0, "did you mean \"%s\"?", suggest.best);
		return refuse(err, -EINVAL, "unknown setting \"%s\"", key);
	}
	equals++;
	rc = parse_value(equals + strspn(equals, " \t"), &value, err);
	return rc < 0 ? rc : args_supply(args, key, value, err);
}

/* A file that does not exist is an empty one unless it was asked for. */
static int apply_file(struct args *args, const char *path, bool required, struct error *err)
{
	own_mem char *text = NULL;
	unsigned int number = 1;
	size_t len;
	int rc = file_read(AT_FDCWD, path, FILE_SIZE_MAX, &text, &len, required ? err : NULL);

	if (rc == -ENOENT && !required)
		return 0;
	if (rc < 0)
		return required ? rc : fail(err, rc, "read %s", path);
	for (char *line = text; line != NULL; number++) {
		char *end = strchr(line, '\n');

		if (end != NULL)
			*end = '\0';
		rc = parse_line(args, line, err);
		if (rc < 0)
			return refuse(err, rc, "%s line %u", path, number);
		line = end ? end + 1 : NULL;
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
