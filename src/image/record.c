/* record: see record.h. */
#include "image/record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/store_priv.h"

static int insert_blob(struct image_store *store, const struct digest *digest, uint64_t size,
		       struct error *err)
{
	int rc = db_run(store->db, err,
			"INSERT INTO image_blob (digest, size, added_ns) VALUES (?, ?, ?) "
			"ON CONFLICT (digest) DO UPDATE SET size = excluded.size, "
			"added_ns = excluded.added_ns",
			"tii", digest->text, (int64_t)size, clock_now_ns());

	return rc < 0 ? rc : 0;
}

static int insert_layer(struct image_store *store, const struct ingest_result *result,
			struct error *err)
{
	const struct layer_info *info = &result->layer;
	int rc = db_run(store->db, err,
			"INSERT INTO image_layer (diffid, format, digest, size, unpacked, entries, "
			"whiteouts, added_ns, blob, blob_size, blob_packing) "
			"VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
			"ON CONFLICT (diffid) DO UPDATE SET format = excluded.format, "
			"digest = excluded.digest, size = excluded.size, "
			"unpacked = excluded.unpacked, entries = excluded.entries, "
			"whiteouts = excluded.whiteouts, added_ns = excluded.added_ns, "
			"blob = excluded.blob, blob_size = excluded.blob_size, "
			"blob_packing = excluded.blob_packing",
			"tttiiiiitit", result->diffid.text, layer_format_name(info->format),
			info->digest.text, (int64_t)info->size_bytes, (int64_t)info->unpacked_bytes,
			(int64_t)info->entries, (int64_t)info->whiteouts, clock_now_ns(),
			result->blob.text, (int64_t)result->blob_size,
			compression_name(result->compression));

	return rc < 0 ? rc : 0;
}

int image_record_blob(struct image_session *session, const struct digest *digest, uint64_t size,
		      struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(session->store->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = insert_blob(session->store, digest, size, err);
	return rc < 0 ? rc : db_commit(&tx, err);
}

int image_record_small(struct image_session *session, const void *data, size_t len,
		       const struct digest *like, struct digest *ret, struct error *err)
{
	struct digest digest = digest_of_like(like, data, len);
	own_fd int fd = -1;
	char name[17];
	uint64_t size;
	int rc = image_have_blob(session->store, &digest, &size, err);

	if (rc < 0)
		return rc;
	if (rc == 0) {
		fd = image_session_file(session, name, err);
		if (fd < 0)
			return fd;
		rc = fd_write_full(fd, data, len);
		if (rc < 0)
			return fail(err, rc, "write the blob %s", digest.text);
		rc = image_session_keep(session, fd, name, &digest, err);
		if (rc == 0)
			rc = image_record_blob(session, &digest, len, err);
		if (rc < 0)
			return rc;
	}
	*ret = digest;
	return 0;
}

int image_record_layer(struct image_session *session, const struct ingest_result *result,
		       struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(session->store->db, DB_DURABLE, &tx, err);

	if (rc == 0 && result->blob_here)
		rc = insert_blob(session->store, &result->blob, result->blob_size, err);
	if (rc == 0)
		rc = insert_layer(session->store, result, err);
	return rc < 0 ? rc : db_commit(&tx, err);
}

/* 1 and the number in the first column if there is a row. */
static int query_number(struct db *db, const char *sql, const char *key, int64_t *ret,
			struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(db, &q, err, sql, "t", key);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc > 0)
		*ret = db_int(q, 0);
	return rc;
}

int image_have_blob(struct image_store *store, const struct digest *digest, uint64_t *ret_size,
		    struct error *err)
{
	int64_t size = 0;
	struct stat st;
	int blobs_fd, rc = query_number(store->db, "SELECT size FROM image_blob WHERE digest = ?",
					digest->text, &size, err);

	if (rc <= 0)
		return rc;
	blobs_fd = image_store_blobs_fd(store, err);
	if (blobs_fd < 0)
		return blobs_fd;
	if (fstatat(blobs_fd, digest_path(digest).text, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    !S_ISREG(st.st_mode) || st.st_size != size)
		return 0;
	*ret_size = (uint64_t)size;
	return 1;
}

int image_have_layer(struct image_store *store, const struct digest *diffid, struct error *err)
{
	struct layer_info info;
	int64_t size = 0;
	int layers_fd, rc = query_number(store->db, "SELECT size FROM image_layer WHERE diffid = ?",
					 diffid->text, &size, err);

	if (rc <= 0)
		return rc;
	layers_fd = image_store_layers_fd(store, err);
	if (layers_fd < 0)
		return layers_fd;
	rc = layer_stat(layers_fd, diffid, &info, err);
	return rc <= 0 ? rc : info.size_bytes == (uint64_t)size;
}

int image_layer_origin(struct image_store *store, const struct digest *diffid,
		       struct image_origin *ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	struct image_origin origin = {0};
	int rc = db_query(store->db, &q, err,
			  "SELECT blob, blob_size, blob_packing FROM image_layer WHERE diffid = ?",
			  "t", diffid->text);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc <= 0 || digest_parse(db_text(q, 0), &origin.blob, NULL) < 0)
		return rc < 0 ? rc : 0;
	origin.size = (uint64_t)db_int(q, 1);
	origin.compression = compression_find(db_text(q, 2));
	rc = image_have_blob(store, &origin.blob, &origin.size, err);
	origin.blob_here = rc > 0;
	if (rc >= 0)
		*ret = origin;
	return rc < 0 ? rc : 1;
}

int image_layer_holds_tar(struct image_store *store, const struct digest *diffid, struct error *err)
{
	uint64_t bytes;
	own_fd int fd = -1;
	int layers_fd = image_store_layers_fd(store, err);

	if (layers_fd < 0)
		return layers_fd;
	/* A damaged one does not hold it. */
	fd = layer_again_open(layers_fd, diffid, &bytes, NULL);
	return fd >= 0;
}

static int insert_image(struct image_store *store, const struct image_record *r, struct error *err)
{
	const struct image_document *d = r->document;
	json_t *config = json_object_get(d->json, "config");
	own_mem char *runtime = config ? json_text(config) : str_copy("{}");
	int64_t size = 0;
	int rc;

	for (size_t i = 0; i < d->diffids_count; i++) {
		int64_t unpacked = 0;

		rc = query_number(store->db, "SELECT unpacked FROM image_layer WHERE diffid = ?",
				  d->diffids[i].text, &unpacked, err);
		if (rc < 0)
			return rc;
		size += unpacked;
	}
	rc = db_run(store->db, err,
		    "INSERT INTO image_image (id, manifest, os, architecture, variant, created_ns, "
		    "added_ns, size, runtime, used_ns) VALUES (?, ?, ?, ?, ?, ?, ?7, ?, ?, ?7) "
		    "ON CONFLICT (id) DO UPDATE SET manifest = excluded.manifest, "
		    "size = excluded.size, runtime = excluded.runtime, used_ns = excluded.used_ns",
		    "tttttiiit", r->id->text, r->manifest->text, d->os, d->architecture, d->variant,
		    d->created_ns, clock_now_ns(), size, runtime);
	for (size_t i = 0; rc >= 0 && i < d->diffids_count; i++)
		rc = db_run(store->db, err,
			    "INSERT OR REPLACE INTO image_stack (image, position, diffid) "
			    "VALUES (?, ?, ?)",
			    "tit", r->id->text, (int64_t)i, d->diffids[i].text);
	for (size_t i = 0; rc >= 0 && i < r->blobs_count; i++)
		rc = db_run(store->db, err,
			    "INSERT OR IGNORE INTO image_part (image, blob) "
			    "SELECT ?, digest FROM image_blob WHERE digest = ?",
			    "tt", r->id->text, r->blobs[i].text);
	return rc < 0 ? rc : 0;
}

static int insert_names(struct image_store *store, const struct image_record *r, struct error *err)
{
	int rc = 0;

	if (r->name != NULL)
		rc = image_set_name(store, r->name, r->id, r->manifest, err);
	for (size_t i = 0; rc >= 0 && i < r->repo_digests_count; i++)
		rc = db_run(store->db, err,
			    "INSERT INTO image_digest (repository, digest, image) VALUES (?, ?, ?) "
			    "ON CONFLICT (repository, digest) DO UPDATE SET image = excluded.image",
			    "ttt", r->repository, r->repo_digests[i].text, r->id->text);
	return rc < 0 ? rc : 0;
}

int image_record(struct image_session *session, const struct image_record *record,
		 struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	int rc = db_begin(session->store->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = insert_image(session->store, record, err);
	if (rc == 0)
		rc = insert_names(session->store, record, err);
	if (rc == 0)
		rc = db_commit(&tx, err);
	return rc < 0 ? refuse(err, rc, "record the image") : 0;
}
