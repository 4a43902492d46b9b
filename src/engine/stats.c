/* stats: what a workload uses, and its processes (verbs of workload.h). */
#include <errno.h>

#include "engine/find.h"
#include "engine/isolation.h"

int workload_get_stats(struct engine *engine, const char *ref, struct workload_stats *ret,
		       struct error *err)
{
	own_workload struct workload w = {0};
	int rc = find_running(engine, ref, &w, err);

	return rc < 0 ? rc : isolation_of(w.config.isolation)->stats(engine, w.id, ret, err);
}

int workload_top(struct engine *engine, const char *ref, workload_process_fn *fn, void *data,
		 struct error *err)
{
	own_workload struct workload w = {0};
	int rc = find_running(engine, ref, &w, err);

	if (rc == 0)
		rc = isolation_check_inside(&w, err);
	return rc < 0 ? rc : isolation_of(w.config.isolation)->top(engine, w.id, fn, data, err);
}
