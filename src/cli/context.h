/* context: from the global options to an open engine, and what commands over several objects share. */
#pragma once

#include "cli/args.h"
#include "engine/engine.h"
#include "engine/workload.h"
#include "image/store.h"

/* Opens the engine that --root and --state (or the environment, or the configuration) name. */
int open_engine(const struct args *args, struct engine **ret, struct error *err) must_check;
/* The same, and its images, which are the engine's. */
int open_images(const struct args *args, struct engine **ret_engine, struct image_store **ret,
		struct error *err) must_check;

/* Carries out a verb for one object. 0 (the name is printed then) or -errno. */
typedef int each_fn(struct engine *engine, const char *name, const struct args *args,
		    struct error *err);
/* For every argument: opens the engine, calls `fn`, prints the name that was done (if `echo`) or
 * reports the failure, and goes on. Returns 0, or -EIO if one failed, with err silent (code, no text):
 * it has been reported. */
int for_each_argument(const struct args *args, each_fn *fn, bool echo,
		      struct error *err) must_check;

/* The same for workloads; with --all for all of them, or all that run. The command has the option, and names it
 * as what needs no argument. */
int for_each_workload(const struct args *args, bool running, each_fn *fn, bool echo,
		      struct error *err) must_check;

/* Asks on the terminal. True for yes; without a terminal the answer is no. */
bool confirm(const char *question);
