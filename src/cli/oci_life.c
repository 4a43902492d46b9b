/* oci_life: `berth oci` commands about one existing container, and lists. */
#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/oci_priv.h"

typedef int act_fn(const struct args *args, const char *root, const char *id, struct error *err);

static int act(const struct args *args, act_fn *fn, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = fn(args, root, args_at(args, 0), err);
	return oci_end(args, rc, err);
}

static void print_json(const json_t *json)
{
	own_mem char *text = json_dumps(json, JSON_INDENT(2));

	puts(text);
}

/* --- start, kill, delete, pause, resume --------------------------------------------------------- */

/* A manager that started us waits for the container to be ready: so do we. */
static int start_and_notify(const char *root, const char *id, struct error *err)
{
	own_fd int sock = oci_notify_open(root, id, err), pidfd = -1;
	own_oci_state struct oci_state state = {0};
	int rc;

	if (sock == -ENOENT) {
		error_clear(err);
		return oci_start(root, id, err);
	}
	if (sock < 0)
		return sock;
	rc = oci_start(root, id, err);
	if (rc == 0)
		rc = oci_get_state(root, id, &state, err);
	pidfd = rc == 0 && state.pid > 0 ? proc_open(state.pid) : -1;
	if (pidfd >= 0)
		oci_notify_wait(sock, oci_notify_socket(), state.pid, pidfd);
	return rc;
}

static int do_start(const struct args *args, const char *root, const char *id, struct error *err)
{
	(void)args;
	return oci_notify_socket() ? start_and_notify(root, id, err) : oci_start(root, id, err);
}

static int run_start(const struct args *args, struct error *err)
{
	return act(args, do_start, err);
}

const struct command oci_start_command = {
	.arguments = "CONTAINER",
	.summary = "Run the process of a created container",
	.run = run_start,
};

static const struct option_spec kill_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "", "Every process of the container"},
};

static int do_kill(const struct args *args, const char *root, const char *id, struct error *err)
{
	const char *name = args_at(args, 1) ? args_at(args, 1) : "TERM";
	/* 0 asks only whether a signal could be sent. */
	int signal = str_eq(name, "0") ? 0 : proc_parse_signal(name);

	if (signal < 0)
		return args_refuse(args, err, "unknown signal \"%s\"", name);
	return oci_kill(root, id, signal, args_flag(args, "all") ? OCI_KILL_ALL : OCI_KILL_ONE,
			err);
}

static int run_kill(const struct args *args, struct error *err)
{
	return act(args, do_kill, err);
}

const struct command oci_kill_command = {
	.arguments = "CONTAINER [SIGNAL]",
	.summary = "Send a signal to a container",
	.options = {OPTION_SET(kill_options)},
	.run = run_kill,
};

static const struct option_spec delete_options[] = {
	{"force", 'f', OPTION_FLAG, 0, "", "", "Kill it first if it runs; accept that it is gone"},
	{"regex", 'r', OPTION_FLAG, 0, "", "",
	 "All containers whose id the regular expression CONTAINER matches"},
};

static int delete_matching(const char *root, const char *pattern, enum oci_delete_flags flags,
			   struct error *err)
{
	own_strv char **ids = NULL;
	regex_t regex;
	int rc = regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB);

	if (rc != 0)
		return refuse(err, -EINVAL, "\"%s\" is not a regular expression", pattern);
	rc = oci_list(root, &ids, err);
	for (size_t i = 0; rc == 0 && ids != NULL && ids[i] != NULL; i++)
		if (regexec(&regex, ids[i], 0, NULL, 0) == 0)
			rc = oci_delete(root, ids[i], flags, err);
	regfree(&regex);
	return rc;
}

static int do_delete(const struct args *args, const char *root, const char *id, struct error *err)
{
	const enum oci_delete_flags flags =
		args_flag(args, "force") ? OCI_DELETE_FORCE : OCI_DELETE_STOPPED;

	return args_flag(args, "regex") ? delete_matching(root, id, flags, err)
					: oci_delete(root, id, flags, err);
}

static int run_delete(const struct args *args, struct error *err)
{
	return act(args, do_delete, err);
}

const struct command oci_delete_command = {
	.arguments = "CONTAINER",
	.summary = "Remove a stopped container",
	.options = {OPTION_SET(delete_options)},
	.run = run_delete,
};

static int do_pause(const struct args *args, const char *root, const char *id, struct error *err)
{
	(void)args;
	return oci_pause(root, id, err);
}

static int run_pause(const struct args *args, struct error *err)
{
	return act(args, do_pause, err);
}

const struct command oci_pause_command = {
	.arguments = "CONTAINER",
	.summary = "Freeze all processes of a container",
	.run = run_pause,
};

static int do_resume(const struct args *args, const char *root, const char *id, struct error *err)
{
	(void)args;
	return oci_resume(root, id, err);
}

static int run_resume(const struct args *args, struct error *err)
{
	return act(args, do_resume, err);
}

const struct command oci_resume_command = {
	.arguments = "CONTAINER",
	.summary = "Let a paused container go on",
	.run = run_resume,
};

/* --- state, list -------------------------------------------------------------------------------- */

static int do_state(const struct args *args, const char *root, const char *id, struct error *err)
{
	own_oci_state struct oci_state state = {0};
	own_json json_t *json = NULL;
	int rc = oci_get_state(root, id, &state, err);

	(void)args;
	if (rc < 0)
		return rc;
	json = oci_state_json(&state);
	print_json(json);
	return 0;
}

static int run_state(const struct args *args, struct error *err)
{
	return act(args, do_state, err);
}

const struct command oci_state_command = {
	.arguments = "CONTAINER",
	.summary = "Print what is known of a container",
	.run = run_state,
};

static const struct option_spec list_options[] = {
	{"format", 'f', OPTION_ENUM, 0, "table|json", "table", "How to print them"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Only the ids"},
};

static void print_row(const struct oci_state *s)
{
	printf("%-11s %-11d %-11s %-16s %-30s %s\n", s->id, (int)s->pid, oci_status_name(s->status),
	       s->bundle, s->created, s->owner);
}

static int run_list_inner(const struct args *args, struct error *err)
{
	own_mem char *root = oci_state_root(args);
	own_json json_t *array = json_array();
	own_strv char **ids = NULL;
	const bool json = str_eq(args_string(args, "format"), "json");
	const bool quiet = args_flag(args, "quiet");
	int rc = oci_list(root, &ids, err);

	if (rc < 0)
		return rc;
	if (!json && !quiet)
		printf("%-11s %-11s %-11s %-16s %-30s %s\n", "ID", "PID", "STATUS", "BUNDLE",
		       "CREATED", "OWNER");
	for (size_t i = 0; ids != NULL && ids[i] != NULL; i++) {
		own_oci_state struct oci_state state = {0};

		if (quiet) {
			puts(ids[i]);
			continue;
		}
		/* It may have been deleted since. */
		if (oci_get_state(root, ids[i], &state, NULL) < 0)
			continue;
		if (json)
			json_array_append_new(array, oci_state_json(&state));
		else
			print_row(&state);
	}
	if (json && !quiet) {
		own_mem char *text = json_array_size(array) ? json_text(array) : str_copy("null");

		puts(text);
	}
	return 0;
}

static int run_list(const struct args *args, struct error *err)
{
	int rc = oci_begin(args, err);

	if (rc == 0)
		rc = run_list_inner(args, err);
	return oci_end(args, rc, err);
}

const struct command oci_list_command = {
	.summary = "List containers",
	.options = {OPTION_SET(list_options)},
	.run = run_list,
};

/* --- spec, features ----------------------------------------------------------------------------- */

static const struct option_spec spec_options[] = {
	{"bundle", 'b', OPTION_STRING, 0, "DIR", ".", "Where to write config.json"},
	{"rootless", 0, OPTION_FLAG, 0, "", "", "For an ordinary user"},
};

static int run_spec(const struct args *args, struct error *err)
{
	own_mem char *path = str_format("%s/config.json", args_string(args, "bundle"));
	own_json json_t *spec =
		oci_spec(args_flag(args, "rootless") ? OCI_SPEC_ROOTLESS : OCI_SPEC_ROOT);
	int rc = oci_begin(args, err);

	if (rc == 0 && access(path, F_OK) == 0)
		rc = refuse(err, -EEXIST, "file %s exists; remove it first", path);
	if (rc == 0 && json_dump_file(spec, path, JSON_INDENT(4)) < 0)
		rc = fail(err, errno ? -errno : -EIO, "write %s", path);
	return oci_end(args, rc, err);
}

const struct command oci_spec_command = {
	.summary = "Write a config.json to begin with",
	.options = {OPTION_SET(spec_options)},
	.run = run_spec,
};

static int run_features(const struct args *args, struct error *err)
{
	own_json json_t *features = oci_features();

	(void)args;
	(void)err;
	print_json(features);
	return 0;
}

const struct command oci_features_command = {
	.summary = "Print what this runtime supports",
	.run = run_features,
};
