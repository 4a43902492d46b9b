/* manifest: see manifest.h. */
#include "image/manifest.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

static void descriptor_release(struct descriptor *d)
{
	free(d->media_type);
	free(d->os);
	free(d->architecture);
	free(d->variant);
	free(d->name);
	free(d->image_name);
}

void manifest_release(struct manifest *m)
{
	free(m->media_type);
	descriptor_release(&m->config);
	for (size_t i = 0; i < m->layers_count; i++)
		descriptor_release(&m->layers[i]);
	free(m->layers);
	memset(m, 0, sizeof(*m));
}

static int copy_string(const struct json_at *object, const char *key, char **ret, struct error *err)
{
	const char *s;
	int rc = json_get_string(object, key, JSON_OPTIONAL, &s, err);

	if (rc > 0)
		*ret = str_copy(s);
	return rc < 0 ? rc : 0;
}

static int parse_platform(const struct json_at *at, struct descriptor *d, struct error *err)
{
	struct json_at platform;
	int rc = json_object_at(at, "platform", JSON_OPTIONAL, &platform, err);

	if (rc <= 0)
		return rc;
	rc = copy_string(&platform, "os", &d->os, err);
	if (rc == 0)
		rc = copy_string(&platform, "architecture", &d->architecture, err);
	return rc < 0 ? rc : copy_string(&platform, "variant", &d->variant, err);
}

static int parse_annotations(const struct json_at *at, struct descriptor *d, struct error *err)
{
	struct json_at annotations;
	int rc = json_object_at(at, "annotations", JSON_OPTIONAL, &annotations, err);

	if (rc <= 0)
		return rc;
	rc = copy_string(&annotations, "org.opencontainers.image.ref.name", &d->name, err);
	return rc < 0 ? rc
		      : copy_string(&annotations, "io.containerd.image.name", &d->image_name, err);
}

static int parse_descriptor(const struct json_at *at, struct descriptor *d, struct error *err)
{
	const char *media_type, *digest;
	int64_t size = 0;
	int rc = json_get_string(at, "mediaType", JSON_REQUIRED, &media_type, err);

	if (rc > 0)
		rc = json_get_string(at, "digest", JSON_REQUIRED, &digest, err);
	if (rc > 0)
		rc = json_get_int(at, "size", JSON_REQUIRED, 0, INT64_MAX, &size, err);
	if (rc < 0)
		return rc;
	d->media_type = str_copy(media_type);
	d->size_bytes = (uint64_t)size;
	rc = digest_parse(digest, &d->digest, err);
	if (rc < 0)
		return json_refuse(err, at, "digest");
	rc = parse_platform(at, d, err);
	return rc < 0 ? rc : parse_annotations(at, d, err);
}

static int parse_list(const struct json_at *root, const char *key, size_t max, struct manifest *m,
		      struct error *err)
{
	struct json_at array, item;
	int rc = json_array_at(root, key, JSON_REQUIRED, &array, err);

	if (rc < 0)
		return rc;
	if (json_array_size(array.value) > max)
		return json_refuse(err, &array, "has more than %zu entries", max);
	m->layers = mem_new_array(json_array_size(array.value), sizeof(*m->layers));
	for (size_t i = 0; json_element(&array, i, &item); i++) {
		rc = json_as_object(&item, err);
		if (rc < 0)
			return rc;
		m->layers_count = i + 1;
		rc = parse_descriptor(&item, &m->layers[i], err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static bool is_layer(const char *type)
{
	const char *rest = str_after(type, MEDIA_OCI_LAYER);

	if (rest != NULL)
		return str_eq(rest, "") || str_eq(rest, "+gzip") || str_eq(rest, "+zstd");
	rest = str_after(type, MEDIA_DOCKER_LAYER);
	return rest != NULL && (str_eq(rest, "") || str_eq(rest, ".gzip") || str_eq(rest, ".zstd"));
}

static int check_layers(const struct manifest *m, struct error *err)
{
	if (!str_eq(m->config.media_type, MEDIA_OCI_CONFIG) &&
	    !str_eq(m->config.media_type, MEDIA_DOCKER_CONFIG))
		return refuse(err, -ENOTSUP,
			      "it is an artifact (its configuration has the type %.100s), not an "
			      "image that can be run",
			      m->config.media_type);
	if (m->config.size_bytes > CONFIG_SIZE_MAX)
		return refuse(err, -EFBIG, "its configuration is larger than %d bytes",
			      CONFIG_SIZE_MAX);
	for (size_t i = 0; i < m->layers_count; i++) {
		const char *type = m->layers[i].media_type;

		if (strstr(type, "foreign") != NULL || strstr(type, "nondistributable") != NULL)
			return refuse(
				err, -ENOTSUP,
				"layer %zu is a foreign one (%.100s), which registries do not "
				"hold and which belongs to another operating system",
				i + 1, type);
		if (!is_layer(type))
			return refuse(err, -ENOTSUP, "layer %zu has the unknown type %.100s", i + 1,
				      type);
	}
	return 0;
}

static int parse_image(const struct json_at *root, struct manifest *m, struct error *err)
{
	struct json_at config;
	int rc = json_object_at(root, "config", JSON_REQUIRED, &config, err);

	m->kind = MANIFEST_IMAGE;
	if (rc > 0)
		rc = parse_descriptor(&config, &m->config, err);
	if (rc == 0)
		rc = parse_list(root, "layers", MANIFEST_LAYERS_MAX, m, err);
	return rc < 0 ? rc : check_layers(m, err);
}

static bool is_index(const char *type)
{
	return str_eq(type, MEDIA_OCI_INDEX) || str_eq(type, MEDIA_DOCKER_INDEX);
}

static bool is_known(const char *type)
{
	return is_index(type) || str_eq(type, MEDIA_OCI_MANIFEST) ||
	       str_eq(type, MEDIA_DOCKER_MANIFEST);
}

/* Which of the two it is. A document that could be read as either is an attack on whoever checks one
 * and uses the other, so it is refused. */
static int decide(const struct json_at *root, const char *media_type, struct manifest *m,
		  struct error *err)
{
	bool lists = json_object_get(root->value, "manifests") != NULL;
	bool stacks = json_object_get(root->value, "layers") != NULL ||
		      json_object_get(root->value, "config") != NULL;
	const char *says = NULL;
	int64_t version = 0;
	int rc = json_get_int(root, "schemaVersion", JSON_OPTIONAL, 0, INT64_MAX, &version, err);

	if (rc >= 0)
		rc = json_get_string(root, "mediaType", JSON_OPTIONAL, &says, err);
	if (rc < 0)
		return rc;
	if (version == 1 || json_object_get(root->value, "fsLayers") != NULL)
		return refuse(err, -ENOTSUP,
			      "it has docker's schema 1, which was given up in 2017");
	if (version != 2)
		return refuse(err, -EINVAL, "schemaVersion is %lld instead of 2",
			      (long long)version);
	if (lists == stacks)
		return refuse(err, -EINVAL,
			      lists ? "it is a manifest and an index at once"
				    : "it is neither a manifest nor an index");
	if (media_type == NULL || !is_known(media_type))
		media_type = says;
	if (media_type == NULL)
		media_type = lists ? MEDIA_OCI_INDEX : MEDIA_OCI_MANIFEST;
	if (says != NULL && !str_eq(says, media_type))
		return refuse(err, -EINVAL, "it came as %.100s but calls itself %.100s", media_type,
			      says);
	if (!is_known(media_type) || is_index(media_type) != lists)
		return refuse(err, -ENOTSUP, "its media type %.100s does not fit its content",
			      media_type);
	m->media_type = str_copy(media_type);
	return lists ? 1 : 0;
}

int manifest_parse(const char *text, size_t len, const char *media_type, struct manifest *ret,
		   struct error *err)
{
	own_manifest struct manifest m = {0};
	own_json json_t *value = NULL;
	struct json_at root;
	int rc;

	if (len > MANIFEST_SIZE_MAX)
		return refuse(err, -EFBIG, "the manifest is larger than %d bytes",
			      MANIFEST_SIZE_MAX);
	rc = json_parse(text, len, "the manifest", &value, err);
	if (rc < 0)
		return rc;
	root = json_root(value);
	rc = json_as_object(&root, err);
	if (rc == 0)
		rc = decide(&root, media_type, &m, err);
	if (rc == 0) {
		rc = parse_image(&root, &m, err);
	} else if (rc > 0) {
		m.kind = MANIFEST_INDEX;
		rc = parse_list(&root, "manifests", MANIFEST_INDEX_MAX, &m, err);
	}
	if (rc < 0)
		return refuse(err, rc, "the manifest cannot be used");
	*ret = m;
	memset(&m, 0, sizeof(m));
	return 0;
}

int manifest_select(const struct manifest *index, const struct platform *wanted,
		    const struct descriptor **ret, struct error *err)
{
	own_strv char **offered = NULL;
	own_mem char *list = NULL;
	char text[3 * PLATFORM_PART_MAX];
	const struct descriptor *best = NULL;
	int best_match = 0;

	for (size_t i = 0; i < index->layers_count; i++) {
		const struct descriptor *d = &index->layers[i];
		int match;

		if (!is_known(d->media_type) || is_index(d->media_type))
			continue;
		/* Attestations stand beside the images as "unknown/unknown". */
		if (str_eq(d->os, "unknown"))
			continue;
		/* Without a platform it is for everybody, but only if nothing fits better. */
		match = d->os == NULL
				? 1
				: 1 + platform_match(wanted, d->os, d->architecture, d->variant);
		if (d->os != NULL && match == 1)
			match = 0;
		if (match > best_match) {
			best = d;
			best_match = match;
		}
		if (d->os != NULL && strv_len(offered) < 12)
			strv_push_format(&offered, "%.30s/%.30s%s%.30s", d->os,
					 d->architecture ? d->architecture : "?",
					 d->variant ? "/" : "", d->variant ? d->variant : "");
	}
	if (best != NULL) {
		*ret = best;
		return 0;
	}
	platform_format(wanted, text);
	list = strv_join(offered, ", ");
	return hint(err, refuse(err, -ENOENT, "the image is not made for %s", text),
		    "it is made for: %s", str_empty(list) ? "nothing that can be run" : list);
}

enum compression manifest_layer_compression(const char *media_type)
{
	if (str_ends_with(media_type, "gzip"))
		return COMPRESSION_GZIP;
	return str_ends_with(media_type, "zstd") ? COMPRESSION_ZSTD : COMPRESSION_NONE;
}

const char *manifest_layer_type(enum compression compression)
{
	switch (compression) {
	case COMPRESSION_GZIP:
		return MEDIA_OCI_LAYER "+gzip";
	case COMPRESSION_ZSTD:
		return MEDIA_OCI_LAYER "+zstd";
	case COMPRESSION_UNKNOWN:
	case COMPRESSION_NONE:
	default:
		return MEDIA_OCI_LAYER;
	}
}

static json_t *descriptor_json(const struct descriptor *d)
{
	json_t *object = json_object();

	json_set_string(object, "mediaType", d->media_type);
	json_set_string(object, "digest", d->digest.text);
	json_object_set_new(object, "size", json_integer((json_int_t)d->size_bytes));
	return object;
}

char *manifest_format(const struct descriptor *config, const struct descriptor *layers,
		      size_t layers_count)
{
	own_json json_t *root = json_object();
	json_t *list = json_array();

	json_object_set_new(root, "schemaVersion", json_integer(2));
	json_set_string(root, "mediaType", MEDIA_OCI_MANIFEST);
	json_object_set_new(root, "config", descriptor_json(config));
	for (size_t i = 0; i < layers_count; i++)
		json_array_append_new(list, descriptor_json(&layers[i]));
	json_object_set_new(root, "layers", list);
	return json_text(root);
}
