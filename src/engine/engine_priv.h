/*
 * engine_priv: what the files of the engine share: the engine itself, the parts of a workload's life
 * that several verbs use.
 */
#pragma once

#include "engine/engine.h"
#include "engine/isolation.h"
#include "engine/workload.h"

struct engine {
	char *root, *state; /* absolute paths */
	int root_fd, state_fd;
	bool rootless;
	struct db *db;
	struct image_store *images; /* NULL until engine_images */
	int64_t image_max_age_ns;
	uint64_t image_max_bytes;
	bool drops_blobs;
	char *policy;            /* path; NULL: the usual files */
	engine_wait_fn *on_wait; /* NULL: nobody wants to know */
};

/* The state of a workload as its row has it. What a running one does beyond that is in its run file
 * (live.h), so that a start and an end cost one transaction each. */
enum record_status {
	RECORD_CREATED,
	RECORD_ACTIVE, /* a monitor lives, or died without saying so */
	RECORD_EXITED,
	RECORD_REMOVING,
};

/* Like engine_open, but without looking for crashes: for processes that work for a command. */
int engine_open_plain(const char *root, const char *state, struct engine **ret,
		      struct error *err) must_check;

/* Without looking, too; with `enter` the process may still be an ordinary user's. */
int engine_open_at(const char *root, const char *state, bool enter, struct engine **ret,
		   struct error *err) must_check;

/* Only the paths, no descriptor and no database: enough for isolation->start and ->exec. */
void engine_init_paths(struct engine *engine, const char *root, const char *state);

/* "workloads/<id>" */
struct workload_dir {
	char path[WORKLOAD_ID_LEN + 16];
};
struct workload_dir workload_dir(const char *id);

/* Repairs what crashed (G4). */
int engine_recover(struct engine *engine, struct error *err) must_check;
/* Unmounts layers that only the dead used. */
int engine_recover_layers(struct engine *engine, struct error *err) must_check;
/* The same for one workload whose lock the caller holds; the lock is released. */
int engine_recover_one(struct engine *engine, const char *id, int *lock_fd,
		       struct error *err) must_check;

/* How a workload ended. */
struct workload_end {
	int exit_code;
	bool oom_killed;
	bool failed; /* it could not be started */
	int64_t started_ns, finished_ns;
	int restart_count;
	const char *error; /* or NULL */
};
/* After the process has ended: removes everything but what it wrote, or, with `auto_remove`, that too,
 * and writes the row. The layers in use and the lock stay the caller's. */
int workload_finish(struct engine *engine, const char *id, enum workload_isolation isolation,
		    bool auto_remove, const struct workload_end *end, struct error *err) must_check;
/* Removes the directory and the row of a workload that does not run; `end` as in record_delete. */
int workload_erase(struct engine *engine, const char *id, const struct workload_end *end,
		   struct error *err) must_check;
