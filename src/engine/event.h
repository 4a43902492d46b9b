/*
 * event: what happened to workloads, as rows, for `berth events`.
 */
#pragma once

#include "engine/engine_priv.h"

/* Adds one, now, inside the transaction of what it tells. `detail` is JSON text or NULL. */
int event_add(struct engine *engine, const char *action, const char *id, const char *name,
	      const char *image, const char *detail, struct error *err) must_check;
/* The same for a workload that has a row. */
int event_add_of(struct engine *engine, const char *action, const char *id, const char *detail,
		 struct error *err) must_check;
