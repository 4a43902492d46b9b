/* record: see record.h. */
#include "engine/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/event.h"
#include "engine/name.h"
#include "image/store.h"

#define COLUMNS                                                                                    \
	"id, name, status, created_ns, started_ns, finished_ns, exit_code, oom_killed, "           \
	"restart_count, error, argv, config"

/* With --rm nothing of it is meant to outlive a power cut. */
static enum db_durability durability(const struct workload *workload)
{
	return workload->config.flags & WORKLOAD_AUTO_REMOVE ? DB_QUICK : DB_DURABLE;
}

static int insert_row(struct engine *engine, const struct workload *w, enum record_status status,
		      struct error *err)
{
	own_json json_t *config_json = workload_config_to_json(&w->config);
	own_json json_t *argv_json = json_from_strv(w->argv);
	own_mem char *config = json_text(config_json);
	own_mem char *argv = json_text(argv_json);

	return db_run(engine->db, err,
		      "INSERT INTO workload (id, name, status, auto_remove, created_ns, argv, "
		      "config) VALUES (?, ?, ?, ?, ?, ?, ?)",
		      "ttiiitt", w->id, w->name, (int64_t)status,
		      (int64_t)((w->config.flags & WORKLOAD_AUTO_REMOVE) != 0), w->created_ns, argv,
		      config);
}

static int mark_image(struct engine *engine, const struct workload *w, struct error *err)
{
	own_mem char *user = str_format("workload/%s", w->id);
	struct image_store *images;
	struct digest id;
	int rc;

	if (w->config.image_id == NULL)
		return 0;
	rc = engine_images(engine, &images, err);
	if (rc == 0)
		rc = digest_parse(w->config.image_id, &id, err);
	return rc < 0 ? rc : image_use_add(images, &id, user, err);
}

int record_insert(struct engine *engine, const struct workload *w, enum record_status status,
		  struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(engine->db, durability(w), &tx, err);

	if (rc < 0)
		return rc;
	rc = insert_row(engine, w, status, err);
	if (rc == -EEXIST) {
		error_clear(err);
		return hint(err, refuse(err, rc, "the name \"%s\" is in use", w->name),
			    "remove that workload (berth rm %s), or choose another name", w->name);
	}
	if (rc >= 0)
		rc = mark_image(engine, w, err);
	if (rc >= 0)
		rc = event_add(engine, "create", w->id, w->name,
			       w->config.image ? w->config.image : "", NULL, err);
	if (rc >= 0 && status == RECORD_ACTIVE)
		rc = event_add_of(engine, "start", w->id, NULL, err);
	return rc < 0 ? rc : db_commit(&tx, err);
}

/* --- finding --------------------------------------------------------------------------------------- */

static int no_such(const char *ref, struct error *err)
{
	return hint(err, refuse(err, -ENOENT, "no such workload: %s", ref),
		    "berth ps -a lists them all");
}

int record_resolve(struct engine *engine, const char *ref, char ret_id[static WORKLOAD_ID_LEN + 1],
		   struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_mem char *end = NULL;
	int rc;

	/* A name wins over the beginning of an id. The range scan uses the key's index. */
	if (id_is_prefix(ref))
		end = str_format("%sg", ref);
	rc = db_query(
		engine->db, &q, err,
		"SELECT id, 1 FROM workload WHERE name = ?1 UNION ALL "
		"SELECT id, 0 FROM (SELECT id FROM workload WHERE id >= ?1 AND id < ?2 LIMIT 2)",
		"tt", ref, end);
	if (rc == 0)
		rc = db_next(q, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return no_such(ref, err);
	strcpy(ret_id, db_text(q, 0));
	if (db_int(q, 1))
		return 0;
	rc = db_next(q, err);
	if (rc <= 0)
		return rc;
	return hint(err, refuse(err, -ENOTUNIQ, "\"%s\" is the beginning of several ids", ref),
		    "type more of the id, or the name");
}

static int parse_config(const char *text, struct workload *w, struct error *err)
{
	own_json json_t *value = NULL;
	int rc = json_parse(text, strlen(text), "configuration", &value, err);

	return rc < 0 ? rc : workload_config_from_json(value, &w->config, err);
}

static int parse_argv(const char *text, struct workload *w, struct error *err)
{
	own_json json_t *value = NULL;
	struct json_at root, item;
	int rc = json_parse(text, strlen(text), "command", &value, err);

	if (rc < 0)
		return rc;
	root = json_root(value);
	for (size_t i = 0; json_element(&root, i, &item); i++) {
		const char *s;

		rc = json_as_string(&item, &s, err);
		if (rc < 0)
			return rc;
		strv_push(&w->argv, s);
	}
	return 0;
}

/* Fills `ret` from a row of COLUMNS. */
static int from_row(struct db_query *q, struct workload *ret, enum record_status *ret_status,
		    struct error *err)
{
	static const enum workload_status shown[] = {
		[RECORD_CREATED] = WORKLOAD_CREATED,
		[RECORD_ACTIVE] = WORKLOAD_RUNNING,
		[RECORD_EXITED] = WORKLOAD_EXITED,
		[RECORD_REMOVING] = WORKLOAD_REMOVING,
	};
	own_workload struct workload w = {0};
	int64_t status = db_int(q, 2);
	int rc;

	workload_config_init(&w.config);
	if (!id_is_valid(db_text(q, 0)) || status < 0 || status >= (int64_t)array_size(shown))
		return refuse(err, -EUCLEAN, "the database has a damaged row of a workload");
	strcpy(w.id, db_text(q, 0));
	w.name = str_copy(db_text(q, 1));
	w.status = shown[status];
	w.created_ns = db_int(q, 3);
	w.started_ns = db_int(q, 4);
	w.finished_ns = db_int(q, 5);
	w.exit_code = (int)db_int(q, 6);
	w.oom_killed = db_int(q, 7) != 0;
	w.restart_count = (int)db_int(q, 8);
	w.error = str_copy(db_text(q, 9));
	rc = parse_argv(db_text(q, 10), &w, err);
	if (rc == 0)
		rc = parse_config(db_text(q, 11), &w, err);
	if (rc < 0)
		return fail(err, rc, "workload \"%s\"", w.name);
	*ret_status = (enum record_status)status;
	*ret = w;
	memset(&w, 0, sizeof(w));
	workload_config_init(&w.config);
	return 0;
}

int record_load(struct engine *engine, const char *id, struct workload *ret,
		enum record_status *ret_status, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(engine->db, &q, err, "SELECT " COLUMNS " FROM workload WHERE id = ?", "t",
			  id);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc < 0)
		return rc;
	return rc == 0 ? no_such(id, err) : from_row(q, ret, ret_status, err);
}

int record_get_status(struct engine *engine, const char *id, enum record_status *ret,
		      struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(engine->db, &q, err, "SELECT status FROM workload WHERE id = ?", "t", id);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc < 0)
		return rc;
	if (rc == 0)
		return no_such(id, err);
	*ret = (enum record_status)db_int(q, 0);
	return 0;
}

int record_each(struct engine *engine, record_fn *fn, void *data, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(engine->db, &q, err,
			  "SELECT " COLUMNS " FROM workload ORDER BY created_ns DESC, id", "");

	while (rc == 0 && (rc = db_next(q, err)) > 0) {
		own_workload struct workload w = {0};
		enum record_status status;

		rc = from_row(q, &w, &status, err);
		if (rc == 0)
			rc = fn(&w, status, data, err);
	}
	return rc;
}

int record_unsettled(struct engine *engine, char ***ret_ids, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_strv char **ids = NULL;
	int rc =
		db_query(engine->db, &q, err, "SELECT id FROM workload WHERE status IN (1, 3)", "");

	while (rc == 0 && (rc = db_next(q, err)) > 0) {
		strv_push(&ids, db_text(q, 0));
		rc = 0;
	}
	if (rc < 0)
		return rc;
	*ret_ids = take(ids);
	return 0;
}

/* --- changing -------------------------------------------------------------------------------------- */

/* Ends a transaction in which one row was changed (`rc` rows, or -errno), with its event. */
static int commit_change(struct engine *engine, struct db_tx *tx, int rc, const char *action,
			 const char *id, struct error *err)
{
	if (rc == 0)
		rc = no_such(id, err);
	if (rc > 0)
		rc = event_add_of(engine, action, id, NULL, err);
	return rc < 0 ? rc : db_commit(tx, err);
}

int record_set_active(struct engine *engine, const char *id, struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(engine->db, DB_DURABLE, &tx, err);

	if (rc < 0)
		return rc;
	rc = db_run(engine->db, err, "UPDATE workload SET status = 1, error = NULL WHERE id = ?",
		    "t", id);
	return commit_change(engine, &tx, rc, "start", id, err);
}

int record_set_removing(struct engine *engine, const char *id, struct error *err)
{
	int rc = db_run(engine->db, err, "UPDATE workload SET status = 3 WHERE id = ?", "t", id);

	return rc < 0 ? rc : 0;
}

int record_set_name(struct engine *engine, const char *id, const char *name, struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(engine->db, DB_DURABLE, &tx, err);

	if (rc < 0)
		return rc;
	rc = db_run(engine->db, err, "UPDATE workload SET name = ? WHERE id = ?", "tt", name, id);
	if (rc == -EEXIST) {
		error_clear(err);
		return refuse(err, rc, "the name \"%s\" is in use", name);
	}
	return commit_change(engine, &tx, rc, "rename", id, err);
}

static int add_end(struct engine *engine, const char *id, const struct workload_end *end,
		   struct error *err)
{
	own_mem char *detail = str_format("{\"exitCode\":\"%d\"}", end->exit_code);

	return event_add_of(engine, "die", id, detail, err);
}

int record_set_ended(struct engine *engine, const char *id, const struct workload_end *end,
		     struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(engine->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = db_run(
			engine->db, err,
			"UPDATE workload SET status = CASE WHEN ?1 AND started_ns = 0 THEN 0 ELSE 2 "
			"END, exit_code = ?2, oom_killed = ?3, restart_count = ?4, error = ?5, "
			"started_ns = CASE WHEN ?6 THEN ?6 ELSE started_ns END, "
			"finished_ns = CASE WHEN ?1 THEN finished_ns ELSE ?7 END WHERE id = ?8",
			"iiiitiit", (int64_t)end->failed, (int64_t)end->exit_code,
			(int64_t)end->oom_killed, (int64_t)end->restart_count, end->error,
			end->started_ns, end->finished_ns, id);
	if (rc >= 0)
		rc = add_end(engine, id, end, err);
	return rc < 0 ? rc : db_commit(&tx, err);
}

int record_delete(struct engine *engine, const char *id, const struct workload_end *end,
		  struct error *err)
{
	own_mem char *user = str_format("workload/%s", id);
	own_db_tx struct db_tx tx = {0};
	struct image_store *images;
	int rc = engine_images(engine, &images, err);

	/* QUICK: should a power cut undo it, the next command removes it once more. */
	if (rc == 0)
		rc = db_begin(engine->db, DB_QUICK, &tx, err);
	if (rc == 0 && end != NULL)
		rc = add_end(engine, id, end, err);
	if (rc == 0)
		rc = event_add_of(engine, "destroy", id, NULL, err);
	if (rc == 0)
		rc = image_use_remove(images, user, err);
	if (rc >= 0)
		rc = db_run(engine->db, err, "DELETE FROM workload WHERE id = ?", "t", id);
	return rc < 0 ? rc : db_commit(&tx, err);
}
