/* change: see change.h. */
#include "cli/change.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/suggest.h"

/* The member `key`, made if it is not there. Borrowed. */
static json_t *member(json_t *config, const char *key, json_t *fresh)
{
	json_t *value = json_object_get(config, key);

	if (value != NULL) {
		json_decref(fresh);
		return value;
	}
	json_object_set_new(config, key, fresh);
	return fresh;
}

/* CMD, ENTRYPOINT: ["a", "b"] or a text for the shell. */
static int set_command(json_t *config, const char *key, const char *text, struct error *err)
{
	own_json json_t *array = NULL;

	if (text[0] != '[') {
		json_object_set_new(config, key, json_pack("[sss]", "/bin/sh", "-c", text));
		return 0;
	}
	if (json_parse(text, strlen(text), key, &array, err) < 0)
		return -EINVAL;
	for (size_t i = 0; i < json_array_size(array); i++)
		if (!json_is_string(json_array_get(array, i)))
			return refuse(err, -EINVAL, "all elements must be strings");
	json_object_set(config, key, array);
	return 0;
}

static int set_text(json_t *config, const char *key, const char *text, struct error *err)
{
	(void)err;
	json_object_set_new(config, key, json_string(text));
	return 0;
}

/* ENV NAME=VALUE, or NAME VALUE. */
static int add_env(json_t *config, const char *key, const char *text, struct error *err)
{
	json_t *list = member(config, key, json_array());
	const size_t len = strcspn(text, "= \t");
	own_mem char *name = str_copy_n(text, len);

	if (len == 0 || text[len] == '\0')
		return refuse(err, -EINVAL, "expected NAME=VALUE");
	json_array_append_new(list, json_sprintf("%s=%s", name, text + len + 1));
	return 0;
}

static int add_label(json_t *config, const char *key, const char *text, struct error *err)
{
	const char *equals = strchr(text, '=');
	own_mem char *name = NULL;

	if (equals == NULL || equals == text)
		return refuse(err, -EINVAL, "expected NAME=VALUE");
	name = str_copy_n(text, (size_t)(equals - text));
	json_object_set_new(member(config, key, json_object()), name, json_string(equals + 1));
	return 0;
}

/* EXPOSE, VOLUME: the names become keys of an object. */
static int add_names(json_t *config, const char *key, const char *text, struct error *err)
{
	own_strv char **names = strv_split(text, ' ');
	const bool ports = strcmp(key, "ExposedPorts") == 0;

	(void)err;
	for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
		own_mem char *name = str_format(
			"%s%s", names[i], ports && strchr(names[i], '/') == NULL ? "/tcp" : "");

		if (names[i][0] != '\0')
			json_object_set_new(member(config, key, json_object()), name,
					    json_object());
	}
	return 0;
}

static const struct instruction {
	const char *name, *key;
	int (*apply)(json_t *config, const char *key, const char *text, struct error *err);
} instructions[] = {
	{"CMD", "Cmd", set_command},
	{"ENTRYPOINT", "Entrypoint", set_command},
	{"ENV", "Env", add_env},
	{"EXPOSE", "ExposedPorts", add_names},
	{"LABEL", "Labels", add_label},
	{"STOPSIGNAL", "StopSignal", set_text},
	{"USER", "User", set_text},
	{"VOLUME", "Volumes", add_names},
	{"WORKDIR", "WorkingDir", set_text},
};

int change_config(json_t *config, const char *instruction, struct error *err)
{
	const size_t len = strcspn(instruction, " \t=");
	own_mem char *name = str_copy_n(instruction, len);
	const char *text = instruction + len;
	struct suggest suggest;
	int rc;

	/* podman writes CMD=..., docker CMD ...; an assignment of ENV begins behind its name. */
	text += *text == '=' ? 1 : 0;
	text += strspn(text, " \t");
	for (char *p = name; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	suggest = suggest_for(name);
	for (size_t i = 0; i < array_size(instructions); i++) {
		suggest_offer(&suggest, instructions[i].name);
		if (strcmp(instructions[i].name, name) != 0)
			continue;
		if (*text == '\0')
			return refuse(err, -EINVAL, "--change: %s needs a value", name);
		rc = instructions[i].apply(config, instructions[i].key, text, err);
		return rc < 0 ? refuse(err, rc, "--change \"%s\"", instruction) : 0;
	}
	if (suggest.best != NULL)
		hint(err, 0, "did you mean %s?", suggest.best);
	return refuse(err, -EINVAL, "--change: unknown instruction \"%s\"", name);
}
