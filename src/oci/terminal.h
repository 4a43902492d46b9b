/*
 * terminal: the pseudo-terminal of a container's process, from the container's own devpts.
 */
#pragma once

#include "base/error.h"
#include "oci/config.h"

/* Opens a new pair below `root_fd`. Nothing but a multiplexer of a real devpts is accepted, and the
 * other end is got from it without a path. */
int terminal_open(int root_fd, const struct config_process *p, int *ret_master, int *ret_slave,
		  struct error *err) must_check;
/* Makes it our controlling terminal and standard input, output and error. */
int terminal_attach(int slave, struct error *err) must_check;
/* No carriage return is added to a newline. 0 or -errno. */
int terminal_keep_newlines(int slave) must_check;
/* Sends the master to the socket at `path`, as other runtimes do. */
int terminal_send(const char *path, int master, struct error *err) must_check;
