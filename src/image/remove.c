/* remove: rmi and prune. Rows go in one transaction; garbage.c removes the files afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/garbage.h"
#include "image/store_priv.h"

/* What is reported once the transaction is through. */
struct removal {
	char **untagged, **deleted;
};

static void removal_release(struct removal *r)
{
	strv_free(r->untagged);
	strv_free(r->deleted);
}
#define own_removal __attribute__((cleanup(removal_release)))

static void report(const struct removal *r, image_removed_fn *fn, void *data)
{
	for (size_t i = 0; fn != NULL && r->untagged != NULL && r->untagged[i] != NULL; i++)
		fn(false, r->untagged[i], data);
	for (size_t i = 0; fn != NULL && r->deleted != NULL && r->deleted[i] != NULL; i++)
		fn(true, r->deleted[i], data);
}

static int list_texts(struct image_store *store, const char *sql, const char *key, char ***ret,
		      struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(store->db, &q, err, sql, "t", key);

	while (rc >= 0 && (rc = db_next(q, err)) > 0)
		strv_push(ret, db_text(q, 0));
	return rc;
}

static int untag(struct image_store *store, const char *name, struct removal *r, struct error *err)
{
	struct reference reference;
	char familiar[REFERENCE_TEXT_MAX];
	int rc = db_run(store->db, err, "DELETE FROM image_name WHERE name = ?", "t", name);

	if (rc < 0)
		return rc;
	if (reference_parse(name, &reference, NULL) == 0)
		reference_format_familiar(&reference, familiar);
	else
		snprintf(familiar, sizeof(familiar), "%s", name);
	strv_push(&r->untagged, familiar);
	return 0;
}

static int delete_image(struct image_store *store, const char *id, struct removal *r,
			struct error *err)
{
	int rc = image_garbage_condemn(store, id, err);

	if (rc == 0)
		rc = db_run(store->db, err, "DELETE FROM image_image WHERE id = ?", "t", id);
	if (rc < 0)
		return rc;
	strv_push(&r->deleted, id);
	return 0;
}

static int used(const struct image *image, const char *name, char *const *users, struct error *err)
{
	const char *user = str_after(users[0], "workload/");
	int rc = refuse(err, -EBUSY, "the image \"%.200s\" is used by %s%s%.80s%s", name,
			user ? "the workload " : "", user ? "" : "\"", user ? user : users[0],
			user ? "" : "\"");

	(void)image;
	return hint(err, rc, "remove that first (berth rm), or only the name with --force");
}

static int several_names(const struct image *image, char *const *names, struct error *err)
{
	own_mem char *list = strv_join(names, ", ");

	return hint(err,
		    refuse(err, -EBUSY, "the image %.19s has several names: %.400s", image->id.text,
			   list),
		    "remove one of the names, or all with --force");
}

static int remove_one(struct image_store *store, const char *name, enum image_remove_flags flags,
		      struct removal *r, struct error *err)
{
	own_image struct image *image = NULL;
	own_strv char **names = NULL, **users = NULL;
	bool force = flags & IMAGE_REMOVE_FORCE;
	struct error why = {0};
	int rc = image_find(store, name, &image, &why);

	/* Who wants to be rid of an image is not told how to fetch it. */
	if (rc < 0)
		return hint(err, refuse(err, rc, "%s", why.text), "what is here: berth images");
	rc = list_texts(store, "SELECT name FROM image_name WHERE image = ? ORDER BY name",
			image->id.text, &names, err);
	if (rc == 0)
		rc = list_texts(store, "SELECT user FROM image_use WHERE image = ?", image->id.text,
				&users, err);
	if (rc < 0)
		return rc;
	if (image->name != NULL && strv_len(names) > 1)
		return untag(store, image->name, r, err);
	if (users != NULL && !force)
		return used(image, name, users, err);
	if (strv_len(names) > 1 && !force)
		return several_names(image, names, err);
	for (size_t i = 0; rc == 0 && names != NULL && names[i] != NULL; i++)
		rc = untag(store, names[i], r, err);
	/* Forced although it is in use: it stays without a name until its users are gone. */
	if (rc == 0 && users == NULL)
		rc = delete_image(store, image->id.text, r, err);
	return rc;
}

int image_remove(struct image_store *store, const char *name, enum image_remove_flags flags,
		 image_removed_fn *removed, void *data, struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	own_removal struct removal r = {0};
	int rc = db_begin(store->db, DB_DURABLE, &tx, err);

	if (rc == 0)
		rc = remove_one(store, name, flags, &r, err);
	if (rc == 0)
		rc = db_commit(&tx, err);
	if (rc < 0)
		return rc;
	report(&r, removed, data);
	return image_garbage_collect(store, GARBAGE_CONDEMNED, NULL, err);
}

struct prune {
	char **ids, **names;
	bool all;
};

static int choose(const struct image_row *row, void *data, struct error *err)
{
	struct prune *prune = data;

	(void)err;
	if (row->uses > 0 || (row->name != NULL && !prune->all))
		return 0;
	if (row->name != NULL)
		strv_push(&prune->names, row->name);
	if (!strv_has(prune->ids, row->id.text))
		strv_push(&prune->ids, row->id.text);
	return 0;
}

static int prune_rows(struct image_store *store, const struct prune *prune, struct removal *r,
		      struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && prune->names != NULL && prune->names[i] != NULL; i++)
		rc = untag(store, prune->names[i], r, err);
	for (size_t i = 0; rc == 0 && prune->ids != NULL && prune->ids[i] != NULL; i++) {
		own_strv char **names = NULL;

		/* A name that the filter left out keeps the image. */
		rc = list_texts(store, "SELECT name FROM image_name WHERE image = ?", prune->ids[i],
				&names, err);
		if (rc == 0 && names == NULL)
			rc = delete_image(store, prune->ids[i], r, err);
	}
	return rc;
}

int image_prune(struct image_store *store, const struct image_filter *filter, bool all,
		image_removed_fn *removed, void *data, uint64_t *ret_reclaimed_bytes,
		struct error *err)
{
	struct image_filter wanted = filter ? *filter : (struct image_filter){0};
	own_db_tx struct db_tx tx = {0};
	own_removal struct removal r = {0};
	struct prune prune = {.all = all};
	uint64_t reclaimed = 0;
	int rc = image_store_recover(store, err);

	if (rc == 0)
		rc = db_begin(store->db, DB_DURABLE, &tx, err);
	if (rc == 0)
		rc = image_list(store, &wanted, choose, &prune, err);
	if (rc == 0)
		rc = prune_rows(store, &prune, &r, err);
	strv_free(prune.ids);
	strv_free(prune.names);
	if (rc == 0)
		rc = db_commit(&tx, err);
	if (rc < 0)
		return rc;
	report(&r, removed, data);
	rc = image_garbage_collect(store, GARBAGE_ALL, &reclaimed, err);
	*ret_reclaimed_bytes = reclaimed;
	return rc;
}

/* --- limits ---------------------------------------------------------------------------------------- */

/* The bytes of what images need. */
static int needed_bytes(struct image_store *store, uint64_t *ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(store->db, &q, err,
			  "SELECT (SELECT coalesce(sum(size), 0) FROM image_blob WHERE digest IN "
			  "(SELECT blob FROM image_part)) + "
			  "(SELECT coalesce(sum(size), 0) FROM image_layer WHERE diffid IN "
			  "(SELECT diffid FROM image_stack))",
			  "");

	if (rc == 0)
		rc = db_next(q, err);
	if (rc > 0)
		*ret = (uint64_t)db_int(q, 0);
	return rc < 0 ? rc : 0;
}

struct candidate {
	char id[DIGEST_TEXT_MAX];
	int64_t used_ns;
};

/* Images that nobody uses, the one whose last use is longest ago first. */
static int list_candidates(struct image_store *store, int64_t since_ns, struct candidate **ret,
			   size_t *ret_count, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	struct candidate *list = NULL;
	size_t count = 0, capacity = 0;
	int rc = db_query(
		store->db, &q, err,
		"SELECT id, max(used_ns, added_ns) AS used FROM image_image WHERE used < ? "
		"AND id NOT IN (SELECT image FROM image_use) ORDER BY used",
		"i", since_ns);

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		list = mem_grow(list, count, &capacity, sizeof(*list));
		snprintf(list[count].id, sizeof(list[count].id), "%s", db_text(q, 0));
		list[count++].used_ns = db_int(q, 1);
	}
	*ret = list;
	*ret_count = count;
	return rc;
}

static int trim_one(struct image_store *store, const char *id, struct removal *r, struct error *err)
{
	own_strv char **names = NULL;
	int rc = list_texts(store, "SELECT name FROM image_name WHERE image = ? ORDER BY name", id,
			    &names, err);

	for (size_t i = 0; rc == 0 && names != NULL && names[i] != NULL; i++)
		rc = untag(store, names[i], r, err);
	return rc < 0 ? rc : delete_image(store, id, r, err);
}

/* Inside a transaction. */
static int trim_rows(struct image_store *store, int64_t since_ns, struct removal *r,
		     struct error *err)
{
	const struct image_limits *limits = &store->limits;
	own_mem struct candidate *list = NULL;
	const int64_t oldest =
		limits->max_age_ns > 0 ? clock_now_ns() - limits->max_age_ns : INT64_MIN;
	size_t count = 0;
	uint64_t bytes = 0;
	int rc = list_candidates(store, since_ns, &list, &count, err);

	if (rc == 0)
		rc = needed_bytes(store, &bytes, err);
	for (size_t i = 0; rc == 0 && i < count; i++) {
		bool too_much = limits->max_bytes > 0 && bytes > limits->max_bytes;

		if (list[i].used_ns >= oldest && !too_much)
			break;
		rc = trim_one(store, list[i].id, r, err);
		if (rc == 0)
			rc = needed_bytes(store, &bytes, err);
	}
	return rc;
}

int image_trim(struct image_store *store, int64_t since_ns, image_removed_fn *removed, void *data,
	       struct error *err)
{
	own_db_tx struct db_tx tx = {0};
	own_removal struct removal r = {0};
	int rc;

	if (store->limits.max_age_ns == 0 && store->limits.max_bytes == 0)
		return 0;
	rc = db_begin(store->db, DB_DURABLE, &tx, err);
	if (rc == 0)
		rc = trim_rows(store, since_ns, &r, err);
	if (rc == 0)
		rc = db_commit(&tx, err);
	if (rc < 0)
		return refuse(err, rc, "keep the images within their limits");
	report(&r, removed, data);
	return r.deleted != NULL ? image_garbage_collect(store, GARBAGE_CONDEMNED, NULL, err) : 0;
}
