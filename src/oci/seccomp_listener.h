/* seccomp_listener: handing the filter's notification descriptor to the program that answers. */
#pragma once

#include <jansson.h>
#include <sys/types.h>

#include "base/error.h"
#include "oci/config.h"

/* Sends the descriptor with the specification's container process state. */
int seccomp_listener_send(int sock, int listener_fd, const struct config_seccomp *s, const char *id,
			  const char *bundle, pid_t pid, const json_t *annotations,
			  struct error *err) must_check;
