/*
 * load: images from archives and layout directories.
 *
 * Three forms are known. An OCI layout has index.json, whose descriptors lead to manifests and indexes
 * under blobs/; digests stay as they are. A docker archive has manifest.json, a list of {Config,
 * RepoTags, Layers}; its layers are plain tars, and the manifest is made here. Newer dockers write both
 * into one archive: then the layout is read, since it keeps the digests. In what skopeo and podman call
 * "dir", manifest.json is the manifest itself, and blobs are files with the hex digits as their names.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/archive.h"
#include "image/build.h"
#include "image/fetch.h"
#include "image/store_priv.h"
#include "image/trust.h"

enum { INDEX_DEPTH_MAX = 4 };

struct load {
	struct image_session session;
	const struct image_load *options;
	struct archive *archive;
	struct platform platform;
	struct policy policy;
	bool flat; /* blobs are not below blobs/sha256 */
	size_t loaded;
};

/* The layers of the image that is being loaded, as names in the archive. */
struct layer_names {
	struct load *load;
	char **names;
};

static int stream(size_t i, image_bytes_fn *out, void *out_context, void *context,
		  struct error *err)
{
	struct layer_names *layers = context;

	return archive_stream(layers->load->archive, layers->names[i], out, out_context, err);
}

static char *blob_name(const struct load *load, const struct digest *digest)
{
	return load->flat ? str_copy(digest_hex(digest))
			  : str_format("blobs/%s", digest_path(digest).text);
}

/* Reads a blob of the layout and compares its digest. */
static int read_blob(struct load *load, const struct digest *digest, size_t max, char **ret_text,
		     size_t *ret_len, struct error *err)
{
	own_mem char *name = blob_name(load, digest), *text = NULL;
	struct digest is;
	size_t len;
	int rc = archive_read(load->archive, name, max, &text, &len, err);

	if (rc < 0)
		return rc;
	is = digest_of_like(digest, text, len);
	if (!digest_eq(&is, digest))
		return refuse(err, -EBADMSG, "%s has the digest %s", name, is.text);
	*ret_text = take(text);
	*ret_len = len;
	return 0;
}

static void tell(struct load *load, const struct digest *id, const char *name)
{
	load->loaded++;
	if (load->options->loaded != NULL)
		load->options->loaded(id, name, load->options->loaded_data);
}

static int load_manifest(struct load *load, const struct manifest *manifest,
			 const struct digest *digest, const char *text, size_t len,
			 const char *name, struct error *err)
{
	struct layer_names layers = {.load = load};
	own_strv char **names = NULL;
	own_mem char *config = NULL;
	struct image_fetch fetch = {
		.session = &load->session,
		.stream = stream,
		.context = &layers,
		.progress = load->options->progress,
		.progress_data = load->options->progress_data,
	};
	struct image_arrival arrival = {.manifest_text = text,
					.manifest_len = len,
					.manifest_digest = digest,
					.name = name};
	struct digest id;
	int rc = read_blob(load, &manifest->config.digest, CONFIG_SIZE_MAX, &config,
			   &arrival.config_len, err);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < manifest->layers_count; i++)
		strv_push_take(&names, blob_name(load, &manifest->layers[i].digest));
	layers.names = names;
	arrival.config_text = config;
	rc = image_arrive(&fetch, &arrival, &id, err);
	if (rc == 0)
		tell(load, &id, name);
	return rc;
}

/* The full name for a descriptor of index.json: true if it has one. */
static bool descriptor_name(const struct load *load, const struct descriptor *d,
			    char out[static REFERENCE_TEXT_MAX])
{
	own_mem char *with_tag = NULL;

	if (d->image_name != NULL && image_target_name(d->image_name, out, NULL) == 0)
		return true;
	if (d->name != NULL && strpbrk(d->name, "/:") != NULL &&
	    image_target_name(d->name, out, NULL) == 0)
		return true;
	if (load->options->name == NULL)
		return false;
	if (d->name != NULL && reference_tag_valid(d->name) &&
	    strchr(load->options->name, ':') == NULL)
		with_tag = str_format("%s:%s", load->options->name, d->name);
	return image_target_name(with_tag ? with_tag : load->options->name, out, NULL) == 0;
}

static int load_descriptor(struct load *load, const struct descriptor *d, const char *name,
			   struct error *err)
{
	struct digest digest = d->digest;

	for (int depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
		own_manifest struct manifest manifest = {0};
		own_mem char *text = NULL;
		const struct descriptor *chosen;
		size_t len;
		int rc = read_blob(load, &digest, MANIFEST_SIZE_MAX, &text, &len, err);

		if (rc == 0)
			rc = manifest_parse(text, len, NULL, &manifest, err);
		if (rc < 0)
			return rc;
		if (manifest.kind == MANIFEST_IMAGE)
			return load_manifest(load, &manifest, &digest, text, len, name, err);
		rc = manifest_select(&manifest, &load->platform, &chosen, err);
		if (rc < 0)
			return rc;
		digest = chosen->digest;
	}
	return refuse(err, -ELOOP, "indexes are nested too deeply");
}

static int load_layout(struct load *load, struct error *err)
{
	own_manifest struct manifest index = {0};
	own_mem char *text = NULL;
	size_t len;
	int rc = archive_read(load->archive, "index.json", MANIFEST_SIZE_MAX, &text, &len, err);

	if (rc == 0)
		rc = manifest_parse(text, len, NULL, &index, err);
	if (rc == 0 && index.kind != MANIFEST_INDEX)
		rc = refuse(err, -EINVAL, "index.json is a manifest, not an index");
	/* All of them are judged before the first is stored. */
	for (size_t i = 0; rc == 0 && i < index.layers_count; i++) {
		char name[REFERENCE_TEXT_MAX];
		bool named = descriptor_name(load, &index.layers[i], name);

		rc = trust_admit_unsigned(&load->policy, named ? name : NULL, err);
	}
	for (size_t i = 0; rc == 0 && i < index.layers_count; i++) {
		char name[REFERENCE_TEXT_MAX];
		bool named = descriptor_name(load, &index.layers[i], name);

		rc = load_descriptor(load, &index.layers[i], named ? name : NULL, err);
	}
	return rc;
}

/* One entry of a docker archive's manifest.json. */
static int load_docker_image(struct load *load, const struct json_at *entry, struct error *err)
{
	own_strv char **tags = NULL, **names = NULL;
	own_mem char *config = NULL;
	const char *config_name = NULL;
	struct layer_names layers = {.load = load};
	struct image_fetch fetch = {
		.session = &load->session,
		.stream = stream,
		.context = &layers,
		.progress = load->options->progress,
		.progress_data = load->options->progress_data,
	};
	struct image_arrival arrival = {0};
	char name[REFERENCE_TEXT_MAX];
	struct digest id;
	size_t count = 0;
	int rc = json_get_string(entry, "Config", JSON_REQUIRED, &config_name, err);

	if (rc > 0)
		rc = json_get_strv(entry, "Layers", JSON_OPTIONAL, &names, err);
	if (rc >= 0)
		rc = json_get_strv(entry, "RepoTags", JSON_OPTIONAL, &tags, err);
	if (rc >= 0)
		rc = archive_read(load->archive, config_name, CONFIG_SIZE_MAX, &config,
				  &arrival.config_len, err);
	if (rc < 0)
		return rc;
	layers.names = names;
	arrival.config_text = config;
	if (tags == NULL && load->options->name != NULL)
		strv_push(&tags, load->options->name);
	do {
		const char *tag = tags ? tags[count] : NULL;

		rc = tag ? image_target_name(tag, name, err) : 0;
		arrival.name = tag ? name : NULL;
		if (rc == 0)
			rc = image_arrive(&fetch, &arrival, &id, err);
		if (rc == 0)
			tell(load, &id, arrival.name);
	} while (rc == 0 && tags != NULL && tags[++count] != NULL);
	return rc;
}

/* image_arrive compares layers with the configuration's list by place: there must be as many. */
static int check_layers(struct load *load, const struct json_at *entry, struct error *err)
{
	own_image_document struct image_document document = {0};
	own_mem char *text = NULL;
	struct json_at list;
	const char *config = NULL;
	size_t len, count = 0;
	int rc = json_as_object(entry, err);

	if (rc == 0)
		rc = json_get_string(entry, "Config", JSON_REQUIRED, &config, err);
	if (rc > 0)
		rc = archive_read(load->archive, config, CONFIG_SIZE_MAX, &text, &len, err);
	if (rc == 0)
		rc = image_document_parse(text, len, &document, err);
	if (rc == 0)
		rc = json_array_at(entry, "Layers", JSON_OPTIONAL, &list, err);
	if (rc > 0)
		count = json_array_size(list.value);
	if (rc >= 0 && count != document.diffids_count)
		return refuse(err, -EBADMSG,
			      "it has %zu layers but its configuration speaks of %zu", count,
			      document.diffids_count);
	return rc < 0 ? rc : 0;
}

/* Asks the policy about all names that an entry of manifest.json gives to its image. */
static int admit_docker_image(struct load *load, const struct json_at *entry, struct error *err)
{
	own_strv char **tags = NULL;
	int rc = json_as_object(entry, err);

	if (rc == 0)
		rc = json_get_strv(entry, "RepoTags", JSON_OPTIONAL, &tags, err);
	if (rc >= 0 && tags == NULL && load->options->name != NULL)
		strv_push(&tags, load->options->name);
	if (rc >= 0 && (tags == NULL || tags[0] == NULL))
		return trust_admit_unsigned(&load->policy, NULL, err);
	for (size_t i = 0; rc >= 0 && tags[i] != NULL; i++) {
		char name[REFERENCE_TEXT_MAX];

		rc = image_target_name(tags[i], name, err);
		if (rc == 0)
			rc = trust_admit_unsigned(&load->policy, name, err);
	}
	return rc < 0 ? rc : 0;
}

/* A directory with one manifest and its blobs beside it. */
static int load_flat(struct load *load, const char *text, size_t len, struct error *err)
{
	own_manifest struct manifest manifest = {0};
	char name[REFERENCE_TEXT_MAX];
	const bool named = load->options->name != NULL;
	int rc = manifest_parse(text, len, NULL, &manifest, err);

	if (rc == 0 && manifest.kind != MANIFEST_IMAGE)
		rc = refuse(err, -ENOTSUP, "manifest.json is an index");
	if (rc == 0 && named)
		rc = image_target_name(load->options->name, name, err);
	if (rc == 0)
		rc = trust_admit_unsigned(&load->policy, named ? name : NULL, err);
	load->flat = true;
	return rc < 0 ? rc
		      : load_manifest(load, &manifest, NULL, text, len, named ? name : NULL, err);
}

static int load_docker(struct load *load, struct error *err)
{
	own_json json_t *value = NULL;
	own_mem char *text = NULL;
	struct json_at root, entry;
	size_t len;
	int rc = archive_read(load->archive, "manifest.json", MANIFEST_SIZE_MAX, &text, &len, err);

	if (rc == 0)
		rc = json_parse(text, len, "manifest.json", &value, err);
	if (rc < 0)
		return rc;
	root = json_root(value);
	if (json_is_object(value))
		return load_flat(load, text, len, err);
	if (!json_is_array(value))
		return json_refuse(err, &root, "manifest.json is not a list");
	for (size_t i = 0; rc == 0 && json_element(&root, i, &entry); i++)
		rc = admit_docker_image(load, &entry, err);
	for (size_t i = 0; rc == 0 && json_element(&root, i, &entry); i++) {
		rc = check_layers(load, &entry, err);
		if (rc == 0)
			rc = load_docker_image(load, &entry, err);
	}
	return rc;
}

static int load_archive(struct load *load, struct error *err)
{
	struct archive_piece piece = {.fd = -1};
	int rc = archive_find(load->archive, "index.json", &piece, err);

	fd_close(&piece.fd);
	if (rc > 0) {
		rc = load_layout(load, err);
	} else if (rc == 0) {
		rc = archive_find(load->archive, "manifest.json", &piece, err);
		fd_close(&piece.fd);
		if (rc == 0)
			return hint(err,
				    refuse(err, -EINVAL,
					   "it holds no images: neither index.json nor "
					   "manifest.json is in it"),
				    "the tar of a root file system becomes an image with: berth "
				    "import");
		if (rc > 0)
			rc = load_docker(load, err);
	}
	if (rc == 0 && load->loaded == 0)
		return refuse(err, -ENOENT, "there is no image in it");
	return rc;
}

/* Opens the source inside a session, loads, tidies up. */
static int load_from(struct image_store *store, int fd, const char *dir,
		     const struct image_load *options, struct error *err)
{
	struct load load = {.options = options};
	int64_t since = clock_now_ns();
	struct interrupt interrupt;
	int rc = platform_parse(options->platform, &load.platform, err);

	if (rc == 0)
		rc = trust_load(store->policy_path, &load.policy, err);
	if (rc < 0)
		return rc;
	interrupt = interrupt_begin();
	rc = image_session_begin(store, &load.session, err);
	if (rc == 0)
		rc = dir ? archive_open_dir(dir, &load.archive, err)
			 : archive_open(&load.session, fd, &load.archive, err);
	if (rc == 0)
		rc = load_archive(&load, err);
	archive_close(load.archive);
	policy_release(&load.policy);
	image_session_end(&load.session);
	if (rc < 0)
		rc = image_fetch_failed(store, since, rc);
	interrupt_end(&interrupt, rc);
	return rc < 0 ? rc : image_trim(store, since, NULL, NULL, err);
}

int image_load(struct image_store *store, int fd, const struct image_load *options,
	       struct error *err)
{
	int rc = load_from(store, fd, NULL, options, err);

	return rc < 0 ? refuse(err, rc, "load the archive") : 0;
}

int image_load_layout(struct image_store *store, const char *dir, const struct image_load *options,
		      struct error *err)
{
	int rc = load_from(store, -1, dir, options, err);

	return rc < 0 ? refuse(err, rc, "load the layout %s", dir) : 0;
}
