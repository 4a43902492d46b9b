/* db: several processes at once, the death of one within a transaction, migrations, a full disk. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/db.h"
#include "base/mem.h"

#include "scratch.h"
#include <cmocka.h>

static const char *const steps[] = {
	("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB, "
	 "size INTEGER NOT NULL DEFAULT 0)"),
	"ALTER TABLE item ADD COLUMN note TEXT",
	"CREATE TABLE part (item INTEGER REFERENCES item (id))",
};

static struct db *db;

static struct db *open_it(void)
{
	struct error err = {0};
	struct db *opened = NULL;

	if (db_open(scratch_path("db"), &opened, &err) < 0 ||
	    db_migrate(opened, "test", steps, array_size(steps), &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	return opened;
}

static int set_up(void **state)
{
	(void)state;
	scratch_open();
	db = open_it();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	db_close(db);
	scratch_close();
	return 0;
}

static int64_t count(struct db *in)
{
	own_db_query struct db_query *q = NULL;

	assert_int_equal(db_query(in, &q, NULL, "SELECT count(*) FROM item", ""), 0);
	assert_int_equal(db_next(q, NULL), 1);
	return db_int(q, 0);
}

static void values_come_back_as_they_went(void **state)
{
	own_db_query struct db_query *q = NULL;
	size_t len;

	(void)state;
	assert_int_equal(db_run(db, NULL,
				"INSERT INTO item (id, name, data, size) VALUES (?,?,?,?)", "itbi",
				INT64_C(7), "na'me", "a\0b", (size_t)3, INT64_MIN),
			 1);
	assert_int_equal(db_last_id(db), 7);
	assert_int_equal(db_run(db, NULL, "INSERT INTO item (name) VALUES (?)", "t", NULL), 1);
	assert_int_equal(
		db_query(db, &q, NULL, "SELECT name, data, size FROM item ORDER BY id", ""), 0);
	assert_int_equal(db_next(q, NULL), 1);
	assert_string_equal(db_text(q, 0), "na'me");
	assert_memory_equal(db_bytes(q, 1, &len), "a\0b", 3);
	assert_int_equal(len, 3);
	assert_true(db_int(q, 2) == INT64_MIN);
	assert_int_equal(db_next(q, NULL), 1);
	assert_null(db_text(q, 0));
	assert_true(db_is_null(q, 0) && db_int(q, 0) == 0);
	assert_int_equal(db_next(q, NULL), 0);
}

static void failures_have_their_codes(void **state)
{
	static const struct {
		const char *sql, *types;
		int rc;
	} cases[] = {
		{"INSERT INTO item (name) VALUES ('a')", "", -EEXIST},
		{"INSERT INTO item (id) VALUES (1)", "", -EEXIST},
		{"INSERT INTO item (name, size) VALUES ('b', NULL)", "", -EINVAL},
		{"INSERT INTO part VALUES (99)", "", -ENOTEMPTY},
		{"INSERT INTO nothing VALUES (1)", "", -EIO},
		{"SELEKT", "", -EIO},
		{"DELETE FROM item WHERE id = 1", "?", -EIO},
	};

	(void)state;
	assert_int_equal(db_run(db, NULL, "INSERT INTO item (id, name) VALUES (1, 'a')", ""), 1);
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};

		print_message("%s\n", cases[i].sql);
		assert_int_equal(db_run(db, &err, cases[i].sql, cases[i].types), cases[i].rc);
		assert_int_equal(strncmp(err.text, "database: ", 10), 0);
	}
	assert_int_equal(count(db), 1);
}

static void changed_rows_are_counted(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(db_run(db, NULL, "INSERT INTO item (size) VALUES (1)", ""), 1);
	assert_int_equal(db_run(db, NULL, "UPDATE item SET size = 2", ""), 3);
	assert_int_equal(db_run(db, NULL, "DELETE FROM item WHERE size = 9", ""), 0);
}

static void transaction_that_is_left_rolls_back(void **state)
{
	(void)state;
	{
		own_db_tx struct db_tx tx = {0};

		assert_int_equal(db_begin(db, DB_QUICK, &tx, NULL), 0);
		assert_int_equal(db_run(db, NULL, "INSERT INTO item (name) VALUES ('x')", ""), 1);
		assert_int_equal(count(db), 1);
	}
	assert_int_equal(count(db), 0);
	{
		own_db_tx struct db_tx tx = {0};

		assert_int_equal(db_begin(db, DB_DURABLE, &tx, NULL), 0);
		assert_int_equal(db_run(db, NULL, "INSERT INTO item (name) VALUES ('x')", ""), 1);
		assert_int_equal(db_commit(&tx, NULL), 0);
		assert_null(tx.db);
	}
	assert_int_equal(count(db), 1);
}

enum { WRITERS = 4, ROUNDS = 100 };

static void write_rounds(void *data)
{
	struct db *own = open_it();

	(void)data;
	for (int i = 0; i < ROUNDS; i++) {
		own_db_tx struct db_tx tx = {0};
		own_db_query struct db_query *q = NULL;
		struct error err = {0};
		int64_t size;

		/* Read and write back: lost if two did it at once. */
		child_check(db_begin(own, DB_QUICK, &tx, &err) == 0);
		child_check(db_query(own, &q, &err, "SELECT size FROM item WHERE id = 1", "") == 0);
		child_check(db_next(q, &err) == 1);
		size = db_int(q, 0);
		child_check(db_run(own, &err, "UPDATE item SET size = ? WHERE id = 1", "i",
				   size + 1) == 1);
		child_check(db_commit(&tx, &err) == 0);
	}
	db_close(own);
}

static void writers_at_once_lose_nothing(void **state)
{
	own_db_query struct db_query *q = NULL;
	pid_t writers[WRITERS];

	(void)state;
	assert_int_equal(db_run(db, NULL, "INSERT INTO item (id) VALUES (1)", ""), 1);
	/* Closed before the fork: SQLite's locks do not survive one. */
	db_close(db);
	for (int i = 0; i < WRITERS; i++)
		writers[i] = child_start(write_rounds, NULL);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(child_wait(writers[i]), 0);
	db = open_it();
	assert_int_equal(db_query(db, &q, NULL, "SELECT size FROM item", ""), 0);
	assert_int_equal(db_next(q, NULL), 1);
	assert_int_equal(db_int(q, 0), WRITERS * ROUNDS);
	assert_int_equal(db_check(db, NULL), 0);
}

static void open_and_close(void *data)
{
	(void)data;
	db_close(open_it());
}

static void many_may_open_a_new_file_at_once(void **state)
{
	(void)state;
	for (int round = 0; round < 10; round++) {
		pid_t children[6];

		db_close(db);
		db = NULL;
		unlink(scratch_path("db"));
		unlink(scratch_path("db-wal"));
		unlink(scratch_path("db-shm"));
		for (size_t i = 0; i < array_size(children); i++)
			children[i] = child_start(open_and_close, NULL);
		for (size_t i = 0; i < array_size(children); i++)
			assert_int_equal(child_wait(children[i]), 0);
		db = open_it();
		assert_int_equal(count(db), 0);
	}
}

static void die_within_a_transaction(void *data)
{
	struct db *own = open_it();
	struct db_tx tx;

	(void)data;
	child_check(db_run(own, NULL, "INSERT INTO item (name) VALUES ('committed')", "") == 1);
	child_check(db_begin(own, DB_QUICK, &tx, NULL) == 0);
	/* More than the page cache holds, so that half of it is in the file already. */
	for (int i = 0; i < 400; i++)
		child_check(db_run(own, NULL, "INSERT INTO item (data) VALUES (zeroblob(20000))",
				   "") == 1);
	raise(SIGKILL);
}

static void killed_writer_leaves_only_what_it_committed(void **state)
{
	(void)state;
	db_close(db);
	assert_int_equal(child_wait(child_start(die_within_a_transaction, NULL)), 128 + SIGKILL);
	db = open_it();
	assert_int_equal(count(db), 1);
	assert_int_equal(db_check(db, NULL), 0);
	assert_int_equal(db_run(db, NULL, "INSERT INTO item (name) VALUES ('next')", ""), 1);
}

static void migration_runs_each_step_once(void **state)
{
	(void)state;
	/* A second CREATE TABLE would fail. */
	assert_int_equal(db_migrate(db, "test", steps, array_size(steps), NULL), 0);
	db_close(db);
	db = open_it();
	/* Another part counts for itself. */
	assert_int_equal(
		db_migrate(db, "other", (const char *const[]){"CREATE TABLE o (x)"}, 1, NULL), 0);
	assert_int_equal(
		db_migrate(db, "other",
			   (const char *const[]){"CREATE TABLE o (x)", "CREATE TABLE p (x)"}, 2,
			   NULL),
		0);
	assert_int_equal(db_run(db, NULL, "INSERT INTO p VALUES (1)", ""), 1);
}

static void failed_migration_changes_nothing(void **state)
{
	static const char *const bad[] = {"CREATE TABLE a (x)", "CREATE TABLE a (x)"};
	static const char *const good[] = {"CREATE TABLE a (x)"};
	struct error err = {0};

	(void)state;
	assert_int_equal(db_migrate(db, "part", bad, 2, &err), -EIO);
	assert_non_null(strstr(err.text, "already exists"));
	assert_int_equal(db_migrate(db, "part", good, 1, NULL), 0);
}

static void newer_schema_is_refused(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(db_migrate(db, "test", steps, 2, &err), -EPROTO);
	assert_non_null(strstr(err.text, "newer version"));
	assert_true(err.hint[0] != '\0');
}

static void file_is_private_and_no_link(void **state)
{
	struct db *other = NULL;
	struct error err = {0};
	struct stat st;

	(void)state;
	assert_int_equal(stat(scratch_path("db"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(symlink("db", scratch_path("link")), 0);
	assert_int_equal(db_open(scratch_path("link"), &other, &err), -ELOOP);
	assert_int_equal(db_open(scratch_path("no/db"), &other, NULL), -ENOENT);
	assert_null(other);
}

static void damaged_file_is_told(void **state)
{
	static char garbage[8192];
	struct error err = {0};
	struct db *bad = NULL;

	(void)state;
	memset(garbage, 'x', sizeof(garbage) - 1);
	scratch_file("bad", garbage);
	assert_int_equal(db_open(scratch_path("bad"), &bad, &err), -EUCLEAN);
	assert_non_null(strstr(err.text, "database: "));
	assert_null(bad);
}

static void fill_the_disk(void *data)
{
	struct error err = {0};
	struct db *own;
	int rc = 1;

	(void)data;
	child_tiny_tmpfs("512k");
	own = open_it();
	for (int i = 0; i < 1000 && rc == 1; i++)
		rc = db_run(own, &err, "INSERT INTO item (data) VALUES (zeroblob(9000))", "");
	child_check(rc == -ENOSPC);
	child_check(strstr(err.text, "database: ") == err.text);
	/* What was acknowledged is there, and the file is sound. */
	child_check(db_check(own, NULL) == 0);
	child_check(db_run(own, NULL, "SELECT 1", "") >= 0);
	db_close(own);
}

static void full_disk_is_told_and_does_no_damage(void **state)
{
	(void)state;
	if (!root_or_skip("a tmpfs of 512 KiB"))
		skip();
	db_close(db);
	db = NULL;
	assert_int_equal(child_wait(child_start(fill_the_disk, NULL)), 0);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(values_come_back_as_they_went),
		case_of(failures_have_their_codes),
		case_of(changed_rows_are_counted),
		case_of(transaction_that_is_left_rolls_back),
		case_of(writers_at_once_lose_nothing),
		case_of(many_may_open_a_new_file_at_once),
		case_of(killed_writer_leaves_only_what_it_committed),
		case_of(migration_runs_each_step_once),
		case_of(failed_migration_changes_nothing),
		case_of(newer_schema_is_refused),
		case_of(file_is_private_and_no_link),
		case_of(damaged_file_is_told),
		case_of(full_disk_is_told_and_does_no_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
