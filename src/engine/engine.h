/*
 * engine: one berth installation: its directories, its database, its images and its workloads.
 *
 *     <root>/berth.db               rows (base/db.h); the engine's tables are workload and event
 *     <root>/workloads/<id>/        upper/ work/ (what the workload wrote), logs, files bound into it
 *     <state>/<id>/                 lock, monitor.sock, run (the facts of the running process)
 *     <state>/oci/<id>/, <state>/layers/    the runtime's and the layers' own
 *
 * There is no daemon: every command opens the engine, does its work and goes. Several may run at
 * once; nothing global is held over slow work. Opening costs a few system calls: the database is
 * opened then, the image store on first use.
 *
 * Crash safety
 *   G1  <state>/<id>/ exists, with its lock held by a living process, from before the first to after
 *       the last trace of work on a workload. Who finds it with the lock free finds a crash.
 *   G2  a workload's row is written when it is complete, and deleted after everything else of it.
 *   G3  after a reboot the state directory is empty: the first command then compares everything.
 *   G4  opening the engine repairs what crashed before: it looks at the rows that claim to be active
 *       and at the names in <state>, and tries their locks; nothing else.
 *   G5  a workload whose monitor died is stopped: without the monitor nobody could collect its exit
 *       code or its output. Its processes are killed through its cgroup; its restart policy is not
 *       applied (the monitor's death is our failure, not the workload's).
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>

#include "base/db.h"
#include "base/error.h"
#include "base/own.h"

struct engine;
struct image_store; /* image/store.h */

struct engine_options {
	const char *root;  /* NULL: $BERTH_ROOT, /var/lib/berth, rootless $XDG_DATA_HOME/berth */
	const char *state; /* NULL: $BERTH_STATE, /run/berth, rootless $XDG_RUNTIME_DIR/berth */
	int64_t image_max_age_ns; /* what images may stay (image/store.h); 0: all */
	uint64_t image_max_bytes;
	bool drops_blobs;   /* layers are not kept compressed (image_store_set_keep_blobs) */
	const char *policy; /* which images may come (image/policy.h); NULL: the usual files */
};

/* Creates the directories (0700) if needed, opens the database, and repairs what a crash left (G4).
 * -EACCES with a hint when run without the rights. */
int engine_open(const struct engine_options *options, struct engine **ret,
		struct error *err) must_check;
void engine_close(struct engine *engine);
OWN_DEFINE(own_engine, struct engine *, engine_close);
#define own_engine __attribute__((cleanup(own_engine_release)))

/* Told when a command has to wait for something that is made once, and when that is there (after `took_ns`)
 * or cannot be made. */
enum engine_wait { ENGINE_WAIT_BEGIN, ENGINE_WAIT_END, ENGINE_WAIT_FAILED };
typedef void engine_wait_fn(enum engine_wait event, const char *what, int64_t took_ns);
void engine_on_wait(struct engine *engine, engine_wait_fn *fn);

/* Borrowed; valid until engine_close. */
struct db *engine_db(struct engine *engine);
int engine_root_fd(const struct engine *engine);
int engine_state_fd(const struct engine *engine);
const char *engine_root_path(const struct engine *engine);  /* absolute */
const char *engine_state_path(const struct engine *engine); /* absolute */
bool engine_rootless(const struct engine *engine);
/* Opened on first use. */
int engine_images(struct engine *engine, struct image_store **ret, struct error *err) must_check;

enum engine_check_flags {
	ENGINE_CHECK_REPAIR = 1,  /* remove what should not be there */
	ENGINE_CHECK_CONTENT = 2, /* read every blob and layer and compare its digest */
};
typedef void engine_problem_fn(const char *problem, bool repaired, void *data);
/* Compares the database, the directories, mounts, cgroups, processes and layer locks with each other,
 * and tells each difference in words. Returns the number of problems that remain. */
int engine_check(struct engine *engine, enum engine_check_flags flags, engine_problem_fn *fn,
		 void *data, struct error *err) must_check;

/* What `berth info` prints: an object with docker's names where it has one. */
int engine_info(struct engine *engine, json_t **ret, struct error *err) must_check;
