/*
 * resctrl: shares of the caches and of memory bandwidth (specification, linux.intelRdt).
 *
 * The kernel's resctrl file system has a directory for each group of tasks (CLOS); its file schemata says what
 * the group may use, its directory mon_groups has groups that are only measured.
 */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "oci/config.h"

/* Puts a process that waits into the container's groups: its first one, for which they are made, or a `further`
 * one, a child of ours. Does nothing if none is `given`. -ENODEV: resctrl is not mounted; otherwise as
 * resctrl_make(). */
int resctrl_assign(const struct config_intel_rdt *r, const char *id, pid_t pid, bool further,
		   struct error *err) must_check;
/* Removes what resctrl_save() has named, which may be NULL; warns if that fails. */
void resctrl_leave(const json_t *saved);

/* Opens the mounted file system (O_PATH); -ENODEV where there is none, or another one in its place. */
int resctrl_open(struct error *err) must_check;

/* Puts a process that is being made into the container's group, and makes that if need be.
 * `root_fd`: as resctrl_open() returns it. `id`: the container's, which the group is called by without a
 * closID. -ENOENT: a closID without schemata has to be there; -EINVAL: one that is there has others, or the
 * kernel does not accept them; -ENOTSUP: what is to be measured cannot be; -ENOSPC: no group is left. */
int resctrl_make(int root_fd, const struct config_intel_rdt *r, const char *id, pid_t pid,
		 struct error *err) must_check;
/* Puts a further process into the container's groups. */
int resctrl_join(int root_fd, const struct config_intel_rdt *r, const char *id, pid_t pid,
		 struct error *err) must_check;

/* What has to be known to remove it; NULL if there is nothing. */
json_t *resctrl_save(const struct config_intel_rdt *r, const char *id);
/* Removes what belongs to the container alone: the group called by its id, and what measures it. A group that
 * the configuration names stays, as others may be in it. */
int resctrl_remove(int root_fd, const json_t *saved, struct error *err) must_check;
