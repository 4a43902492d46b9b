/* document: image configurations (image_document in manifest.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/config.h"
#include "image/manifest.h"

void image_document_release(struct image_document *d)
{
	json_decref(d->json);
	free(d->diffids);
	memset(d, 0, sizeof(*d));
}

static int parse_diffids(const struct json_at *root, struct image_document *d, struct error *err)
{
	struct json_at rootfs, array, item;
	int rc = json_object_at(root, "rootfs", JSON_REQUIRED, &rootfs, err);

	if (rc > 0)
		rc = json_array_at(&rootfs, "diff_ids", JSON_OPTIONAL, &array, err);
	if (rc <= 0)
		return rc;
	if (json_array_size(array.value) > MANIFEST_LAYERS_MAX)
		return json_refuse(err, &array, "has more than %d entries", MANIFEST_LAYERS_MAX);
	d->diffids = mem_new_array(json_array_size(array.value), sizeof(*d->diffids));
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		const char *text;

		rc = json_as_string(&item, &text, err);
		if (rc == 0)
			rc = digest_parse(text, &d->diffids[i], err);
		if (rc < 0)
			return rc;
		d->diffids_count = i + 1;
	}
	return 0;
}

static int parse(const struct json_at *root, struct image_document *d, struct error *err)
{
	own_image_config struct image_config config = {0};
	const char *created = NULL;
	struct json_at at;
	int rc = json_as_object(root, err);

	d->os = d->architecture = d->variant = "";
	if (rc == 0)
		rc = json_get_string(root, "os", JSON_OPTIONAL, &d->os, err);
	if (rc >= 0)
		rc = json_get_string(root, "architecture", JSON_OPTIONAL, &d->architecture, err);
	if (rc >= 0)
		rc = json_get_string(root, "variant", JSON_OPTIONAL, &d->variant, err);
	if (rc >= 0)
		rc = json_get_string(root, "created", JSON_OPTIONAL, &created, err);
	/* A date that cannot be read costs nothing but the date. */
	if (rc >= 0 && created != NULL && clock_parse(created, &d->created_ns) < 0)
		d->created_ns = 0;
	if (rc >= 0)
		rc = parse_diffids(root, d, err);
	/* What is wrong in it must come out now, not when the image is run. */
	if (rc >= 0)
		rc = json_object_at(root, "config", JSON_OPTIONAL, &at, err);
	return rc <= 0 ? rc : image_config_parse(&at, &config, err);
}

int image_document_parse(const char *text, size_t len, struct image_document *ret,
			 struct error *err)
{
	own_image_document struct image_document d = {0};
	struct json_at root;
	int rc = json_parse(text, len, "the image's configuration", &d.json, err);

	if (rc < 0)
		return rc;
	root = json_root(d.json);
	rc = parse(&root, &d, err);
	if (rc < 0)
		return refuse(err, rc, "the image's configuration cannot be used");
	*ret = d;
	memset(&d, 0, sizeof(d));
	return 0;
}
