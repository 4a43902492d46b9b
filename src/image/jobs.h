/*
 * jobs: the layers of an image at once, each in a process of its own.
 *
 * Processes rather than threads: each parses what strangers wrote, so that a fault in one of them
 * ends that process and nothing else; a signal or a failure ends all of them at once and leaves
 * nothing to unwind; and no lock is needed anywhere. They are forked, not executed, and write their
 * result, a plain struct, down one pipe. The database is the parent's alone: children do not touch it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "image/progress.h"

enum { IMAGE_JOBS_AT_ONCE_MAX = 6, IMAGE_JOB_RESULT_MAX = 2048 };

/* What a job tells while it runs; in memory that it shares with its parent. */
struct image_job_meter {
	uint64_t done_bytes, total_bytes; /* written by the job only */
	bool was_there;                   /* nothing had to be done: IMAGE_STEP_THERE */
};

struct image_jobs {
	size_t count;
	size_t at_once; /* 0: as many as there are processors, at least three: some wait */
	size_t result_size;
	void *context;
	/* In the parent, before job `i` is started; may be NULL. */
	int (*prepare)(size_t i, void *context, struct error *err);
	/* In the child: does job `i`, fills `result` (zeroed). */
	int (*run)(size_t i, struct image_job_meter *meter, void *result, void *context,
		   struct error *err);
	/* In the parent, as each one is done. An error ends all. */
	int (*done)(size_t i, const void *result, void *context, struct error *err);
	/* The digest to show for job `i`. */
	const char *(*name)(size_t i, void *context);
	image_progress_fn *progress; /* may be NULL */
	void *progress_data;
};

/* Runs all jobs. The first failure ends the others. -EINTR if SIGINT, SIGTERM or SIGHUP came: the
 * signal is taken, the caller cleans up and ends. */
int image_jobs_run(const struct image_jobs *jobs, struct error *err) must_check;
