/*
 * args: a command line, parsed by the command table.
 *
 * The values of options are read by name, with the getter that fits the option's kind; asking for a name
 * that the command and the groups above it do not have, or with the wrong getter, is a bug and
 * asserts. Strings point into argv or into the table.
 *
 * Forms, as in docker: --name=value, --name value, -n value, -nvalue, -abc for several flags, "--" ends
 * the options. Options and arguments may be mixed unless the command is COMMAND_STOP_AT_ARGUMENT.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/own.h"
#include "cli/command.h"

/* Parses argv[1...]; `name` is what the program is called in texts ("berth") and `root` its top group.
 * Always sets *ret, also on failure (then it reaches as far as the groups and the command were
 * recognised), so that the caller finds the error status and the usage. Returns 0 or -EINVAL. */
int args_parse(const char *name, const struct command *root, int argc, char *const *argv,
	       struct args **ret, struct error *err) must_check;
void args_free(struct args *args);

const struct command *args_command(const struct args *args);
/* "berth image ls", with the names of the table. Valid as long as args. */
const char *args_path(const struct args *args);
/* The args of the group that the command stands in, or NULL. */
const struct args *args_group(const struct args *args);
/* True if --help was given; nothing else of the line has been checked then. */
bool args_wants_help(const struct args *args);
/* The exit code for failures of this command (see struct command). */
int args_error_status(const struct args *args);

/* The arguments that are not options; NULL-terminated. */
char *const *args_positional(const struct args *args);
int args_count(const struct args *args);
const char *args_at(const struct args *args, int i); /* NULL beyond the end */

/* True if the command, or a group above it, has such an option. */
bool args_has(const struct args *args, const char *option);
bool args_given(const struct args *args, const char *option); /* on the command line */
bool args_flag(const struct args *args, const char *option);
const char *args_string(const struct args *args, const char *option); /* STRING, ENUM; NULL: none */
int64_t args_int(const struct args *args, const char *option);        /* 0: none */
uint64_t args_size(const struct args *args, const char *option);      /* bytes, 0: none */
int64_t args_duration(const struct args *args, const char *option);   /* nanoseconds, 0: none */
char *const *args_list(const struct args *args, const char *option); /* NULL-terminated, not NULL */

/* Gives an option of the command or of a group above it a value that did not come from the command line,
 * unless it has one already. The text is copied. -EINVAL if it does not fit the option's kind. */
int args_supply(struct args *args, const char *option, const char *text,
		struct error *err) must_check;

/* Refuses a command line for a reason the parser cannot know: "<reason>" and a hint to the command's
 * help. Returns -EINVAL. */
int args_refuse(const struct args *args, struct error *err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

OWN_DEFINE(own_args, struct args *, args_free);
#define own_args __attribute__((cleanup(own_args_release)))
