/*
 * store: opening, finding, naming and using images. Adding them is in ingest.c and its callers,
 * removing in remove.c, checking in check.c.
 *
 * `berth run` of an image that is here passes through image_store_open, image_find and
 * image_read_config: one query for the schema's version, two for the image, one small JSON parse.
 */
#include "image/store.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/registries.h"
#include "image/schema.h"
#include "image/store_priv.h"

enum { ID_PREFIX_MIN = 2, NEAR_NAME_DISTANCE = 3 };

int image_store_open(int root_fd, int state_fd, struct db *db, struct image_store **ret,
		     struct error *err)
{
	own_image_store struct image_store *store = NULL;
	int rc = image_schema_migrate(db, err);

	if (rc < 0)
		return refuse(err, rc, "open the image store");
	store = mem_new(sizeof(*store));
	*store = (struct image_store){
		.root_fd = root_fd,
		.state_fd = state_fd,
		.db = db,
		.blobs_fd = -1,
		.layers_fd = -1,
	};
	*ret = take(store);
	return 0;
}

void image_store_close(struct image_store *store)
{
	if (store == NULL)
		return;
	fd_close(&store->blobs_fd);
	fd_close(&store->layers_fd);
	free(store->policy_path);
	free(store);
}

void image_store_set_limits(struct image_store *store, const struct image_limits *limits)
{
	store->limits = *limits;
}

void image_store_set_keep_blobs(struct image_store *store, bool keep)
{
	store->drops_blobs = !keep;
}

void image_store_set_policy(struct image_store *store, const char *path)
{
	free(store->policy_path);
	store->policy_path = str_copy(path);
}

int image_store_layers_fd(struct image_store *store, struct error *err)
{
	if (store->layers_fd < 0)
		store->layers_fd =
			openat(store->root_fd, "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store->layers_fd < 0)
		return fail(err, -errno, "open the directory of the layers");
	return store->layers_fd;
}

void image_free(struct image *image)
{
	if (image == NULL)
		return;
	free(image->os);
	free(image->architecture);
	free(image->variant);
	free(image->name);
	free(image->runtime_text);
	free(image->layers);
	free(image);
}

static void copy_digest(struct digest *to, const char *text)
{
	snprintf(to->text, sizeof(to->text), "%s", text ? text : "");
}

struct image *image_from_row(struct db_query *q)
{
	struct image *image = mem_new(sizeof(*image));

	copy_digest(&image->id, db_text(q, 0));
	copy_digest(&image->manifest, db_text(q, 1));
	image->os = str_copy(db_text(q, 2));
	image->architecture = str_copy(db_text(q, 3));
	image->variant = str_copy(db_text(q, 4));
	image->created_ns = db_int(q, 5);
	image->added_ns = db_int(q, 6);
	image->size_bytes = (uint64_t)db_int(q, 7);
	image->runtime_text = str_copy(db_text(q, 8));
	return image;
}

int image_read_layers(struct image_store *store, struct image *image, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	size_t capacity = 0;
	int rc = db_query(store->db, &q, err,
			  "SELECT diffid FROM image_stack WHERE image = ? ORDER BY position", "t",
			  image->id.text);

	if (rc < 0)
		return rc;
	while ((rc = db_next(q, err)) > 0) {
		image->layers = mem_grow(image->layers, image->layers_count, &capacity,
					 sizeof(*image->layers));
		copy_digest(&image->layers[image->layers_count++], db_text(q, 0));
	}
	return rc;
}

/* Runs a query for IMAGE_COLUMNS. 1 found, 0 not, -ENOTUNIQ if there are two with different ids. */
static int find_by(struct image_store *store, struct image **ret, struct error *err,
		   const char *sql, const char *first, const char *second)
{
	own_db_query struct db_query *q = NULL;
	own_image struct image *image = NULL;
	int rc = db_query(store->db, &q, err, sql, second ? "tt" : "t", first, second);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc <= 0)
		return rc;
	image = image_from_row(q);
	rc = db_next(q, err);
	if (rc < 0)
		return rc;
	if (rc > 0 && !str_eq(db_text(q, 0), image->id.text))
		return -ENOTUNIQ;
	*ret = take(image);
	return 1;
}

static int find_by_name(struct image_store *store, const char *name, struct image **ret,
			struct error *err)
{
	int rc = find_by(store, ret, err,
			 "SELECT " IMAGE_COLUMNS " FROM image_name n "
			 "JOIN image_image i ON i.id = n.image WHERE n.name = ?",
			 name, NULL);

	if (rc > 0)
		(*ret)->name = str_copy(name);
	return rc;
}

/* A short name for what was pulled from somewhere else than docker.io, as registries.conf says. */
static int find_by_full_names(struct image_store *store, const struct reference *reference,
			      struct image **ret, struct error *err)
{
	own_mem struct reference *names = NULL;
	char text[REFERENCE_TEXT_MAX];
	size_t count = 0;
	int rc = registries_full_names(reference, &names, &count, err);

	for (size_t i = 0; rc == 0 && i < count; i++) {
		reference_format(&names[i], text);
		rc = find_by_name(store, text, ret, err);
	}
	return rc;
}

static int find_by_reference(struct image_store *store, const struct reference *reference,
			     struct image **ret, struct error *err)
{
	struct reference local;
	char text[REFERENCE_TEXT_MAX];
	int rc;

	if (reference_has_digest(reference)) {
		reference_format_name(reference, text);
		return find_by(store, ret, err,
			       "SELECT " IMAGE_COLUMNS " FROM image_digest d JOIN image_image i "
			       "ON i.id = d.image WHERE d.repository = ? AND d.digest = ?",
			       text, reference->digest.text);
	}
	reference_format(reference, text);
	rc = find_by_name(store, text, ret, err);
	if (rc != 0 || !reference->short_name)
		return rc;
	/* What podman and buildah build without a registry in the name. */
	local = *reference;
	strcpy(local.registry, "localhost");
	if (str_after(local.repository, "library/") != NULL)
		memmove(local.repository, local.repository + strlen("library/"),
			strlen(local.repository) - strlen("library/") + 1);
	reference_format(&local, text);
	rc = find_by_name(store, text, ret, err);
	return rc != 0 ? rc : find_by_full_names(store, reference, ret, err);
}

/* The digits of `s`, the beginning of an id with or without its algorithm; NULL if it is none. */
static const char *id_digits(const char *s)
{
	const char *digits = digest_text_hex(s);
	size_t len;

	if (digits == NULL)
		digits = s;
	len = strspn(digits, "0123456789abcdef");
	return digits[len] == '\0' && len >= ID_PREFIX_MIN && len <= DIGEST_HEX_MAX ? digits : NULL;
}

static int find_by_id(struct image_store *store, const char *name, struct image **ret,
		      struct error *err)
{
	const char *digits = id_digits(name);
	own_image struct image *found = NULL;

	for (enum digest_algorithm a = 0; digits != NULL && a < DIGEST_ALGORITHMS; a++) {
		char from[DIGEST_TEXT_MAX], to[DIGEST_TEXT_MAX + 1];
		own_image struct image *image = NULL;
		int rc;

		snprintf(from, sizeof(from), "%s:%s", digest_name(a), digits);
		if (digits != name && !str_eq(name, from))
			continue;
		snprintf(to, sizeof(to), "%sg", from);
		rc = find_by(store, &image, err,
			     "SELECT " IMAGE_COLUMNS " FROM image_image i "
			     "WHERE i.id >= ? AND i.id < ? LIMIT 2",
			     from, to);
		if (rc < 0)
			return rc;
		if (rc > 0 && found != NULL)
			return -ENOTUNIQ;
		if (rc > 0)
			found = take(image);
	}
	if (found == NULL)
		return 0;
	*ret = take(found);
	return 1;
}

/* Looks for a name that was perhaps meant. */
static char *near_name(struct image_store *store, const struct reference *wanted)
{
	own_db_query struct db_query *q = NULL;
	char familiar[REFERENCE_TEXT_MAX], other[REFERENCE_TEXT_MAX];
	unsigned int best = NEAR_NAME_DISTANCE + 1;
	char *found = NULL;

	reference_format_familiar(wanted, familiar);
	if (db_query(store->db, &q, NULL, "SELECT name FROM image_name LIMIT 1000", "") < 0)
		return NULL;
	while (db_next(q, NULL) > 0) {
		struct reference r;
		unsigned int distance;

		if (reference_parse(db_text(q, 0), &r, NULL) < 0)
			continue;
		reference_format_familiar(&r, other);
		distance = str_distance(familiar, other);
		/* Another tag of the same repository is near, whatever it is called. */
		if (str_eq(r.repository, wanted->repository) &&
		    str_eq(r.registry, wanted->registry) && distance > 1)
			distance = 1;
		if (distance >= best)
			continue;
		best = distance;
		free(found);
		found = str_copy(other);
	}
	return found;
}

static int not_here(struct image_store *store, const char *name, const struct reference *reference,
		    struct error *err)
{
	own_mem char *near = near_name(store, reference);
	int rc = refuse(err, -ENOENT, "there is no image \"%.200s\" here", name);

	if (near != NULL)
		return hint(err, rc, "did you mean \"%s\"? Or fetch it: berth pull %.200s", near,
			    name);
	return hint(err, rc, "fetch it: berth pull %.200s", name);
}

int image_find(struct image_store *store, const char *name, struct image **ret, struct error *err)
{
	own_image struct image *image = NULL;
	struct reference reference;
	bool whole_id = digest_text_hex(name) != NULL || strlen(name) == DIGEST_HEX_LEN ||
			strlen(name) == DIGEST_HEX_MAX;
	int parsed = whole_id ? -EINVAL : reference_parse(name, &reference, err);
	int rc = parsed == 0 ? find_by_reference(store, &reference, &image, err) : 0;

	if (rc == 0) {
		rc = find_by_id(store, name, &image, err);
		if (rc == -ENOTUNIQ)
			return hint(err,
				    refuse(err, rc, "several images have an id that begins with %s",
					   name),
				    "give more digits: berth images --no-trunc");
	}
	if (rc < 0)
		return rc;
	if (rc == 0 && whole_id)
		return hint(err, refuse(err, -ENOENT, "there is no image with the id %.80s", name),
			    "berth images --no-trunc lists the ids");
	if (rc == 0)
		return parsed < 0 ? parsed : not_here(store, name, &reference, err);
	/* An id may look like a bad name: that complaint is void. */
	if (parsed < 0)
		error_clear(err);
	rc = image_read_layers(store, image, err);
	if (rc < 0)
		return rc;
	*ret = take(image);
	return 0;
}

int image_read_config(const struct image *image, struct image_config *ret, struct error *err)
{
	own_json json_t *value = NULL;
	struct json_at root;
	int rc = json_parse(image->runtime_text, strlen(image->runtime_text),
			    "the image's configuration", &value, err);

	if (rc < 0)
		return rc;
	root = json_root(value);
	return image_config_parse(&root, ret, err);
}

int image_use_add(struct image_store *store, const struct digest *id, const char *user,
		  struct error *err)
{
	int rc = db_run(store->db, err,
			"INSERT OR IGNORE INTO image_use (user, image) VALUES (?, ?)", "tt", user,
			id->text);

	if (rc == -ENOTEMPTY)
		return refuse(err, -ENOENT, "the image %s was removed meanwhile", id->text);
	return rc < 0 ? rc : 0;
}

int image_use_remove(struct image_store *store, const char *user, struct error *err)
{
	/* While it is used an image stays; the end of its use is what counts for how long after that. */
	int rc = db_run(store->db, err,
			"UPDATE image_image SET used_ns = ? WHERE id IN "
			"(SELECT image FROM image_use WHERE user = ?)",
			"it", clock_now_ns(), user);

	if (rc >= 0)
		rc = db_run(store->db, err, "DELETE FROM image_use WHERE user = ?", "t", user);
	return rc < 0 ? rc : 0;
}

int image_use_list(struct image_store *store, image_use_fn *fn, void *data, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_strv char **users = NULL, **ids = NULL;
	int rc = db_query(store->db, &q, err, "SELECT user, image FROM image_use", "");

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		strv_push(&users, db_text(q, 0));
		strv_push(&ids, db_text(q, 1));
	}
	for (size_t i = 0; rc >= 0 && users != NULL && users[i] != NULL; i++) {
		struct digest id;

		rc = digest_parse(ids[i], &id, err);
		if (rc == 0)
			rc = fn(users[i], &id, data, err);
	}
	return rc < 0 ? rc : 0;
}

int image_set_name(struct image_store *store, const char *name, const struct digest *id,
		   const struct digest *manifest, struct error *err)
{
	int rc = db_run(store->db, err,
			"INSERT INTO image_name (name, image, manifest, added_ns) "
			"VALUES (?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET "
			"image = excluded.image, manifest = excluded.manifest, "
			"added_ns = excluded.added_ns",
			"ttti", name, id->text, manifest->text, clock_now_ns());

	return rc < 0 ? rc : 0;
}

int image_tag(struct image_store *store, const char *source, const char *target, struct error *err)
{
	own_image struct image *image = NULL;
	own_db_tx struct db_tx tx = {0};
	struct reference reference;
	char name[REFERENCE_TEXT_MAX];
	int rc = reference_parse(target, &reference, err);

	if (rc < 0)
		return rc;
	if (reference_has_digest(&reference))
		return refuse(err, -EINVAL, "\"%s\" has a digest: a new name has a tag only",
			      target);
	rc = db_begin(store->db, DB_DURABLE, &tx, err);
	if (rc == 0)
		rc = image_find(store, source, &image, err);
	if (rc < 0)
		return rc;
	reference_format(&reference, name);
	rc = image_set_name(store, name, &image->id, &image->manifest, err);
	return rc < 0 ? rc : db_commit(&tx, err);
}
