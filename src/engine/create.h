/*
 * create: the steps of making a workload, for `create`, which stops in the middle, and `run`.
 *
 *     begin    checks, the id, the lock, the directory
 *     commit   the row: from now on it exists
 */
#pragma once

#include "engine/engine_priv.h"

/* Moves `config` into the workload: create_give_back returns it. On success the caller has the lock,
 * and must commit or undo. */
int create_begin(struct engine *engine, struct workload_config *config, struct workload *ret,
		 int *ret_lock_fd, struct error *err) must_check;
/* Releases the workload but for its configuration. */
void create_give_back(struct workload *workload, struct workload_config *config);
int create_commit(struct engine *engine, struct workload *workload, enum record_status status,
		  struct error *err) must_check;
/* Removes what begin made; releases the lock. */
void create_undo(struct engine *engine, const char *id, int *lock_fd);
