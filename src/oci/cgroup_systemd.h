/*
 * cgroup_systemd: containers in scopes of systemd. The place where its D-Bus interface belongs; all
 * calls refuse with -ENOTSUP for now.
 */
#pragma once

#include "oci/cgroup.h"

/* Sets unit, slice and relative from linux.cgroupsPath, which has the form "slice:prefix:name". */
int cgroup_systemd_names(struct cgroup *cg, const char *cgroups_path, const char *id,
			 struct error *err) must_check;
/* Creates the scope with the process in it; its directories exist on return. */
int cgroup_systemd_start(const struct cgroup *cg, pid_t pid, struct error *err) must_check;
/* Stops the scope and forgets a failed one. A scope that does not exist is success. */
int cgroup_systemd_stop(const struct cgroup *cg, struct error *err) must_check;
