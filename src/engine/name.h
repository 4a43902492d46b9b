/*
 * name: ids and names of workloads.
 */
#pragma once

#include <stdbool.h>

#include "engine/workload.h"

/* A new random id. */
void id_make(char ret_id[static WORKLOAD_ID_LEN + 1]);
/* True for exactly 64 lower-case hexadecimal digits. */
bool id_is_valid(const char *text);
/* True for what may begin an id: 1 to 64 such digits. */
bool id_is_prefix(const char *text);

/* A made-up name, "quiet_harbour" or, after `attempt` collisions, with a number behind it. The caller
 * frees it. */
char *name_make(unsigned int attempt);
/* Letters, digits, and after the first character "_", "." and "-"; at most 128. -EINVAL. */
int name_check(const char *name, struct error *err) must_check;
