/*
 * isolation: the wall around a workload, as one table of functions with an implementation for each
 * kind: isolation_container.c, isolation_vm.c, and isolation_machine.c.
 *
 * A start has two halves, so that the slow first one can run beside the start of the monitor:
 *   prepare   in the command (or, for a restart, in a child of the monitor): everything that can be
 *             done before there is a process. Fills a struct plan: one text and a few descriptors,
 *             which can be sent to another process.
 *   start     in a short-lived child of the monitor: makes the process, as a child of the monitor.
 * All other functions may be called from any process that holds nothing but the engine and the id.
 *
 * Invariants
 *   W1  what prepare makes is freed by closing the descriptors, and undone by `destroy`.
 *   W2  destroy removes whatever any interrupted call can have left, and is success if that is nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/own.h"
#include "engine/workload.h"

enum {
	PLAN_LAYERS_MAX = 500, /* overlayfs stacks no more */
	PLAN_TEXT_MAX = 4 << 20,
};

/* Something in use that is shared with other workloads (a layer): held by an open descriptor. */
struct plan_lock {
	int fd;
	char name[DIGEST_TEXT_MAX];
};

enum plan_flags {
	PLAN_REAPER = 1, /* --init */
};

/* Everything that `start` needs. */
struct plan {
	uint32_t flags;          /* enum plan_flags */
	char *text;              /* JSON; for a container its config.json */
	int root_fd;             /* a detached mount, or -1 */
	struct plan_lock *locks; /* held by the monitor while the workload lives */
	size_t lock_count;
};
#define PLAN_EMPTY ((struct plan){.root_fd = -1})
void plan_release(struct plan *plan);
#define own_plan __attribute__((cleanup(plan_release)))

/* A process that was made; the descriptors are the receiver's. */
struct isolation_child {
	pid_t pid;
	int console_fd; /* the terminal's master, or -1 */
};

/* In a process's JSON: {"name":"web","groups":["1000"]}, to be looked up behind the wall. */
#define ISOLATION_USER "berth.user"

/* A further process (exec). */
struct isolation_exec {
	const char *text; /* JSON of the form of config.json's process */
	int stdio[3];     /* without a terminal */
	bool tty;
};

struct isolation {
	const char *name;
	enum workload_isolation kind;
	/* Why nothing can be done inside of it: then exec, top, and what is about files is NULL. NULL: it
	 * can. */
	const char *no_inside;

	/* Refuses what this wall cannot do, in words, when the workload is created. */
	int (*check)(const struct workload_config *config, struct error *err);
	int (*prepare)(struct engine *engine, const struct workload *workload, struct plan *ret,
		       struct error *err);
	/* `stdio`: what becomes 0, 1, 2 of the process, unless it has a terminal. */
	int (*start)(struct engine *engine, const char *id, const struct plan *plan,
		     const int stdio[3], struct isolation_child *ret, struct error *err);
	int (*exec)(struct engine *engine, const char *id, const struct isolation_exec *options,
		    struct isolation_child *ret, struct error *err);
	/* From the monitor, to the process that start has made. NULL: an ordinary signal. */
	int (*pass_signal)(pid_t pid, int signal);
	/* To the first process; SIGKILL to all of them. */
	int (*signal)(struct engine *engine, const char *id, int signal, struct error *err);
	int (*pause)(struct engine *engine, const char *id, struct error *err);
	int (*resume)(struct engine *engine, const char *id, struct error *err);
	int (*stats)(struct engine *engine, const char *id, struct workload_stats *ret,
		     struct error *err);
	/* Calls `fn` for each process. */
	int (*top)(struct engine *engine, const char *id, workload_process_fn *fn, void *data,
		   struct error *err);
	/* Opens the root directory of a workload for reading what is in it (user names, cp): of a running
	 * one as it sees it itself. Paths in it are resolved with base/beneath.h only. NULL: the host
	 * cannot; names of users then go to `exec` in ISOLATION_USER. */
	int (*open_root)(struct engine *engine, const struct workload *workload, struct error *err);
	/* Files, as tars (tar/pack.h says in which form). For these the workload either runs, or the
	 * caller holds its lock. What is read should not change meanwhile: see hold in files.c. */

	/* What it wrote, as an image's layer. `flags`: enum pack_flags. */
	int (*read_changes)(struct engine *engine, const struct workload *workload,
			    unsigned int flags, workload_bytes_fn *out, void *context,
			    struct error *err);
	/* Everything it has, but for what is mounted in it. */
	int (*read_tree)(struct engine *engine, const struct workload *workload,
			 workload_bytes_fn *out, void *context, struct error *err);
	/* One path, absolute, mounts included. A link at its end is not followed. -ENOENT. */
	int (*stat_path)(struct engine *engine, const struct workload *workload, const char *path,
			 struct workload_path *ret, struct error *err);
	/* The path with all that is in it, named `as`; "." is for the contents of a directory. */
	int (*read_path)(struct engine *engine, const struct workload *workload, const char *path,
			 const char *as, workload_bytes_fn *out, void *context, struct error *err);
	/* Puts what `produce` gives, a tar, into a directory that is there. `flags`: enum
	 * workload_put_flags. */
	int (*write_path)(struct engine *engine, const struct workload *workload, const char *dir,
			  unsigned int flags, workload_produce_fn *produce, void *context,
			  struct error *err);

	/* Lets go of what the plan had in use; closes the descriptors. After destroy. */
	int (*unlock)(struct engine *engine, struct plan_lock *locks, size_t count,
		      struct error *err);
	/* Why a workload ended, in words, before `destroy`: the caller frees it; NULL if its exit code
	 * says all. The function may be NULL. */
	char *(*explain)(struct engine *engine, const char *id);
	/* Ends and removes everything but what the workload wrote and what it had in use. */
	int (*destroy)(struct engine *engine, const char *id, struct error *err);
};

extern const struct isolation isolation_container, isolation_vm, isolation_machine;
/* Never NULL. */
const struct isolation *isolation_of(enum workload_isolation kind);
/* Refuses with no_inside, unless that is NULL. */
int isolation_check_inside(const struct workload *workload, struct error *err) must_check;
