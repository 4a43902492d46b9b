/*
 * overlay: the root file system of a container: the image's layers, shared and read-only, below a
 * directory of its own, stacked by overlayfs into a mount that is attached nowhere. The host's mount
 * namespace never sees it, and closing the descriptor undoes it.
 */
#pragma once

#include "engine/engine_priv.h"

/* Makes the mount into plan->root_fd; the layers in use go to plan->locks. */
int overlay_prepare(struct engine *engine, const struct workload *workload, struct plan *plan,
		    struct error *err) must_check;
/* Lets go of the layers of a workload whose mount is gone; the last one who does unmounts them. */
int overlay_unlock(struct engine *engine, struct plan_lock *locks, size_t count,
		   struct error *err) must_check;

/* The two ways to stack directories, the first the best; exposed for their tests. `lower` from the top
 * to the bottom. Return a detached mount's descriptor; -ENOSYS or -EINVAL: this kernel cannot. */
struct overlay_stack {
	const int *lower;
	size_t lower_count;
	int upper, work;  /* directories */
	bool is_volatile; /* nothing of it needs to be on disk, ever */
	bool user_xattrs; /* rootless */
};
int overlay_stack_direct(const struct overlay_stack *stack, struct error *err) must_check;
int overlay_stack_classic(const struct overlay_stack *stack, struct error *err) must_check;
