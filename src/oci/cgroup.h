/*
 * cgroup: the control groups of a container, on cgroup v1, hybrid and v2.
 *
 * A struct cgroup is a list of directories, one per mounted v1 hierarchy and one for the unified
 * hierarchy (v2). In hybrid mode both kinds exist: the v1 controllers limit, and the unified
 * directory, without controllers, gives cgroup.kill and a place that the child is cloned into.
 *
 * Invariants
 *   G1  nothing is created before the paths are known (cgroup_save), so that the state file can
 *       name what a killed runtime may have left.
 *   G2  cgroup_remove ends with every directory gone or an error; processes that are still inside are
 *       killed, also those that fork while we do it.
 *   G3  joining never waits for a grace period of the kernel: on v1 the child writes "0" to the tasks
 *       files itself (a move of another process takes the lock that waits for RCU), on v2 it is
 *       cloned into the directory.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/own.h"
#include "oci/runtime.h"

struct config;
struct config_resources;

enum { CGROUP_DIRS_MAX = 32 };

struct cgroup_dir {
	char *controllers; /* "memory", "cpu,cpuacct", "name=systemd"; "" for the unified hierarchy */
	char *mount;       /* where the hierarchy is mounted */
	char *path;        /* the container's directory, absolute */
	int mount_fd;      /* O_PATH of `mount` if it is at hand, else -1 */
	int join_fd;       /* tasks (v1) or the directory (v2) while a child is to join, else -1 */
};

struct cgroup {
	enum oci_cgroup_manager manager;
	bool v2;        /* the unified hierarchy has the controllers */
	bool shared;    /* other processes were in it before: they are not ours to kill */
	char *relative; /* the path below the hierarchies' root, for /proc/PID/cgroup and systemd */
	char *unit;     /* systemd: the scope, else NULL */
	char *slice;
	struct oci_device_filter *device_filter; /* of who keeps one, or NULL */
	pid_t anchor; /* systemd: a process of ours that holds a new scope; 0: none */
	struct cgroup_dir dirs[CGROUP_DIRS_MAX];
	size_t dir_count;
};

/* Works out the directories for `cgroups_path` (NULL: one named like the container, beside our own);
 * creates nothing. */
int cgroup_plan(enum oci_cgroup_manager manager, const char *cgroups_path, const char *id,
		struct cgroup **ret, struct error *err) must_check;
void cgroup_free(struct cgroup *cg);
OWN_DEFINE(own_cgroup, struct cgroup *, cgroup_free);
#define own_cgroup __attribute__((cleanup(own_cgroup_release)))

/* Finds out whether processes are in it already, which is a warning (cg->shared is set); refuses the
 * root, and a frozen one, in which our process would freeze. */
int cgroup_check_free(struct cgroup *cg, struct error *err) must_check;
/* For the state file. */
json_t *cgroup_save(const struct cgroup *cg);
int cgroup_load(const json_t *saved, struct cgroup **ret, struct error *err) must_check;

/* Creates the directories, by systemd with what the configuration says if that is the manager. Where we may
 * not (rootless, nothing delegated), those directories are dropped from the plan if `optional`. */
int cgroup_make(struct cgroup *cg, const struct config *c, bool optional,
		struct error *err) must_check;
/* Opens what a child needs to join; closed again with cgroup_close_join. */
int cgroup_open_join(struct cgroup *cg, struct error *err) must_check;
void cgroup_close_join(struct cgroup *cg);
/* A directory of cgroup v2 with controllers enabled below it takes no process: if the container's is one, a
 * process that joins it goes where `pid` is, the container's own, which is below. Changes `cg`. */
void cgroup_follow(struct cgroup *cg, pid_t pid);
/* The descriptor for CLONE_INTO_CGROUP, or -1. */
int cgroup_clone_fd(const struct cgroup *cg);
/* True if we are where we may not put a process of ours into the container's directory, but systemd does it for
 * us: the session of an ordinary user is outside of what their manager has. */
bool cgroup_is_systemds_to_join(const struct cgroup *cg);
/* Has systemd move a process of ours there. */
int cgroup_attach(const struct cgroup *cg, pid_t pid, struct error *err) must_check;
/* Called by the child: joins the v1 directories. */
int cgroup_join_self(const struct cgroup *cg, struct error *err) must_check;
/* Moves another process, slowly. */
int cgroup_join_pid(const struct cgroup *cg, pid_t pid, struct error *err) must_check;

/* Writes the limits. Errors name the field of linux.resources. */
int cgroup_apply(const struct cgroup *cg, const struct config_resources *r,
		 struct error *err) must_check;

int cgroup_freeze(const struct cgroup *cg, bool freeze, struct error *err) must_check;
bool cgroup_is_frozen(const struct cgroup *cg);
/* All processes of the container, sub-groups included; pids as we see them. */
int cgroup_pids(const struct cgroup *cg, pid_t **ret_pids, size_t *ret_count,
		struct error *err) must_check;
/* Sends a signal to all of them. */
int cgroup_signal(const struct cgroup *cg, int signal, struct error *err) must_check;
/* Kills what is inside, waits for it to be gone, removes the directories and what is below them. */
int cgroup_remove(struct cgroup *cg, struct error *err) must_check;
/* Everything that is counted, in the form of the "data" of runc's `events`. */
int cgroup_report(const struct cgroup *cg, json_t **ret, struct error *err) must_check;
int cgroup_stats(const struct cgroup *cg, struct oci_stats *ret, struct error *err) must_check;

/* The container's directory of the hierarchy with that controller (v2: the unified one), or NULL. */
const char *cgroup_path(const struct cgroup *cg, const char *controller);
