/* complete: what may stand next on a command line, from the command table. */
#pragma once

#include "base/str.h"
#include "cli/command.h"

/* What an argument or a value of an option is, beyond what the table itself lists. */
enum complete_kind {
	COMPLETE_NOTHING,
	COMPLETE_FILES,
	COMPLETE_DIRS,
	COMPLETE_CONTAINERS,
	COMPLETE_IMAGES,
};

/* Looks at `words` (without the program's name), the last of which is the one to complete and may be
 * empty. Appends the fitting names of commands, options and choices to `out`, one "NAME\tSUMMARY\n" a
 * line, and returns what else fits. `ret_prefix` is set to the length of what stands before the value in
 * the last word ("--pull=": 7). */
enum complete_kind complete_words(const struct command *root, char *const *words, struct buf *out,
				  size_t *ret_prefix);
