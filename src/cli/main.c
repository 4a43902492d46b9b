/* main: from argv to a command of the table, and from its result to an exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/help.h"
#include "cli/settings.h"

static int show_help(const struct args *args, struct error *err)
{
	own_buf struct buf text = {0};
	int rc;

	help_text(&text, args);
	rc = fd_write_full(1, text.data, text.len);
	return rc < 0 ? fail(err, rc, "write the help") : 0;
}

static void setup_log(const struct args *args)
{
	static const char *const levels[] = {"error", "warn", "info", "debug"};
	static const char *const formats[] = {"plain", "text", "json"};
	unsigned int level = 0, format = 0;

	while (strcmp(args_string(args, "log-level"), levels[level]) != 0)
		level++;
	while (strcmp(args_string(args, "log-format"), formats[format]) != 0)
		format++;
	if (args_flag(args, "debug"))
		level = LOG_LEVEL_DEBUG;
	log_setup(level, format, 2);
}

static int run(const char *name, const struct command *root, int argc, char **argv,
	       struct args **ret_args, struct error *err)
{
	int rc = args_parse(name, root, argc, argv, ret_args, err);
	const struct args *args = *ret_args;
	const struct command *command = args_command(args);

	if (rc < 0)
		return rc;
	if (root == &berth_command) {
		rc = settings_apply(*ret_args, err);
		if (rc < 0)
			return rc;
		setup_log(args);
		if (args_flag(args, "version")) {
			puts("berth " BERTH_VERSION);
			return 0;
		}
	}
	if (args_wants_help(args) || command->run == NULL)
		return show_help(args, err);
	return command->run(args, err);
}

int main(int argc, char **argv)
{
	own_args struct args *args = NULL;
	struct error err = {0};
	int rc = run("berth", &berth_command, argc, argv, &args, &err);

	if (rc >= 0)
		return rc;
	/* Without a text the failure has been reported where it was met. */
	if (err.text[0] != '\0')
		log_failure(&err);
	return err.exit_status ? err.exit_status : args_error_status(args);
}
