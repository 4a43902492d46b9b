/*
 * command: the types of the one command table (commands.c), from which the parser (args.h), the help
 * texts (help.h), the man pages (man.h) and the completions (completion.h) all come.
 *
 * A command is either a group, which has entries, or a leaf, which has a run function. Options of a
 * group are accepted before the entry's name, and, in their long form, behind it as well ("berth ps
 * --debug"), unless a group in between is COMMAND_ISOLATED.
 *
 * Everything here is constant. Option tables hold their texts in place instead of pointing to them, so
 * that they need no relocation when the program starts and are paged in only when they are looked at.
 *
 * Invariants (tested for every command)
 *   C1  options are sorted by name within one set; names and letters are unique in a command.
 *   C2  an entry's name is unique in its group, aliases included.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct args;

enum option_kind {
	OPTION_FLAG,     /* --x, --x=true, --x=false */
	OPTION_STRING,   /* the last one given counts */
	OPTION_INT,      /* a decimal integer */
	OPTION_SIZE,     /* bytes with an optional suffix: 64m, 1.5g */
	OPTION_DURATION, /* 1m30s, 500ms, or seconds */
	OPTION_LIST,     /* a string, may be repeated */
	OPTION_ENUM,     /* one of the metavar's words: "always|missing|never" */
};

enum option_attributes {
	OPTION_HIDDEN = 1,  /* accepted, but not shown in help and completions */
	OPTION_REFUSED = 2, /* known and hidden; using it is an error, and `help` says why */
	/* The value may be left away ("--vm", "--gpus=all"); it is never taken from the next word. */
	OPTION_VALUE_OPTIONAL = 4,
};

struct option_spec {
	char name[24]; /* the long form, without dashes */
	char letter;   /* the short form, or 0 */
	uint8_t kind;  /* enum option_kind */
	uint8_t flags; /* enum option_attributes */
	char metavar
		[48]; /* what the value is: "FILE", "always|missing|never"; "" for a flag. The words
			     FILE, DIR, CONTAINER, IMAGE and PATH are completed with such names */
	char fallback[24]; /* the default, in the form in which it would be typed; "" for none */
	char help
		[120]; /* one line, with a capital, without a full stop; for a refused one the reason */
};

/* Several commands share sets of options. */
struct option_set {
	const struct option_spec *options;
	size_t count;
};
#define OPTION_SET(array)                                                                          \
	{                                                                                          \
		.options = (array), .count = array_size(array)                                     \
	}
enum { OPTION_SETS_MAX = 4 };

enum command_flags {
	/* Options end at the first argument: what follows belongs to the workload (run, exec). */
	COMMAND_STOP_AT_ARGUMENT = 1,
	COMMAND_HIDDEN = 2, /* not shown in help, man pages and completions */
	/* Options of the groups above are not accepted here and below. */
	COMMAND_ISOLATED = 4,
};

/* Carries the command out. >= 0: the exit code of the program. Negative: it failed for the reason in
 * err, and the program ends with err->exit_status, or, if that is 0, with the command's
 * error_status. */
typedef int command_run_fn(const struct args *args, struct error *err);

struct command;

/* A command under a name. The same command may stand in several groups ("ps", "container ls"). */
struct command_entry {
	const char *name;
	const char *aliases; /* further names, separated by spaces, or NULL */
	const struct command *command;
	/* Under which heading the group's help lists it; NULL: as the entry before. */
	const char *section;
};

/* A command of docker or podman that there is not: using it is an error that says why, and what to do. */
struct missing_command {
	char names[40]; /* separated by spaces */
	char reason[56];
	char instead[104];
};

struct command {
	/* What follows the name and "[OPTIONS]": "IMAGE [COMMAND] [ARG...]". Words in brackets are
	 * optional, "..." means any number: the parser counts by it. Words are completed as metavars
	 * are. NULL: no arguments, or a group. */
	const char *arguments;
	const char *instead;     /* the option with which no argument is needed; NULL: none */
	const char *summary;     /* one line, as help: a capital, no full stop */
	const char *description; /* paragraphs for --help and the man page, or NULL */
	const char *examples;    /* one "COMMAND\tWHAT IT DOES\n" a line, or NULL */
	struct option_set options[OPTION_SETS_MAX];
	const struct command_entry *entries;   /* of a group; ends with a NULL name */
	const struct missing_command *missing; /* of a group; ends with empty names; or NULL */
	command_run_fn *run;
	unsigned int flags; /* enum command_flags */
	/* The exit code for errors of the program itself; 0: as the group above, 125 at the top. */
	int error_status;
};
