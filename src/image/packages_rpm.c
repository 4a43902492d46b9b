/*
 * packages_rpm: the installed packages of an rpm database.
 *
 * Since rpm 4.16 the database is SQLite (older ones: packages_rpm_old.c): a table Packages(hnum, blob), each
 * blob one header (packages_rpm_header.c). The file comes from an image, so it is read into memory and opened
 * there as immutable, with whatever its schema may contain distrusted.
 */
#include <endian.h>
#include <errno.h>
#include <sqlite3.h>

#include "base/mem.h"
#include "base/own.h"
#include "image/packages_priv.h"

static void own_sqlite_release(sqlite3 **db)
{
	sqlite3_close(*db);
}
static void own_statement_release(sqlite3_stmt **statement)
{
	sqlite3_finalize(*statement);
}
#define own_sqlite __attribute__((cleanup(own_sqlite_release)))
#define own_statement __attribute__((cleanup(own_statement_release)))

static int read_database(struct packages *list, const char *path, char *text, size_t len,
			 struct error *err)
{
	own_sqlite sqlite3 *db = NULL;
	own_statement sqlite3_stmt *rows = NULL;
	int code;

	if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) !=
	    SQLITE_OK)
		return refuse(err, -ENOMEM, "open a database in memory");
	sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	code = sqlite3_deserialize(db, "main", (unsigned char *)text, (sqlite3_int64)len,
				   (sqlite3_int64)len, SQLITE_DESERIALIZE_READONLY);
	if (code == SQLITE_OK)
		code = sqlite3_prepare_v2(db, "SELECT blob FROM Packages", -1, &rows, NULL);
	while (code == SQLITE_OK && (code = sqlite3_step(rows)) == SQLITE_ROW) {
		int rc = packages_add_rpm_header(list, path, sqlite3_column_blob(rows, 0),
						 (size_t)sqlite3_column_bytes(rows, 0), err);

		if (rc < 0)
			return rc;
		code = SQLITE_OK;
	}
	if (code != SQLITE_DONE)
		packages_note(list, "/%s: %s", path, sqlite3_errmsg(db));
	return 0;
}

int packages_read_rpm(int root_fd, struct packages *list, struct error *err)
{
	static const char *const paths[] = {"usr/lib/sysimage/rpm/rpmdb.sqlite",
					    "var/lib/rpm/rpmdb.sqlite"};
	static const char *const old_paths[] = {"var/lib/rpm/Packages", "var/lib/rpm/Packages.db",
						"usr/lib/sysimage/rpm/Packages.db"};

	for (size_t i = 0; i < array_size(paths); i++) {
		own_mem char *text = NULL;
		size_t len;
		int rc = packages_read(root_fd, paths[i], PACKAGES_FILE_MAX, &text, &len, err);

		if (rc > 0)
			/* The second path is a link to the first on most systems. */
			return read_database(list, paths[i], text, len, err);
		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < array_size(old_paths); i++) {
		own_mem char *text = NULL;
		size_t len;

		int rc = packages_read(root_fd, old_paths[i], PACKAGES_FILE_MAX, &text, &len, err);

		if (rc > 0)
			return packages_read_rpm_old(list, old_paths[i], text, len, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}
