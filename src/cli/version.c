/* version: what is running. */
#include <stdio.h>

#include "cli/args.h"
#include "cli/commands.h"

static int run_version(const struct args *args, struct error *err)
{
	(void)args;
	(void)err;
	puts("berth " BERTH_VERSION);
	return 0;
}

const struct command version_command = {
	.summary = "Show the version",
	.run = run_version,
};
