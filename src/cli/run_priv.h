/* run_priv: what `run` and `create` consist of: their table, the way from options to a configuration,
 * and the doing. */
#pragma once

#include "cli/args.h"
#include "engine/config.h"

int run_run(const struct args *args, struct error *err);
int run_create(const struct args *args, struct error *err);

/* Fills the configuration from the options and arguments of run or create; the image is named, not
 * looked for. `config` is initialised, and the caller's to release. -EINVAL naming the option. */
int run_config(const struct args *args, struct workload_config *config,
	       struct error *err) must_check;

/* Appends the entries of --env-file and --label-file files, then those of --env and --label. A name
 * without "=" takes its value from our environment if `from_environment`, else is empty. */
int read_pairs(char *const *files, char *const *given, bool from_environment, char ***ret,
	       struct error *err) must_check;
