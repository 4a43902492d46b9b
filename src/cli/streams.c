/* streams: see streams.h. */
#include "cli/streams.h"

#include <errno.h>
#include <strings.h>
#include <unistd.h>

int streams_read(const struct args *args, bool interactive, struct workload_stdio *ret,
		 struct error *err)
{
	unsigned int chosen = 0;

	*ret = (struct workload_stdio)WORKLOAD_STDIO_DEFAULTS;
	if (args_has(args, "attach")) {
		for (char *const *name = args_list(args, "attach"); *name != NULL; name++) {
			if (strcasecmp(*name, "stdin") == 0)
				chosen |= WORKLOAD_ATTACH_STDIN;
			else if (strcasecmp(*name, "stdout") == 0)
				chosen |= WORKLOAD_ATTACH_STDOUT;
			else if (strcasecmp(*name, "stderr") == 0)
				chosen |= WORKLOAD_ATTACH_STDERR;
			else
				return args_refuse(args, err,
						   "invalid value \"%s\" for --attach: expected "
						   "stdin, stdout or stderr",
						   *name);
		}
	}
	if (chosen == 0)
		chosen = WORKLOAD_ATTACH_OUTPUT;
	if (interactive)
		chosen |= WORKLOAD_ATTACH_STDIN;
	if (args_has(args, "sig-proxy") && !args_flag(args, "sig-proxy"))
		chosen |= WORKLOAD_ATTACH_NO_SIGNALS;
	if (args_has(args, "detach-keys"))
		ret->detach_keys = args_string(args, "detach-keys");
	ret->flags = chosen;
	return 0;
}

int streams_check_terminal(const struct workload_stdio *stdio, bool tty, struct error *err)
{
	if (!tty || !(stdio->flags & WORKLOAD_ATTACH_STDIN) || isatty(stdio->fds[0]))
		return 0;
	return hint(err, refuse(err, -ENOTTY, "--tty and --interactive need a terminal as stdin"),
		    "leave --tty away to pass a file or a pipe on");
}
