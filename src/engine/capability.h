/*
 * capability: the names of the kernel's capabilities, the set that a workload has by default, and what
 * --cap-add, --cap-drop and --privileged make of it.
 */
#pragma once

#include "base/json.h"
#include "engine/config.h"

/* The full name ("CAP_NET_ADMIN") of one given with or without "CAP_" in any case; NULL if unknown. */
const char *capability_find(const char *name);

/* The capabilities of a workload: an array of full names, as config.json has them. Those that this
 * process does not have itself (nested in another container) are left out with --privileged and ALL,
 * and refused when asked for by name. */
int capability_set(const struct workload_config *config, json_t **ret,
		   struct error *err) must_check;
/* All that this process may give. */
json_t *capability_all(void);
