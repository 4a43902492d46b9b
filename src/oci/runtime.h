/*
 * runtime: the OCI runtime as a library.
 *
 * A container is a directory <state_root>/<id>/ with a state file, a lock and a copy of its
 * configuration; nothing else on the host survives a call, except the container's process and its
 * cgroup. Every function takes the state root and the id, opens what it needs, and leaves no
 * descriptor behind. No function starts a thread; the caller must be single-threaded wherever a
 * process is created (oci_create, oci_exec).
 *
 * Invariants
 *   R1  Whatever a killed runtime leaves behind is named by the state file before it exists: the
 *       cgroup by path, the process by pid and start time, or it ends by itself. So oci_delete with
 *       OCI_DELETE_FORCE removes everything that any interrupted call can have left.
 *   R2  Nothing is mounted in the caller's mount namespace.
 *   R3  The container's first process and exec'd processes have only descriptors 0-2 and those that
 *       were asked to be preserved, and run from a file that cannot be written (oci_self_protect).
 *   R4  A path inside the container's root file system is only ever resolved beneath it.
 *
 * Errors: -ENOENT "container X does not exist"; -EEXIST for an id in use; -ESRCH "container not
 * running"; -EINVAL for a configuration, naming the field; err->exit_status is 127 for a program that
 * was not found in the container, 126 for one that cannot be executed.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/own.h"

/* --- the program file --------------------------------------------------------------------------- */

/* Makes sure that the running program's own file cannot be written through /proc/PID/exe: unless it
 * runs from a read-only image of itself already, it is moved to one (a detached read-only bind mount, or
 * a sealed copy in memory): mapped anew in place, or, where the kernel or our rights do not allow that,
 * executed again with the same arguments (`argv`; NULL: as the kernel has them) and environment. To be
 * called early in main(), before anything that a second start would do twice. */
int oci_self_protect(char *const argv[], struct error *err) must_check;
/* A descriptor of such an image for execveat(fd, "", ..., AT_EMPTY_PATH): who starts a program from it
 * needs no oci_self_protect there. The caller closes it. -errno. */
int oci_protected_exe_fd(struct error *err) must_check;

/* --- what can be kept ----------------------------------------------------------------------------- */

/* For who makes several containers of one kind: what is worked out once, by us and by the kernel. */

/* A system call filter, ready to be installed: made of an object of the form of linux.seccomp, without a
 * listener. -EINVAL: a configuration that is none, or -ENOTSUP: that has a listener. */
struct oci_filter;
int oci_filter_compile(json_t *seccomp, struct oci_filter **ret, struct error *err) must_check;
void oci_filter_free(struct oci_filter *filter);

/* The device filter (cgroup v2) that was loaded last: a container with the same rules takes it as it is.
 * Zeros at first. */
struct oci_device_filter {
	void *code;
	size_t size_bytes;
	int fd; /* of the program, if there is code */
};
void oci_device_filter_release(struct oci_device_filter *filter);

/* --- creating ----------------------------------------------------------------------------------- */

enum oci_cgroup_manager {
	OCI_CGROUPFS,
	OCI_CGROUP_SYSTEMD,
	OCI_CGROUP_NONE, /* the container stays in the caller's cgroups */
};

enum oci_create_flags {
	OCI_CREATE_RUN = 1,        /* start at once: no oci_start needed */
	OCI_CREATE_SIBLING = 2,    /* the init process becomes a child of the caller's parent */
	OCI_CREATE_NO_PIVOT = 4,   /* for a root file system that pivot_root(2) refuses */
	OCI_CREATE_NO_KEYRING = 8, /* keep the caller's session keyring */
	OCI_CREATE_KEEP_TERMINAL =
		16, /* process.terminal without a console socket: the pty's master
					* is returned in ret->console_fd */
	OCI_CREATE_PLAIN_OUTPUT =
		64,                /* the pty adds no carriage returns: its output goes to a file */
	OCI_CREATE_REAPER = 32,    /* a process 1 that passes signals on and reaps (reaper.h) */
	OCI_CREATE_STATUS = 128,   /* a file `status` for others (container.h) */
	OCI_CREATE_REMEMBER = 256, /* ret->made is for oci_delete_child */
};

struct oci_create {
	const char *state_root; /* absolute; created with mode 0700 if missing */
	const char *id;         /* letters, digits and _+-. */
	const char *bundle;     /* absolute; relative paths of the configuration start here */
	json_t *spec;           /* config.json as a value (borrowed); NULL: <bundle>/config.json */
	int stdio[3];           /* become 0, 1, 2; ignored with process.terminal */
	unsigned int preserve_fds;  /* descriptors 3 .. 3+N-1 of the caller are kept */
	unsigned int listen_fds;    /* so many of them are announced in LISTEN_FDS */
	const char *console_socket; /* where to send the pty's master, or NULL */
	const char *pid_file;       /* or NULL */
	const char *notify_socket;  /* a service manager's, for readiness (notify.h); or NULL */
	int root_mount_fd; /* a detached mount (fsmount, open_tree) that is the root file system, or -1
			    * for root.path; its owner stays the caller */
	enum oci_create_flags flags;
	enum oci_cgroup_manager cgroup_manager;
	const struct oci_filter
		*filter; /* instead of linux.seccomp, which is absent then; or NULL */
	struct oci_device_filter *device_filter; /* is used and renewed; or NULL */
};
#define OCI_CREATE_DEFAULTS                                                                        \
	{                                                                                          \
		.stdio = {0, 1, 2}, .root_mount_fd = -1                                            \
	}

/* A process that was made. The descriptors are the caller's; release with oci_child_release. */
struct oci_child {
	pid_t pid;             /* in the caller's pid namespace */
	int pidfd;             /* wait with proc_wait() unless it is a sibling's */
	int console_fd;        /* OCI_*_KEEP_TERMINAL: the pty's master, else -1 */
	int notify_fd;         /* with a notify_socket: as oci_notify_open returns it, else -1 */
	struct oci_made *made; /* OCI_CREATE_REMEMBER: what is to be deleted, or NULL */
};
#define OCI_CHILD_EMPTY                                                                            \
	{                                                                                          \
		.pidfd = -1, .console_fd = -1, .notify_fd = -1                                     \
	}
void oci_child_release(struct oci_child *child);
#define own_oci_child __attribute__((cleanup(oci_child_release)))

/* Creates a container; its process waits for oci_start (with OCI_CREATE_RUN it runs on return: a
 * program that cannot be executed is an error here). On failure nothing is left behind. */
int oci_create(const struct oci_create *options, struct oci_child *ret,
	       struct error *err) must_check;
/* Lets the created container's process run. Returns when it has executed its program: a failing
 * startContainer hook or execve is an error here. */
int oci_start(const char *state_root, const char *id, struct error *err) must_check;

/* Readiness, for a container that was created with a notify_socket. The descriptor of the socket that its
 * process writes to, to be opened before it is started; -ENOENT (without a reason) if it has none. */
int oci_notify_open(const char *state_root, const char *id, struct error *err) must_check;
/* Reads what is there, and tells the manager if the process is ready: then true. */
bool oci_notify_pass(int sock, const char *host_socket, pid_t pid);
/* Waits until the process is ready or ended. */
void oci_notify_wait(int sock, const char *host_socket, pid_t pid, int pidfd);

/* --- looking and acting ------------------------------------------------------------------------- */

enum oci_status { OCI_CREATING, OCI_CREATED, OCI_RUNNING, OCI_PAUSED, OCI_STOPPED };
const char *oci_status_name(enum oci_status status);

/* What is known of a container; release with oci_state_release. */
struct oci_state {
	char *id;
	char *bundle;
	char *rootfs;
	char *owner;   /* the user's name, or its number */
	char *created; /* RFC 3339 */
	pid_t pid;     /* 0 if stopped */
	uint64_t start_ticks;
	enum oci_status status;
	json_t *annotations; /* an object, or NULL */
	json_t *record;      /* the state file, with members that are the library's own */
};
void oci_state_release(struct oci_state *state);
#define own_oci_state __attribute__((cleanup(oci_state_release)))

int oci_get_state(const char *state_root, const char *id, struct oci_state *ret,
		  struct error *err) must_check;
/* The configuration that it was created from. The caller's reference. */
int oci_get_config(const char *state_root, const char *id, json_t **ret,
		   struct error *err) must_check;
/* The state as the specification has it (ociVersion, id, status, pid, bundle, annotations). */
json_t *oci_state_json(const struct oci_state *state);
/* The ids below a state root, sorted; leftovers of killed runtimes too. */
int oci_list(const char *state_root, char ***ret_ids, struct error *err) must_check;

enum oci_kill_flags { OCI_KILL_ONE = 0, OCI_KILL_ALL = 1 };
/* Sends a signal to the container's process, or to every process in its cgroup. */
int oci_kill(const char *state_root, const char *id, int signal, enum oci_kill_flags flags,
	     struct error *err) must_check;

enum oci_delete_flags { OCI_DELETE_STOPPED = 0, OCI_DELETE_FORCE = 1 };
/* Removes a stopped container: what is still in its cgroup is killed, the cgroup and the state are
 * removed, poststop hooks run. With force a living container is killed first, a call that makes or starts
 * it is ended with the hook that it waits for, and one that does not exist is success. */
int oci_delete(const char *state_root, const char *id, enum oci_delete_flags flags,
	       struct error *err) must_check;
/* The same as a forced one, for who made the container and has waited for its process: without reading what is
 * known already. */
int oci_delete_child(const char *state_root, const char *id, const struct oci_child *child,
		     struct error *err) must_check;

int oci_pause(const char *state_root, const char *id, struct error *err) must_check;
/* -EALREADY: it is not paused. */
int oci_resume(const char *state_root, const char *id, struct error *err) must_check;
/* Changes limits; `resources` has the form of linux.resources, members that are absent stay. */
int oci_update(const char *state_root, const char *id, json_t *resources,
	       struct error *err) must_check;

/* Pids of the container's cgroup in the caller's pid namespace; the caller frees the array. */
int oci_pids(const char *state_root, const char *id, pid_t **ret_pids, size_t *ret_count,
	     struct error *err) must_check;

struct oci_stats {
	uint64_t cpu_total_ns, cpu_user_ns, cpu_system_ns;
	uint64_t cpu_periods, cpu_throttled_periods, cpu_throttled_ns;
	uint64_t memory_bytes, memory_peak_bytes, memory_limit_bytes; /* limit UINT64_MAX: none */
	uint64_t memory_cache_bytes; /* file pages that can be dropped: inactive_file */
	uint64_t swap_bytes, swap_limit_bytes;
	uint64_t oom_kills;
	uint64_t pids, pids_limit; /* limit UINT64_MAX: none */
	uint64_t io_read_bytes, io_write_bytes, io_read_ops, io_write_ops;
};
int oci_get_stats(const char *state_root, const char *id, struct oci_stats *ret,
		  struct error *err) must_check;

/* An event, as runc's `events` prints it: {"type": "stats", "id": ..., "data": {...}} with what the
 * container uses, or {"type": "oom", "id": ...} when the kernel killed a process of it for lack of memory. The
 * value is borrowed. */
typedef void oci_event_fn(const json_t *event, void *data);
/* One report if `interval_ms` is 0; else reports at that interval, and what happens, until the container's
 * process has ended. */
int oci_events(const char *state_root, const char *id, int interval_ms, oci_event_fn *to,
	       void *data, struct error *err) must_check;

/* --- exec --------------------------------------------------------------------------------------- */

enum oci_exec_flags {
	OCI_EXEC_SIBLING = 1,       /* as OCI_CREATE_SIBLING */
	OCI_EXEC_KEEP_TERMINAL = 2, /* as OCI_CREATE_KEEP_TERMINAL */
	OCI_EXEC_IGNORE_PAUSED = 4,
	OCI_EXEC_PLAIN_OUTPUT = 8, /* as OCI_CREATE_PLAIN_OUTPUT */
};

struct oci_exec {
	const char *state_root;
	const char *id;
	json_t *process; /* an object of the form of config.json's process (borrowed): members that are
			  * absent are those of the container's own process, except args */
	int stdio[3];
	unsigned int preserve_fds;
	const char *console_socket;
	const char *pid_file;
	/* Cgroups below the container's, as "path" or, on v1, "controller,...:path"; NULL-terminated;
	 * NULL: none. */
	char *const *cgroups;
	enum oci_exec_flags flags;
	const struct oci_filter *filter; /* the one that the container was made with; or NULL */
};
#define OCI_EXEC_DEFAULTS                                                                          \
	{                                                                                          \
		.stdio = { 0, 1, 2 }                                                               \
	}

/* Starts a further process in a running container. Returns when it has executed its program. */
int oci_exec(const struct oci_exec *options, struct oci_child *ret, struct error *err) must_check;

/* --- documents ---------------------------------------------------------------------------------- */

enum oci_spec_flags { OCI_SPEC_ROOT = 0, OCI_SPEC_ROOTLESS = 1 };
/* A complete configuration to begin with: the process is `sh` on a terminal in rootfs/. */
json_t *oci_spec(enum oci_spec_flags flags);
/* What this runtime and kernel can do, in the form of the specification's features document. */
json_t *oci_features(void);
