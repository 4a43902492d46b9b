/*
 * reference: names of images, after the OCI distribution specification and docker's conventions.
 *
 *     reference  = [registry "/"] repository [":" tag] ["@" digest]
 *     registry   = host [":" port]            recognised by a dot, a colon, or being "localhost"
 *     repository = component *("/" component) lower case, digits, one of . _ __ or dashes between
 *
 * What is left out is filled in as docker does: registry docker.io, `library/` before a repository
 * of one component there, tag `latest` if there is neither tag nor digest.
 */
#pragma once

#include <stdbool.h>

#include "base/digest.h"
#include "base/error.h"

enum {
	REFERENCE_REGISTRY_MAX = 256,
	REFERENCE_REPOSITORY_MAX = 256,
	REFERENCE_TAG_MAX = 129,
	REFERENCE_TEXT_MAX = 720,
};
#define REFERENCE_DEFAULT_REGISTRY "docker.io"

struct reference {
	char registry[REFERENCE_REGISTRY_MAX];
	char repository[REFERENCE_REPOSITORY_MAX];
	char tag[REFERENCE_TAG_MAX]; /* "" if there is none, only together with a digest */
	struct digest digest;        /* text[0] == '\0' if there is none */
	bool short_name;             /* it came without a registry, so other defaults may apply */
	bool default_tag;            /* it came with neither tag nor digest */
};

/* Parses and completes. -EINVAL with the reason; a name with upper-case letters gets a hint. */
int reference_parse(const char *s, struct reference *ret, struct error *err) must_check;
/* True if `s` may stand as a tag. */
bool reference_tag_valid(const char *s);

bool reference_has_digest(const struct reference *r);
/* "docker.io/library/busybox:latest", with "@sha256:..." if there is a digest. */
void reference_format(const struct reference *r, char out[static REFERENCE_TEXT_MAX]);
/* The same without tag and digest: "docker.io/library/busybox". */
void reference_format_name(const struct reference *r, char out[static REFERENCE_TEXT_MAX]);
/* What people type: "busybox:latest", "localhost:5000/a:1". */
void reference_format_familiar(const struct reference *r, char out[static REFERENCE_TEXT_MAX]);
