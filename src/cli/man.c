/*
 * man: the manual, in roff, from the command table. `berth man` is for the build: it writes one page per
 * command, and for every further name of a command a page that includes the first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/listing.h"

/* Text with what roff would take for its own escaped. */
static void add_text_n(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const bool line_begins = out->len == 0 || out->data[out->len - 1] == '\n';

		if (line_begins && (text[i] == '.' || text[i] == '\''))
			buf_add_str(out, "\\&");
		if (text[i] == '\\')
			buf_add_str(out, "\\e");
		else if (text[i] == '-')
			buf_add_str(out, "\\-");
		else
			buf_add_char(out, text[i]);
	}
}

static void add_text(struct buf *out, const char *text)
{
	add_text_n(out, text, strlen(text));
}

static void add_paragraphs(struct buf *out, const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "\n");

		buf_add_str(out, ".PP\n");
		add_text_n(out, text, n);
		buf_add_char(out, '\n');
		text += n;
		text += strspn(text, "\n");
	}
}

static void add_options(struct buf *out, const struct command *command, const char *heading)
{
	const struct option_spec *option = NULL;
	bool any = false;

	while ((option = help_option_after(command, option)) != NULL) {
		own_buf struct buf name = {0}, text = {0};

		if (!any)
			buf_format(out, ".SH %s\n", heading);
		any = true;
		help_option_name(&name, option);
		help_option_text(&text, option);
		buf_add_str(out, ".TP\n.B ");
		add_text(out, name.data);
		buf_add_char(out, '\n');
		add_text(out, text.data);
		buf_add_str(out, ".\n");
	}
}

static void add_entries(struct buf *out, const char *path, const struct command *group)
{
	buf_add_str(out, ".SH COMMANDS\n");
	for (const struct command_entry *entry = group->entries; entry->name != NULL; entry++) {
		own_mem char *name = str_format("%s-%s", path, entry->name);

		if (entry->command->flags & COMMAND_HIDDEN)
			continue;
		if (entry->section != NULL) {
			buf_add_str(out, ".SS ");
			add_text(out, entry->section);
			buf_add_char(out, '\n');
		}
		for (char *p = name; *p != '\0'; p++)
			*p = *p == ' ' ? '-' : *p;
		buf_add_str(out, ".TP\n.BR ");
		add_text(out, name);
		buf_add_str(out, " (1)\n");
		add_text(out, entry->command->summary);
		buf_add_str(out, ".\n");
	}
}

static void add_examples(struct buf *out, const char *examples)
{
	buf_add_str(out, ".SH EXAMPLES\n");
	while (*examples != '\0') {
		size_t line = strcspn(examples, "\n"), command = strcspn(examples, "\t\n");

		buf_add_str(out, ".TP\n");
		add_text_n(out, examples + command + 1, line > command ? line - command - 1 : 0);
		buf_add_str(out, ":\n.B ");
		add_text_n(out, examples, command);
		buf_add_char(out, '\n');
		examples += line + (examples[line] == '\n');
	}
}

/* What only the first page tells. */
static void add_program_sections(struct buf *out)
{
	static const char text[] =
		".SH FILES\n"
		".TP\n.I /var/lib/berth\nImages, containers and the database (\\-\\-root).\n"
		".TP\n.I /run/berth\nSockets and locks (\\-\\-state).\n"
		".TP\n.IR /etc/berth/berth.toml \", \" ~/.config/berth/berth.toml\n"
		"Settings: the long names of the global options, as \\(oqroot = \"/srv/berth\"\\(cq.\n"
		".SH ENVIRONMENT\n"
		".TP\n.BR BERTH_ROOT \", \" BERTH_STATE \", \" BERTH_LOG_LEVEL \", \" BERTH_LOG_FORMAT \", \" "
		"BERTH_DEBUG\n"
		"As the global options of these names.\n"
		".SH EXIT STATUS\n"
		".TP\n.B 0\nSuccess, or the command of the container ended with 0.\n"
		".TP\n.B 125\nberth failed.\n"
		".TP\n.B 126\nThe command of the container cannot be run.\n"
		".TP\n.B 127\nThe command of the container was not found.\n"
		".TP\n.B 128+N\nThe command of the container was ended by signal N.\n"
		".TP\n.I others\nThe exit code of the command of the container.\n";

	buf_add_str(out, text);
}

/* "berth image ls" as the name of a page: "berth-image-ls". The caller frees it. */
static char *page_name(const char *path)
{
	char *name = str_copy(path);

	for (char *p = name; *p != '\0'; p++)
		*p = *p == ' ' ? '-' : *p;
	return name;
}

static void make_page(struct buf *out, const char *path, const struct command *command)
{
	own_mem char *name = page_name(path);
	own_buf struct buf usage = {0}, aliases = {0};

	buf_format(out,
		   ".TH \"%s\" 1 \"\" \"berth " BERTH_VERSION "\" \"Berth manual\"\n.SH NAME\n",
		   name);
	add_text(out, name);
	buf_add_str(out, " \\- ");
	add_text(out, command->summary);
	buf_add_str(out, "\n.SH SYNOPSIS\n.B ");
	help_usage(&usage, path, command);
	add_text(out, usage.data);
	buf_add_char(out, '\n');
	if (command->description != NULL) {
		buf_add_str(out, ".SH DESCRIPTION\n");
		add_paragraphs(out, command->description);
	}
	help_aliases(&aliases, path, "berth", &berth_command, command);
	if (aliases.len > 0) {
		buf_add_str(out, ".SH ALIASES\n");
		add_text(out, aliases.data);
		buf_add_char(out, '\n');
	}
	if (command->entries != NULL)
		add_entries(out, path, command);
	add_options(out, command, command == &berth_command ? "GLOBAL OPTIONS" : "OPTIONS");
	if (command->examples != NULL)
		add_examples(out, command->examples);
	if (command == &berth_command)
		add_program_sections(out);
	else
		buf_add_str(out, ".SH SEE ALSO\n.BR berth (1)\n");
}

/* The names of the pages that exist, in the order in which they were written. */
struct pages {
	int dir_fd;
	struct page {
		const struct command *command;
		char *name;
	} * items;
	size_t count, capacity;
};

static void pages_release(struct pages *pages)
{
	for (size_t i = 0; i < pages->count; i++)
		free(pages->items[i].name);
	free(pages->items);
	fd_close(&pages->dir_fd);
}
#define own_pages __attribute__((cleanup(pages_release)))

static int write_page(struct pages *pages, const char *path, const struct command *command,
		      struct error *err)
{
	own_mem char *name = page_name(path), *file = str_format("%s.1", name);
	own_buf struct buf out = {0};
	int rc;

	for (size_t i = 0; i < pages->count && out.len == 0; i++)
		if (pages->items[i].command == command)
			buf_format(&out, ".so man1/%s.1\n", pages->items[i].name);
	if (out.len == 0) {
		make_page(&out, path, command);
		pages->items = mem_grow(pages->items, pages->count, &pages->capacity,
					sizeof(pages->items[0]));
		pages->items[pages->count++] = (struct page){command, take(name)};
	}
	rc = file_write(pages->dir_fd, file, out.data, out.len, 0644, FILE_WRITE_PLAIN, err);
	if (rc < 0 || command->entries == NULL)
		return rc;
	for (const struct command_entry *entry = command->entries; entry->name && rc >= 0;
	     entry++) {
		own_mem char *below = str_format("%s %s", path, entry->name);

		if (!(entry->command->flags & COMMAND_HIDDEN))
			rc = write_page(pages, below, entry->command, err);
	}
	return rc;
}

static const struct option_spec man_options[] = {
	{"output", 'o', OPTION_STRING, 0, "DIR", "", "Write all pages into this directory"},
};

/* The command that the arguments name, or NULL. */
static const struct command *find_command(const struct args *args, char **path)
{
	const struct command *command = &berth_command;

	*path = str_copy("berth");
	for (int i = 0; i < args_count(args); i++) {
		const struct command_entry *entry = command->entries;
		char *longer;

		while (entry != NULL && entry->name != NULL &&
		       strcmp(entry->name, args_at(args, i)) != 0)
			entry++;
		if (entry == NULL || entry->name == NULL)
			return NULL;
		command = entry->command;
		longer = str_format("%s %s", *path, entry->name);
		free(*path);
		*path = longer;
	}
	return command;
}

static int run_man(const struct args *args, struct error *err)
{
	const char *dir = args_string(args, "output");
	const struct command *command;
	own_pages struct pages pages = {.dir_fd = -1};
	own_mem char *path = NULL;
	own_buf struct buf out = {0};

	if (dir != NULL) {
		pages.dir_fd = dir_open(AT_FDCWD, dir, 0755, err);
		return pages.dir_fd < 0 ? pages.dir_fd
					: write_page(&pages, "berth", &berth_command, err);
	}
	command = find_command(args, &path);
	if (command == NULL)
		return args_refuse(args, err, "there is no such command");
	make_page(&out, path, command);
	return print_text(out.data, err);
}

const struct command man_command = {
	.arguments = "[COMMAND...]",
	.summary = "Print the manual page of a command",
	.description = "The page is roff: berth man run | man -l -",
	.options = {OPTION_SET(man_options)},
	.flags = COMMAND_HIDDEN,
	.run = run_man,
};
