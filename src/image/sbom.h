/*
 * sbom: a software bill of materials of an image, in the two formats that vulnerability scanners read.
 * Made from a list of packages (packages.h); the same list gives the same document but for the time.
 */
#pragma once

#include <jansson.h>
#include <stdint.h>

#include "image/packages.h"
#include "image/store.h"

/* What the document is about. */
struct sbom_subject {
	const char *name;   /* "docker.io/library/debian:bookworm" */
	const char *digest; /* of the manifest, "sha256:..." */
	int64_t created_ns; /* when the document is made */
};

/* SPDX 2.3 as JSON. Never NULL. */
json_t *sbom_spdx(const struct sbom_subject *subject, const struct packages *list);
/* CycloneDX 1.5 as JSON. Never NULL. */
json_t *sbom_cyclonedx(const struct sbom_subject *subject, const struct packages *list);

/* The package URL (purl specification 1.0): "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&...". */
char *sbom_purl(const struct packages *list, const struct package *p);

enum sbom_format { SBOM_SPDX, SBOM_CYCLONEDX };
/* Its media type. */
const char *sbom_media_type(enum sbom_format format);
/* The document for an image that is here, made now or at the moment that $SOURCE_DATE_EPOCH says, and the list that it was made of (`ret_list` starts zeroed;
 * release it also after a failure): its notes say what could not be read. Mounts the layers, so it needs
 * what running a container needs. */
int image_sbom(struct image_store *store, const char *name, enum sbom_format format, bool rootless,
	       json_t **ret, struct packages *ret_list, struct error *err) must_check;
