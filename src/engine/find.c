/* find: workloads as they are seen: the row, and what the run file says of a running one (verbs of
 * workload.h). */
#include "engine/find.h"

#include <errno.h>

#include "engine/live.h"
#include "engine/record.h"

void find_add_live(struct engine *engine, enum record_status record, struct workload *w)
{
	struct live live;

	if (record != RECORD_ACTIVE)
		return;
	/* It is between its row and its first moment. */
	w->status = WORKLOAD_CREATED;
	if (live_read(engine, w->id, &live) < 0)
		return;
	w->pid = live.pid;
	w->monitor_pid = live.monitor_pid;
	w->restart_count = live.restart_count;
	switch ((enum live_phase)live.phase) {
	case LIVE_STARTING:
		break;
	case LIVE_RUNNING:
		w->status = live.paused ? WORKLOAD_PAUSED : WORKLOAD_RUNNING;
		w->started_ns = live.started_ns;
		break;
	case LIVE_WAITING:
		w->status = WORKLOAD_RESTARTING;
		w->started_ns = live.started_ns;
		w->finished_ns = live.finished_ns;
		w->exit_code = live.exit_code;
		break;
	case LIVE_ENDED:
		w->status = WORKLOAD_EXITED;
		w->started_ns = live.started_ns;
		w->finished_ns = live.finished_ns;
		w->exit_code = live.exit_code;
		break;
	}
}

int workload_find(struct engine *engine, const char *ref, struct workload *ret, struct error *err)
{
	char id[WORKLOAD_ID_LEN + 1];
	enum record_status record;
	int rc = record_resolve(engine, ref, id, err);

	if (rc == 0)
		rc = record_load(engine, id, ret, &record, err);
	if (rc == 0)
		find_add_live(engine, record, ret);
	return rc;
}

int find_running(struct engine *engine, const char *ref, struct workload *ret, struct error *err)
{
	own_workload struct workload w = {0};
	int rc = workload_find(engine, ref, &w, err);

	if (rc < 0)
		return rc;
	if (w.status != WORKLOAD_RUNNING && w.status != WORKLOAD_PAUSED)
		return refuse(err, -ESRCH, "container not running: \"%s\" is %s", w.name,
			      workload_status_name(w.status));
	*ret = w;
	w = (struct workload){0};
	return 0;
}
