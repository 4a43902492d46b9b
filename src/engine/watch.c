/*
 * watch: `events`: the rows that event.h adds, and those that come (verb of workload.h).
 *
 * There is no daemon that could tell of an event: the table is looked at ten times a second. A watch on the
 * files would be too early, since a row is visible only after its bytes were written and synced.
 */
#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "base/str.h"
#include "engine/engine_priv.h"
#include "engine/workload.h"

enum { LOOK_EVERY_NS = 100 * 1000 * 1000 };

static void event_release(struct workload_event *event)
{
	free(event->action);
	free(event->id);
	free(event->name);
	free(event->image);
	free(event->detail);
}
#define own_event __attribute__((cleanup(event_release)))

/* The first one after *last_id, which becomes its id: 1; 0: none yet. Copied, since an open query would keep the
 * log of the database from being cut for as long as the reader of our output likes. */
static int next_event(struct engine *engine, int64_t since_ns, int64_t until_ns, int64_t *last_id,
		      struct workload_event *ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(engine->db, &q, err,
			  "SELECT id, time_ns, action, workload, name, image, detail FROM event "
			  "WHERE id > ? AND time_ns BETWEEN ? AND ? ORDER BY id LIMIT 1",
			  "iii", *last_id, since_ns, until_ns);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc <= 0)
		return rc;
	*last_id = db_int(q, 0);
	ret->time_ns = db_int(q, 1);
	ret->action = str_copy(db_text(q, 2));
	ret->id = str_copy(db_text(q, 3));
	ret->name = str_copy(db_text(q, 4));
	ret->image = str_copy(db_text(q, 5));
	ret->detail = str_copy(db_text(q, 6));
	return rc;
}

int workload_watch(struct engine *engine, int64_t since_ns, int64_t until_ns, workload_event_fn *fn,
		   void *data, struct error *err)
{
	int64_t last_id = 0;

	for (;;) {
		const int64_t left_ns = until_ns - clock_now_ns();
		const struct timespec pause = {.tv_nsec = left_ns < LOOK_EVERY_NS ? left_ns
										  : LOOK_EVERY_NS};
		own_event struct workload_event event = {0};
		int rc = next_event(engine, since_ns, until_ns, &last_id, &event, err);

		if (rc > 0) {
			rc = fn(&event, data, err);
			if (rc != 0)
				return rc;
		} else if (rc < 0 || left_ns <= 0) {
			return rc;
		} else {
			nanosleep(&pause, NULL);
		}
	}
}
