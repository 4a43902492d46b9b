/*
 * guard: a process that thaws a workload which a command has paused for a moment, if that command dies before
 * it could do so itself. No signal to the command can leave the workload frozen: when it is gone, its end of a
 * pipe is closed.
 *
 *     rc = guard_begin(engine, &workload, &guard, err);
 *     rc = workload_pause(...);
 *     ...
 *     workload_unpause(...);
 *     guard_end(&guard);          nothing is to be thawed any more
 */
#pragma once

#include <sys/types.h>

#include "engine/engine_priv.h"

struct guard {
	int fd; /* -1: there is none */
	pid_t pid;
};
#define GUARD_NONE ((struct guard){.fd = -1})

/* For a workload that is running and not paused. */
int guard_begin(struct engine *engine, const struct workload *workload, struct guard *ret,
		struct error *err) must_check;
/* Ends it. Nothing if there is none. */
void guard_end(struct guard *guard);
