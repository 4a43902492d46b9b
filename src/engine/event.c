/* event: see event.h. */
#include "engine/event.h"

#include "base/clock.h"

/* Rows beyond this are removed, a batch at a time. */
enum { EVENTS_MAX = 10000, EVENTS_BATCH = 1000 };

/* Keeps the table small; looks only once in a while. */
static int trim(struct engine *engine, struct error *err)
{
	int64_t last = db_last_id(engine->db);
	int rc = 0;

	if (last > EVENTS_MAX && last % EVENTS_BATCH == 0)
		rc = db_run(engine->db, err, "DELETE FROM event WHERE id <= ?", "i",
			    last - EVENTS_MAX);
	return rc < 0 ? rc : 0;
}

int event_add(struct engine *engine, const char *action, const char *id, const char *name,
	      const char *image, const char *detail, struct error *err)
{
	int rc = db_run(engine->db, err,
			"INSERT INTO event (time_ns, action, workload, name, image, detail) "
			"VALUES (?, ?, ?, ?, ?, ?)",
			"ittttt", clock_now_ns(), action, id, name, image, detail);

	return rc < 0 ? rc : trim(engine, err);
}

int event_add_of(struct engine *engine, const char *action, const char *id, const char *detail,
		 struct error *err)
{
	int rc = db_run(engine->db, err,
			"INSERT INTO event (time_ns, action, workload, name, image, detail) "
			"SELECT ?, ?, id, name, coalesce(config ->> '$.image', ''), ? "
			"FROM workload WHERE id = ?",
			"ittt", clock_now_ns(), action, detail, id);

	return rc < 0 ? rc : trim(engine, err);
}
