/*
 * check: the tables against the files, and mending.
 *
 *     tables that differ from each other, or      the rows are written again or removed
 *       from manifest and configuration (check_tables.c)
 *     what a killed command left                  removed, without being asked to
 *     a file that no row speaks of                removed
 *     a layer file that is missing or differs     made again from its blob, or from itself if the tar
 *                                                 that it holds is right; else as below
 *     a manifest or configuration that is         the images that need it are removed, unless they
 *       missing or differs                        are in use
 *     another blob that is missing or differs     forgotten: the image still runs, and the next pull
 *                                                 fetches the blob
 * */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/check_priv.h"
#include "image/garbage.h"
#include "image/orphans.h"
#include "image/record.h"

void check_problem(struct check *c, bool repaired, const char *fmt, ...)
{
	own_mem char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = str_format_va(fmt, ap);
	va_end(ap);
	c->open += !repaired;
	if (c->fn != NULL)
		c->fn(text, repaired, c->data);
}

/* What is wrong with the file of a blob, as a phrase; NULL: nothing. */
static char *blob_fault(struct check *c, const struct digest *digest, int64_t size)
{
	own_fd int fd = openat(c->store->blobs_fd, digest_path(digest).text,
			       O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct digest is;
	struct stat st;

	if (fd < 0)
		return str_copy(errno == ENOENT ? "is missing" : strerror(errno));
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return str_copy("is not a regular file");
	if (st.st_size != size)
		return str_format("has %lld bytes instead of %lld", (long long)st.st_size,
				  (long long)size);
	if (!(c->flags & IMAGE_CHECK_CONTENT))
		return NULL;
	if (digest_of_fd(fd, digest, &is) < 0)
		return str_copy("cannot be read");
	return digest_eq(&is, digest) ? NULL : str_format("has the digest %s", is.text);
}

/* Rows that a query gives as texts: key and two numbers or texts more. */
struct row {
	struct digest key, file_digest;
	int64_t size;
	char format[16];
};
struct rows {
	struct row *items;
	size_t count;
};
static void rows_release(struct rows *rows)
{
	free(rows->items);
}
#define own_rows __attribute__((cleanup(rows_release)))

/* `image` is the statement's parameter, NULL: it has none. */
static int read_rows(struct check *c, const char *sql, const char *image, struct rows *rows,
		     struct error *err)
{
	own_db_query struct db_query *q = NULL;
	size_t capacity = 0;
	int rc = db_query(c->store->db, &q, err, sql, image ? "t" : "", image);

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		struct row *row;

		rows->items = mem_grow(rows->items, rows->count, &capacity, sizeof(*row));
		row = &rows->items[rows->count++];
		snprintf(row->key.text, sizeof(row->key.text), "%s", db_text(q, 0));
		row->size = db_int(q, 1);
		snprintf(row->file_digest.text, sizeof(row->file_digest.text), "%s", db_text(q, 2));
		snprintf(row->format, sizeof(row->format), "%s", db_text(q, 3));
	}
	return rc;
}

/* Removes the images that `sql` names for `key`. 1 if all could be, 0 if one is in use. */
static int drop_images(struct check *c, const char *sql, const char *key, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_strv char **ids = NULL;
	int rc = db_query(c->store->db, &q, err, sql, "t", key);

	while (rc >= 0 && (rc = db_next(q, err)) > 0)
		strv_push(&ids, db_text(q, 0));
	db_query_close(take(q));
	for (size_t i = 0; rc >= 0 && ids != NULL && ids[i] != NULL; i++) {
		own_db_tx struct db_tx tx = {0};

		rc = db_begin(c->store->db, DB_DURABLE, &tx, err);
		if (rc == 0)
			rc = db_run(c->store->db, err,
				    "DELETE FROM image_name WHERE image = ?1 AND NOT EXISTS "
				    "(SELECT 1 FROM image_use WHERE image = ?1)",
				    "t", ids[i]);
		if (rc >= 0)
			rc = image_garbage_condemn(c->store, ids[i], err);
		if (rc >= 0)
			rc = db_run(c->store->db, err, "DELETE FROM image_image WHERE id = ?", "t",
				    ids[i]);
		/* Its users hold it by a foreign key. */
		if (rc == -ENOTEMPTY) {
			error_clear(err);
			return 0;
		}
		if (rc >= 0)
			rc = db_commit(&tx, err);
	}
	return rc < 0 ? rc : 1;
}

/* Takes a blob out of the tables; a bad file goes first of all. */
static int forget_blob(struct check *c, const struct digest *digest, struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(c->store->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = db_run(c->store->db, err, "DELETE FROM image_part WHERE blob = ?", "t",
			    digest->text);
	if (rc >= 0)
		rc = db_run(c->store->db, err, "DELETE FROM image_blob WHERE digest = ?", "t",
			    digest->text);
	if (rc >= 0)
		rc = db_commit(&tx, err);
	if (rc < 0)
		return rc;
	/* Whatever it is instead of a file. */
	rc = tree_remove(c->store->blobs_fd, digest_path(digest).text, err);
	return rc < 0 ? fail(err, rc, "remove the blob %s", digest->text) : 0;
}

static int repair_blob(struct check *c, const struct digest *digest, struct error *err)
{
	int rc = drop_images(c, "SELECT id FROM image_image WHERE id = ?1 OR manifest = ?1",
			     digest->text, err);

	if (rc <= 0)
		return rc;
	rc = forget_blob(c, digest, err);
	return rc < 0 ? rc : 1;
}

static int check_blobs(struct check *c, struct error *err)
{
	own_rows struct rows rows = {0};
	int rc = read_rows(c, "SELECT digest, size, '', '' FROM image_blob", NULL, &rows, err);

	if (rc >= 0 && rows.count > 0)
		rc = image_store_blobs_fd(c->store, err);
	for (size_t i = 0; rc >= 0 && i < rows.count; i++) {
		own_mem char *fault = blob_fault(c, &rows.items[i].key, rows.items[i].size);

		if (fault == NULL)
			continue;
		rc = check_repairing(c) ? repair_blob(c, &rows.items[i].key, err) : 0;
		if (rc >= 0)
			check_problem(c, rc > 0, "the blob %s %s", rows.items[i].key.text, fault);
	}
	return rc < 0 ? rc : 0;
}

static char *layer_fault(struct check *c, const struct row *row)
{
	struct layer_info is, expected = {
				      .format = layer_format_find(row->format),
				      .digest = row->file_digest,
				      .size_bytes = (uint64_t)row->size,
			      };
	struct error why = {0};
	int rc = layer_stat(c->store->layers_fd, &row->key, &is, &why);

	if (rc == 0)
		return str_copy("is missing");
	if (rc > 0 && is.size_bytes != expected.size_bytes)
		return str_format("has %llu bytes instead of %llu",
				  (unsigned long long)is.size_bytes,
				  (unsigned long long)expected.size_bytes);
	/* A row without a digest is of a layer that was in use when its image was removed. */
	if (rc > 0 && (c->flags & IMAGE_CHECK_CONTENT) && row->file_digest.text[0] != '\0')
		rc = layer_verify(c->store->layers_fd, &row->key, &expected, &why);
	return rc < 0 ? str_format("is damaged: %s", why.text) : NULL;
}

static int remake(struct image_session *session, int layer_fd, const struct ingest_expect *expect,
		  struct ingest_result *ret, struct error *err)
{
	const struct layer_format *format = layer_format_best(session->store->layers_fd);

	return layer_fd < 0 ? ingest_kept_blob(session, format, expect, ret, err)
			    : ingest_again(session, format, layer_fd, expect, ret, err);
}

/* Makes a layer again from its blob, or, if it holds its tar, from itself: 1, or 0 if neither is there. */
static int rebuild_layer(struct check *c, const struct digest *diffid, struct error *err)
{
	own_image_session struct image_session session = {0};
	struct ingest_result result;
	struct ingest_expect expect = INGEST_EXPECT_NOTHING;
	struct image_origin origin;
	own_fd int layer_fd = -1;
	uint64_t tar_bytes;
	int rc = image_layer_origin(c->store, diffid, &origin, err);

	if (rc <= 0)
		return rc;
	if (!origin.blob_here)
		layer_fd = layer_again_open(c->store->layers_fd, diffid, &tar_bytes, NULL);
	if (!origin.blob_here && layer_fd < 0)
		return 0;
	expect.diffid = *diffid;
	expect.blob = origin.blob;
	expect.blob_size = origin.size;
	expect.compression = origin.compression;
	rc = layer_remove(c->store->layers_fd, c->store->state_fd, diffid, err);
	if (rc == 0)
		rc = image_session_begin(c->store, &session, err);
	if (rc == 0)
		rc = remake(&session, layer_fd, &expect, &result, err);
	if (rc == 0)
		rc = image_record_layer(&session, &result, err);
	return rc < 0 ? rc : 1;
}

static int forget_layer(struct check *c, const struct digest *diffid, struct error *err)
{
	int rc = db_run(c->store->db, err, "DELETE FROM image_layer WHERE diffid = ?", "t",
			diffid->text);

	if (rc == -ENOTEMPTY) {
		error_clear(err);
		return 0;
	}
	if (rc >= 0)
		rc = layer_remove(c->store->layers_fd, c->store->state_fd, diffid, err);
	return rc < 0 ? rc : 1;
}

static int repair_layer(struct check *c, const struct digest *diffid, struct error *err)
{
	struct error why = {0};
	int rc = rebuild_layer(c, diffid, &why);

	/* In use, or no blob to make it from, or that is bad too. */
	if (rc == -EBUSY)
		return 0;
	if (rc == -ENOSPC || rc == -EINTR) {
		if (err != NULL)
			*err = why;
		return rc;
	}
	if (rc > 0)
		return 1;
	rc = drop_images(c, "SELECT image FROM image_stack WHERE diffid = ?", diffid->text, err);
	return rc <= 0 ? rc : forget_layer(c, diffid, err);
}

static int check_layers(struct check *c, struct error *err)
{
	own_rows struct rows rows = {0};
	int rc = read_rows(c, "SELECT diffid, size, digest, format FROM image_layer", NULL, &rows,
			   err);

	if (rc >= 0 && rows.count > 0) {
		/* Without the directory every layer is missing: there is no way to say it shorter. */
		rc = dir_make(c->store->root_fd, "layers", 0700, err);
		if (rc >= 0)
			rc = image_store_layers_fd(c->store, err);
	}
	for (size_t i = 0; rc >= 0 && i < rows.count; i++) {
		own_mem char *fault = layer_fault(c, &rows.items[i]);

		if (fault == NULL)
			continue;
		rc = check_repairing(c) ? repair_layer(c, &rows.items[i].key, err) : 0;
		if (rc >= 0)
			check_problem(c, rc > 0, "the layer %s %s", rows.items[i].key.text, fault);
	}
	return rc < 0 ? rc : 0;
}

static void report_orphan(const char *file, bool removed, void *data)
{
	check_problem(data, removed, "the file %s belongs to nothing", file);
}

/* What killed commands left is no inconsistency: whatever command comes next removes it, and so does
 * this one. */
static int check_sessions(struct check *c, struct error *err)
{
	struct layer_leftovers left = {0};
	int dead = image_session_recover(c->store, err), rc = 0;

	if (dead < 0)
		return dead;
	if (dead > 0)
		check_problem(c, true, "temporary files of %d command%s that died", dead,
			      dead == 1 ? "" : "s");
	if (image_store_layers_fd(c->store, NULL) >= 0)
		rc = layer_recover(c->store->layers_fd, c->store->state_fd, 0, &left, err);
	if (rc < 0)
		return rc;
	if (left.writes > 0)
		check_problem(c, true, "%u unfinished layer%s of commands that died", left.writes,
			      left.writes == 1 ? "" : "s");
	if (left.mounts > 0)
		check_problem(c, true, "%u mounted layer%s that nothing uses", left.mounts,
			      left.mounts == 1 ? "" : "s");
	return 0;
}

int image_store_check(struct image_store *store, enum image_check_flags flags, image_problem_fn *fn,
		      void *data, struct error *err)
{
	struct check c = {.store = store, .flags = flags, .fn = fn, .data = data};
	/* As any command at its beginning: what killed ones left is no inconsistency. */
	int rc = image_leftovers_remove(store, err);

	if (rc == 0)
		rc = check_sessions(&c, err);
	if (rc == 0)
		rc = check_tables(&c, err);
	/* Layers first: a blob that is needed to make one again must still be known. */
	if (rc == 0)
		rc = check_layers(&c, err);
	if (rc == 0)
		rc = check_blobs(&c, err);
	if (rc == 0)
		rc = image_orphans(store, check_repairing(&c), report_orphan, &c, err);
	if (rc == -EWOULDBLOCK)
		rc = 0;
	if (rc == 0 && check_repairing(&c))
		rc = image_garbage_collect(store, GARBAGE_CONDEMNED, NULL, err);
	return rc < 0 ? refuse(err, rc, "check the images") : c.open;
}

int image_verify_files(struct image_store *store, const struct digest *id, image_problem_fn *fn,
		       void *data, size_t *ret_blobs, size_t *ret_layers, struct error *err)
{
	struct check c = {.store = store, .flags = IMAGE_CHECK_CONTENT, .fn = fn, .data = data};
	own_rows struct rows blobs = {0}, layers = {0};
	int rc = read_rows(&c,
			   "SELECT digest, size, '', '' FROM image_blob WHERE digest IN "
			   "(SELECT blob FROM image_part WHERE image = ?)",
			   id->text, &blobs, err);

	if (rc >= 0)
		rc = read_rows(&c,
			       "SELECT diffid, size, digest, format FROM image_layer WHERE diffid "
			       "IN (SELECT diffid FROM image_stack WHERE image = ?)",
			       id->text, &layers, err);
	if (rc >= 0 && blobs.count > 0)
		rc = image_store_blobs_fd(store, err);
	if (rc >= 0 && layers.count > 0)
		rc = image_store_layers_fd(store, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < blobs.count; i++) {
		own_mem char *fault = blob_fault(&c, &blobs.items[i].key, blobs.items[i].size);

		if (fault != NULL)
			check_problem(&c, false, "the blob %s %s", blobs.items[i].key.text, fault);
	}
	for (size_t i = 0; i < layers.count; i++) {
		own_mem char *fault = layer_fault(&c, &layers.items[i]);

		if (fault != NULL)
			check_problem(&c, false, "the layer %s %s", layers.items[i].key.text,
				      fault);
	}
	*ret_blobs = blobs.count;
	*ret_layers = layers.count;
	return c.open;
}
