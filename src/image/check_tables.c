/*
 * check_tables: rows against rows, and against the documents (check_priv.h).
 *
 * The database's own rules make most of this impossible; a database that was mended, copied or written to
 * by somebody else need not have kept them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/check_priv.h"
#include "image/manifest.h"

/* Rows that speak of an image that has none. */
static const struct dangling {
	const char *find, *what, *repair;
} danglings[] = {
	{"SELECT name FROM image_name WHERE image NOT IN (SELECT id FROM image_image)",
	 "the name %s is of an image that is not here", "DELETE FROM image_name WHERE name = ?"},
	{"SELECT DISTINCT repository FROM image_digest WHERE image NOT IN "
	 "(SELECT id FROM image_image)",
	 "digests of the repository %s are of an image that is not here",
	 "DELETE FROM image_digest WHERE repository = ? AND image NOT IN "
	 "(SELECT id FROM image_image)"},
	{"SELECT DISTINCT image FROM image_part WHERE image NOT IN (SELECT id FROM image_image)",
	 "blobs are kept for the image %s, which is not here",
	 "DELETE FROM image_part WHERE image = ?"},
	{"SELECT DISTINCT image FROM image_stack WHERE image NOT IN (SELECT id FROM image_image)",
	 "layers are kept for the image %s, which is not here",
	 "DELETE FROM image_stack WHERE image = ?"},
	{"SELECT DISTINCT blob FROM image_part WHERE blob NOT IN (SELECT digest FROM image_blob)",
	 "the blob %s is needed, but not recorded", "DELETE FROM image_part WHERE blob = ?"},
};

static int list_texts(struct check *c, const char *sql, char ***ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(c->store->db, &q, err, sql, "");

	while (rc >= 0 && (rc = db_next(q, err)) > 0)
		strv_push(ret, db_text(q, 0));
	return rc;
}

static int check_dangling(struct check *c, const struct dangling *d, struct error *err)
{
	own_strv char **found = NULL;
	int rc = list_texts(c, d->find, &found, err);

	for (size_t i = 0; rc >= 0 && found != NULL && found[i] != NULL; i++) {
		const char *at = strstr(d->what, "%s");

		if (check_repairing(c))
			rc = db_run(c->store->db, err, d->repair, "t", found[i]);
		if (rc >= 0)
			check_problem(c, check_repairing(c), "%.*s%s%s", (int)(at - d->what),
				      d->what, found[i], at + 2);
	}
	return rc < 0 ? rc : 0;
}

/* An image with what its documents say. */
struct expected {
	struct digest id, manifest_digest;
	struct image_document document;
	struct manifest manifest;
};

static void expected_release(struct expected *e)
{
	image_document_release(&e->document);
	manifest_release(&e->manifest);
}
#define own_expected __attribute__((cleanup(expected_release)))

/* 1, or 0 if a document cannot be read: that is for the look at the blobs. */
static int read_expected(struct check *c, const char *id, struct expected *e, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_mem char *text = NULL;
	size_t len;
	int rc = db_query(c->store->db, &q, err, "SELECT manifest FROM image_image WHERE id = ?",
			  "t", id);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc <= 0)
		return rc;
	if (digest_parse(id, &e->id, NULL) < 0 ||
	    digest_parse(db_text(q, 0), &e->manifest_digest, NULL) < 0 ||
	    image_read_document(c->store, &e->id, &e->document, NULL) < 0 ||
	    image_blob_read(c->store, &e->manifest_digest, MANIFEST_SIZE_MAX, &text, &len, NULL) <
		    0 ||
	    manifest_parse(text, len, NULL, &e->manifest, NULL) < 0)
		return 0;
	return e->manifest.kind == MANIFEST_IMAGE &&
	       e->manifest.layers_count == e->document.diffids_count;
}

/* 1 if the stack is recorded as it should be. */
static int stack_fits(struct check *c, const struct expected *e, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	size_t i = 0;
	int rc = db_query(c->store->db, &q, err,
			  "SELECT s.diffid, s.position, l.diffid IS NOT NULL FROM image_stack s "
			  "LEFT JOIN image_layer l ON l.diffid = s.diffid WHERE s.image = ? "
			  "ORDER BY s.position",
			  "t", e->id.text);

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		if (i >= e->document.diffids_count || db_int(q, 1) != (int64_t)i ||
		    !str_eq(db_text(q, 0), e->document.diffids[i].text) || db_int(q, 2) == 0)
			return 0;
		i++;
	}
	return rc < 0 ? rc : i == e->document.diffids_count;
}

static int rewrite_stack(struct check *c, const struct expected *e, struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(c->store->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = db_run(c->store->db, err, "DELETE FROM image_stack WHERE image = ?", "t",
			    e->id.text);
	for (size_t i = 0; rc >= 0 && i < e->document.diffids_count; i++) {
		const struct descriptor *layer = &e->manifest.layers[i];

		rc = db_run(c->store->db, err,
			    "INSERT OR IGNORE INTO image_layer (diffid, format, digest, size, "
			    "unpacked, entries, whiteouts, added_ns, blob, blob_size, "
			    "blob_packing) VALUES (?, '', '', 0, 0, 0, 0, ?, ?, ?, ?)",
			    "titit", e->document.diffids[i].text, clock_now_ns(),
			    layer->digest.text, (int64_t)layer->size_bytes,
			    compression_name(manifest_layer_compression(layer->media_type)));
		if (rc >= 0)
			rc = db_run(c->store->db, err,
				    "INSERT INTO image_stack (image, position, diffid) "
				    "VALUES (?, ?, ?)",
				    "tit", e->id.text, (int64_t)i, e->document.diffids[i].text);
	}
	return rc < 0 ? rc : db_commit(&tx, err);
}

/* 1 if the blob is recorded as a part of the image, or is not here at all. */
static int part_fits(struct check *c, const struct expected *e, const struct digest *blob,
		     struct stat *st, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(c->store->db, &q, err,
			  "SELECT 1 FROM image_part p JOIN image_blob b ON b.digest = p.blob "
			  "WHERE p.image = ? AND p.blob = ?",
			  "tt", e->id.text, blob->text);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc != 0)
		return rc;
	return fstatat(c->store->blobs_fd, digest_path(blob).text, st, AT_SYMLINK_NOFOLLOW) < 0 ||
	       !S_ISREG(st->st_mode);
}

static int check_part(struct check *c, const struct expected *e, const struct digest *blob,
		      struct error *err)
{
	struct stat st;
	int rc = part_fits(c, e, blob, &st, err);

	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (check_repairing(c)) {
		rc = db_run(c->store->db, err,
			    "INSERT OR IGNORE INTO image_blob (digest, size, added_ns) "
			    "VALUES (?, ?, ?)",
			    "tii", blob->text, (int64_t)st.st_size, clock_now_ns());
		if (rc >= 0)
			rc = db_run(c->store->db, err,
				    "INSERT INTO image_part (image, blob) VALUES (?, ?)", "tt",
				    e->id.text, blob->text);
	}
	if (rc >= 0)
		check_problem(c, check_repairing(c),
			      "the blob %s is not recorded as a part of the image %s", blob->text,
			      e->id.text);
	return rc < 0 ? rc : 0;
}

static int check_image(struct check *c, const char *id, struct error *err)
{
	own_expected struct expected e = {0};
	int rc = read_expected(c, id, &e, err);

	if (rc <= 0)
		return rc;
	rc = stack_fits(c, &e, err);
	if (rc == 0) {
		rc = check_repairing(c) ? rewrite_stack(c, &e, err) : 0;
		if (rc >= 0)
			check_problem(c, check_repairing(c),
				      "the layers of the image %s are not recorded as its "
				      "configuration says",
				      id);
	}
	if (rc >= 0)
		rc = check_part(c, &e, &e.id, err);
	if (rc == 0)
		rc = check_part(c, &e, &e.manifest_digest, err);
	for (size_t i = 0; rc == 0 && i < e.manifest.layers_count; i++)
		rc = check_part(c, &e, &e.manifest.layers[i].digest, err);
	return rc;
}

int check_tables(struct check *c, struct error *err)
{
	own_strv char **ids = NULL;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < array_size(danglings); i++)
		rc = check_dangling(c, &danglings[i], err);
	if (rc == 0)
		rc = list_texts(c, "SELECT id FROM image_image", &ids, err);
	if (rc == 0 && ids != NULL)
		rc = image_store_blobs_fd(c->store, err);
	for (size_t i = 0; rc >= 0 && ids != NULL && ids[i] != NULL; i++)
		rc = check_image(c, ids[i], err);
	return rc < 0 ? rc : 0;
}
