/*
 * monitor_work: what the helpers of a monitor do (monitor_helper.c makes them). This code runs in a
 * process of its own, so it may use all of the engine.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/lock.h"
#include "engine/monitor_priv.h"
#include "engine/record.h"

static const struct isolation *isolation(const struct monitor *m)
{
	return isolation_of((enum workload_isolation)m->handover.order.isolation);
}

/* The first start: everything has been prepared by the command. */
static int start(struct monitor *m, const int stdio[3], struct isolation_child *ret,
		 struct error *err)
{
	struct engine paths;
	struct plan plan = PLAN_EMPTY;

	engine_init_paths(&paths, m->root, m->state);
	plan.flags = m->handover.order.plan_flags;
	plan.root_fd = m->handover.root_fd;
	plan.text = handover_text(&m->handover);
	if (plan.text == NULL)
		return fail(err, -EIO, "read the configuration");
	return isolation(m)->start(&paths, m->id, &plan, stdio, ret, err);
}

/* Another start by the restart policy: removes what the last run left, and prepares anew. The layers
 * are in use by the monitor still. */
static int restart(struct monitor *m, const int stdio[3], struct isolation_child *ret,
		   struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_workload struct workload w = {0};
	own_plan struct plan plan = PLAN_EMPTY;
	enum record_status status;
	int rc = engine_open_plain(m->root, m->state, &engine, err);

	if (rc == 0)
		rc = isolation(m)->destroy(engine, m->id, err);
	if (rc == 0)
		rc = record_load(engine, m->id, &w, &status, err);
	if (rc == 0)
		rc = isolation(m)->prepare(engine, &w, &plan, err);
	if (rc == 0)
		rc = isolation(m)->start(engine, m->id, &plan, stdio, ret, err);
	return rc;
}

static int exec(struct helper *h, struct monitor *m, const int stdio[3],
		struct isolation_child *ret, struct error *err)
{
	struct isolation_exec options = {.tty = h->wants_console};
	struct engine paths;
	own_mem char *text = NULL;
	size_t len;
	int rc = fd_read_all(h->text_fd, PLAN_TEXT_MAX, &text, &len);

	if (rc < 0)
		return fail(err, rc, "read the process to run");
	engine_init_paths(&paths, m->root, m->state);
	options.text = text;
	memcpy(options.stdio, stdio, sizeof(options.stdio));
	return isolation(m)->exec(&paths, m->id, &options, ret, err);
}

static bool was_out_of_memory(struct engine *engine, struct monitor *m)
{
	struct workload_stats stats;

	return isolation(m)->stats(engine, m->id, &stats, NULL) == 0 && stats.oom_kills > 0;
}

static int finish(struct helper *h, struct monitor *m, struct error *err)
{
	const struct order *o = &m->handover.order;
	struct engine *engine;
	struct workload_end end = {
		.exit_code = m->live.exit_code,
		.failed = m->start_failed && (o->flags & ORDER_NEVER_STARTED),
		.started_ns = m->live.started_ns,
		.finished_ns = m->live.finished_ns,
		.restart_count = m->live.restart_count,
		.error = m->start_failed ? m->start_error.text : NULL,
	};
	own_mem char *reason = NULL;
	int lock_fd, rc = engine_open_plain(m->root, m->state, &h->engine, err);

	if (rc < 0)
		return rc;
	engine = h->engine;
	if (end.error == NULL && isolation(m)->explain != NULL)
		end.error = reason = isolation(m)->explain(engine, m->id);
	if (!(o->flags & ORDER_AUTO_REMOVE))
		end.oom_killed = was_out_of_memory(engine, m);
	rc = workload_finish(engine, m->id, (enum workload_isolation)o->isolation,
			     (o->flags & ORDER_AUTO_REMOVE) != 0, &end, err);
	if (rc == 0)
		rc = isolation(m)->unlock(engine, m->handover.locks, o->lock_count, err);
	if (rc < 0)
		return rc;
	/* For those who wait for it. */
	if (reason != NULL)
		snprintf(err->text, sizeof(err->text), "%s", reason);
	/* The monitor's duplicate keeps the lock until it exits; its name is gone from here on. */
	lock_fd = MONITOR_LOCK_FD;
	lock_release(engine, m->id, &lock_fd);
	return 0;
}

int monitor_helper_work(struct helper *h, struct monitor *m, const int stdio[3],
			struct isolation_child *child, struct error *err)
{
	switch (h->kind) {
	case HELPER_START:
		return start(m, stdio, child, err);
	case HELPER_RESTART:
		return restart(m, stdio, child, err);
	case HELPER_EXEC:
		return exec(h, m, stdio, child, err);
	case HELPER_FINISH:
		return finish(h, m, err);
	}
	return -EINVAL;
}

void monitor_helper_after(struct helper *h)
{
	/* The database's waits for the disk are nobody's. */
	if (h->engine != NULL && db_settle(h->engine->db, NULL) < 0)
		return;
}
