/* streams: which of the caller's streams a command connects, from its options. */
#pragma once

#include "cli/args.h"
#include "engine/workload.h"

/* Fills `ret` from the options "attach" (if the command has it), "detach-keys" and "sig-proxy";
 * `interactive`: stdin, too. */
int streams_read(const struct args *args, bool interactive, struct workload_stdio *ret,
		 struct error *err) must_check;
/* Refuses to connect a workload's terminal to a stdin that is none. */
int streams_check_terminal(const struct workload_stdio *stdio, bool tty,
			   struct error *err) must_check;
