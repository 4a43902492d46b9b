/*
 * schema: see schema.h.
 *
 * A workload's row holds its configuration as JSON: only what is searched for has a column. Nothing
 * that changes while a workload runs is here. Events are kept for `berth events --since`, the newest
 * ones only.
 */
#include "engine/schema.h"

#include "base/mem.h"

static const char *const steps[] = {
	"CREATE TABLE workload ("
	" id TEXT PRIMARY KEY,"
	" name TEXT NOT NULL UNIQUE,"
	" status INTEGER NOT NULL,"
	" auto_remove INTEGER NOT NULL,"
	" created_ns INTEGER NOT NULL,"
	" started_ns INTEGER NOT NULL DEFAULT 0,"
	" finished_ns INTEGER NOT NULL DEFAULT 0,"
	" exit_code INTEGER NOT NULL DEFAULT 0,"
	" oom_killed INTEGER NOT NULL DEFAULT 0,"
	" restart_count INTEGER NOT NULL DEFAULT 0,"
	" error TEXT,"
	" argv TEXT NOT NULL,"
	" config TEXT NOT NULL) STRICT;"
	"CREATE INDEX workload_active ON workload (status) WHERE status IN (1, 3);"
	"CREATE TABLE event ("
	" id INTEGER PRIMARY KEY,"
	" time_ns INTEGER NOT NULL,"
	" action TEXT NOT NULL,"
	" workload TEXT NOT NULL,"
	" name TEXT NOT NULL,"
	" image TEXT NOT NULL,"
	" detail TEXT) STRICT;",
};

int schema_migrate(struct db *db, struct error *err)
{
	return db_migrate(db, "engine", steps, array_size(steps), err);
}
