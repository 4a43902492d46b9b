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

/* The words of a text, as Dockerfiles quote them: '...' as it stands, "..." and bare with backslashes. */
static char **split_words(const char *text)
{
	char **words = NULL;

	for (const char *p = text + strspn(text, " \t"); *p != '\0'; p += strspn(p, " \t")) {
		struct buf word = {0};
		char quote = '\0';

		for (; *p != '\0' && (quote != '\0' || strchr(" \t", *p) == NULL); p++) {
			if (*p == quote && quote != '\0') {
				quote = '\0';
			} else if (quote == '\0' && (*p == '"' || *p == '\'')) {
				quote = *p;
			} else {
				if (*p == '\\' && quote != '\'' && p[1] != '\0')
					p++;
				buf_add_char(&word, *p);
			}
		}
		strv_push_take(&words, buf_take(&word));
	}
	return words;
}

/* NAME=VALUE..., or one NAME VALUE, of which all that follows is the value. Calls `set` for each. */
static int for_pairs(json_t *config, const char *key, const char *text,
		     void (*set)(json_t *config, const char *key, const char *name,
				 const char *value),
		     struct error *err)
{
	own_strv char **words = split_words(text);
	const size_t len = strcspn(text, " \t");
	own_mem char *first = str_copy_n(text, len);

	if (strchr(first, '=') == NULL) {
		const char *value = text + len + strspn(text + len, " \t");

		if (*value == '\0')
			return refuse(err, -EINVAL, "expected NAME=VALUE");
		set(config, key, words[0], value);
		return 0;
	}
	for (size_t i = 0; words[i] != NULL; i++) {
		char *equals = strchr(words[i], '=');

		if (equals == NULL || equals == words[i])
			return refuse(err, -EINVAL, "expected NAME=VALUE, found \"%s\"", words[i]);
		*equals = '\0';
		set(config, key, words[i], equals + 1);
	}
	return 0;
}

/* A variable that is there already gets another value in its place. */
static void set_env(json_t *config, const char *key, const char *name, const char *value)
{
	json_t *list = member(config, key, json_array());
	own_mem char *prefix = str_format("%s=", name);
	json_t *pair = json_sprintf("%s%s", prefix, value);

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *old = json_string_value(json_array_get(list, i));

		if (old != NULL && str_after(old, prefix) != NULL) {
			json_array_set_new(list, i, pair);
			return;
		}
	}
	json_array_append_new(list, pair);
}

static int add_env(json_t *config, const char *key, const char *text, struct error *err)
{
	return for_pairs(config, key, text, set_env, err);
}

static void set_label(json_t *config, const char *key, const char *name, const char *value)
{
	json_object_set_new(member(config, key, json_object()), name, json_string(value));
}

static int add_label(json_t *config, const char *key, const char *text, struct error *err)
{
	return for_pairs(config, key, text, set_label, err);
}

/* EXPOSE, VOLUME: the names, as words or ["a", "b"], become keys of an object. */
static int add_names(json_t *config, const char *key, const char *text, struct error *err)
{
	const bool ports = strcmp(key, "ExposedPorts") == 0;
	own_strv char **names = NULL;

	if (text[0] == '[') {
		own_json json_t *scratch = json_object();
		const json_t *list;

		if (set_command(scratch, key, text, err) < 0)
			return -EINVAL;
		list = json_object_get(scratch, key);
		for (size_t i = 0; i < json_array_size(list); i++)
			strv_push(&names, json_string_value(json_array_get(list, i)));
	} else {
		names = split_words(text);
	}
	for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
		own_mem char *name = str_format(
			"%s%s", names[i], ports && strchr(names[i], '/') == NULL ? "/tcp" : "");

		if (names[i][0] != '\0')
			json_object_set_new(member(config, key, json_object()), name,
					    json_object());
	}
	return 0;
}

/* A relative one goes on from what was there. */
static int set_directory(json_t *config, const char *key, const char *text, struct error *err)
{
	const char *old = json_string_value(json_object_get(config, key));
	own_mem char *joined = NULL;

	if (text[0] == '/')
		return set_text(config, key, text, err);
	joined = str_format("%s%s%s", old ? old : "", str_ends_with(old ? old : "", "/") ? "" : "/",
			    text);
	return set_text(config, key, joined, err);
}

static int add_text(json_t *config, const char *key, const char *text, struct error *err)
{
	(void)err;
	json_array_append_new(member(config, key, json_array()), json_string(text));
	return 0;
}

/* One "--interval=5s" of HEALTHCHECK. */
static int set_check_option(json_t *check, const char *option, struct error *err)
{
	static const struct {
		const char *name, *key;
	} times[] = {
		{"--interval=", "Interval"},
		{"--timeout=", "Timeout"},
		{"--start-period=", "StartPeriod"},
	};
	const char *value = str_after(option, "--retries=");
	uint64_t count;
	int64_t ns;

	if (value != NULL && str_to_uint(value, INT32_MAX, &count) == 0) {
		json_object_set_new(check, "Retries", json_integer((json_int_t)count));
		return 0;
	}
	for (size_t i = 0; i < array_size(times); i++) {
		value = str_after(option, times[i].name);
		if (value == NULL || str_to_duration(value, &ns) < 0)
			continue;
		json_object_set_new(check, times[i].key, json_integer(ns));
		return 0;
	}
	return refuse(err, -EINVAL, "\"%s\" is no option of HEALTHCHECK with a good value", option);
}

/* HEALTHCHECK [--OPTION=VALUE...] CMD ..., or NONE. */
static int set_check(json_t *config, const char *key, const char *text, struct error *err)
{
	own_json json_t *check = json_object();
	const char *command;

	while (str_after(text, "--") != NULL) {
		own_mem char *option = str_copy_n(text, strcspn(text, " \t"));
		int rc = set_check_option(check, option, err);

		if (rc < 0)
			return rc;
		text += strlen(option);
		text += strspn(text, " \t");
	}
	command = strncasecmp(text, "CMD", 3) == 0 && strchr(" \t[", text[3]) ? text + 3 : NULL;
	if (strcasecmp(text, "NONE") == 0) {
		json_object_set_new(check, "Test", json_pack("[s]", "NONE"));
	} else if (command == NULL || command[strspn(command, " \t")] == '\0') {
		return refuse(err, -EINVAL, "expected CMD and a command, or NONE");
	} else {
		command += strspn(command, " \t");
		if (command[0] != '[') {
			json_object_set_new(check, "Test", json_pack("[ss]", "CMD-SHELL", command));
		} else {
			int rc = set_command(check, "Test", command, err);

			if (rc < 0)
				return rc;
			json_array_insert_new(json_object_get(check, "Test"), 0,
					      json_string("CMD"));
		}
	}
	json_object_set(config, key, check);
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
	{"HEALTHCHECK", "Healthcheck", set_check},
	{"LABEL", "Labels", add_label},
	{"ONBUILD", "OnBuild", add_text},
	{"STOPSIGNAL", "StopSignal", set_text},
	{"USER", "User", set_text},
	{"VOLUME", "Volumes", add_names},
	{"WORKDIR", "WorkingDir", set_directory},
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
