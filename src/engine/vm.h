/*
 * vm: what the files of the isolation "vm" share.
 *
 *     isolation_vm.c   the table (isolation.h)
 *     vm_check.c       what a machine cannot have
 *     vm_plan.c        prepare: everything that can be done before there is a machine
 *     vm_devices.c     devices of the host as disks
 *     vm_disk.c        the writable layer's disk
 *     vm_template.c    snapshots of booted machines
 *     vm_cgroup.c      the machine's own limits on the host
 *     vm_train.c       a trial start, from which the starts after it learn
 *     vm_files.c       its files as tars
 *     vm_agent.c       talking with the agent in the machine (guest/protocol.h)
 *     vm_start.c       from nothing to a running process in a machine
 *     vm_attend.c      the process that stands for one in the machine
 *
 * Processes. Every process of the workload that the monitor knows of (the first one, and those of exec)
 * is stood for by an attendant: a child of the monitor that carries the process's streams, passes
 * signals and window sizes on, and ends with its exit code. So the monitor knows nothing of machines.
 * The first one's attendant is the parent of the VMM:
 *
 *     monitor
 *       |- attendant ... its process in the machine
 *       |    `- berth vmm run ...
 *       `- attendant of an exec
 *
 * Files in <state>/<id>/: vsock and control (the machine's sockets), vmm (the VMM's pid and start time, and on further
 * lines those of others that must have ended), initrd (while
 * it starts), end (what is to be told of its end), cgroup (the machine's control group).
 *
 * Invariants
 *   V1  the VMM dies with its attendant, the attendant with the monitor (parent death signals).
 *   V2  nothing that a guest sends is trusted: sizes are limited, and waiting for an answer ends.
 */
#pragma once

#include "base/json.h"
#include "engine/isolation.h"
#include "engine/engine_priv.h"
#include "guest/frame.h"

enum {
	VM_MEMORY_DEFAULT = 512 << 20,
	VM_MEMORY_MIN = 128 << 20,
	VM_MEMORY_RESERVE = 64 << 20, /* for the guest's kernel, on top of the workload's limit */
	VM_MEMORY_STEPS = 4,          /* sizes from a power of two to the next */
	VM_DISK_DEFAULT_GIB = 10,
	VM_ANSWER_MS = 30000, /* so long may a guest take for an answer */
};

/* "<id>/<name>" below the state directory. */
struct vm_path {
	char text[WORKLOAD_ID_LEN + 16];
};
struct vm_path vm_path(const char *id, const char *name);

/* isolation_vm.c: ends and removes everything of a machine that runs, or ran. */
int vm_destroy(struct engine *engine, const char *id, struct error *err) must_check;

/* --- vm_check.c ------------------------------------------------------------------------------------ */

/* Refuses what a machine cannot have, in words. */
int vm_check(const struct workload_config *config, struct error *err) must_check;
/* How many directories and files of the host it is to see. */
unsigned int vm_share_count(const struct workload_config *config);

/* --- vm_plan.c ------------------------------------------------------------------------------------- */

/* The plan's text is {"command":[arguments of berth],"boots":bool,"prepare":request,"run":request}. */
int vm_prepare(struct engine *engine, const struct workload *workload, struct plan *ret,
	       struct error *err) must_check;

/* The same for looking at its files while it does not run: "command", "boots" and "prepare", with nothing
 * in it but the root file system. */
int vm_prepare_files(struct engine *engine, const struct workload *workload, struct plan *ret,
		     struct error *err) must_check;

/* --- vm_devices.c ---------------------------------------------------------------------------------- */

/* Refuses what cannot be a disk. */
int vm_devices_check(const struct workload_config *config, struct error *err) must_check;
/* The VMM's arguments for them. */
void vm_devices_add(const struct workload_config *config, json_t *command);
/* Takes the host's devices out of the configuration; the request "run" names the machine's. */
void vm_devices_take(const struct workload_config *config, json_t *spec, json_t *run);

/* --- vm_disk.c ------------------------------------------------------------------------------------- */

/* Makes the workload's disk unless it is there: an empty ext4 file system of `size` bytes, or a copy of the
 * template's. Returns 1 if it is that, else 0. */
struct vm_disk_wish {
	int64_t size_bytes;
	bool with_journal;
	const char *template; /* the directory of a template, or NULL */
};
int vm_disk_make(struct engine *engine, const char *id, const struct vm_disk_wish *wish,
		 struct error *err) must_check;
/* Copies a template's disk to a path below `dirfd`. */
int vm_disk_copy_usual(const char *template, int dirfd, const char *path,
		       struct error *err) must_check;
/* The same at a path below `dirfd`, whatever is there. */
int vm_disk_copy(struct engine *engine, int dirfd, const char *path, int64_t size,
		 bool with_journal, struct error *err) must_check;
/* How it is mounted if it goes with its workload. */
#define VM_DISK_OPTIONS_REMOVED "noinit_itable,nobarrier"
#define VM_DISK_NAME                                                                               \
	"disk.ext4" /* in the workload's directory, and the template's: as it has it mounted */
#define VM_DISK_DEFAULT_BYTES ((int64_t)VM_DISK_DEFAULT_GIB << 30)

/* --- vm_cgroup.c ----------------------------------------------------------------------------------- */

/* What the plan says as "host": a control group with room for so much guest memory, so many vCPUs, and,
 * unless 0, so many billionths of a CPU. */
json_t *vm_cgroup_plan(const char *id, int64_t memory_bytes, unsigned int cpus, int64_t nano_cpus);
/* Makes it and goes into it, with what the caller starts from then on; noted in a file first. `plan` NULL:
 * nothing. */
int vm_cgroup_enter(int state_fd, const char *id, const json_t *plan, struct error *err) must_check;
/* Kills what is in it, and removes it; none is success. */
int vm_cgroup_remove(const char *state, const char *id, struct error *err) must_check;
#define VM_CGROUP_NAME "cgroup" /* in the state directory of the workload */

/* --- vm_agent.c ------------------------------------------------------------------------------------ */

/* Begins a connection to the agent of the machine whose socket is `path` below `state_fd`; `stream` NULL:
 * for requests. Returns a non-blocking descriptor, -ENOENT or -ECONNREFUSED: no machine. */
int vm_agent_dial(int state_fd, const char *path, const char *stream) must_check;
/* The other half: what the agent answers. 1: connected; 0: nothing yet; -EPIPE: the guest does not
 * listen; or the agent's reason. */
struct vm_dial {
	int fd;
	bool greeted; /* the VMM has said OK */
	char line[32];
	unsigned int line_len;
	struct frame_in in;
};
int vm_agent_answered(struct vm_dial *dial, struct error *err) must_check;

/* A connection for requests to a machine that runs; non-blocking. -ESRCH: it does not run. */
int vm_agent_connect(struct engine *engine, const char *id, struct error *err) must_check;
/* Has the machine run until the descriptor is closed, whether or not somebody pauses it. -1: it cannot,
 * as it does not run. */
int vm_wake(struct engine *engine, const char *id);
/* Stops the vCPUs (`what` "pause") or lets them go on ("resume"). */
int vm_set_paused(struct engine *engine, const char *id, const char *what,
		  struct error *err) must_check;
/* Blocking, for a machine that runs, paused or not: one request. `request` is consumed; *ret_answer may be NULL.
 * -ESRCH: it does not run; -ETIMEDOUT. */
int vm_agent_ask(struct engine *engine, const char *id, json_t *request, json_t **ret_answer,
		 struct error *err) must_check;

/* --- vm_attend.c, vm_start.c ------------------------------------------------------------------------ */

/* A terminal of ours that changes nothing of what goes through it. 0 or -errno. */
int vm_open_terminal(int *ret_master, int *ret_slave) must_check;
/* Has an attendant pass on a signal, also one that it could not take itself (SIGKILL, SIGSTOP). */
int vm_pass_signal(pid_t attendant, int signal) must_check;
/* Makes the attendant, as a child of the caller's parent, and waits until the process it stands for runs
 * or could not be started. With `plan` it starts the machine and the first process, else it is an exec of
 * `exec`. */
int vm_attend(struct engine *engine, const char *id, json_t *plan, json_t *exec, const int stdio[3],
	      bool terminal, struct isolation_child *ret, struct error *err) must_check;
