/*
 * progress: shows long work on images, on stderr.
 *
 * On a terminal: one line per layer, redrawn in place, with bytes, rate and time left. Elsewhere: one
 * line per finished layer. A quiet one shows nothing. The callback fits image_progress_fn.
 */
#pragma once

#include <stdbool.h>

#include "base/str.h"
#include "engine/engine.h"
#include "image/progress.h"

struct progress;

struct progress *progress_new(bool quiet);
/* Leaves the cursor below the last line. */
void progress_free(struct progress *progress);
void progress_report(const struct image_progress *event, void *progress);

OWN_DEFINE(own_progress, struct progress *, progress_free);
#define own_progress __attribute__((cleanup(own_progress_release)))

/* An engine_wait_fn: on a terminal a line while it lasts and when it is there. Elsewhere nothing: a command
 * has the same output whether it had to wait or not. */
void progress_wait(enum engine_wait event, const char *what, int64_t took_ns);

/* What is known of one layer. */
struct progress_line {
	char name[40]; /* the first digits of the digest, or what else it is; "" if not told yet */
	enum image_step step;
	uint64_t done_bytes, total_bytes;
	int64_t started_ms, ended_ms; /* monotonic */
};
/* The line as a terminal of `columns` shows it, without a newline. */
void progress_format(const struct progress_line *line, int64_t now_ms, size_t columns,
		     struct buf *out);
