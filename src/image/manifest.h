/*
 * manifest: what registries and archives hold about an image, after the OCI image specification 1.1
 * and docker's schema 2: indexes (manifest lists), manifests, and image configurations.
 *
 *     index     -> a manifest for each platform (and attestations beside them)
 *     manifest  -> configuration, layers from the lowest up
 *     configuration -> platform, diffids from the lowest up, history, `config`
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/own.h"
#include "image/decompress.h"
#include "image/platform.h"

enum {
	MANIFEST_SIZE_MAX = 4 << 20, /* the specification's limit for what registries must take */
	CONFIG_SIZE_MAX = 8 << 20,
	MANIFEST_LAYERS_MAX = 1000,
	MANIFEST_INDEX_MAX = 4096,
};

#define MEDIA_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MEDIA_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MEDIA_OCI_LAYER "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_DOCKER_INDEX "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MEDIA_DOCKER_LAYER "application/vnd.docker.image.rootfs.diff.tar"

struct descriptor {
	char *media_type;
	struct digest digest;
	uint64_t size_bytes;
	char *os, *architecture, *variant; /* in an index; may be NULL */
	char *name;                        /* annotation org.opencontainers.image.ref.name */
	char *image_name;                  /* annotation io.containerd.image.name */
};

enum manifest_kind { MANIFEST_IMAGE, MANIFEST_INDEX };

struct manifest {
	enum manifest_kind kind;
	char *media_type;
	struct descriptor config;  /* MANIFEST_IMAGE */
	struct descriptor *layers; /* MANIFEST_IMAGE: layers; MANIFEST_INDEX: manifests */
	size_t layers_count;
};

/* Parses a manifest or index. `media_type` is what its source calls it (may be NULL); if the document
 * says otherwise it is refused. Old schemas, artifacts and foreign layers are refused with the
 * reason. -EINVAL, -ENOTSUP. */
int manifest_parse(const char *text, size_t len, const char *media_type, struct manifest *ret,
		   struct error *err) must_check;
void manifest_release(struct manifest *manifest);
#define own_manifest __attribute__((cleanup(manifest_release)))

/* The manifest of an index that suits best. -ENOENT with the platforms that there are. */
int manifest_select(const struct manifest *index, const struct platform *wanted,
		    const struct descriptor **ret, struct error *err) must_check;

/* The media type of a layer blob of this compression. */
const char *manifest_layer_type(enum compression compression);
/* The compression that a layer's media type speaks of. */
enum compression manifest_layer_compression(const char *media_type);

/* An image configuration as a document. */
struct image_document {
	json_t *json; /* all of it */
	const char *os, *architecture, *variant;
	int64_t created_ns;     /* 0 if it does not say */
	struct digest *diffids; /* the lowest first */
	size_t diffids_count;
};
int image_document_parse(const char *text, size_t len, struct image_document *ret,
			 struct error *err) must_check;
void image_document_release(struct image_document *document);
#define own_image_document __attribute__((cleanup(image_document_release)))

/* The text of an OCI manifest for these parts. */
char *manifest_format(const struct descriptor *config, const struct descriptor *layers,
		      size_t layers_count);
