/*
 * live: the facts of a running workload, in <state>/<id>/run: a small record of fixed size that the
 * monitor writes with one pwrite, and everybody else reads. It is gone after a reboot, as is what it
 * speaks of.
 */
#pragma once

#include <stdint.h>

#include "engine/engine_priv.h"

enum live_phase {
	LIVE_STARTING,
	LIVE_RUNNING,
	LIVE_WAITING, /* for the next start by the restart policy */
	LIVE_ENDED,   /* exit_code and finished_ns hold; what remains is being removed */
};

struct live {
	uint32_t version; /* LIVE_VERSION */
	uint32_t phase;   /* enum live_phase */
	int32_t pid;
	int32_t monitor_pid;
	int64_t started_ns;
	int64_t finished_ns;
	int32_t exit_code;
	int32_t restart_count;
	uint32_t paused; /* written by pause and unpause; reset by the monitor at a start */
	uint32_t unused;
};
enum { LIVE_VERSION = 1 };

/* Creates the file in <state>/<id>; returns the descriptor or -errno. */
int live_create(struct engine *engine, const char *id) must_check;
int live_write(int fd, const struct live *live) must_check;
/* -ENOENT if it does not run. */
int live_read(struct engine *engine, const char *id, struct live *ret) must_check;
/* Sets or clears the mark. */
int live_set_paused(struct engine *engine, const char *id, bool paused) must_check;
