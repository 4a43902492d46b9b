/* complete: see complete.h. */
#include "cli/complete.h"

#include <string.h>

#include "base/mem.h"

enum { GROUPS_MAX = 8 };

/* Where the words before the last one have led. */
struct place {
	const struct command *levels[GROUPS_MAX]; /* from the program to the command */
	size_t depth;
	size_t arguments; /* that the command has been given */
	bool options_over;
	const struct option_spec *pending; /* the word before was an option that wants a value */
};

static const struct option_spec *find_in(const struct command *command, const char *name,
					 size_t len, char letter)
{
	for (size_t i = 0; i < OPTION_SETS_MAX; i++)
		for (size_t j = 0; j < command->options[i].count; j++) {
			const struct option_spec *option = &command->options[i].options[j];

			if (name ? strlen(option->name) == len &&
					    memcmp(option->name, name, len) == 0
				 : option->letter == letter)
				return option;
		}
	return NULL;
}

/* Long names are found at every level up to one that is isolated. */
static const struct option_spec *find_long(const struct place *place, const char *name, size_t len)
{
	for (size_t i = place->depth; i > 0; i--) {
		const struct option_spec *option = find_in(place->levels[i - 1], name, len, 0);

		if (option != NULL)
			return option;
		if (place->levels[i - 1]->flags & COMMAND_ISOLATED)
			break;
	}
	return NULL;
}

static bool takes_next_word(const struct option_spec *option)
{
	return option != NULL && option->kind != OPTION_FLAG &&
	       !(option->flags & OPTION_VALUE_OPTIONAL);
}

static bool has_word(const char *words, const char *word)
{
	const size_t len = strlen(word);

	while (words != NULL && *words != '\0') {
		size_t n = strcspn(words, " ");

		if (n == len && memcmp(words, word, n) == 0)
			return true;
		words += n + (words[n] == ' ');
	}
	return false;
}

static const struct command *enter(const struct command *group, const char *word)
{
	for (const struct command_entry *entry = group->entries; entry->name != NULL; entry++)
		if (strcmp(entry->name, word) == 0 || has_word(entry->aliases, word))
			return entry->command;
	return NULL;
}

static void pass_option(struct place *place, const char *word)
{
	const struct command *command = place->levels[place->depth - 1];

	if (strcmp(word, "--") == 0) {
		place->options_over = true;
	} else if (word[1] == '-') {
		if (strchr(word, '=') == NULL) {
			const struct option_spec *option =
				find_long(place, word + 2, strlen(word + 2));

			place->pending = takes_next_word(option) ? option : NULL;
		}
	} else {
		for (const char *p = word + 1; *p != '\0'; p++) {
			const struct option_spec *option = find_in(command, NULL, 0, *p);

			if (!takes_next_word(option))
				continue;
			/* What follows in the word is the value; nothing does: the next word is. */
			place->pending = p[1] == '\0' ? option : NULL;
			break;
		}
	}
}

/* Goes on by one word. False if it leads nowhere that the table knows. */
static bool pass_word(struct place *place, const char *word)
{
	const struct command *command = place->levels[place->depth - 1], *next;

	if (place->pending != NULL) {
		place->pending = NULL;
		return true;
	}
	if (word[0] == '-' && word[1] != '\0' && !place->options_over) {
		pass_option(place, word);
		return true;
	}
	if (command->entries == NULL) {
		place->arguments++;
		place->options_over |= (command->flags & COMMAND_STOP_AT_ARGUMENT) != 0;
		return true;
	}
	next = enter(command, word);
	if (next == NULL || place->depth == GROUPS_MAX)
		return false;
	place->levels[place->depth++] = next;
	return true;
}

/* What a word of a usage line or a metavar stands for. */
static enum complete_kind kind_of(const char *what)
{
	static const struct {
		const char *word;
		enum complete_kind kind;
	} kinds[] = {
		{"FILE", COMPLETE_FILES},           {"PATH", COMPLETE_FILES},
		{"HOST", COMPLETE_FILES},           {"DIR", COMPLETE_DIRS},
		{"CONTAINER", COMPLETE_CONTAINERS}, {"IMAGE", COMPLETE_IMAGES},
	};

	what += *what == '[';
	for (size_t i = 0; i < array_size(kinds); i++)
		if (str_after(what, kinds[i].word) != NULL)
			return kinds[i].kind;
	return COMPLETE_NOTHING;
}

static void offer(struct buf *out, const char *name, const char *text, const char *typed)
{
	if (str_after(name, typed) != NULL)
		buf_format(out, "%s\t%s\n", name, text);
}

static enum complete_kind complete_value(const struct option_spec *option, const char *typed,
					 struct buf *out)
{
	if (option->kind == OPTION_ENUM) {
		own_strv char **choices = strv_split(option->metavar, '|');

		for (size_t i = 0; choices != NULL && choices[i] != NULL; i++)
			offer(out, choices[i], "", typed);
		return COMPLETE_NOTHING;
	}
	return kind_of(option->metavar);
}

static void complete_options(const struct place *place, const char *typed, struct buf *out)
{
	for (size_t i = place->depth; i > 0; i--) {
		const struct command *command = place->levels[i - 1];

		for (size_t j = 0; j < OPTION_SETS_MAX; j++)
			for (size_t k = 0; k < command->options[j].count; k++) {
				const struct option_spec *option = &command->options[j].options[k];
				own_mem char *name = str_format("--%s", option->name);

				if (!(option->flags & (OPTION_HIDDEN | OPTION_REFUSED)))
					offer(out, name, option->help, typed);
			}
		if (command->flags & COMMAND_ISOLATED)
			break;
	}
	offer(out, "--help", "Show the help", typed);
}

static void complete_entries(const struct command *group, const char *typed, struct buf *out)
{
	for (const struct command_entry *entry = group->entries; entry->name != NULL; entry++)
		if (!(entry->command->flags & COMMAND_HIDDEN))
			offer(out, entry->name, entry->command->summary, typed);
}

/* The argument that is next by the usage line, the last one of which may repeat. */
static enum complete_kind complete_argument(const struct command *command, size_t index,
					    const char *typed, struct buf *out)
{
	const char *usage = command->arguments;
	size_t len;

	if (usage == NULL)
		return COMPLETE_NOTHING;
	for (;; index--) {
		len = strcspn(usage, " ");
		if (index == 0 || (usage[len] == '\0' && memmem(usage, len, "...", 3) != NULL))
			break;
		if (usage[len] == '\0')
			return COMPLETE_NOTHING;
		usage += len + 1;
	}
	/* Lower-case words are to be typed as they are. */
	if (usage[0] >= 'a' && usage[0] <= 'z') {
		own_mem char *first = str_copy_n(usage, len);
		own_strv char **words = strv_split(first, '|');

		for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
			words[i][strcspn(words[i], "[")] = '\0';
			offer(out, words[i], "", typed);
		}
	}
	return kind_of(usage);
}

enum complete_kind complete_words(const struct command *root, char *const *words, struct buf *out,
				  size_t *ret_prefix)
{
	struct place place = {.levels = {root}, .depth = 1};
	const struct command *command;
	const char *typed, *equals;

	*ret_prefix = 0;
	if (*words == NULL)
		return COMPLETE_NOTHING;
	for (; words[1] != NULL; words++)
		if (!pass_word(&place, *words))
			return COMPLETE_NOTHING;
	typed = *words;
	command = place.levels[place.depth - 1];
	if (place.pending != NULL)
		return complete_value(place.pending, typed, out);
	if (typed[0] == '-' && !place.options_over) {
		const struct option_spec *option;

		equals = strchr(typed, '=');
		if (equals == NULL) {
			complete_options(&place, typed, out);
			return COMPLETE_NOTHING;
		}
		option = find_long(&place, typed + 2, (size_t)(equals - typed) - 2);
		*ret_prefix = (size_t)(equals - typed) + 1;
		return option ? complete_value(option, equals + 1, out) : COMPLETE_NOTHING;
	}
	if (command->entries != NULL) {
		complete_entries(command, typed, out);
		return COMPLETE_NOTHING;
	}
	return complete_argument(command, place.arguments, typed, out);
}
