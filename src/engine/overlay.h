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

/* What a workload's file system looks like, read-only and without mounts: the image alone, or with what
 * the workload wrote on top. */
enum overlay_what { OVERLAY_IMAGE, OVERLAY_ALL };
struct overlay_view {
	int root_fd; /* a detached mount */
	struct plan_lock *locks;
	size_t lock_count;
};
#define OVERLAY_VIEW_NONE ((struct overlay_view){.root_fd = -1})
int overlay_view_open(struct engine *engine, const struct workload *workload,
		      enum overlay_what what, struct overlay_view *ret,
		      struct error *err) must_check;
/* What fails here is tidied up by the next command. */
void overlay_view_close(struct engine *engine, struct overlay_view *view);
/* Opens what the workload wrote, overlayfs's upper directory. -ENOENT, without text: nothing yet. */
int overlay_open_upper(struct engine *engine, const struct workload *workload,
		       struct error *err) must_check;

/* The two ways to stack directories, the first the best; exposed for their tests. `lower` from the top
 * to the bottom. Return a detached mount's descriptor; -ENOSYS or -EINVAL: this kernel cannot. */
struct overlay_stack {
	const int *lower;
	size_t lower_count;
	int upper, work;  /* directories; -1: read-only, then there must be two lower ones */
	bool is_volatile; /* nothing of it needs to be on disk, ever */
	bool user_xattrs; /* rootless */
};
int overlay_stack_direct(const struct overlay_stack *stack, struct error *err) must_check;
int overlay_stack_classic(const struct overlay_stack *stack, struct error *err) must_check;
