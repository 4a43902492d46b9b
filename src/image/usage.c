/*
 * usage: what images take on the disk, from the rows of blobs and layers, whose sizes are those of the
 * files (I1 in store.h).
 */
#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "image/store_priv.h"

static int one_number(struct image_store *store, const char *sql, uint64_t *ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(store->db, &q, err, sql, "");

	if (rc == 0)
		rc = db_next(q, err);
	if (rc > 0)
		*ret = (uint64_t)db_int(q, 0);
	return rc < 0 ? rc : 0;
}

int image_usage(struct image_store *store, struct image_usage *ret, struct error *err)
{
	/* Needed: by an image that somebody uses. */
	static const char sums[] = "SELECT (SELECT coalesce(sum(size), 0) FROM image_blob) + "
				   "(SELECT coalesce(sum(size), 0) FROM image_layer)";
	static const char needed[] =
		"SELECT (SELECT coalesce(sum(size), 0) FROM image_blob WHERE digest IN "
		"(SELECT p.blob FROM image_part p JOIN image_use u ON u.image = p.image)) + "
		"(SELECT coalesce(sum(size), 0) FROM image_layer WHERE diffid IN "
		"(SELECT s.diffid FROM image_stack s JOIN image_use u ON u.image = s.image))";
	uint64_t images = 0, active = 0, size = 0, kept = 0;
	int rc = one_number(store, "SELECT count(*) FROM image_image", &images, err);

	if (rc == 0)
		rc = one_number(store, "SELECT count(DISTINCT image) FROM image_use", &active, err);
	if (rc == 0)
		rc = one_number(store, sums, &size, err);
	if (rc == 0)
		rc = one_number(store, needed, &kept, err);
	if (rc < 0)
		return rc;
	*ret = (struct image_usage){.images = (size_t)images,
				    .active = (size_t)active,
				    .size_bytes = size,
				    .reclaimable_bytes = size - kept};
	return 0;
}

/* What of an image other images have as well, and all of it; each file once. */
#define IMAGE_FILES                                                                                \
	"WITH files AS ("                                                                          \
	"SELECT p.image AS image, b.digest AS file, b.size AS size FROM image_part p "             \
	"JOIN image_blob b ON b.digest = p.blob UNION "                                            \
	"SELECT s.image, l.diffid || '/layer', l.size FROM image_stack s "                         \
	"JOIN image_layer l ON l.diffid = s.diffid), "                                             \
	"counted AS (SELECT file, count(*) AS images FROM files GROUP BY file) "

int image_usage_list(struct image_store *store, image_usage_fn *fn, void *data, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(store->db, &q, err,
			  IMAGE_FILES "SELECT i.id, i.created_ns, "
				      "(SELECT count(*) FROM image_use u WHERE u.image = i.id), "
				      "coalesce(sum(f.size), 0), "
				      "coalesce(sum(CASE WHEN c.images > 1 THEN f.size END), 0), "
				      "(SELECT min(name) FROM image_name n WHERE n.image = i.id) "
				      "FROM image_image i LEFT JOIN files f ON f.image = i.id "
				      "LEFT JOIN counted c ON c.file = f.file "
				      "GROUP BY i.id ORDER BY i.created_ns DESC, i.added_ns DESC",
			  "");

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		struct image_usage_row row = {
			.created_ns = db_int(q, 1),
			.uses = (size_t)db_int(q, 2),
			.size_bytes = (uint64_t)db_int(q, 3),
			.shared_bytes = (uint64_t)db_int(q, 4),
			.name = db_text(q, 5),
		};

		snprintf(row.id.text, sizeof(row.id.text), "%s", db_text(q, 0));
		rc = fn(&row, data, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}
