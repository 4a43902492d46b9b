/*
 * guard: a process that has a workload paused for as long as a command needs it, and no longer. It pauses the
 * workload itself and lets it go on when the command's end of a socket is closed: so the two can never overtake
 * each other, and no signal to the command, at whatever moment, leaves the workload frozen.
 *
 *     rc = guard_begin(engine, &workload, &guard, err);      it is paused
 *     ...
 *     guard_end(engine, &workload, &guard);                  it runs
 */
#pragma once

#include <sys/types.h>

#include "engine/engine_priv.h"

struct guard {
	int fd; /* -1: there is none */
	pid_t pid;
};
#define GUARD_NONE ((struct guard){.fd = -1})

/* Freezes a workload that runs, or thaws one that is frozen or only marked as such. The mark (live.h) is set
 * before freezing and removed after thawing: so a killed command leaves at most a running workload that is said
 * to be paused, which unpause mends. After a failed freeze it runs. */
int guard_freeze(struct engine *engine, const struct workload *workload,
		 struct error *err) must_check;
int guard_thaw(struct engine *engine, const struct workload *workload,
	       struct error *err) must_check;

/* Pauses a workload that is running. -EBUSY: it is paused. On failure it is not, and there is no guard. */
int guard_begin(struct engine *engine, const struct workload *workload, struct guard *ret,
		struct error *err) must_check;
/* Lets the workload go on, unless it has ended or somebody else has done so; by ourselves if the guard was killed.
 * Nothing if there is no guard. */
void guard_end(struct engine *engine, const struct workload *workload, struct guard *guard);
