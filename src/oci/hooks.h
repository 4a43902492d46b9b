/*
 * hooks: programs of the configuration that run at points of a container's life.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "oci/config.h"
#include "oci/runtime.h"

struct container;

/* What a hook reads on its standard input. */
struct hook_state {
	const char *id;
	const char *bundle;
	enum oci_status status;
	pid_t pid; /* 0: none */
	const json_t *annotations;
	/* One that we hold the lock of: who asks for it ends the hook that runs. NULL: hooks take their
	 * time. */
	const struct container *container;
};

/* Runs all hooks of a kind in order, each within its timeout; stops at the first that fails. The
 * error has the hook's path, its exit code and the end of its output. */
int hooks_run(const struct config *c, enum config_hook_kind kind, const struct hook_state *state,
	      struct error *err) must_check;
/* The same for poststart and poststop hooks, whose errors the specification makes warnings: the hooks
 * after one that fails run all the same (config.md, "POSIX-platform Hooks"; runtime.md, "Lifecycle"). */
void hooks_run_late(const struct config *c, enum config_hook_kind kind,
		    const struct hook_state *state);
