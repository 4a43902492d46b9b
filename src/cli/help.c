/* help: see help.h. */
#include "cli/help.h"

#include <string.h>

#include "base/mem.h"
#include "cli/commands.h"

enum { TEXT_COLUMNS = 90, NAME_COLUMNS = 30 };

void help_usage(struct buf *out, const char *path, const struct command *command)
{
	buf_add_str(out, path);
	if (command->entries != NULL) {
		buf_add_str(out, command->options[0].count > 0 ? " [OPTIONS] COMMAND" : " COMMAND");
		return;
	}
	buf_add_str(out, " [OPTIONS]");
	if (command->arguments != NULL)
		buf_format(out, " %s", command->arguments);
}

const struct option_spec *help_option_after(const struct command *command,
					    const struct option_spec *option)
{
	const struct option_spec *next = NULL;

	for (size_t i = 0; i < OPTION_SETS_MAX; i++)
		for (size_t j = 0; j < command->options[i].count; j++) {
			const struct option_spec *o = &command->options[i].options[j];

			if (!(o->flags & (OPTION_HIDDEN | OPTION_REFUSED)) &&
			    (option == NULL || strcmp(o->name, option->name) > 0) &&
			    (next == NULL || strcmp(o->name, next->name) < 0))
				next = o;
		}
	return next;
}

void help_option_name(struct buf *out, const struct option_spec *option)
{
	if (option->letter != 0)
		buf_format(out, "-%c, ", option->letter);
	buf_format(out, "--%s", option->name);
	if (option->flags & OPTION_VALUE_OPTIONAL)
		buf_format(out, "[=%s]", option->metavar);
	else if (option->kind != OPTION_FLAG)
		buf_format(out, " %s", option->metavar);
}

void help_option_text(struct buf *out, const struct option_spec *option)
{
	buf_add_str(out, option->help);
	if (option->kind == OPTION_LIST)
		buf_add_str(out, " (repeatable)");
	if (option->fallback[0] != '\0')
		buf_format(out, " (default %s)", option->fallback);
}

/* Fills paragraphs, which are separated by empty lines, to TEXT_COLUMNS. */
static void add_filled(struct buf *out, const char *text)
{
	size_t column = 0;

	while (*text != '\0') {
		size_t n;

		if (*text == '\n') {
			buf_add_str(out, text[1] == '\n' ? "\n\n" : "");
			column = text[1] == '\n' ? 0 : column;
			text += strspn(text, "\n");
			continue;
		}
		n = strcspn(text, " \n");
		if (column > 0) {
			buf_add_char(out, column + 1 + n > TEXT_COLUMNS ? '\n' : ' ');
			column = column + 1 + n > TEXT_COLUMNS ? 0 : column + 1;
		}
		buf_add(out, text, n);
		column += n;
		text += n + (text[n] == ' ');
	}
	buf_add_char(out, '\n');
}

/* "  NAME   TEXT", the text below the name where that is too long. */
static void add_row(struct buf *out, const char *name, const char *text)
{
	if (strlen(name) + 2 > NAME_COLUMNS)
		buf_format(out, "  %s\n  %*s%s\n", name, NAME_COLUMNS, "", text);
	else
		buf_format(out, "  %-*s%s\n", NAME_COLUMNS, name, text);
}

static void add_options(struct buf *out, const struct command *command, const char *heading)
{
	const struct option_spec *option = NULL;
	bool any = false;

	while ((option = help_option_after(command, option)) != NULL) {
		own_buf struct buf name = {0}, text = {0};

		if (!any)
			buf_format(out, "\n%s:\n", heading);
		any = true;
		buf_add_str(&name, option->letter ? "" : "    ");
		help_option_name(&name, option);
		help_option_text(&text, option);
		add_row(out, name.data, text.data);
	}
}

static void add_entries(struct buf *out, const struct command *group)
{
	bool any = false;

	for (const struct command_entry *entry = group->entries; entry->name != NULL; entry++) {
		if (entry->command->flags & COMMAND_HIDDEN)
			continue;
		if (entry->section != NULL)
			buf_format(out, "\n%s:\n", entry->section);
		else if (!any)
			buf_add_str(out, "\nCommands:\n");
		any = true;
		buf_format(out, "  %-14s%s\n", entry->name, entry->command->summary);
	}
}

static void add_examples(struct buf *out, const char *examples)
{
	buf_add_str(out, "\nExamples:\n");
	while (*examples != '\0') {
		size_t command = strcspn(examples, "\t\n"), line = strcspn(examples, "\n");

		if (command < line)
			buf_format(out, "  # %.*s\n", (int)(line - command - 1),
				   examples + command + 1);
		buf_format(out, "  %.*s\n", (int)command, examples);
		examples += line + (examples[line] == '\n');
	}
}

static void add_name(struct buf *out, const char *path, const char *group, const char *name,
		     size_t n)
{
	own_mem char *full = str_format("%s %.*s", group, (int)n, name);

	if (strcmp(full, path) == 0)
		return;
	buf_format(out, "%s%s", out->len > 0 ? ", " : "", full);
}

void help_aliases(struct buf *out, const char *path, const char *program,
		  const struct command *root, const struct command *command)
{
	for (const struct command_entry *entry = root->entries; entry->name != NULL; entry++) {
		if (entry->command->entries != NULL) {
			own_mem char *group = str_format("%s %s", program, entry->name);

			help_aliases(out, path, group, entry->command, command);
		}
		if (entry->command != command)
			continue;
		add_name(out, path, program, entry->name, strlen(entry->name));
		for (const char *alias = entry->aliases; alias != NULL && *alias != '\0';) {
			size_t n = strcspn(alias, " ");

			add_name(out, path, program, alias, n);
			alias += n + (alias[n] == ' ');
		}
	}
}

void help_text(struct buf *out, const struct args *args)
{
	const struct command *command = args_command(args);
	const struct args *top = args;
	own_buf struct buf aliases = {0};

	while (args_group(top) != NULL)
		top = args_group(top);
	/* The runtime's help begins as that of other runtimes does: tools look for it. */
	if (args_command(top) == &oci_command)
		buf_format(out, "NAME:\n   %s - %s\n\n", args_path(args), command->summary);
	buf_add_str(out, "Usage:  ");
	help_usage(out, args_path(args), command);
	buf_format(out, "\n\n%s\n", command->summary);
	if (command->description != NULL) {
		buf_add_char(out, '\n');
		add_filled(out, command->description);
	}
	help_aliases(&aliases, args_path(args), args_path(top), args_command(top), command);
	if (aliases.len > 0)
		buf_format(out, "\nAliases:\n  %s\n", aliases.data);
	if (command->entries != NULL)
		add_entries(out, command);
	add_options(out, command, command == args_command(top) ? "Global options" : "Options");
	if (command->examples != NULL)
		add_examples(out, command->examples);
	if (command->entries != NULL)
		buf_format(out, "\nSee \"%s COMMAND --help\" for a command.\n", args_path(args));
}
