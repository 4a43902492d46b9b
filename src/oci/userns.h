/*
 * userns: id mappings of user namespaces.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"
#include "oci/config.h"

/* Writes the mappings of the process's new user namespace: directly where we may, else through
 * newuidmap(1) and newgidmap(1). */
int userns_write_maps(pid_t pid, const struct config_id_maps *uids,
		      const struct config_id_maps *gids, struct error *err) must_check;
/* A descriptor of a user namespace with these mappings, for an id-mapped mount. */
int userns_open(const struct config_id_maps *uids, const struct config_id_maps *gids,
		struct error *err) must_check;
/* The host's id of an id in the container; UINT32_MAX if it is not mapped. */
uint32_t userns_host_id(const struct config_id_maps *maps, uint32_t id);
/* True if we are in the host's user namespace, and not in one of an ordinary user's. */
bool userns_is_initial(void);
