/*
 * cgroup_systemd: containers in scopes of systemd.
 *
 * A scope begins with processes in it: ours begins with one that only waits (the anchor), until the
 * container's process has been made in the scope's directory as it would be in any. The scope is delegated:
 * limits are written to the files as ever, and systemd is told those that it knows, so that it does not
 * undo them. It ends with its last process.
 */
#pragma once

#include "oci/cgroup.h"
#include "oci/config.h"

/* True if systemd, the user's for whoever is not root, answers. */
bool cgroup_systemd_is_there(void);
/* Sets unit, slice and relative from linux.cgroupsPath, which has the form "slice:prefix:name". */
int cgroup_systemd_names(struct cgroup *cg, const char *cgroups_path, const char *id,
			 struct error *err) must_check;
/* Creates the scope with the anchor in it; its directories exist on return. */
int cgroup_systemd_start(struct cgroup *cg, const struct config *c, struct error *err) must_check;
/* Gives a process a scope of its own, which ends with it: so it is in the manager's part of the hierarchy. */
int cgroup_systemd_adopt(const char *unit, pid_t pid, struct error *err) must_check;
/* Moves a process into the scope, or a directory below it ("", "/a/b"). */
int cgroup_systemd_attach(const struct cgroup *cg, const char *below, pid_t pid,
			  struct error *err) must_check;
/* Ends the anchor: somebody else is in the scope, or it is not wanted any more. */
void cgroup_systemd_let_go(struct cgroup *cg);
/* Tells it of changed limits. */
int cgroup_systemd_update(const struct cgroup *cg, const struct config_resources *r,
			  struct error *err) must_check;
/* Stops the scope and forgets a failed one. A scope that does not exist is success. */
int cgroup_systemd_stop(const struct cgroup *cg, struct error *err) must_check;
