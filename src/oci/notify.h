/*
 * notify: the readiness protocol of service managers (sd_notify) for a container's process.
 *
 * The manager's socket, named by NOTIFY_SOCKET, is not given to the container, which could say anything
 * there. At the same path the container sees a directory of ours with a socket "notify" in it, and
 * NOTIFY_SOCKET names that. Whoever runs or starts the container passes on what counts: READY=1, followed
 * by the process's id as MAINPID. Only a socket with a path is passed on.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "oci/config.h"
#include "oci/container.h"

#define NOTIFY_DIR "notify"

/* True if there is a socket to be passed on, and the configuration has none of its own. */
bool notify_wanted(const struct config *c, const char *host_socket);
/* Makes the directory and the socket, and adds the mount and the variable to the configuration. Returns
 * the socket. */
int notify_add(struct config *c, const struct container *container, const char *state_root,
	       const char *host_socket, struct error *err) must_check;
