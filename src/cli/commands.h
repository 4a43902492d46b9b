/* commands: every command of berth. See command.h for the types. */
#pragma once

#include "cli/command.h"

/* The top of the table. */
extern const struct command berth_command;

/* Commands and groups, each defined in the file of its group. */
extern const struct command version_command;
