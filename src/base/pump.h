/*
 * pump: carries bytes one way between two descriptors, on a loop. Reads only when everything before has
 * been taken, so that the one side's slowness is the other's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/loop.h"

enum { PUMP_BUFFER = 32 << 10 };
enum pump_flags {
	PUMP_TERMINAL =
		1, /* `from` is a terminal's master: EIO is no end while somebody may open it */
	PUMP_SHUTDOWN = 2, /* `to` is a socket whose other direction is in use */
};

/* Carries bytes one way. */
struct pump {
	struct loop_source *from_source, *to_source;
	int from, to;
	unsigned int flags; /* enum pump_flags */
	bool ending;        /* what is there now is all that counts, */
	size_t last;        /* and is no more than this */
	bool ended;
	size_t at, len;
	char *buffer;
	void (*done)(struct pump *pump, void *data);
	void *data;
};
/* Takes both descriptors, which it makes non-blocking. `done` is called once, perhaps in a call of
 * pump_end. */
int pump_start(struct pump *pump, struct loop *loop, int from, int to, unsigned int flags,
	       void (*done)(struct pump *pump, void *data), void *data) must_check;
/* Its process has ended: carry on until nothing is there that it has written. Others may hold the descriptor,
 * and write on without end. */
void pump_end(struct pump *pump);
/* Stops at once; `done` is not called. Any state, also one never started (zeroed with -1, -1). */
void pump_release(struct pump *pump);
#define PUMP_NONE ((struct pump){.from = -1, .to = -1, .ended = true})
