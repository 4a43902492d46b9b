/*
 * record: the rows of workloads.
 */
#pragma once

#include "engine/engine_priv.h"

/* Writes the row of a new workload with its events, in one transaction. -EEXIST: the name is taken. */
int record_insert(struct engine *engine, const struct workload *workload, enum record_status status,
		  struct error *err) must_check;
/* Resolves a name, an id, or the beginning of one, to the id. */
int record_resolve(struct engine *engine, const char *ref, char ret_id[static WORKLOAD_ID_LEN + 1],
		   struct error *err) must_check;
/* Reads the row of exactly this id. -ENOENT. */
int record_load(struct engine *engine, const char *id, struct workload *ret,
		enum record_status *ret_status, struct error *err) must_check;
int record_get_status(struct engine *engine, const char *id, enum record_status *ret,
		      struct error *err) must_check;
/* Calls `fn` for each row, newest first. */
typedef int record_fn(struct workload *workload, enum record_status status, void *data,
		      struct error *err);
int record_each(struct engine *engine, record_fn *fn, void *data, struct error *err) must_check;
/* The ids of rows in one of the two states that only living processes may leave them in. */
int record_unsettled(struct engine *engine, char ***ret_ids, struct error *err) must_check;

int record_set_active(struct engine *engine, const char *id, struct error *err) must_check;
int record_set_removing(struct engine *engine, const char *id, struct error *err) must_check;
/* One that failed at its very first start is "created" again. */
int record_set_ended(struct engine *engine, const char *id, const struct workload_end *end,
		     struct error *err) must_check;
int record_set_name(struct engine *engine, const char *id, const char *name,
		    struct error *err) must_check;
/* `end`: how it has just ended; NULL: it did so earlier, or never ran. */
int record_delete(struct engine *engine, const char *id, const struct workload_end *end,
		  struct error *err) must_check;
