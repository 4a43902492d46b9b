/*
 * args: see args.h.
 *
 * One `struct args` per level: the program, its groups, the command. Each holds one value per option of
 * its level, in the order of the sets, and knows the level above.
 */
#include "cli/args.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/suggest.h"

struct value {
	const char *text;
	char **list; /* NULL-terminated; the strings are argv's */
	size_t count, capacity;
	union {
		bool flag;
		int64_t number;
		uint64_t size;
	};
	bool given;
};

struct args {
	const struct command *command;
	struct args *up;
	char *path;
	char **positional; /* NULL-terminated; the strings are argv's */
	int count;
	bool wants_help;
	char **supplied;       /* texts that are not argv's */
	struct value values[]; /* of all sets of options, one after the other */
};

/* What the parser goes through: the words, and where it stands. */
struct words {
	char *const *argv;
	int argc;
	int next;
};

static char *const empty_list[] = {NULL};

/* An option of `command` and the index of its value. */
struct found {
	const struct option_spec *spec;
	struct value *value;
};

static size_t option_count(const struct command *command)
{
	size_t count = 0;

	for (size_t i = 0; i < OPTION_SETS_MAX; i++)
		count += command->options[i].count;
	return count;
}

/* Finds by long name, or, if `name` is NULL, by letter, at this level. */
static bool find_here(const struct args *args, const char *name, char letter, struct found *ret)
{
	size_t index = 0;

	for (size_t i = 0; i < OPTION_SETS_MAX; i++) {
		const struct option_set *set = &args->command->options[i];

		for (size_t j = 0; j < set->count; j++, index++) {
			const struct option_spec *spec = &set->options[j];

			if (name ? strcmp(spec->name, name) == 0 : spec->letter == letter) {
				ret->spec = spec;
				/* The levels are ours; only their readers are const. */
				ret->value = (struct value *)(uintptr_t)&args->values[index];
				return true;
			}
		}
	}
	return false;
}

/* Finds a long name here or in the groups above. */
static bool find_long(const struct args *args, const char *name, struct found *ret)
{
	for (; args != NULL; args = args->up) {
		if (find_here(args, name, 0, ret))
			return true;
		if (args->command->flags & COMMAND_ISOLATED)
			break;
	}
	return false;
}

/* A long name that may end in "=value". */
static const char *find_similar(const struct args *args, const char *name)
{
	struct suggest suggest = suggest_for(name);

	for (; args != NULL; args = args->up) {
		for (size_t i = 0; i < OPTION_SETS_MAX; i++)
			for (size_t j = 0; j < args->command->options[i].count; j++) {
				const struct option_spec *spec =
					&args->command->options[i].options[j];

				if (!(spec->flags & (OPTION_HIDDEN | OPTION_REFUSED)))
					suggest_offer(&suggest, spec->name);
			}
		if (args->command->flags & COMMAND_ISOLATED)
			break;
	}
	return suggest.best;
}

static struct args *level_new(const struct command *command, struct args *up, const char *name)
{
	struct args *args =
		mem_new(sizeof(*args) + option_count(command) * sizeof(args->values[0]));

	args->command = command;
	args->up = up;
	args->path = up ? str_format("%s %s", up->path, name) : str_copy(name);
	return args;
}

void args_free(struct args *args)
{
	while (args != NULL) {
		struct args *up = args->up;

		for (size_t i = 0; i < option_count(args->command); i++)
			free(args->values[i].list);
		strv_free(args->supplied);
		free(args->positional);
		free(args->path);
		free(args);
		args = up;
	}
}

static int parse_flag(const char *text, bool *ret)
{
	static const char *const yes[] = {"true", "1", "t", "T", "TRUE", "True"};
	static const char *const no[] = {"false", "0", "f", "F", "FALSE", "False"};

	for (size_t i = 0; i < array_size(yes); i++) {
		if (strcmp(text, yes[i]) == 0) {
			*ret = true;
			return 0;
		}
		if (strcmp(text, no[i]) == 0) {
			*ret = false;
			return 0;
		}
	}
	return -EINVAL;
}

/* True if `text` is one of the words of "a|b|c". */
static bool is_choice(const char *choices, const char *text)
{
	size_t len = strlen(text);

	while (*choices != '\0') {
		size_t n = strcspn(choices, "|");

		if (n == len && memcmp(choices, text, n) == 0)
			return true;
		choices += n + (choices[n] == '|');
	}
	return false;
}

/* Checks `text` by the option's kind and puts it into the value. */
static int value_parse(const struct option_spec *spec, const char *text, struct value *value)
{
	switch ((enum option_kind)spec->kind) {
	case OPTION_FLAG:
		return parse_flag(text, &value->flag);
	case OPTION_INT:
		return str_to_int(text, INT64_MIN, INT64_MAX, &value->number);
	case OPTION_SIZE:
		return str_to_size(text, &value->size);
	case OPTION_DURATION:
		return str_to_duration(text, &value->number);
	case OPTION_ENUM:
		return is_choice(spec->metavar, text) ? 0 : -EINVAL;
	case OPTION_STRING:
	case OPTION_LIST:
		return 0;
	}
	return -EINVAL;
}

static const char *kind_name(const struct option_spec *spec)
{
	static const char *const names[] = {
		[OPTION_FLAG] = "true or false",
		[OPTION_INT] = "a whole number",
		[OPTION_SIZE] = "a size such as 512m or 1.5g",
		[OPTION_DURATION] = "a duration such as 10s or 1m30s",
	};

	return names[spec->kind];
}

static int refuse_value(const struct option_spec *spec, const char *shown, const char *text,
			struct error *err)
{
	return refuse(err, -EINVAL, "invalid value \"%s\" for %s: expected %s", text, shown,
		      spec->kind == OPTION_ENUM ? spec->metavar : kind_name(spec));
}

static int set_value(const struct args *args, const struct found *found, const char *shown,
		     char *text, struct error *err)
{
	struct value *value = found->value;

	if (found->spec->flags & OPTION_REFUSED)
		return args_refuse(args, err, "%s is not supported: %s", shown, found->spec->help);
	if (value_parse(found->spec, text, value) < 0) {
		hint(err, 0, "see \"%s --help\"", args->path);
		return refuse_value(found->spec, shown, text, err);
	}
	value->given = true;
	value->text = text;
	if (found->spec->kind == OPTION_LIST) {
		value->list =
			mem_grow(value->list, value->count + 1, &value->capacity, sizeof(char *));
		value->list[value->count++] = text;
		value->list[value->count] = NULL;
	}
	return 0;
}

static bool takes_value(const struct option_spec *spec)
{
	return spec->kind != OPTION_FLAG && !(spec->flags & OPTION_VALUE_OPTIONAL);
}

/* Gives the option its value: `attached` if it came with the word, else the next word. */
static int take_value(const struct args *args, const struct found *found, const char *shown,
		      char *attached, struct words *words, struct error *err)
{
	static char flag_on[] = "true", absent[] = "";

	if (attached != NULL)
		return set_value(args, found, shown, attached, err);
	if (found->spec->kind == OPTION_FLAG)
		return set_value(args, found, shown, flag_on, err);
	if (!takes_value(found->spec) || (found->spec->flags & OPTION_REFUSED))
		return set_value(args, found, shown, absent, err);
	if (words->next >= words->argc)
		return args_refuse(args, err, "%s needs a value: %s", shown, found->spec->metavar);
	return set_value(args, found, shown, words->argv[words->next++], err);
}

/* `word` begins after the dashes. */
static int parse_long(struct args *args, char *word, struct words *words, struct error *err)
{
	char *equals = strchr(word, '=');
	own_mem char *name = str_copy_n(word, strcspn(word, "="));
	own_mem char *shown = str_format("--%s", name);
	struct found found;
	const char *similar;

	if (!find_long(args, name, &found)) {
		if (strcmp(name, "help") == 0) {
			args->wants_help = true;
			return 0;
		}
		similar = find_similar(args, name);
		if (similar != NULL)
			hint(err, 0, "did you mean --%s? See \"%s --help\"", similar, args->path);
		return args_refuse(args, err, "unknown flag %s", shown);
	}
	return take_value(args, &found, shown, equals ? equals + 1 : NULL, words, err);
}

/* Engines write to the runtime as to runc, whose parser takes long names after one dash, too: containerd restores
 * with "-no-subreaper". */
static bool is_long_after_one_dash(const struct args *args, const char *word)
{
	own_mem char *name = str_copy_n(word + 1, strcspn(word + 1, "="));
	struct found found;

	if (word[2] == '\0' || !find_here(args, name, 0, &found))
		return false;
	while (args != NULL && args->command != &oci_command)
		args = args->up;
	return args != NULL;
}

/* A word of one dash: letters of flags, the last of which may take a value. */
static int parse_short(struct args *args, char *word, struct words *words, struct error *err)
{
	for (char *p = word + 1; *p != '\0'; p++) {
		const char shown[] = {'-', *p, '\0'};
		char *attached = NULL;
		struct found found;
		int rc;

		if (!find_here(args, NULL, *p, &found)) {
			if (*p == 'h') {
				args->wants_help = true;
				return 0;
			}
			if (strcmp(shown, word) == 0)
				return args_refuse(args, err, "unknown flag %s", shown);
			return args_refuse(args, err, "unknown flag %s in %s", shown, word);
		}
		if (p[1] == '=')
			attached = p + 2;
		else if (p[1] != '\0' && takes_value(found.spec))
			attached = p + 1;
		rc = take_value(args, &found, shown, attached, words, err);
		if (rc < 0 || attached != NULL)
			return rc;
	}
	return 0;
}

/* `names` are separated by spaces, or NULL. */
static bool is_among(const char *name, const char *names)
{
	size_t len = strlen(name);

	while (names != NULL && *names != '\0') {
		size_t n = strcspn(names, " ");

		if (n == len && memcmp(names, name, n) == 0)
			return true;
		names += n + (names[n] == ' ');
	}
	return false;
}

static const struct command_entry *find_entry(const struct command *group, const char *name)
{
	for (const struct command_entry *entry = group->entries; entry->name != NULL; entry++)
		if (strcmp(entry->name, name) == 0 || is_among(name, entry->aliases))
			return entry;
	return NULL;
}

static int unknown_command(const struct args *args, const char *name, struct error *err)
{
	const struct missing_command *missing = args->command->missing;
	struct suggest suggest = suggest_for(name);

	for (; missing != NULL && missing->names[0] != '\0'; missing++)
		if (is_among(name, missing->names))
			return hint(err,
				    refuse(err, -EINVAL, "\"%s %s\" is not supported: %s",
					   args->path, name, missing->reason),
				    "%s", missing->instead);
	for (const struct command_entry *entry = args->command->entries; entry->name; entry++)
		if (!(entry->command->flags & COMMAND_HIDDEN))
			suggest_offer(&suggest, entry->name);
	if (suggest.best != NULL)
		hint(err, 0, "did you mean \"%s %s\"?", args->path, suggest.best);
	/* The runtime's users look for these words. */
	if (args->command == &oci_command)
		return args_refuse(args, err, "unknown command \"%s %s\": No help topic for '%s'",
				   args->path, name, name);
	return args_refuse(args, err, "unknown command \"%s %s\"", args->path, name);
}

/* How many arguments a command takes, counted from its usage line. */
struct arity {
	int min, max;
};

static struct arity count_usage(const char *arguments)
{
	struct arity arity = {0, 0};

	while (arguments != NULL && *arguments != '\0') {
		size_t n = strcspn(arguments, " ");

		arity.min += arguments[0] != '[';
		if (memmem(arguments, n, "...", 3) != NULL)
			arity.max = INT32_MAX;
		else if (arity.max != INT32_MAX)
			arity.max++;
		arguments += n + (arguments[n] == ' ');
	}
	return arity;
}

static int check_count(const struct args *args, struct error *err)
{
	struct arity arity = count_usage(args->command->arguments);
	own_buf struct buf usage = {0};

	if (args->count >= arity.min && args->count <= arity.max)
		return 0;
	if (args->count == 0 && args->command->instead && args_given(args, args->command->instead))
		return 0;
	help_usage(&usage, args->path, args->command);
	hint(err, 0, "usage: %s", usage.data);
	if (arity.max == 0)
		return args_refuse(args, err, "\"%s\" takes no arguments, but was given \"%s\"",
				   args->path, args->positional[0]);
	if (arity.min == arity.max)
		return args_refuse(args, err,
				   "\"%s\" needs exactly %d argument%s, but was given %d",
				   args->path, arity.min, arity.min == 1 ? "" : "s", args->count);
	if (args->count > arity.max)
		return args_refuse(args, err,
				   "\"%s\" takes at most %d argument%s, but was given %d",
				   args->path, arity.max, arity.max == 1 ? "" : "s", args->count);
	return args_refuse(args, err, "\"%s\" needs at least %d argument%s, but was given %d",
			   args->path, arity.min, arity.min == 1 ? "" : "s", args->count);
}

/* Goes through the words of one level. Stops at the name of an entry, which is left for the caller. */
static int parse_level(struct args *args, struct words *words, struct error *err)
{
	bool options = true;

	args->positional = mem_new_array((size_t)(words->argc - words->next) + 1, sizeof(char *));
	while (words->next < words->argc && !args->wants_help) {
		char *word = words->argv[words->next];
		int rc = 0;

		if (options && word[0] == '-' && word[1] != '\0') {
			words->next++;
			if (strcmp(word, "--") == 0)
				options = false;
			else if (word[1] == '-')
				rc = parse_long(args, word + 2, words, err);
			else if (is_long_after_one_dash(args, word))
				rc = parse_long(args, word + 1, words, err);
			else
				rc = parse_short(args, word, words, err);
			if (rc < 0)
				return rc;
			continue;
		}
		if (args->command->entries != NULL)
			return 0;
		words->next++;
		args->positional[args->count++] = word;
		if (args->command->flags & COMMAND_STOP_AT_ARGUMENT)
			options = false;
	}
	return 0;
}

int args_parse(const char *name, const struct command *root, int argc, char *const *argv,
	       struct args **ret, struct error *err)
{
	struct words words = {.argv = argv, .argc = argc, .next = 1};
	struct args *args = level_new(root, NULL, name);
	bool help = false; /* "help image ls" is "image ls --help" */

	for (;;) {
		const struct command_entry *entry;
		int rc = help ? 0 : parse_level(args, &words, err);

		*ret = args;
		args->wants_help |= help && args->command->entries == NULL;
		if (rc < 0 || args->wants_help)
			return rc;
		if (args->command->entries == NULL)
			return check_count(args, err);
		/* A group without a word more: its caller shows the help. */
		if (words.next >= words.argc)
			return 0;
		name = words.argv[words.next];
		entry = find_entry(args->command, name);
		if (entry == NULL && (help || strcmp(name, "help") != 0))
			return unknown_command(args, name, err);
		words.next++;
		help = help || entry == NULL;
		if (entry == NULL)
			continue;
		args = level_new(entry->command, args, entry->name);
	}
}

const struct command *args_command(const struct args *args)
{
	return args->command;
}

const char *args_path(const struct args *args)
{
	return args->path;
}

const struct args *args_group(const struct args *args)
{
	return args->up;
}

bool args_wants_help(const struct args *args)
{
	return args->wants_help;
}

int args_error_status(const struct args *args)
{
	for (; args != NULL; args = args->up)
		if (args->command->error_status != 0)
			return args->command->error_status;
	return 125;
}

char *const *args_positional(const struct args *args)
{
	return args->positional;
}

int args_count(const struct args *args)
{
	return args->count;
}

const char *args_at(const struct args *args, int i)
{
	return i < args->count ? args->positional[i] : NULL;
}

/* The option for a getter: of this level or of one above it. */
static struct found get(const struct args *args, const char *name)
{
	struct found found = {0};

	for (; args != NULL; args = args->up)
		if (find_here(args, name, 0, &found))
			return found;
	assert(!"the command has no such option");
	__builtin_unreachable();
}

/* The value of an option of `kind`, with the default filled in. */
static struct value *get_kind(const struct args *args, const char *name, enum option_kind kind)
{
	struct found found = get(args, name);

	assert(found.spec->kind == kind);
	if (!found.value->given && found.spec->fallback[0] != '\0' && found.value->text == NULL) {
		int rc = value_parse(found.spec, found.spec->fallback, found.value);

		assert(rc == 0);
		(void)rc;
		found.value->text = found.spec->fallback;
	}
	return found.value;
}

bool args_has(const struct args *args, const char *option)
{
	struct found found;

	for (; args != NULL; args = args->up)
		if (find_here(args, option, 0, &found))
			return true;
	return false;
}

bool args_given(const struct args *args, const char *option)
{
	return get(args, option).value->given;
}

bool args_flag(const struct args *args, const char *option)
{
	return get_kind(args, option, OPTION_FLAG)->flag;
}

const char *args_string(const struct args *args, const char *option)
{
	struct found found = get(args, option);

	assert(found.spec->kind == OPTION_STRING || found.spec->kind == OPTION_ENUM);
	return get_kind(args, option, found.spec->kind)->text;
}

int64_t args_int(const struct args *args, const char *option)
{
	return get_kind(args, option, OPTION_INT)->number;
}

uint64_t args_size(const struct args *args, const char *option)
{
	return get_kind(args, option, OPTION_SIZE)->size;
}

int64_t args_duration(const struct args *args, const char *option)
{
	return get_kind(args, option, OPTION_DURATION)->number;
}

char *const *args_list(const struct args *args, const char *option)
{
	struct value *value = get_kind(args, option, OPTION_LIST);

	return value->list ? value->list : empty_list;
}

int args_supply(struct args *args, const char *option, const char *text, struct error *err)
{
	struct found found = get(args, option);

	if (found.value->given || found.value->text != NULL)
		return 0;
	if (value_parse(found.spec, text, found.value) < 0)
		return refuse_value(found.spec, option, text, err);
	strv_push(&args->supplied, text);
	found.value->text = args->supplied[strv_len(args->supplied) - 1];
	return 0;
}

int args_refuse(const struct args *args, struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	refuse_va(err, -EINVAL, fmt, ap);
	va_end(ap);
	return hint(err, -EINVAL, "see \"%s --help\"", args->path);
}
