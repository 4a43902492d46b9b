/* progress: what long work on images tells whoever draws it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum image_step {
	IMAGE_STEP_RESOLVE, /* looking the name up; `what` is the name */
	IMAGE_STEP_WAIT,    /* a layer that has not begun */
	IMAGE_STEP_RUN,     /* a layer on its way */
	IMAGE_STEP_EXISTS,  /* a layer that was here already */
	IMAGE_STEP_THERE,   /* a blob that its destination has already, or takes from itself */
	IMAGE_STEP_DONE,    /* a layer that is complete */
	IMAGE_STEP_FINISH,  /* the image is complete; `what` is the manifest's digest */
	IMAGE_STEP_RETRY,   /* a try failed, another follows; `what` says why */
};

struct image_progress {
	enum image_step step;
	const char *what; /* the layer's digest, or as above */
	size_t index, count;
	uint64_t done_bytes, total_bytes; /* total 0: unknown */
};
/* Called in the thread of whoever started the work, for each layer at most ten times a second. */
typedef void image_progress_fn(const struct image_progress *progress, void *data);
