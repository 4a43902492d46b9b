/* list: images, usage, inspect and history: what people look at. */
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/manifest.h"
#include "image/session.h"
#include "image/store_priv.h"

struct limits {
	int64_t after_ns, before_ns; /* created, both exclusive */
};

static int created_of(struct image_store *store, const char *name, int64_t *ret, struct error *err)
{
	own_image struct image *image = NULL;
	int rc = image_find(store, name, &image, err);

	if (rc == 0)
		*ret = image->created_ns;
	return rc;
}

static int find_limits(struct image_store *store, const struct image_filter *filter,
		       struct limits *limits, struct error *err)
{
	int64_t moment;
	int rc = 0;

	*limits = (struct limits){.after_ns = INT64_MIN, .before_ns = INT64_MAX};
	if (filter->until_ns != 0)
		limits->before_ns = filter->until_ns;
	if (filter->before != NULL) {
		rc = created_of(store, filter->before, &moment, err);
		if (rc == 0 && moment < limits->before_ns)
			limits->before_ns = moment;
	}
	if (rc == 0 && filter->since != NULL) {
		rc = created_of(store, filter->since, &moment, err);
		if (rc == 0)
			limits->after_ns = moment;
	}
	return rc;
}

/* Whether the name is meant by a pattern: as it is typed, with or without tag, or in full. */
static bool name_matches(const char *pattern, const char *full)
{
	char text[REFERENCE_TEXT_MAX];
	struct reference reference;

	if (reference_parse(full, &reference, NULL) < 0)
		return fnmatch(pattern, full, 0) == 0;
	if (fnmatch(pattern, full, FNM_PATHNAME) == 0)
		return true;
	reference_format_familiar(&reference, text);
	if (fnmatch(pattern, text, FNM_PATHNAME) == 0)
		return true;
	*strrchr(text, ':') = '\0';
	if (fnmatch(pattern, text, FNM_PATHNAME) == 0)
		return true;
	reference_format_name(&reference, text);
	return fnmatch(pattern, text, FNM_PATHNAME) == 0;
}

static bool has_label(char *const *labels, const char *wanted)
{
	const char *equals = strchr(wanted, '=');

	return equals != NULL ? strv_has(labels, wanted) : env_get(labels, wanted) != NULL;
}

/* 1 if the image's labels are as wanted, 0, or -errno. */
static int labels_match(const struct image_filter *filter, const char *runtime_text,
			struct error *err)
{
	struct image image = {0};
	own_image_config struct image_config config = {0};
	own_mem char *text = NULL;
	int rc;

	if (filter->labels == NULL && filter->labels_absent == NULL)
		return 1;
	text = str_copy(runtime_text);
	image.runtime_text = text;
	rc = image_read_config(&image, &config, err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; filter->labels != NULL && filter->labels[i] != NULL; i++)
		if (!has_label(config.labels, filter->labels[i]))
			return 0;
	for (size_t i = 0; filter->labels_absent != NULL && filter->labels_absent[i] != NULL; i++)
		if (has_label(config.labels, filter->labels_absent[i]))
			return 0;
	return 1;
}

static bool is_named_so(const struct image_filter *filter, const char *name)
{
	if (filter->reference == NULL && filter->references == NULL)
		return true;
	if (name == NULL)
		return false;
	if (filter->reference != NULL && name_matches(filter->reference, name))
		return true;
	for (size_t i = 0; filter->references != NULL && filter->references[i] != NULL; i++)
		if (name_matches(filter->references[i], name))
			return true;
	return false;
}

static int wanted(const struct image_filter *filter, const struct limits *limits,
		  const struct image_row *row, const char *runtime_text, struct error *err)
{
	bool dangling = row->name == NULL;

	if (filter->dangling != 0 && dangling != (filter->dangling > 0))
		return 0;
	if (row->created_ns <= limits->after_ns || row->created_ns >= limits->before_ns)
		return 0;
	if (!is_named_so(filter, row->name))
		return 0;
	return labels_match(filter, runtime_text, err);
}

static int repo_digest(struct image_store *store, const struct reference *reference,
		       struct image_row *row, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	char repository[REFERENCE_TEXT_MAX];
	int rc;

	reference_format_name(reference, repository);
	rc = db_query(store->db, &q, err,
		      "SELECT digest FROM image_digest WHERE repository = ? AND image = ? LIMIT 1",
		      "tt", repository, row->id.text);
	if (rc == 0)
		rc = db_next(q, err);
	if (rc > 0)
		snprintf(row->repo_digest.text, sizeof(row->repo_digest.text), "%s", db_text(q, 0));
	return rc < 0 ? rc : 0;
}

static int show_row(struct image_store *store, const struct image_filter *filter,
		    const struct limits *limits, struct db_query *q, image_row_fn *fn, void *data,
		    struct error *err)
{
	struct image_row row = {
		.name = db_text(q, 0),
		.created_ns = db_int(q, 2),
		.size_bytes = (uint64_t)db_int(q, 3),
		.uses = (size_t)db_int(q, 5),
	};
	char familiar[REFERENCE_TEXT_MAX];
	struct reference reference;
	int rc;

	snprintf(row.id.text, sizeof(row.id.text), "%s", db_text(q, 1));
	rc = wanted(filter, limits, &row, db_text(q, 4), err);
	if (rc <= 0)
		return rc;
	if (row.name != NULL && reference_parse(row.name, &reference, NULL) == 0) {
		row.tag = reference.tag;
		rc = repo_digest(store, &reference, &row, err);
		if (rc < 0)
			return rc;
		reference_format_familiar(&reference, familiar);
		*strrchr(familiar, ':') = '\0';
		row.repository = familiar;
	}
	return fn(&row, data, err);
}

int image_list(struct image_store *store, const struct image_filter *filter, image_row_fn *fn,
	       void *data, struct error *err)
{
	static const struct image_filter any;
	own_db_query struct db_query *q = NULL;
	struct limits limits;
	int rc;

	if (filter == NULL)
		filter = &any;
	rc = find_limits(store, filter, &limits, err);
	if (rc == 0)
		rc = db_query(store->db, &q, err,
			      "SELECT n.name, i.id, i.created_ns, i.size, i.runtime, "
			      "(SELECT count(*) FROM image_use u WHERE u.image = i.id) "
			      "FROM image_image i LEFT JOIN image_name n ON n.image = i.id "
			      "ORDER BY i.created_ns DESC, i.added_ns DESC, n.name",
			      "");
	if (rc < 0)
		return rc;
	while ((rc = db_next(q, err)) > 0) {
		rc = show_row(store, filter, &limits, q, fn, data, err);
		if (rc != 0)
			return rc;
	}
	return rc;
}

int image_read_document(struct image_store *store, const struct digest *id,
			struct image_document *ret, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = image_blob_read(store, id, CONFIG_SIZE_MAX, &text, &len, err);

	return rc < 0 ? rc : image_document_parse(text, len, ret, err);
}
