/* find: looking up workloads, for the verbs. */
#pragma once

#include "engine/engine_priv.h"

/* Fills in what the run file of an active workload says. */
void find_add_live(struct engine *engine, enum record_status record, struct workload *w);
/* One that runs (paused or not); -ESRCH otherwise, saying what it is. */
int find_running(struct engine *engine, const char *ref, struct workload *ret,
		 struct error *err) must_check;
