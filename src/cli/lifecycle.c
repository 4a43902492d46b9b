/* lifecycle: the verbs that take workloads from one state to another. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/progress.h"
#include "cli/listing.h"
#include "cli/prune.h"
#include "cli/streams.h"

#define SIGNAL_HELP "The signal: TERM, SIGTERM, 15"

/* --signal as a number; 0 if it is not given. */
static int read_signal(const struct args *args, struct error *err)
{
	const char *text = args_string(args, "signal");
	int rc = text ? proc_parse_signal(text) : 0;

	return rc < 0 ? args_refuse(args, err, "unknown signal \"%s\"", text) : rc;
}

/* --time as seconds for the engine: -1 not given, INT_MAX for ever. */
static int read_time(const struct args *args, int *ret, struct error *err)
{
	const int64_t time = args_int(args, "time");

	if (!args_given(args, "time")) {
		*ret = -1;
		return 0;
	}
	if (time < -1 || time >= INT_MAX)
		return args_refuse(args, err,
				   "invalid value %lld for --time: expected a number of "
				   "seconds, or -1 to wait for ever",
				   (long long)time);
	*ret = time < 0 ? INT_MAX : (int)time;
	return 0;
}

/* --- start --------------------------------------------------------------------------------------- */

static const struct option_spec start_options[] = {
	{"attach", 'a', OPTION_FLAG, 0, "", "", "Connect to its output, and pass signals on"},
	{"detach-keys", 0, OPTION_STRING, 0, "KEYS", "",
	 "Keys that leave the workload running (default ctrl-p,ctrl-q)"},
	{"interactive", 'i', OPTION_FLAG, 0, "", "", "Connect to its input, too"},
	{"sig-proxy", 0, OPTION_FLAG, 0, "", "true", "Pass signals on to the workload"},
};

static int start_attached(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_workload struct workload workload = {0};
	struct workload_stdio stdio = WORKLOAD_STDIO_DEFAULTS;
	int rc;

	if (args_count(args) != 1)
		return args_refuse(args, err,
				   "only one workload can be started with --attach or "
				   "--interactive");
	if (args_flag(args, "interactive"))
		stdio.flags |= WORKLOAD_ATTACH_STDIN;
	if (!args_flag(args, "sig-proxy"))
		stdio.flags |= WORKLOAD_ATTACH_NO_SIGNALS;
	stdio.detach_keys = args_string(args, "detach-keys");
	rc = open_engine(args, &engine, err);
	if (rc >= 0)
		engine_on_wait(engine, progress_wait);
	if (rc >= 0)
		rc = workload_find(engine, args_at(args, 0), &workload, err);
	if (rc >= 0)
		rc = streams_check_terminal(&stdio, (workload.config.flags & WORKLOAD_TTY) != 0,
					    err);
	if (rc >= 0)
		rc = workload_start(engine, args_at(args, 0), &stdio, err);
	return rc;
}

static int start_one(struct engine *engine, const char *name, const struct args *args,
		     struct error *err)
{
	(void)args;
	return workload_start(engine, name, NULL, err);
}

static int run_start(const struct args *args, struct error *err)
{
	if (args_flag(args, "attach") || args_flag(args, "interactive"))
		return start_attached(args, err);
	return for_each_argument(args, start_one, true, err);
}

const struct command start_command = {
	.arguments = "CONTAINER...",
	.summary = "Start containers that do not run",
	.options = {OPTION_SET(start_options)},
	.run = run_start,
};

/* --- stop, restart, kill ------------------------------------------------------------------------- */

static const struct option_spec running_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "", "All that run"},
};

static const struct option_spec stop_options[] = {
	{"signal", 's', OPTION_STRING, 0, "SIGNAL", "", "The signal that asks it to stop"},
	{"time", 't', OPTION_INT, 0, "SECONDS", "", "How long to wait before killing; -1 for ever"},
};

typedef int stop_fn(struct engine *engine, const char *ref, int signal, int timeout_s,
		    struct error *err);

static int stop_with(stop_fn *fn, struct engine *engine, const char *name, const struct args *args,
		     struct error *err)
{
	int timeout_s, signal = read_signal(args, err);

	if (signal < 0)
		return signal;
	if (read_time(args, &timeout_s, err) < 0)
		return -EINVAL;
	return fn(engine, name, signal, timeout_s, err);
}

static int stop_one(struct engine *engine, const char *name, const struct args *args,
		    struct error *err)
{
	return stop_with(workload_stop, engine, name, args, err);
}

static int restart_one(struct engine *engine, const char *name, const struct args *args,
		       struct error *err)
{
	return stop_with(workload_restart, engine, name, args, err);
}

static int run_stop(const struct args *args, struct error *err)
{
	return for_each_workload(args, true, stop_one, true, err);
}

static int run_restart(const struct args *args, struct error *err)
{
	return for_each_workload(args, true, restart_one, true, err);
}

const struct command stop_command = {
	.arguments = "CONTAINER...",
	.summary = "Stop running containers",
	.description =
		"Sends the stop signal (SIGTERM, if neither the image nor the container names "
		"another), and kills the container if it still runs after ten seconds or the "
		"time given.",
	.options = {OPTION_SET(running_options), OPTION_SET(stop_options)},
	.instead = "all",
	.run = run_stop,
};

const struct command restart_command = {
	.arguments = "CONTAINER...",
	.summary = "Stop containers and start them again",
	.options = {OPTION_SET(running_options), OPTION_SET(stop_options)},
	.instead = "all",
	.run = run_restart,
};

static const struct option_spec kill_options[] = {
	{"signal", 's', OPTION_STRING, 0, "SIGNAL", "KILL", SIGNAL_HELP},
};

static int kill_one(struct engine *engine, const char *name, const struct args *args,
		    struct error *err)
{
	int signal = read_signal(args, err);

	return signal < 0 ? signal : workload_kill(engine, name, signal, err);
}

static int run_kill(const struct args *args, struct error *err)
{
	return for_each_workload(args, true, kill_one, true, err);
}

const struct command kill_command = {
	.arguments = "CONTAINER...",
	.summary = "Send a signal to running containers",
	.options = {OPTION_SET(running_options), OPTION_SET(kill_options)},
	.instead = "all",
	.run = run_kill,
};

/* --- rm ------------------------------------------------------------------------------------------ */

static const struct option_spec rm_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "", "All that there are"},
	{"force", 'f', OPTION_FLAG, 0, "", "",
	 "Kill what runs, and do not mind what does not exist"},
	{"link", 'l', OPTION_FLAG, OPTION_REFUSED, "", "", "there are no links"},
	{"volumes", 'v', OPTION_FLAG, 0, "", "", "Remove its anonymous volumes, too"},
};

static int rm_one(struct engine *engine, const char *name, const struct args *args,
		  struct error *err)
{
	unsigned int flags = 0;
	int rc;

	if (args_flag(args, "force"))
		flags |= WORKLOAD_REMOVE_FORCE;
	if (args_flag(args, "volumes"))
		flags |= WORKLOAD_REMOVE_VOLUMES;
	rc = workload_remove(engine, name, flags, err);
	if (rc >= 0) {
		puts(name);
	} else if (rc == -ENOENT && (flags & WORKLOAD_REMOVE_FORCE)) {
		/* Said, as docker does, but no failure: it is gone, as was wished. */
		log_failure(err);
		error_clear(err);
		rc = 0;
	}
	return rc;
}

static int run_rm(const struct args *args, struct error *err)
{
	return for_each_workload(args, false, rm_one, false, err);
}

const struct command rm_command = {
	.arguments = "CONTAINER...",
	.summary = "Remove containers and what they wrote",
	.options = {OPTION_SET(rm_options)},
	.instead = "all",
	.run = run_rm,
};

/* --- pause, unpause, wait, rename ---------------------------------------------------------------- */

static int pause_one(struct engine *engine, const char *name, const struct args *args,
		     struct error *err)
{
	(void)args;
	return workload_pause(engine, name, err);
}

static int unpause_one(struct engine *engine, const char *name, const struct args *args,
		       struct error *err)
{
	(void)args;
	return workload_unpause(engine, name, err);
}

static int run_pause(const struct args *args, struct error *err)
{
	return for_each_argument(args, pause_one, true, err);
}

static int run_unpause(const struct args *args, struct error *err)
{
	return for_each_argument(args, unpause_one, true, err);
}

const struct command pause_command = {
	.arguments = "CONTAINER...",
	.summary = "Freeze all processes of containers",
	.run = run_pause,
};

const struct command unpause_command = {
	.arguments = "CONTAINER...",
	.summary = "Let frozen containers go on",
	.run = run_unpause,
};

static const struct option_spec wait_options[] = {
	{"condition", 0, OPTION_ENUM, 0, "not-running|next-exit|removed", "not-running",
	 "What to wait for"},
};

static int wait_one(struct engine *engine, const char *name, const struct args *args,
		    struct error *err)
{
	const char *condition = args_string(args, "condition");
	enum workload_wait until = WORKLOAD_WAIT_NOT_RUNNING;
	int rc;

	if (strcmp(condition, "next-exit") == 0)
		until = WORKLOAD_WAIT_NEXT_EXIT;
	else if (strcmp(condition, "removed") == 0)
		until = WORKLOAD_WAIT_REMOVED;
	rc = workload_wait(engine, name, until, err);
	if (rc < 0)
		return rc;
	printf("%d\n", rc);
	fflush(stdout);
	return 0;
}

static int run_wait(const struct args *args, struct error *err)
{
	return for_each_argument(args, wait_one, false, err);
}

const struct command wait_command = {
	.arguments = "CONTAINER...",
	.summary = "Wait for containers to end and print their exit codes",
	.options = {OPTION_SET(wait_options)},
	.run = run_wait,
};

static int run_rename(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	int rc = open_engine(args, &engine, err);

	return rc < 0 ? rc : workload_rename(engine, args_at(args, 0), args_at(args, 1), err);
}

const struct command rename_command = {
	.arguments = "CONTAINER NAME",
	.summary = "Give a container another name",
	.run = run_rename,
};

/* --- container prune ----------------------------------------------------------------------------- */

static const struct option_spec prune_options[] = {
	{"filter", 0, OPTION_LIST, 0, "KEY=VALUE", "", "Only some: until=TIME, label=NAME[=VALUE]"},
	{"force", 'f', OPTION_FLAG, 0, "", "", "Do not ask"},
};

/* The ids of the workloads that do not run, collected before the first is removed. */
static int collect_id(const struct workload *workload, void *data, struct error *err)
{
	(void)err;
	strv_push(data, workload->id);
	return 0;
}

int prune_workloads(struct engine *engine, char *const *filters, struct error *err)
{
	static const char *const states[] = {"status=created", "status=exited", "status=dead"};
	struct workload_filter filter = {.all = true};
	own_strv char **all = strv_copy(filters);
	own_strv char **ids = NULL;
	bool failed = false;
	int rc;

	for (size_t i = 0; i < array_size(states); i++)
		strv_push(&all, states[i]);
	filter.filters = all;
	rc = workload_list(engine, &filter, collect_id, &ids, err);
	if (rc < 0)
		return rc;
	if (ids != NULL)
		puts("Deleted Containers:");
	for (char **id = ids; id != NULL && *id != NULL; id++) {
		struct error one = {0};

		rc = workload_remove(engine, *id, 0, &one);
		if (rc >= 0) {
			puts(*id);
		} else if (rc != -ENOENT && rc != -EBUSY) {
			/* Others may have removed or started it meanwhile. */
			failed = true;
			log_failure(&one);
		}
	}
	fflush(stdout);
	if (failed)
		err->code = -EIO;
	return failed ? -EIO : 0;
}

static int run_prune(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	int rc;

	if (!args_flag(args, "force") &&
	    !confirm("This removes all containers that do not run. Go on?"))
		return hint(err, refuse(err, -ECANCELED, "nothing was removed"),
			    "confirm with y, or give --force");
	rc = open_engine(args, &engine, err);
	return rc < 0 ? rc : prune_workloads(engine, args_list(args, "filter"), err);
}

const struct command container_prune_command = {
	.summary = "Remove all containers that do not run",
	.options = {OPTION_SET(prune_options)},
	.run = run_prune,
};
