/*
 * workload: what the user starts, and every verb for it, for both isolations.
 *
 * A workload is named by `ref`: its name, its id, or a beginning of the id that no other has.
 * -ENOENT: "no such workload"; -ENOTUNIQ: several begin so; -EBUSY: it is in the wrong state for the
 * verb, or another command is working on it; texts as docker's where programs match on them.
 *
 * Life: created -> running <-> paused -> exited -> (running ...) -> removed.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/own.h"
#include "base/proc_info.h"
#include "engine/config.h"
#include "engine/engine.h"

enum {
	WORKLOAD_ID_LEN = 64,
	WORKLOAD_SHORT_ID_LEN = 12,
};

/* --- looking ------------------------------------------------------------------------------------- */

enum workload_status {
	WORKLOAD_CREATED,
	WORKLOAD_RUNNING,
	WORKLOAD_PAUSED,
	WORKLOAD_RESTARTING, /* waiting to be started again by its policy */
	WORKLOAD_EXITED,
	WORKLOAD_REMOVING,
	WORKLOAD_DEAD, /* could not be removed completely */
};
const char *workload_status_name(enum workload_status status); /* "running", as docker has it */

struct workload {
	char id[WORKLOAD_ID_LEN + 1];
	char *name;
	enum workload_status status;
	int64_t created_ns, started_ns, finished_ns; /* 0: not yet */
	pid_t pid;                                   /* of its first process, 0 if none */
	pid_t monitor_pid;
	int exit_code;
	bool oom_killed;
	int restart_count;
	char *error; /* why it could not be started or was ended by us; NULL */
	/* What it was made from. config.image and .image_id name the image. */
	struct workload_config config;
	char **argv; /* the resolved command line: entrypoint and command */
	/* The size of the terminal that it starts on; 0: unknown. Known only to who starts it. */
	unsigned int rows, columns;
};
void workload_release(struct workload *workload);
#define own_workload __attribute__((cleanup(workload_release)))

int workload_find(struct engine *engine, const char *ref, struct workload *ret,
		  struct error *err) must_check;

/* Filters as docker's, "key=value": id, name, label, status, exited, ancestor, before, since, volume,
 * network, isolation. Several of one key: any of them (label: all of them). */
struct workload_filter {
	char **filters;
	bool all; /* those that do not run, too */
	int last; /* > 0: only the newest N, of any state */
};
typedef int workload_list_fn(const struct workload *workload, void *data, struct error *err);
/* Calls `fn` for each, newest first, until it returns nonzero, which is returned. */
int workload_list(struct engine *engine, const struct workload_filter *filter, workload_list_fn *fn,
		  void *data, struct error *err) must_check;
/* "Up 3 minutes (Paused)", "Exited (0) 2 hours ago": the STATUS column. The caller frees it. */
char *workload_status_text(const struct workload *workload);

/* docker's document for `inspect`, an object. */
int workload_inspect(struct engine *engine, const char *ref, json_t **ret,
		     struct error *err) must_check;

/* What happened to a workload: "create", "start", "die", "rename", "destroy". */
struct workload_event {
	int64_t time_ns;
	char *action, *id, *name, *image;
	char *detail; /* an object of texts as JSON ("exitCode"), or NULL */
};
typedef int workload_event_fn(const struct workload_event *event, void *data, struct error *err);
/* Calls `fn` for each event between the two times, the oldest first, as it comes, until then, or until it
 * returns nonzero, which is returned. The newest ten thousand are kept. */
int workload_watch(struct engine *engine, int64_t since_ns, int64_t until_ns, workload_event_fn *fn,
		   void *data, struct error *err) must_check;

/* --- streams ------------------------------------------------------------------------------------- */

enum workload_attach_flags {
	WORKLOAD_ATTACH_STDIN = 1,
	WORKLOAD_ATTACH_STDOUT = 2,
	WORKLOAD_ATTACH_STDERR = 4,
	WORKLOAD_ATTACH_OUTPUT = 6,
	WORKLOAD_ATTACH_NO_SIGNALS = 8, /* --sig-proxy=false */
};

/* How the caller's terminal or pipes are connected (run, start -a, attach, exec). */
struct workload_stdio {
	enum workload_attach_flags flags;
	int fds[3];              /* the caller's stdin, stdout, stderr */
	const char *detach_keys; /* "ctrl-p,ctrl-q" if NULL; "" for none */
};
#define WORKLOAD_STDIO_DEFAULTS                                                                    \
	{                                                                                          \
		.flags = WORKLOAD_ATTACH_OUTPUT, .fds = { 0, 1, 2 }                                \
	}

/* --- life ---------------------------------------------------------------------------------------- */

/* Makes a workload that does not run. `config->image` must be here already (image_get). `config` stays
 * the caller's; what was not given is filled in from the image. The id is written to `ret_id`. -EEXIST: the name is in use. */
int workload_create(struct engine *engine, struct workload_config *config,
		    char ret_id[static WORKLOAD_ID_LEN + 1], struct error *err) must_check;

/* Told the id when the workload has been made and its process runs (`-d` prints it, --cidfile). */
typedef int workload_started_fn(const char *id, void *data, struct error *err);
struct workload_run {
	bool detach;
	struct workload_stdio stdio;  /* without detach */
	workload_started_fn *started; /* may be NULL */
	void *data;
};
/* create, start, and, unless detached, attach and wait. Returns the exit code 0-255 of the workload,
 * or 0 if detached (also by the detach keys). Negative: it could not be started, with exit_status set
 * in err to 126 or 127 where that applies, and, with WORKLOAD_AUTO_REMOVE, no trace left. */
int workload_run(struct engine *engine, struct workload_config *config,
		 const struct workload_run *options, struct error *err) must_check;

/* Starts one that does not run. `stdio` NULL: returns 0 when it runs. Else attaches, as
 * workload_run, and returns the exit code. */
int workload_start(struct engine *engine, const char *ref, const struct workload_stdio *stdio,
		   struct error *err) must_check;

/* Sends the stop signal and, `timeout_s` later, SIGKILL. `signal` 0 and `timeout_s` < 0: the
 * workload's own; INT_MAX: never kill. One that does not run is success. Returns when it has
 * ended. A restart policy is not applied. */
int workload_stop(struct engine *engine, const char *ref, int signal, int timeout_s,
		  struct error *err) must_check;
int workload_restart(struct engine *engine, const char *ref, int signal, int timeout_s,
		     struct error *err) must_check;
/* Sends any signal. After SIGKILL it waits for the end, ten seconds at most; after others it does not. */
int workload_kill(struct engine *engine, const char *ref, int signal, struct error *err) must_check;
int workload_pause(struct engine *engine, const char *ref, struct error *err) must_check;
int workload_unpause(struct engine *engine, const char *ref, struct error *err) must_check;

enum workload_remove_flags {
	WORKLOAD_REMOVE_FORCE = 1,   /* kill it first */
	WORKLOAD_REMOVE_VOLUMES = 2, /* its anonymous volumes, too */
};
int workload_remove(struct engine *engine, const char *ref, enum workload_remove_flags flags,
		    struct error *err) must_check;

enum workload_wait { WORKLOAD_WAIT_NOT_RUNNING, WORKLOAD_WAIT_NEXT_EXIT, WORKLOAD_WAIT_REMOVED };
/* Waits until the condition holds; returns the exit code. */
int workload_wait(struct engine *engine, const char *ref, enum workload_wait until,
		  struct error *err) must_check;
int workload_rename(struct engine *engine, const char *ref, const char *name,
		    struct error *err) must_check;

/* --- beside it ----------------------------------------------------------------------------------- */

struct workload_exec {
	char **argv;
	char **env;              /* added to the workload's */
	const char *user;        /* NULL: the workload's */
	const char *working_dir; /* NULL: the workload's */
	bool tty, detach, privileged;
	struct workload_stdio stdio;
};
/* Runs a further process in a running workload. Returns its exit code, 0 if detached. */
int workload_exec(struct engine *engine, const char *ref, const struct workload_exec *options,
		  struct error *err) must_check;

/* Connects to the streams of a running workload until it ends: returns its exit code, or 0 if
 * detached by the keys. */
int workload_attach(struct engine *engine, const char *ref, const struct workload_stdio *stdio,
		    struct error *err) must_check;

enum workload_logs_flags {
	WORKLOAD_LOGS_FOLLOW = 1,
	WORKLOAD_LOGS_TIMESTAMPS = 2,
	WORKLOAD_LOGS_STDOUT = 4,
	WORKLOAD_LOGS_STDERR = 8,
};
struct workload_logs {
	enum workload_logs_flags flags;
	int64_t tail;               /* lines; negative: all */
	int64_t since_ns, until_ns; /* 0: without bound */
};
/* Receives pieces of output. Nonzero ends the reading and is returned. */
typedef int workload_output_fn(int stream, const char *data, size_t len, void *data_ptr,
			       struct error *err);
int workload_read_logs(struct engine *engine, const char *ref, const struct workload_logs *options,
		       workload_output_fn *fn, void *data, struct error *err) must_check;

/* One moment's use of resources. */
struct workload_stats {
	int64_t time_ns;
	uint64_t cpu_total_ns, cpu_system_ns; /* of the workload */
	unsigned int cpus_online;
	uint64_t memory_bytes,
		memory_limit_bytes; /* without reclaimable file pages; UINT64_MAX: none */
	uint64_t network_rx_bytes, network_tx_bytes;
	uint64_t block_read_bytes, block_write_bytes;
	uint64_t pids, pids_limit; /* UINT64_MAX: none */
	uint64_t oom_kills;
	/* What the host spends on it; of a virtual machine that is more than the above. */
	uint64_t host_cpu_ns, host_memory_bytes;
};
int workload_get_stats(struct engine *engine, const char *ref, struct workload_stats *ret,
		       struct error *err) must_check;

/* A process of the workload, as the host sees it; of one in a virtual machine, as the guest does. */
typedef int workload_process_fn(const struct proc_info *process, void *data, struct error *err);
int workload_top(struct engine *engine, const char *ref, workload_process_fn *fn, void *data,
		 struct error *err) must_check;

/* --- files --------------------------------------------------------------------------------------- */

/* Receives bytes. 0, or -errno with a reason, which ends the work. */
typedef int workload_bytes_fn(const void *data, size_t len, void *context, struct error *err);
/* Pushes all bytes of a tar into `out`. */
typedef int workload_produce_fn(workload_bytes_fn *out, void *out_context, void *context,
				struct error *err);

/* Writes everything that the workload has as a tar, but for what is mounted in it. */
int workload_export(struct engine *engine, const char *ref, workload_bytes_fn *out, void *context,
		    struct error *err) must_check;

enum workload_change { WORKLOAD_ADDED = 'A', WORKLOAD_CHANGED = 'C', WORKLOAD_DELETED = 'D' };
/* A change of the file system against the image, with an absolute path. */
typedef int workload_change_fn(enum workload_change change, const char *path, void *data,
			       struct error *err);
int workload_diff(struct engine *engine, const char *ref, workload_change_fn *fn, void *data,
		  struct error *err) must_check;

/* Bytes of the files that the workload has written, each file once, of everything that is kept for it
 * (its logs, too), and of its image's files (0: it has none). */
struct workload_usage {
	uint64_t written_bytes, total_bytes, image_bytes;
};
int workload_get_usage(struct engine *engine, const struct workload *workload,
		       struct workload_usage *ret, struct error *err) must_check;

/* The configuration that an image made of the workload gets: its image's `config` object with what the
 * workload was given. The caller owns it. */
int workload_image_config(struct engine *engine, const char *ref, json_t **ret,
			  struct error *err) must_check;
enum workload_commit_flags {
	WORKLOAD_COMMIT_NO_PAUSE = 1, /* do not freeze it while its files are read */
};
struct workload_commit {
	const char *name;             /* of the image; NULL: none */
	const char *author, *comment; /* or NULL */
	const json_t *config;         /* from workload_image_config, perhaps changed */
	enum workload_commit_flags flags;
};
/* Makes an image: the workload's image and one layer with what the workload wrote. Writes its id. */
int workload_commit(struct engine *engine, const char *ref, const struct workload_commit *options,
		    struct digest *ret_id, struct error *err) must_check;

/* A path in a workload. */
struct workload_path {
	uint32_t mode; /* as st_mode */
	uint64_t size_bytes;
	int64_t mtime_ns;
	char *target; /* of a link; NULL */
};
void workload_path_release(struct workload_path *path);
#define own_workload_path __attribute__((cleanup(workload_path_release)))
/* What is at an absolute path; a link at its end is not followed. -ENOENT. */
int workload_stat_path(struct engine *engine, const char *ref, const char *path,
		       struct workload_path *ret, struct error *err) must_check;
/* The path as a tar, in which it is called `as` ("." for the contents of a directory). */
int workload_read_path(struct engine *engine, const char *ref, const char *path, const char *as,
		       workload_bytes_fn *out, void *context, struct error *err) must_check;
enum workload_put_flags {
	WORKLOAD_PUT_ARCHIVE = 1, /* keep owners, attributes and set-id bits; else all is root's */
};
/* Puts a tar's entries into a directory that is there. */
int workload_write_path(struct engine *engine, const char *ref, const char *dir,
			enum workload_put_flags flags, workload_produce_fn *produce, void *context,
			struct error *err) must_check;

/* --- internal ------------------------------------------------------------------------------------ */

/* `berth monitor <id>`: the process that outlives the command (engine/monitor.h). Returns the exit
 * code of the process. Hidden command. */
int workload_monitor_main(int argc, char **argv);
/* `berth template-builder ...`: the process that builds a template (engine/vm_template_builder.c). */
int vm_template_builder_main(int argc, char **argv);
