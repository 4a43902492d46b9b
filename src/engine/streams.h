/*
 * streams: the command's end of a connection to a monitor: the user's terminal or pipes on one side,
 * packets on the other.
 *
 * Neither side's slowness stops the other direction or the signals. The user's descriptors are never
 * set non-blocking: they may be shared with other programs.
 */
#pragma once

#include "engine/engine_priv.h"

struct streams {
	int channel_fd;
	const char *name; /* what it is called in messages */
	const struct workload_stdio *stdio;
	bool tty;        /* the workload has a terminal */
	bool foreground; /* a vanished reader of ours is to be one of the workload's */
	bool forward_signals;
	bool started; /* in: nothing is to be waited for */
	/* Called when CHANNEL_STARTED arrives; may be NULL. */
	int (*on_started)(void *data, struct error *err);
	void *data;
};

/* Carries data until the process has ended (returns its exit code) or the user has detached (0). Why it ended is
 * logged, if the exit code does not say so.
 * Negative: the process could not be started, as the monitor says, or the monitor is gone (-EPIPE). */
int streams_run(struct streams *streams, struct error *err) must_check;

/* Connects to the monitor of a running workload. -ESRCH: it does not run. */
int streams_connect(struct engine *engine, const struct workload *workload,
		    struct error *err) must_check;
/* Waits for the answer to a request: CHANNEL_OK or CHANNEL_STARTED (0), CHANNEL_EXIT (its code, in
 * *ret_exit_code if that is not NULL), CHANNEL_ERROR. */
int streams_answer(int channel_fd, int *ret_exit_code, struct error *err) must_check;
