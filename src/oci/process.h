/*
 * process: what turns a process inside the namespaces into the configured one, the same for a
 * container's first process and for exec. All calls act on the calling process unless a pid is given,
 * in the order in which they stand here.
 */
#pragma once

#include "base/error.h"
#include "oci/config.h"
#include "oci/seccomp_filter.h"

/* Opened while the host's /proc is still in sight, because the container's may be anything. */
struct process_labels {
	int exec_fd; /* /proc/self/attr/exec, or -1 */
	int key_fd;  /* /proc/self/attr/keycreate, or -1 */
	const char *text;
	bool apparmor;
};
#define PROCESS_LABELS_EMPTY                                                                       \
	{                                                                                          \
		.exec_fd = -1, .key_fd = -1                                                        \
	}

/* Resource limits and the OOM score, of process `pid` (0: our own). Needs rights on the host. */
int process_set_limits(pid_t pid, const struct config_process *p, struct error *err) must_check;
/* One of the lists of execCPUAffinity, by its name; NULL: none. */
int process_set_affinity(const char *cpus, const char *field, struct error *err) must_check;
/* Scheduling, I/O priority, personality, memory policy. */
int process_set_scheduling(const struct config *c, const struct config_process *p,
			   struct error *err) must_check;
/* Prepares the AppArmor profile or SELinux label; refuses it if the kernel has no such module. */
int process_open_labels(const struct config_process *p, struct process_labels *ret,
			struct error *err) must_check;

/* Gives standard input and output to the user, so that it can open /dev/stdout. Where they are the host's
 * /dev/null the container's takes its place: a file of the host's mounts could not be restored from an
 * image. */
void process_own_stdio(const struct config_process *p);
/* Groups, gid, uid, umask; capabilities are kept for the steps that follow. */
int process_become_user(const struct config_process *p, struct error *err) must_check;
/* Changes to process.cwd. Refuses one that is outside of the root, whatever way it got there. */
int process_enter_cwd(const struct config_process *p, struct error *err) must_check;
/* Sets HOME and PATH if they are missing, and finds the program. err->exit_status 127 or 126. */
int process_find_program(const struct config_process *p, char **ret_path, char ***ret_env,
			 struct error *err) must_check;
/* no_new_privs, the label, capabilities and the filter, the last two in the order that the first
 * demands. Returns the filter's listener or 0. */
int process_confine(const struct config_process *p, const struct process_labels *labels,
		    const struct seccomp_program *program, const struct config_seccomp *seccomp,
		    int (*on_listener)(int listener_fd, void *data, struct error *err), void *data,
		    struct error *err) must_check;
/* Executes the program: returns only on failure. */
int process_execute(const char *path, const struct config_process *p, char *const *env,
		    struct error *err) must_check;
