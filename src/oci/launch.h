/*
 * launch: creating the process of a container or of an exec, and the steps that both have in common.
 *
 * The new process is a copy of the runtime (clone3 without shared memory) that goes through its steps
 * and executes the program. It is one process, with no helper in between: namespaces to be created
 * come with clone3; namespaces to be joined are joined by the runtime just before and left just after,
 * except user and mount namespaces, which only the new process can join.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "oci/cgroup.h"
#include "oci/config.h"
#include "oci/process.h"
#include "oci/rootfs.h"

enum { LAUNCH_PRESERVE_MAX = 4096 };

struct launch {
	const struct config *config;
	const struct config_process *process;
	const struct cgroup *cgroup; /* joined by the process; NULL: stays where we are */
	struct seccomp_program program;
	struct process_labels labels;
	int stdio[3];
	unsigned int preserve_fds;
	/* Which of these the caller did not open (bit N stands for descriptor 3+N), and which of the former
	 * we opened to keep the place, to be closed again. */
	uint64_t holes[LAUNCH_PRESERVE_MAX / 64], fillings[LAUNCH_PRESERVE_MAX / 64];
	bool sibling;
	bool no_keyring;
	bool reaper; /* the program gets a process 1 above it */
	bool terminal, plain_output;
	const char *id;
	const char *bundle;

	/* A container's first process only. */
	struct rootfs rootfs;
	int start_sock; /* listening, or -1: go on at once */
	pid_t host_pid; /* known by the process itself, for hooks */
	volatile bool
		*hooks_over; /* shared with who waits for the execution; NULL: there are none */
	/* Called by the process when it is confined, just before it executes its program; or NULL. */
	int (*last_step)(struct launch *l, struct error *err);

	/* Exec only. */
	int target_pidfd;    /* whose namespaces are joined, else -1 */
	uint64_t join_flags; /* CLONE_NEW*, joined through target_pidfd */
	bool user_first; /* its user namespace before its pid namespace: we have no rights but there */

	/* Joining and creating namespaces. */
	uint64_t new_flags;  /* for clone3 */
	uint64_t late_flags; /* for unshare, once a user namespace is joined that is to own them */
	int namespace_fds[NAMESPACE_KINDS]; /* to be joined by path, else -1 */

	/* The conversation; each side closes the other's end. */
	int parent_sock, child_sock;
	int listener_sock; /* connected to seccomp's listener, or -1 */
};

/* Sets all descriptors to -1. */
void launch_init(struct launch *l);
void launch_release(struct launch *l);
#define own_launch __attribute__((cleanup(launch_release)))

typedef void launch_child_fn(struct launch *l);

/* Creates the process, which runs `child` (it does not return) with the launch. */
int launch_spawn(struct launch *l, launch_child_fn *child, pid_t *ret_pid, int *ret_pidfd,
		 struct error *err) must_check;
/* Called before anything else is opened: sets preserve_fds, and fills the holes among the descriptors to
 * be preserved, which one of ours could get into otherwise. -EINVAL for too many. */
int launch_preserve(struct launch *l, unsigned int count, struct error *err) must_check;

/* --- steps of the new process ------------------------------------------------------------------- */

/* Signals, descriptors, and the v1 cgroups. */
int launch_begin(struct launch *l, struct error *err) must_check;
/* Takes the terminal from the container's devpts below root_fd, sends the other end to the runtime.
 * Returns the descriptor of the process's end. */
int launch_open_terminal(struct launch *l, int root_fd, struct error *err) must_check;
/* The given descriptors become 0, 1, 2. */
int launch_place_stdio(const struct launch *l, struct error *err) must_check;
/* User, directory, program; on return everything is done but process_confine and the execution. */
int launch_settle(struct launch *l, char **ret_path, char ***ret_env, struct error *err) must_check;
/* Confines the process and executes the program: returns only on failure. */
int launch_execute(struct launch *l, const char *path, char *const *env,
		   struct error *err) must_check;
