/* db: see db.h. */
#include "base/db.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"

/* The log is cut at SETTLE_BYTES; what else may come to it until then has room in the reserve. */
enum { BUSY_TIMEOUT_MS = 30000, SETTLE_BYTES = 512 << 10, RESERVE_BYTES = 1 << 20 };

struct db {
	sqlite3 *sqlite;
	enum db_durability durability; /* what `PRAGMA synchronous` stands at */
	bool in_doubt;
	int changes; /* so many before the transaction */
};

struct db_query {
	struct db *db;
	sqlite3_stmt *statement;
};

/* Turns SQLite's result code into ours. */
static int db_fail(struct db *db, int code, struct error *err, const char *what)
{
	int rc = -EIO;

	switch (code & 0xff) {
	case SQLITE_CONSTRAINT:
		if (code == SQLITE_CONSTRAINT_FOREIGNKEY) {
			rc = -ENOTEMPTY;
			break;
		}
		rc = code == SQLITE_CONSTRAINT_UNIQUE || code == SQLITE_CONSTRAINT_PRIMARYKEY ||
				     code == SQLITE_CONSTRAINT_ROWID
			     ? -EEXIST
			     : -EINVAL;
		break;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		rc = -EBUSY;
		break;
	case SQLITE_FULL:
		rc = -ENOSPC;
		break;
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		rc = -EROFS;
		break;
	case SQLITE_CANTOPEN:
		rc = -ENOENT;
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		rc = -EUCLEAN;
		break;
	default:
		break;
	}
	refuse(err, rc, "database: %s: %s", what,
	       db && db->sqlite ? sqlite3_errmsg(db->sqlite) : sqlite3_errstr(code));
	if (rc == -EROFS && db && db->sqlite)
		hint(err, rc,
		     "%s, or its file system, may only be read by this user: make it writable",
		     sqlite3_db_filename(db->sqlite, "main"));
	return rc;
}

static int exec(struct db *db, const char *sql, struct error *err)
{
	int code = sqlite3_exec(db->sqlite, sql, NULL, NULL, NULL);

	return code == SQLITE_OK ? 0 : db_fail(db, code, err, sql);
}

void db_close(struct db *db)
{
	if (db == NULL)
		return;
	sqlite3_close(db->sqlite);
	free(db);
}

OWN_DEFINE(own_db, struct db *, db_close);
#define own_db __attribute__((cleanup(own_db_release)))

/* Creates the file if it is missing, since SQLite would use the umask's mode. One that exists is not
 * opened: closing it again would drop the locks of other connections of this process (POSIX locks). */
static int create_private(const char *path)
{
	own_fd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct stat st;

	if (fd >= 0)
		return 0;
	if (errno != EEXIST || lstat(path, &st) < 0)
		return -errno;
	return S_ISLNK(st.st_mode) ? -ELOOP : 0;
}

/*
 * Sees to it that the write-ahead log has blocks beyond its end. On a full disk every transaction fails that
 * must make the log longer, also the one that says what is to be removed, to make room. A file system that
 * cannot do it does without. The log's locks are on another file: closing this one drops none.
 */
static void reserve_log(struct db *db)
{
	const char *path = sqlite3_filename_wal(sqlite3_db_filename(db->sqlite, "main"));
	own_fd int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_blocks * 512 < RESERVE_BYTES)
		(void)!fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, RESERVE_BYTES);
}

/* Of several processes that open a new file at once, one changes its journal mode; the others are told
 * SQLITE_BUSY without the busy timeout (SQLite sees a deadlock coming), and try again. */
static int use_wal(struct db *db, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + BUSY_TIMEOUT_MS * INT64_C(1000000);

	for (;;) {
		int code = sqlite3_exec(db->sqlite, "PRAGMA journal_mode = WAL", NULL, NULL, NULL);

		if (code == SQLITE_OK)
			return 0;
		if ((code & 0xff) != SQLITE_BUSY || clock_monotonic_ns() > deadline)
			return db_fail(db, code, err, "write-ahead log");
		sqlite3_sleep(2);
	}
}

int db_open(const char *path, struct db **ret, struct error *err)
{
	own_db struct db *db = mem_new(sizeof(*db));
	int code, rc = create_private(path);

	if (rc < 0)
		return fail(err, rc, "open database %s", path);
	code = sqlite3_open_v2(path, &db->sqlite,
			       SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
			       NULL);
	if (code != SQLITE_OK)
		return db_fail(db, code, err, path);
	sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
	/* Closing would, for the last one to go, copy the log into the database: two waits for the disk
	 * at the end of every command. db_settle does it when it is worth it. */
	sqlite3_db_config(db->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	db->durability = DB_QUICK;
	rc = exec(db, "PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON", err);
	if (rc == 0)
		rc = use_wal(db, err);
	if (rc < 0)
		return refuse(err, rc, "open %s", path);
	reserve_log(db);
	*ret = take(db);
	return 0;
}

static int bind(struct db *db, sqlite3_stmt *statement, const char *types, va_list ap,
		struct error *err)
{
	for (int i = 1; *types != '\0'; types++, i++) {
		int code = SQLITE_MISUSE;
		const void *bytes;

		switch (*types) {
		case 't':
			code = sqlite3_bind_text(statement, i, va_arg(ap, const char *), -1,
						 SQLITE_TRANSIENT);
			break;
		case 'i':
			code = sqlite3_bind_int64(statement, i, va_arg(ap, int64_t));
			break;
		case 'b':
			bytes = va_arg(ap, const void *);
			code = sqlite3_bind_blob64(statement, i, bytes, va_arg(ap, size_t),
						   SQLITE_TRANSIENT);
			break;
		}
		if (code != SQLITE_OK)
			return db_fail(db, code, err, "bind");
	}
	return 0;
}

static int prepare(struct db *db, struct db_query **ret, struct error *err, const char *sql,
		   const char *types, va_list ap)
{
	own_db_query struct db_query *q = mem_new(sizeof(*q));
	int code, rc;

	q->db = db;
	code = sqlite3_prepare_v2(db->sqlite, sql, -1, &q->statement, NULL);
	if (code != SQLITE_OK)
		return db_fail(db, code, err, sql);
	rc = bind(db, q->statement, types, ap, err);
	if (rc < 0)
		return rc;
	*ret = take(q);
	return 0;
}

int db_query(struct db *db, struct db_query **ret, struct error *err, const char *sql,
	     const char *types, ...)
{
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = prepare(db, ret, err, sql, types, ap);
	va_end(ap);
	return rc;
}

int db_next(struct db_query *q, struct error *err)
{
	int code = sqlite3_step(q->statement);

	if (code == SQLITE_ROW)
		return 1;
	if (code == SQLITE_DONE)
		return 0;
	return db_fail(q->db, code, err, "step");
}

void db_query_close(struct db_query *q)
{
	if (q == NULL)
		return;
	sqlite3_finalize(q->statement);
	free(q);
}

const char *db_text(struct db_query *q, int column)
{
	return (const char *)sqlite3_column_text(q->statement, column);
}

int64_t db_int(struct db_query *q, int column)
{
	return sqlite3_column_int64(q->statement, column);
}

bool db_is_null(struct db_query *q, int column)
{
	return sqlite3_column_type(q->statement, column) == SQLITE_NULL;
}

const void *db_bytes(struct db_query *q, int column, size_t *ret_len)
{
	const void *bytes = sqlite3_column_blob(q->statement, column);

	*ret_len = (size_t)sqlite3_column_bytes(q->statement, column);
	return bytes;
}

int db_run(struct db *db, struct error *err, const char *sql, const char *types, ...)
{
	own_db_query struct db_query *q = NULL;
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = prepare(db, &q, err, sql, types, ap);
	va_end(ap);
	if (rc < 0)
		return rc;
	rc = db_next(q, err);
	return rc < 0 ? rc : sqlite3_changes(db->sqlite);
}

int64_t db_last_id(struct db *db)
{
	return sqlite3_last_insert_rowid(db->sqlite);
}

int db_begin(struct db *db, enum db_durability durability, struct db_tx *ret, struct error *err)
{
	int rc;

	if (db->durability != durability) {
		rc = exec(db,
			  durability == DB_DURABLE ? "PRAGMA synchronous = FULL"
						   : "PRAGMA synchronous = NORMAL",
			  err);
		if (rc < 0)
			return rc;
		db->durability = durability;
	}
	db->changes = sqlite3_total_changes(db->sqlite);
	rc = exec(db, "BEGIN IMMEDIATE", err);
	if (rc == 0)
		ret->db = db;
	return rc;
}

void db_rollback(struct db_tx *tx)
{
	if (tx->db != NULL)
		sqlite3_exec(tx->db->sqlite, "ROLLBACK", NULL, NULL, NULL);
	tx->db = NULL;
}

/* Takes back what a failed commit has left in the log: the next transaction is written over it, so any that
 * writes will do. (SQLite does not write what has not been different meanwhile.) */
static void supersede(struct db_tx *tx)
{
	struct db *db = tx->db;

	db_rollback(tx);
	db->in_doubt = exec(db, "BEGIN IMMEDIATE", NULL) < 0 ||
		       exec(db, "UPDATE schema SET version = version + 1", NULL) < 0 ||
		       exec(db, "UPDATE schema SET version = version - 1", NULL) < 0 ||
		       exec(db, "COMMIT", NULL) < 0;
	/* Nothing, if it was committed. */
	sqlite3_exec(db->sqlite, "ROLLBACK", NULL, NULL, NULL);
}

int db_commit(struct db_tx *tx, struct error *err)
{
	int rc = exec(tx->db, "COMMIT", err);

	/* A later one that succeeds takes the place of this one in the log, if it writes anything. */
	if (rc < 0 && rc != -EBUSY)
		supersede(tx);
	else if (rc == 0 && sqlite3_total_changes(tx->db->sqlite) != tx->db->changes)
		tx->db->in_doubt = false;
	if (rc == 0)
		tx->db = NULL;
	return rc;
}

bool db_in_doubt(const struct db *db)
{
	return db->in_doubt;
}

/* The number of steps that `name` has run; an error before the very first of any part. */
static int schema_version(struct db *db, const char *name, int64_t *ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(db, &q, err, "SELECT version FROM schema WHERE part = ?", "t", name);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc < 0)
		return rc;
	*ret = rc > 0 ? db_int(q, 0) : 0;
	return 0;
}

int db_migrate(struct db *db, const char *name, const char *const *steps, size_t count,
	       struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int64_t version = 0;
	int rc;

	/* Without a lock first: the usual case is that nothing is to be done. */
	if (schema_version(db, name, &version, NULL) == 0 && version == (int64_t)count)
		return 0;
	rc = db_begin(db, DB_DURABLE, &tx, err);
	if (rc == 0)
		rc = exec(db,
			  "CREATE TABLE IF NOT EXISTS schema "
			  "(part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
			  err);
	if (rc == 0)
		rc = schema_version(db, name, &version, err);
	if (rc < 0)
		return rc;
	if (version > (int64_t)count)
		return hint(err,
			    refuse(err, -EPROTO, "the database was written by a newer version"),
			    "use that version, or another --root");
	for (size_t i = (size_t)version; i < count; i++) {
		rc = exec(db, steps[i], err);
		if (rc < 0)
			return rc;
	}
	rc = db_run(db, err,
		    "INSERT INTO schema VALUES (?, ?) "
		    "ON CONFLICT (part) DO UPDATE SET version = excluded.version",
		    "ti", name, (int64_t)count);
	return rc < 0 ? rc : db_commit(&tx, err);
}

int db_settle(struct db *db, struct error *err)
{
	const char *path = sqlite3_db_filename(db->sqlite, "main");
	struct stat st;
	int code;

	if (stat(sqlite3_filename_wal(path), &st) < 0 || st.st_size < SETTLE_BYTES)
		return 0;
	sqlite3_busy_timeout(db->sqlite, 0);
	code = sqlite3_wal_checkpoint_v2(db->sqlite, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	sqlite3_busy_timeout(db->sqlite, BUSY_TIMEOUT_MS);
	/* Others are at work: the next one will do it. */
	if (code != SQLITE_OK && (code & 0xff) != SQLITE_BUSY)
		return db_fail(db, code, err, "settle");
	reserve_log(db);
	return 0;
}

int db_check(struct db *db, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(db, &q, err, "PRAGMA integrity_check(1)", "");

	if (rc == 0)
		rc = db_next(q, err);
	if (rc < 0)
		return rc;
	if (rc > 0 && !str_eq(db_text(q, 0), "ok"))
		return refuse(err, -EUCLEAN, "database: %s", db_text(q, 0));
	return 0;
}
