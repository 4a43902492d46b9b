/* logs: what a workload has written. */
#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/when.h"

static const struct option_spec logs_options[] = {
	{"details", 0, OPTION_FLAG, OPTION_REFUSED, "", "", "no further details are recorded"},
	{"follow", 'f', OPTION_FLAG, 0, "", "", "Go on with what is being written, until it ends"},
	{"since", 0, OPTION_STRING, 0, "TIME", "",
	 "From this moment: 2024-01-02T13:23:37Z, or 42m for that long ago"},
	{"stderr", 0, OPTION_FLAG, 0, "", "", "Only what was written to stderr"},
	{"stdout", 0, OPTION_FLAG, 0, "", "", "Only what was written to stdout"},
	{"tail", 'n', OPTION_STRING, 0, "LINES", "all", "Only the last lines"},
	{"timestamps", 't', OPTION_FLAG, 0, "", "", "Begin each line with its time"},
	{"until", 0, OPTION_STRING, 0, "TIME", "", "Up to this moment"},
};

static int read_tail(const struct args *args, int64_t *ret, struct error *err)
{
	const char *text = args_string(args, "tail");

	*ret = -1;
	if (strcmp(text, "all") == 0)
		return 0;
	if (str_to_int(text, -1, INT64_MAX, ret) < 0)
		return args_refuse(args, err,
				   "invalid value \"%s\" for --tail: expected a number of "
				   "lines, or all",
				   text);
	return 0;
}

static int write_output(int stream, const char *data, size_t len, void *data_ptr, struct error *err)
{
	int rc = fd_write_full(stream, data, len);

	(void)data_ptr;
	return rc < 0 ? fail(err, rc, "write the output") : 0;
}

static int run_logs(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct workload_logs logs = {0};
	unsigned int flags = 0;
	int rc = read_tail(args, &logs.tail, err);

	if (rc >= 0)
		rc = when_read(args, "since", &logs.since_ns, err);
	if (rc >= 0)
		rc = when_read(args, "until", &logs.until_ns, err);
	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc < 0)
		return rc;
	if (args_flag(args, "follow"))
		flags |= WORKLOAD_LOGS_FOLLOW;
	if (args_flag(args, "timestamps"))
		flags |= WORKLOAD_LOGS_TIMESTAMPS;
	if (args_flag(args, "stdout") || !args_flag(args, "stderr"))
		flags |= WORKLOAD_LOGS_STDOUT;
	if (args_flag(args, "stderr") || !args_flag(args, "stdout"))
		flags |= WORKLOAD_LOGS_STDERR;
	logs.flags = flags;
	return workload_read_logs(engine, args_at(args, 0), &logs, write_output, NULL, err);
}

const struct command logs_command = {
	.arguments = "CONTAINER",
	.summary = "Show what a container has written",
	.options = {OPTION_SET(logs_options)},
	.run = run_logs,
};
