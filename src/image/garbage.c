/* garbage: see garbage.h. "Condemned" is a row whose added_ns is 0. */
#include "image/garbage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "image/blob.h"
#include "image/layer.h"
#include "image/session.h"
#include "image/store_priv.h"

#define PENDING_MAX_NS (INT64_C(24) * 3600 * 1000000000)

#define UNREFERENCED_BLOB "NOT EXISTS (SELECT 1 FROM image_part p WHERE p.blob = digest)"
#define UNREFERENCED_LAYER                                                                         \
	"NOT EXISTS (SELECT 1 FROM image_stack s WHERE s.diffid = image_layer.diffid)"

int image_garbage_condemn(struct image_store *store, const char *image_id, struct error *err)
{
	int rc = db_run(store->db, err,
			"UPDATE image_blob SET added_ns = 0 WHERE digest IN "
			"(SELECT blob FROM image_part WHERE image = ?1) AND NOT EXISTS "
			"(SELECT 1 FROM image_part p WHERE p.blob = digest AND p.image <> ?1)",
			"t", image_id);

	if (rc >= 0)
		rc = db_run(store->db, err,
			    "UPDATE image_layer SET added_ns = 0 WHERE diffid IN "
			    "(SELECT diffid FROM image_stack WHERE image = ?1) AND NOT EXISTS "
			    "(SELECT 1 FROM image_stack s WHERE s.diffid = image_layer.diffid "
			    "AND s.image <> ?1)",
			    "t", image_id);
	return rc < 0 ? rc : 0;
}

int image_garbage_condemn_since(struct image_store *store, int64_t since_ns, struct error *err)
{
	int rc = db_run(store->db, err,
			"UPDATE image_blob SET added_ns = 0 WHERE added_ns >= ? "
			"AND " UNREFERENCED_BLOB,
			"i", since_ns);

	if (rc >= 0)
		rc = db_run(store->db, err,
			    "UPDATE image_layer SET added_ns = 0 WHERE added_ns >= ? "
			    "AND " UNREFERENCED_LAYER,
			    "i", since_ns);
	return rc < 0 ? rc : 0;
}

/* A row that is being removed. */
struct doomed {
	struct digest digest;
	int64_t size;
};

struct doomed_list {
	struct doomed *items;
	size_t count;
};

static void doomed_release(struct doomed_list *list)
{
	free(list->items);
}
#define own_doomed __attribute__((cleanup(doomed_release)))

static int list_doomed(struct image_store *store, const char *sql, int64_t before_ns,
		       struct doomed_list *list, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	size_t capacity = 0;
	int rc = db_query(store->db, &q, err, sql, "i", before_ns);

	if (rc < 0)
		return rc;
	while ((rc = db_next(q, err)) > 0) {
		struct doomed *d;

		list->items = mem_grow(list->items, list->count, &capacity, sizeof(*list->items));
		d = &list->items[list->count++];
		snprintf(d->digest.text, sizeof(d->digest.text), "%s", db_text(q, 0));
		d->size = db_int(q, 1);
	}
	return rc;
}

static int delete_rows(struct image_store *store, const char *sql, const struct doomed_list *list,
		       struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < list->count; i++)
		rc = db_run(store->db, err, sql, "t", list->items[i].digest.text);
	return rc < 0 ? rc : 0;
}

/* A layer that is mounted still keeps its file, and gets its row back to be found again. */
static int keep_busy_layer(struct image_store *store, const struct doomed *d, struct error *err)
{
	struct layer_info info;
	int rc = layer_stat(store->layers_fd, &d->digest, &info, err);

	if (rc <= 0)
		return rc;
	rc = db_run(store->db, err,
		    "INSERT OR IGNORE INTO image_layer (diffid, format, digest, size, unpacked, "
		    "entries, whiteouts, added_ns) VALUES (?, ?, '', ?, 0, 0, 0, 0)",
		    "tti", d->digest.text, layer_format_name(info.format),
		    (int64_t)info.size_bytes);
	return rc < 0 ? rc : 0;
}

static int remove_files(struct image_store *store, const struct doomed_list *blobs,
			const struct doomed_list *layers, uint64_t *reclaimed, struct error *err)
{
	int rc = blobs->count > 0 ? image_store_blobs_fd(store, err) : 0;

	for (size_t i = 0; rc >= 0 && i < blobs->count; i++) {
		if (unlinkat(store->blobs_fd, digest_path(&blobs->items[i].digest).text, 0) == 0)
			*reclaimed += (uint64_t)blobs->items[i].size;
		else if (errno != ENOENT)
			rc = fail(err, -errno, "remove the blob %s", blobs->items[i].digest.text);
	}
	if (rc >= 0 && layers->count > 0)
		rc = image_store_layers_fd(store, err);
	for (size_t i = 0; rc >= 0 && i < layers->count; i++) {
		const struct doomed *d = &layers->items[i];
		struct error why = {0};

		rc = layer_remove(store->layers_fd, store->state_fd, &d->digest, &why);
		if (rc == 0)
			*reclaimed += (uint64_t)d->size;
		else if (rc == -EBUSY)
			rc = keep_busy_layer(store, d, err);
		else if (err != NULL)
			*err = why;
	}
	return rc < 0 ? rc : 0;
}

static int collect(struct image_store *store, int64_t before_ns, uint64_t *reclaimed,
		   struct error *err)
{
	own_doomed struct doomed_list blobs = {0}, layers = {0};
	own_db_tx struct db_tx tx = {0};
	char note[17] = "";
	bool noted;
	int rc = db_begin(store->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = list_doomed(store,
				 "SELECT digest, size FROM image_blob WHERE added_ns < ? "
				 "AND " UNREFERENCED_BLOB,
				 before_ns, &blobs, err);
	if (rc == 0)
		rc = list_doomed(store,
				 "SELECT diffid, size FROM image_layer WHERE added_ns < ? "
				 "AND " UNREFERENCED_LAYER,
				 before_ns, &layers, err);
	if (rc < 0 || (blobs.count == 0 && layers.count == 0))
		return rc;
	rc = delete_rows(store, "DELETE FROM image_blob WHERE digest = ?", &blobs, err);
	if (rc == 0)
		rc = delete_rows(store, "DELETE FROM image_layer WHERE diffid = ?", &layers, err);
	if (rc < 0)
		return rc;
	/* For who finds the files if we do not come to remove them. A full disk must not prevent that we
	 * try. */
	noted = image_session_note(store, note, NULL) == 0;
	rc = db_commit(&tx, err);
	if (rc == 0)
		rc = remove_files(store, &blobs, &layers, reclaimed, err);
	if (rc == 0 && noted)
		image_session_unnote(store, note);
	return rc;
}

int image_garbage_collect(struct image_store *store, enum garbage_age age,
			  uint64_t *reclaimed_bytes, struct error *err)
{
	own_fd int lock_fd = -1;
	uint64_t reclaimed = 0;
	int64_t now = clock_now_ns();
	int rc = file_lock(store->root_fd, "images.lock", FILE_LOCK_EXCLUSIVE, false);

	if (rc == -EWOULDBLOCK)
		return 0;
	if (rc < 0)
		return fail(err, rc, "lock the image store");
	lock_fd = rc;
	rc = collect(store, age == GARBAGE_ALL ? INT64_MAX : now - PENDING_MAX_NS, &reclaimed, err);
	if (reclaimed_bytes != NULL)
		*reclaimed_bytes += reclaimed;
	return rc < 0 ? refuse(err, rc, "remove unused layers") : 0;
}

int image_leftovers_remove(struct image_store *store, struct error *err)
{
	int rc = image_session_recover(store, err);

	if (rc >= 0 && store->state_fd >= 0 && image_store_layers_fd(store, NULL) >= 0) {
		struct layer_leftovers leftovers;

		rc = layer_recover(store->layers_fd, store->state_fd, 0, &leftovers, err);
	}
	return rc < 0 ? rc : 0;
}

int image_store_recover(struct image_store *store, struct error *err)
{
	int rc = image_leftovers_remove(store, err);

	return rc < 0 ? rc : image_garbage_collect(store, GARBAGE_CONDEMNED, NULL, err);
}
