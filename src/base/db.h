/*
 * db: the SQLite database, with checked statements and errors in words.
 *
 * One file in WAL mode, opened by as many processes as want to. Each part keeps its own tables and
 * brings its own schema (db_migrate). Parameters and columns are bound by position with a type string:
 *   't' const char * (NULL is SQL NULL), 'i' int64_t, 'b' const void * and size_t.
 *
 *     rc = db_run(db, err, "UPDATE image SET name = ? WHERE id = ?", "ti", name, id);
 *
 *     own_db_query struct db_query *q = NULL;
 *     rc = db_query(db, &q, err, "SELECT id, name FROM image WHERE size > ?", "i", size);
 *     while ((rc = db_next(q, err)) > 0)
 *             use(db_int(q, 0), db_text(q, 1));
 *
 * Invariants
 *   D1  a transaction that is not committed rolls back, also when the process is killed. One whose commit
 *       failed is written over at once; if that fails, too (db_in_doubt), it may come back for who opens
 *       the file after us: its bytes were written, only not synced.
 *   D2  a committed transaction survives the process; with DB_DURABLE also a power cut.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"

struct db;
struct db_query;

enum db_durability {
	DB_QUICK,   /* consistent after a power cut, the last transactions may be missing */
	DB_DURABLE, /* committed means on disk */
};

/* Opens (creating it with mode 0600) the database file; -ELOOP for a link, -EUCLEAN for a file that is
 * no database. Not to be used across a fork: open it in the child. */
int db_open(const char *path, struct db **ret, struct error *err) must_check;
void db_close(struct db *db);

/* Runs the steps that the part `name` has not run yet in this file, in one transaction. Steps are
 * only ever appended to; a file that a newer program has migrated further is refused. */
int db_migrate(struct db *db, const char *name, const char *const *steps, size_t count,
	       struct error *err) must_check;

/* Executes one statement that returns no rows; outside a transaction it is one by itself, with the
 * durability of the last db_begin (DB_QUICK at first). Returns the number of rows changed. -EEXIST for
 * a violated uniqueness, -ENOTEMPTY for a foreign key (the row is referred to, or refers to none),
 * -EINVAL for another violated constraint, -EBUSY if another process held the lock too long, -ENOSPC,
 * -EIO. */
int db_run(struct db *db, struct error *err, const char *sql, const char *types, ...) must_check;
/* The rowid of the last INSERT. */
int64_t db_last_id(struct db *db);

/* Prepares a query; rows come with db_next: 1 a row, 0 the end, -errno. */
int db_query(struct db *db, struct db_query **ret, struct error *err, const char *sql,
	     const char *types, ...) must_check;
int db_next(struct db_query *q, struct error *err) must_check;
void db_query_close(struct db_query *q);
/* Columns of the current row; text and bytes are valid until the next db_next. */
const char *db_text(struct db_query *q, int column); /* NULL for SQL NULL */
int64_t db_int(struct db_query *q, int column);      /* 0 for SQL NULL */
bool db_is_null(struct db_query *q, int column);
const void *db_bytes(struct db_query *q, int column, size_t *ret_len);

/* A write transaction (the lock is taken at once, so it cannot fail halfway for being late).
 *     own_db_tx struct db_tx tx = {0};
 *     rc = db_begin(db, DB_DURABLE, &tx, err); ... return db_commit(&tx, err); */
struct db_tx {
	struct db *db; /* NULL once it has ended */
};
int db_begin(struct db *db, enum db_durability durability, struct db_tx *ret,
	     struct error *err) must_check;
int db_commit(struct db_tx *tx, struct error *err) must_check;
void db_rollback(struct db_tx *tx); /* nothing if it has ended */
/* Whether a commit has failed and nothing could be written since (D1): what the database says now may not be what
 * it says the next time. */
bool db_in_doubt(const struct db *db);

/* Copies the write-ahead log into the database if it has become long: opening the file takes the longer
 * the longer the log is, and this takes two waits for the disk. For who has time: after a command has
 * said its result. Does not wait for other processes. */
int db_settle(struct db *db, struct error *err) must_check;

/* SQLite's own check of the file: 0, or -EUCLEAN with what it found. */
int db_check(struct db *db, struct error *err) must_check;

OWN_DEFINE(own_db_query, struct db_query *, db_query_close);
#define own_db_query __attribute__((cleanup(own_db_query_release)))
#define own_db_tx __attribute__((cleanup(db_rollback)))
