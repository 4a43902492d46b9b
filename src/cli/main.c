/*
 * main: from argv to a command of the table, and from its result to an exit code.
 *
 * Called as "berth-NAME" through a link, the program is that group of the table alone: berth-oci. The
 * names of the runtimes whose place that takes, runc and crun, call for it too.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/settings.h"
#include "engine/workload.h"
#include "oci/criu.h"

static int show_help(const struct args *args, struct error *err)
{
	own_buf struct buf text = {0};
	int rc;

	help_text(&text, args);
	rc = fd_write_full(1, text.data, text.len);
	return rc < 0 ? fail(err, rc, "write the help") : 0;
}

/* Applies the options of the program itself. `top` is its level of the command line. */
static void setup_log(const struct args *top)
{
	static const char *const levels[] = {"error", "warn", "info", "debug"};
	static const char *const formats[] = {"plain", "text", "json"};
	unsigned int level = 0, format = 0;

	while (strcmp(args_string(top, "log-level"), levels[level]) != 0)
		level++;
	while (strcmp(args_string(top, "log-format"), formats[format]) != 0)
		format++;
	if (args_flag(top, "debug"))
		level = LOG_LEVEL_DEBUG;
	log_setup(level, format, 2);
}

static int run(const char *name, const struct command *root, int argc, char **argv,
	       struct args **ret_args, struct error *err)
{
	int rc = args_parse(name, root, argc, argv, ret_args, err);
	const struct args *args = *ret_args, *top = args;
	const struct command *command = args_command(args);

	if (rc < 0)
		return rc;
	while (args_group(top) != NULL)
		top = args_group(top);
	if (root == &berth_command) {
		rc = settings_apply(*ret_args, err);
		if (rc < 0)
			return rc;
		setup_log(top);
		if (args_flag(top, "version")) {
			puts("berth " BERTH_VERSION);
			return 0;
		}
	}
	if (command == &oci_command && args_flag(args, "version")) {
		/* Engines look for these words. */
		printf("%s version " BERTH_VERSION "\ncommit: berth-" BERTH_VERSION
		       "\nspec: 1.2.0\n"
		       "+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF%s\n",
		       strcmp(name, "berth") == 0 ? "berth-oci" : name,
		       criu_works() ? " +CRIU" : "");
		return 0;
	}
	if (args_wants_help(args) || command->run == NULL)
		return show_help(args, err);
	return command->run(args, err);
}

/* The group that the program's own name calls for; `*name` becomes what it is called in texts. */
static const struct command *choose_root(const char *argv0, const char **name)
{
	const char *slash = argv0 ? strrchr(argv0, '/') : NULL;
	const char *called = slash ? slash + 1 : argv0;
	const char *group = called ? str_after(called, "berth-") : NULL;

	if (called != NULL && (strcmp(called, "runc") == 0 || strcmp(called, "crun") == 0))
		group = "oci";
	for (const struct command_entry *entry = berth_command.entries; group && entry->name;
	     entry++)
		if (strcmp(entry->name, group) == 0) {
			*name = called;
			return entry->command;
		}
	*name = "berth";
	return &berth_command;
}

/* What helps against a disk that is full or read-only, wherever it was met. */
static void advise(struct error *err)
{
	const char *read_only = strstr(err->text, strerror(EROFS));

	if (err->code == -ENOSPC)
		hint(err, 0,
		     "make room on that file system: \"berth system df\" shows what is berth's, "
		     "\"berth system prune\" removes what nothing uses");
	else if (err->code == -EROFS && read_only != NULL)
		hint(err, 0,
		     "remount that file system writable, or name directories on another one with "
		     "--root and --state");
}

static int run_command_line(int argc, char **argv)
{
	own_args struct args *args = NULL;
	struct error err = {0};
	const char *name;
	const struct command *root = choose_root(argc > 0 ? argv[0] : NULL, &name);
	int rc = run(name, root, argc, argv, &args, &err);

	if (rc >= 0)
		return rc;
	if (root == &berth_command)
		advise(&err);
	/* Without a text the failure has been reported where it was met. */
	if (err.text[0] != '\0')
		log_failure(&err);
	return err.exit_status ? err.exit_status : args_error_status(args);
}

/* Programs of their own inside this one: they parse their arguments themselves, and start before
 * anything that costs time or memory. */
static const struct {
	const char *name;
	int (*main)(int argc, char **argv);
} programs[] = {
	{"monitor", workload_monitor_main},
	{"template-builder", vm_template_builder_main},
};

int main(int argc, char **argv)
{
	for (size_t i = 0; argc > 1 && i < array_size(programs); i++)
		if (strcmp(argv[1], programs[i].name) == 0)
			return programs[i].main(argc - 1, argv + 1);
	return run_command_line(argc, argv);
}
