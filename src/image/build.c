/* build: see build.h; and `import`, which produces its tar by reading a descriptor. */
#include "image/build.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/blob.h"
#include "image/fetch.h"
#include "image/jobs.h"
#include "image/record.h"
#include "image/store_priv.h"

enum { READ_SIZE = 256 << 10 };

/* The image below. */
struct base {
	struct image *image;
	struct image_document document;
	struct manifest manifest;
};

static void base_release(struct base *base)
{
	image_free(base->image);
	image_document_release(&base->document);
	manifest_release(&base->manifest);
}

struct build {
	struct image_session session;
	struct base base;
	const struct image_import *options;
	const struct layer_format *format;
	image_produce_fn *produce;
	void *produce_context;
	struct ingest_result layer;
};

struct metered {
	struct ingest *ingest;
	struct image_job_meter *meter;
};

static int add_metered(const void *data, size_t len, void *context, struct error *err)
{
	struct metered *metered = context;

	metered->meter->done_bytes += len;
	return ingest_add(metered->ingest, data, len, err);
}

static int run(size_t i, struct image_job_meter *meter, void *result, void *context,
	       struct error *err)
{
	struct build *build = context;
	own_ingest struct ingest *ingest = NULL;
	struct metered metered = {.meter = meter};
	int rc = ingest_begin(&build->session, build->format, INGEST_TAR, &INGEST_EXPECT_NOTHING,
			      &ingest, err);

	(void)i;
	if (rc < 0)
		return rc;
	metered.ingest = ingest;
	rc = build->produce(add_metered, &metered, build->produce_context, err);
	return rc < 0 ? rc : ingest_finish(ingest, result, err);
}

static int done(size_t i, const void *result, void *context, struct error *err)
{
	struct build *build = context;

	(void)i;
	memcpy(&build->layer, result, sizeof(build->layer));
	return image_record_layer(&build->session, &build->layer, err);
}

/* The digest is only known in the end. */
static const char *name(size_t i, void *context)
{
	(void)i;
	(void)context;
	return "layer";
}

int image_target_name(const char *text, char out[static REFERENCE_TEXT_MAX], struct error *err)
{
	struct reference reference;
	int rc = reference_parse(text, &reference, err);

	if (rc < 0)
		return rc;
	if (reference_has_digest(&reference))
		return refuse(err, -EINVAL, "\"%s\" has a digest: a new image has a tag only",
			      text);
	reference_format(&reference, out);
	return 0;
}

/* The configuration document, always with the same members in the same order. */
static json_t *new_document(const struct platform *platform)
{
	json_t *root = json_object(), *rootfs = json_object();

	json_set_string(root, "architecture", platform->architecture);
	json_set_string(root, "os", platform->os);
	if (platform->variant[0] != '\0')
		json_set_string(root, "variant", platform->variant);
	json_object_set_new(root, "config", json_object());
	json_set_string(rootfs, "type", "layers");
	json_object_set_new(rootfs, "diff_ids", json_array());
	json_object_set_new(root, "rootfs", rootfs);
	json_object_set_new(root, "history", json_array());
	return root;
}

/* The base's, without what docker once wrote about the container that it came from. */
static json_t *base_document(const struct base *base)
{
	static const char *const gone[] = {"container", "container_config", "docker_version", "id",
					   "parent"};
	json_t *root = json_deep_copy(base->document.json);

	for (size_t i = 0; i < array_size(gone); i++)
		json_object_del(root, gone[i]);
	if (!json_is_array(json_object_get(root, "history")))
		json_object_set_new(root, "history", json_array());
	return root;
}

/* The document of the new image. */
static char *format_document(const struct build *build, const struct platform *platform)
{
	const struct image_import *o = build->options;
	own_json json_t *root = o->base ? base_document(&build->base) : new_document(platform);
	json_t *history = json_object();
	char created[CLOCK_TEXT_MAX];

	clock_format(o->created_ns, created);
	if (o->created_ns != 0) {
		json_set_string(root, "created", created);
		json_set_string(history, "created", created);
	}
	if (o->author != NULL)
		json_set_string(root, "author", o->author);
	if (o->config != NULL)
		json_object_set_new(root, "config", json_deep_copy(o->config));
	json_array_append_new(json_object_get(json_object_get(root, "rootfs"), "diff_ids"),
			      json_string(build->layer.diffid.text));
	json_set_string(history, "created_by", o->created_by);
	if (o->author != NULL)
		json_set_string(history, "author", o->author);
	json_set_string(history, "comment", o->comment);
	json_array_append_new(json_object_get(root, "history"), history);
	return json_text(root);
}

/* The base's layer as an OCI manifest names it, though its own may be docker's. */
static struct descriptor oci_layer(const struct descriptor *layer)
{
	static char plain[] = MEDIA_OCI_LAYER, gzip[] = MEDIA_OCI_LAYER "+gzip",
		    zstd[] = MEDIA_OCI_LAYER "+zstd";
	struct descriptor d = {.digest = layer->digest, .size_bytes = layer->size_bytes};

	switch (manifest_layer_compression(layer->media_type)) {
	case COMPRESSION_GZIP:
		d.media_type = gzip;
		break;
	case COMPRESSION_ZSTD:
		d.media_type = zstd;
		break;
	case COMPRESSION_NONE:
	case COMPRESSION_XZ:
	case COMPRESSION_UNKNOWN:
		d.media_type = plain;
	}
	return d;
}

static int record(struct build *build, const struct platform *platform, const char *full_name,
		  struct digest *ret_id, struct error *err)
{
	own_image_document struct image_document document = {0};
	own_mem char *text = format_document(build, platform), *manifest_text = NULL;
	const size_t below = build->base.manifest.layers_count;
	own_mem struct descriptor *layers = mem_new_array(below + 1, sizeof(*layers));
	own_mem struct digest *blobs = mem_new_array(below + 3, sizeof(*blobs));
	char config_type[] = MEDIA_OCI_CONFIG, layer_type[] = MEDIA_OCI_LAYER "+gzip";
	struct descriptor config = {.media_type = config_type, .size_bytes = strlen(text)};
	struct digest *manifest = &blobs[below + 2];
	struct image_record r = {
		.id = &config.digest,
		.manifest = manifest,
		.document = &document,
		.blobs = blobs,
		.blobs_count = below + 3,
		.name = full_name[0] ? full_name : NULL,
	};
	int rc = image_document_parse(text, strlen(text), &document, err);

	if (rc == 0)
		rc = image_record_small(&build->session, text, strlen(text), NULL, &config.digest,
					err);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < below; i++)
		layers[i] = oci_layer(&build->base.manifest.layers[i]);
	layers[below] = (struct descriptor){
		.media_type = layer_type,
		.digest = build->layer.blob,
		.size_bytes = build->layer.blob_size,
	};
	for (size_t i = 0; i <= below; i++)
		blobs[i] = layers[i].digest;
	blobs[below + 1] = config.digest;
	manifest_text = manifest_format(&config, layers, below + 1);
	rc = image_record_small(&build->session, manifest_text, strlen(manifest_text), NULL,
				manifest, err);
	if (rc == 0)
		rc = image_record(&build->session, &r, err);
	if (rc == 0)
		*ret_id = config.digest;
	return rc;
}

static int base_read(struct image_store *store, const char *name, struct base *base,
		     struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = image_find(store, name, &base->image, err);

	if (rc == 0)
		rc = image_read_document(store, &base->image->id, &base->document, err);
	if (rc == 0)
		rc = image_blob_read(store, &base->image->manifest, MANIFEST_SIZE_MAX, &text, &len,
				     err);
	if (rc == 0)
		rc = manifest_parse(text, len, NULL, &base->manifest, err);
	if (rc == 0 && base->manifest.layers_count != base->document.diffids_count)
		rc = refuse(err, -EBADMSG, "its manifest has %zu layers, its configuration %zu",
			    base->manifest.layers_count, base->document.diffids_count);
	return rc < 0 ? refuse(err, rc, "the image below") : 0;
}

static int build_in_session(struct build *build, const struct platform *platform,
			    const char *full_name, struct digest *ret_id, struct error *err)
{
	const struct image_jobs jobs = {
		.count = 1,
		.result_size = sizeof(struct ingest_result),
		.context = build,
		.run = run,
		.done = done,
		.name = name,
		.progress = build->options->progress,
		.progress_data = build->options->progress_data,
	};
	int rc, layers_fd = image_store_layers_fd(build->session.store, err);

	if (layers_fd < 0)
		return layers_fd;
	build->format = layer_format_best(layers_fd);
	rc = image_jobs_run(&jobs, err);
	return rc < 0 ? rc : record(build, platform, full_name, ret_id, err);
}

int image_build(struct image_store *store, const struct image_import *options,
		image_produce_fn *produce, void *context, struct image **ret, struct error *err)
{
	struct build build = {.options = options, .produce = produce, .produce_context = context};
	char full_name[REFERENCE_TEXT_MAX] = "";
	const int64_t since = clock_now_ns();
	struct interrupt interrupt;
	struct platform platform;
	struct digest id;
	int rc = platform_parse(options->platform, &platform, err);

	if (rc == 0 && options->name != NULL)
		rc = image_target_name(options->name, full_name, err);
	if (rc < 0)
		return rc;
	interrupt = interrupt_begin();
	rc = image_session_begin(store, &build.session, err);
	if (rc == 0 && options->base != NULL)
		rc = base_read(store, options->base, &build.base, err);
	if (rc == 0)
		rc = build_in_session(&build, &platform, full_name, &id, err);
	image_session_end(&build.session);
	base_release(&build.base);
	if (rc < 0)
		rc = image_fetch_failed(store, since, rc);
	interrupt_end(&interrupt, rc);
	if (rc < 0)
		return rc;
	rc = image_trim(store, since, NULL, NULL, err);
	return rc < 0 ? rc : image_find(store, id.text, ret, err);
}

static int produce_from_fd(image_bytes_fn *out, void *out_context, void *context, struct error *err)
{
	const int *fd = context;
	own_mem char *chunk = mem_new(READ_SIZE);

	for (;;) {
		ssize_t n = read(*fd, chunk, READ_SIZE);
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail(err, -errno, "read the tar");
		if (n == 0)
			return 0;
		rc = out(chunk, (size_t)n, out_context, err);
		if (rc < 0)
			return rc;
	}
}

int image_import(struct image_store *store, int fd, const struct image_import *options,
		 struct image **ret, struct error *err)
{
	return image_build(store, options, produce_from_fd, &fd, ret, err);
}
