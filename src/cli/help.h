/* help: what --help prints, made from the command table. */
#pragma once

#include "base/str.h"
#include "cli/args.h"

/* The usage line without a newline: "berth run [OPTIONS] IMAGE [COMMAND] [ARG...]". */
void help_usage(struct buf *out, const char *path, const struct command *command);
/* The whole help text of the command that `args` reached. */
void help_text(struct buf *out, const struct args *args);
/* The option whose name comes after that of `option` (NULL: the first), of those that are shown; NULL: no more. */
const struct option_spec *help_option_after(const struct command *command,
					    const struct option_spec *option);
/* One option as help shows it: "-v, --volume LIST"; the same for man pages. */
void help_option_name(struct buf *out, const struct option_spec *option);
/* The help line of an option with its default. */
void help_option_text(struct buf *out, const struct option_spec *option);
/* The other names of a command: "berth image ls, berth image list"; empty if there are none. */
void help_aliases(struct buf *out, const char *path, const char *program,
		  const struct command *root, const struct command *command);
