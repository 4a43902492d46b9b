/* inspect: one image as a document (`inspect`) and as the steps that made it (`history`). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/manifest.h"
#include "image/store_priv.h"

/* An array of "repository:tag" or "repository@digest" in familiar form. */
static int names_json(struct image_store *store, const char *sql, const struct digest *id,
		      json_t **ret, struct error *err)
{
	own_db_query struct db_query *q = NULL;
	own_json json_t *list = json_array();
	int rc = db_query(store->db, &q, err, sql, "t", id->text);

	while (rc >= 0 && (rc = db_next(q, err)) > 0) {
		char familiar[REFERENCE_TEXT_MAX];
		struct reference reference;

		if (reference_parse(db_text(q, 0), &reference, NULL) < 0)
			continue;
		reference_format_familiar(&reference, familiar);
		json_array_append_new(list, json_string(familiar));
	}
	if (rc < 0)
		return rc;
	*ret = take(list);
	return 0;
}

static const char *string_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static json_t *root_fs(const struct image *image)
{
	json_t *root = json_object(), *layers = json_array();

	json_set_string(root, "Type", "layers");
	for (size_t i = 0; i < image->layers_count; i++)
		json_array_append_new(layers, json_string(image->layers[i].text));
	json_object_set_new(root, "Layers", layers);
	return root;
}

/* The image's own comment, or that of the step that made it. */
static const char *comment_of(const json_t *document)
{
	const json_t *history = json_object_get(document, "history");
	const char *comment = string_of(document, "comment");

	if (comment[0] != '\0' || json_array_size(history) == 0)
		return comment;
	return string_of(json_array_get(history, json_array_size(history) - 1), "comment");
}

/* The configuration with the members that docker prints in any case. */
static json_t *whole_config(json_t *config)
{
	static const char *const texts[] = {"Hostname", "Domainname", "User", "Image",
					    "WorkingDir"};
	static const char *const flags[] = {"AttachStdin", "AttachStdout", "AttachStderr",
					    "Tty",         "OpenStdin",    "StdinOnce"};
	static const char *const others[] = {"Env",        "Cmd",     "Volumes",
					     "Entrypoint", "OnBuild", "Labels"};
	json_t *whole = json_object();

	for (size_t i = 0; i < array_size(texts); i++)
		json_object_set_new(whole, texts[i], json_string(""));
	for (size_t i = 0; i < array_size(flags); i++)
		json_object_set_new(whole, flags[i], json_false());
	for (size_t i = 0; i < array_size(others); i++)
		json_object_set_new(whole, others[i], json_null());
	if (json_is_object(config))
		json_object_update(whole, config);
	return whole;
}

int image_inspect(struct image_store *store, const char *name, json_t **ret, struct error *err)
{
	own_image struct image *image = NULL;
	own_image_document struct image_document document = {0};
	own_json json_t *object = json_object();
	json_t *tags = NULL, *digests = NULL, *metadata = json_object();
	char added[CLOCK_TEXT_MAX];
	int rc = image_find(store, name, &image, err);

	if (rc == 0)
		rc = image_read_document(store, &image->id, &document, err);
	if (rc == 0)
		rc = names_json(store, "SELECT name FROM image_name WHERE image = ? ORDER BY name",
				&image->id, &tags, err);
	if (rc == 0)
		rc = names_json(store,
				"SELECT repository || '@' || digest FROM image_digest "
				"WHERE image = ? ORDER BY repository, digest",
				&image->id, &digests, err);
	if (rc < 0) {
		json_decref(metadata);
		json_decref(tags);
		return rc;
	}
	clock_format(image->added_ns, added);
	json_set_string(metadata, "LastTagTime", added);
	json_set_string(object, "Id", image->id.text);
	json_object_set_new(object, "RepoTags", tags);
	json_object_set_new(object, "RepoDigests", digests);
	json_set_string(object, "Parent", "");
	json_set_string(object, "Comment", comment_of(document.json));
	json_set_string(object, "Created", string_of(document.json, "created"));
	json_set_string(object, "Author", string_of(document.json, "author"));
	json_set_string(object, "DockerVersion", string_of(document.json, "docker_version"));
	json_object_set_new(object, "Config",
			    whole_config(json_object_get(document.json, "config")));
	json_set_string(object, "Architecture", image->architecture);
	json_set_string(object, "Variant", image->variant);
	json_set_string(object, "Os", image->os);
	json_object_set_new(object, "Size", json_integer((json_int_t)image->size_bytes));
	json_object_set_new(object, "VirtualSize", json_integer((json_int_t)image->size_bytes));
	json_set_string(object, "Digest", image->manifest.text);
	json_object_set_new(object, "RootFS", root_fs(image));
	json_object_set_new(object, "Metadata", metadata);
	*ret = take(object);
	return 0;
}

static int layer_size(struct image_store *store, const struct digest *diffid, uint64_t *ret,
		      struct error *err)
{
	own_db_query struct db_query *q = NULL;
	int rc = db_query(store->db, &q, err, "SELECT unpacked FROM image_layer WHERE diffid = ?",
			  "t", diffid->text);

	if (rc == 0)
		rc = db_next(q, err);
	if (rc > 0)
		*ret = (uint64_t)db_int(q, 0);
	return rc < 0 ? rc : 0;
}

/* The lines in the order of the document: the oldest first. Layers beyond the history get a line
 * without a text. */
static int history_lines(struct image_store *store, const struct image *image,
			 const json_t *history, struct image_history *lines, size_t *ret_count,
			 struct error *err)
{
	size_t layer = 0, count = 0;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < json_array_size(history); i++) {
		const json_t *step = json_array_get(history, i);
		struct image_history *line = &lines[count++];

		*line = (struct image_history){
			.id = "<missing>",
			.created_by = string_of(step, "created_by"),
			.comment = string_of(step, "comment"),
		};
		if (clock_parse(string_of(step, "created"), &line->created_ns) < 0)
			line->created_ns = 0;
		if (!json_is_true(json_object_get(step, "empty_layer")) &&
		    layer < image->layers_count)
			rc = layer_size(store, &image->layers[layer++], &line->size_bytes, err);
	}
	for (; rc == 0 && layer < image->layers_count; layer++) {
		struct image_history *line = &lines[count++];

		*line = (struct image_history){.id = "<missing>", .created_by = "", .comment = ""};
		rc = layer_size(store, &image->layers[layer], &line->size_bytes, err);
	}
	*ret_count = count;
	return rc;
}

int image_history(struct image_store *store, const char *name, image_history_fn *fn, void *data,
		  struct error *err)
{
	own_image struct image *image = NULL;
	own_image_document struct image_document document = {0};
	own_mem struct image_history *lines = NULL;
	json_t *history;
	size_t count = 0;
	int rc = image_find(store, name, &image, err);

	if (rc == 0)
		rc = image_read_document(store, &image->id, &document, err);
	if (rc < 0)
		return rc;
	history = json_object_get(document.json, "history");
	lines = mem_new_array(json_array_size(history) + image->layers_count, sizeof(*lines));
	rc = history_lines(store, image, history, lines, &count, err);
	if (count > 0)
		lines[count - 1].id = image->id.text;
	while (rc == 0 && count-- > 0)
		rc = fn(&lines[count], data, err);
	return rc;
}
