/*
 * settings: the program's own options where the command line does not give them.
 *
 * In this order: the command line, the environment (BERTH_LOG_LEVEL for --log-level), the file of
 * --config or else the user's $XDG_CONFIG_HOME/berth/berth.toml (~/.config/...), /etc/berth/berth.toml.
 * The files are TOML, with the long names of the options as keys:
 *
 *     root = "/srv/berth"     # strings in " or '
 *     debug = true
 */
#pragma once

#include "cli/args.h"

/* Fills in the options of the program's top level. -EINVAL naming the variable, or the file and line. */
int settings_apply(struct args *args, struct error *err) must_check;
