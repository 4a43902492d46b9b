/* commands: what holds for every command of the table (C1, C2 of command.h), and that every help text,
 * page and default can be made. */
#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/help.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

enum { OPTIONS_MAX = 256 };

typedef void visit_fn(const char *path, const struct command *command);

static void visit(const char *path, const struct command *command, visit_fn *fn)
{
	fn(path, command);
	for (const struct command_entry *entry = command->entries; entry && entry->name; entry++) {
		own_mem char *below = str_format("%s %s", path, entry->name);

		visit(below, entry->command, fn);
	}
}

static size_t all_options(const struct command *command,
			  const struct option_spec *ret[static OPTIONS_MAX])
{
	size_t count = 0;

	for (size_t i = 0; i < OPTION_SETS_MAX; i++)
		for (size_t j = 0; j < command->options[i].count; j++) {
			assert_true(count < OPTIONS_MAX);
			ret[count++] = &command->options[i].options[j];
		}
	return count;
}

static void check_sorted(const char *path, const struct command *command)
{
	for (size_t i = 0; i < OPTION_SETS_MAX; i++)
		for (size_t j = 1; j < command->options[i].count; j++)
			if (strcmp(command->options[i].options[j - 1].name,
				   command->options[i].options[j].name) >= 0)
				fail_msg("%s: --%s is out of order", path,
					 command->options[i].options[j].name);
}

static void help_shows_all_in_order(void **state)
{
	const struct option_spec *option = NULL, *last = NULL;
	size_t count = 0;

	(void)state;
	while ((option = help_option_after(&run_command, last)) != NULL) {
		assert_true(last == NULL || strcmp(last->name, option->name) < 0);
		last = option;
		count++;
	}
	for (size_t i = 0; i < OPTION_SETS_MAX; i++)
		for (size_t j = 0; j < run_command.options[i].count; j++)
			count -= !(run_command.options[i].options[j].flags &
				   (OPTION_HIDDEN | OPTION_REFUSED));
	assert_int_equal(count, 0);
}

static void options_are_sorted(void **state)
{
	(void)state;
	visit("berth", &berth_command, check_sorted);
}

static void check_unique(const char *path, const struct command *command)
{
	const struct option_spec *options[OPTIONS_MAX];
	size_t count = all_options(command, options);

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			if (strcmp(options[i]->name, options[j]->name) == 0 ||
			    (options[i]->letter && options[i]->letter == options[j]->letter))
				fail_msg("%s: --%s and --%s", path, options[i]->name,
					 options[j]->name);
}

static void names_and_letters_are_unique(void **state)
{
	(void)state;
	visit("berth", &berth_command, check_unique);
}

static void check_texts(const char *path, const struct command *command)
{
	const struct option_spec *options[OPTIONS_MAX];
	size_t count = all_options(command, options);

	assert_non_null(command->summary);
	if (!isupper((unsigned char)command->summary[0]) || str_ends_with(command->summary, "."))
		fail_msg("%s: summary \"%s\"", path, command->summary);
	for (size_t i = 0; i < count; i++) {
		const struct option_spec *option = options[i];

		if (option->help[0] == '\0' || str_ends_with(option->help, "."))
			fail_msg("%s --%s: help \"%s\"", path, option->name, option->help);
		/* What is refused is told in the middle of a sentence. */
		if (!(option->flags & OPTION_REFUSED) && islower((unsigned char)option->help[0]) &&
		    strchr(option->help, '=') == NULL && strchr(option->help, ':') == NULL &&
		    strchr(option->help, '\'') == NULL)
			fail_msg("%s --%s: help \"%s\"", path, option->name, option->help);
		if ((option->kind == OPTION_FLAG) != (option->metavar[0] == '\0'))
			fail_msg("%s --%s: metavar \"%s\"", path, option->name, option->metavar);
	}
}

static void texts_have_their_form(void **state)
{
	(void)state;
	visit("berth", &berth_command, check_texts);
}

static void check_entries(const char *path, const struct command *command)
{
	own_strv char **names = NULL;

	if ((command->entries == NULL) == (command->run == NULL))
		fail_msg("%s is neither a group nor a command, or both", path);
	for (const struct command_entry *entry = command->entries; entry && entry->name; entry++) {
		own_strv char **aliases = strv_split(entry->aliases ? entry->aliases : "", ' ');

		if (strv_has(names, entry->name))
			fail_msg("%s %s stands twice", path, entry->name);
		strv_push(&names, entry->name);
		for (size_t i = 0; aliases != NULL && aliases[i] != NULL; i++) {
			if (strv_has(names, aliases[i]))
				fail_msg("%s %s stands twice", path, aliases[i]);
			strv_push(&names, aliases[i]);
		}
	}
}

static void entries_are_unique_and_complete(void **state)
{
	(void)state;
	visit("berth", &berth_command, check_entries);
}

static struct args *parse(const char *line)
{
	static char **words;
	struct args *args = NULL;
	struct error err = {0};

	strv_free(words);
	words = strv_split(line, ' ');
	if (args_parse("berth", &berth_command, (int)strv_len(words), words, &args, &err) < 0)
		fail_msg("%s: %s", line, err.text);
	return args;
}

/* Reading an option with a bad default asserts. */
static void check_default(const struct args *args, const struct option_spec *option)
{
	switch ((enum option_kind)option->kind) {
	case OPTION_FLAG:
		args_flag(args, option->name);
		break;
	case OPTION_STRING:
	case OPTION_ENUM:
		args_string(args, option->name);
		break;
	case OPTION_INT:
		args_int(args, option->name);
		break;
	case OPTION_SIZE:
		args_size(args, option->name);
		break;
	case OPTION_DURATION:
		args_duration(args, option->name);
		break;
	case OPTION_LIST:
		args_list(args, option->name);
		assert_int_equal(option->fallback[0], '\0');
		break;
	}
}

static void check_help(const char *path, const struct command *command)
{
	const struct option_spec *options[OPTIONS_MAX];
	size_t count = all_options(command, options);
	own_mem char *line = str_format("%s --help", path);
	own_args struct args *args = parse(line);
	own_buf struct buf text = {0};

	assert_ptr_equal(args_command(args), command);
	assert_string_equal(args_path(args), path);
	assert_true(args_wants_help(args));
	help_text(&text, args);
	assert_non_null(strstr(text.data, command->summary));
	for (size_t i = 0; i < count; i++) {
		own_mem char *name = str_format("--%s", options[i]->name);
		bool hidden = options[i]->flags & (OPTION_HIDDEN | OPTION_REFUSED);

		check_default(args, options[i]);
		if (!hidden && strstr(text.data, name) == NULL)
			fail_msg("%s: the help lacks %s", path, name);
	}
}

static void every_command_has_its_help_and_defaults(void **state)
{
	(void)state;
	visit("berth", &berth_command, check_help);
}

static void long_forms_are_the_short_ones(void **state)
{
	static const char *const pairs[][2] = {
		{"berth image ls", "berth images"},       {"berth image rm x", "berth rmi x"},
		{"berth container ls", "berth ps"},       {"berth container rm x", "berth rm x"},
		{"berth container run x", "berth run x"}, {"berth system info", "berth info"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(pairs); i++) {
		own_args struct args *a = parse(pairs[i][0]), *b = NULL;
		const struct command *first = args_command(a);

		b = parse(pairs[i][1]);
		assert_ptr_equal(first, args_command(b));
		args_free(b);
		b = NULL;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_are_sorted),
		cmocka_unit_test(help_shows_all_in_order),
		cmocka_unit_test(names_and_letters_are_unique),
		cmocka_unit_test(texts_have_their_form),
		cmocka_unit_test(entries_are_unique_and_complete),
		cmocka_unit_test(every_command_has_its_help_and_defaults),
		cmocka_unit_test(long_forms_are_the_short_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
