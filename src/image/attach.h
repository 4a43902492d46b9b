/*
 * attach: a document put beside an image in its registry, as an artifact that refers to the image's manifest
 * (OCI image specification 1.1, "Guidelines for Artifact Usage"), where `berth image referrers` and scanners
 * find it.
 */
#pragma once

#include "image/store.h"

struct image_attachment {
	const char *type; /* the document's media type, which is the artifact's, too */
	const char *text;
	size_t len;
};
/* Attaches to the manifest that the registry has of an image that is here, by its name. Writes the artifact's
 * digest; one that is there already is there once. -ENOENT: the registry does not have this image. */
int image_attach(struct image_store *store, const char *name,
		 const struct image_attachment *attachment, const struct image_remote *remote,
		 struct digest *ret, struct error *err) must_check;
