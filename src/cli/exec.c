/* exec: `exec` and `attach`. */
#include <errno.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/run_priv.h"
#include "cli/streams.h"

static const struct option_spec exec_options[] = {
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Run in the background"},
	{"detach-keys", 0, OPTION_STRING, 0, "KEYS", "",
	 "Keys that leave the command running (default ctrl-p,ctrl-q)"},
	{"env", 'e', OPTION_LIST, 0, "NAME[=VALUE]", "",
	 "Set an environment variable; without a value, pass ours on"},
	{"env-file", 0, OPTION_LIST, 0, "FILE", "", "Read environment variables from a file"},
	{"interactive", 'i', OPTION_FLAG, 0, "", "", "Keep stdin open"},
	{"privileged", 0, OPTION_FLAG, 0, "", "", "All capabilities, no filters"},
	{"tty", 't', OPTION_FLAG, 0, "", "", "Give it a terminal"},
	{"user", 'u', OPTION_STRING, 0, "USER[:GROUP]", "", "Run as this user, by name or number"},
	{"workdir", 'w', OPTION_STRING, 0, "PATH", "", "The working directory"},
};

static int run_exec(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_strv char **env = NULL, **argv = NULL;
	struct workload_exec exec = {
		.user = args_string(args, "user"),
		.working_dir = args_string(args, "workdir"),
		.tty = args_flag(args, "tty"),
		.detach = args_flag(args, "detach"),
		.privileged = args_flag(args, "privileged"),
	};
	int rc;

	for (int i = 1; i < args_count(args); i++)
		strv_push(&argv, args_at(args, i));
	rc = read_pairs(args_list(args, "env-file"), args_list(args, "env"), true, &env, err);
	if (rc >= 0)
		rc = streams_read(args, args_flag(args, "interactive"), &exec.stdio, err);
	if (rc >= 0 && !exec.detach)
		rc = streams_check_terminal(&exec.stdio, exec.tty, err);
	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc < 0)
		return rc;
	exec.argv = argv;
	exec.env = env;
	return workload_exec(engine, args_at(args, 0), &exec, err);
}

const struct command exec_command = {
	.arguments = "CONTAINER COMMAND [ARG...]",
	.summary = "Run a command in a running container",
	.description =
		"The exit code is that of the command; 126 if it cannot be run, 127 if it is not "
		"there, 125 if berth failed.",
	.examples = "berth exec -it web sh\tA shell in the container \"web\"\n"
		    "berth exec -u 1000 -w /tmp web ls\tAs another user, elsewhere\n",
	.options = {OPTION_SET(exec_options)},
	.flags = COMMAND_STOP_AT_ARGUMENT,
	.run = run_exec,
};

static const struct option_spec attach_options[] = {
	{"detach-keys", 0, OPTION_STRING, 0, "KEYS", "",
	 "Keys that leave the workload running (default ctrl-p,ctrl-q)"},
	{"no-stdin", 0, OPTION_FLAG, 0, "", "", "Do not connect to its input"},
	{"sig-proxy", 0, OPTION_FLAG, 0, "", "true", "Pass signals on to the workload"},
};

static int run_attach(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_workload struct workload workload = {0};
	struct workload_stdio stdio;
	const bool wants_input = !args_flag(args, "no-stdin");
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = workload_find(engine, args_at(args, 0), &workload, err);
	/* Without -i the workload has no input to connect to. */
	if (rc >= 0)
		rc = streams_read(args,
				  wants_input && (workload.config.flags & WORKLOAD_STDIN_OPEN),
				  &stdio, err);
	if (rc >= 0)
		rc = streams_check_terminal(&stdio, (workload.config.flags & WORKLOAD_TTY) != 0,
					    err);
	return rc < 0 ? rc : workload_attach(engine, args_at(args, 0), &stdio, err);
}

const struct command attach_command = {
	.arguments = "CONTAINER",
	.summary = "Connect to the input and output of a running container",
	.description =
		"Ends when the container does, with its exit code, or when the detach keys are "
		"typed.",
	.options = {OPTION_SET(attach_options)},
	.run = run_attach,
};
