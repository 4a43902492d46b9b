/*
 * copy: images from one registry or OCI layout directory to another, byte for byte: nothing is unpacked,
 * nothing is stored on the way, and what the other side has already is not sent.
 *
 * Any manifest can be copied, images and artifacts alike. A place is written
 *     registry/repository:tag        (also with docker:// in front of it)
 *     oci:DIRECTORY[:TAG]
 */
#pragma once

#include "image/store.h"

enum image_copy_flags {
	IMAGE_COPY_ALL = 1,       /* an index with all its manifests; else the platform's one */
	IMAGE_COPY_REFERRERS = 2, /* with signatures and whatever else refers to it */
};

struct image_copy {
	const char *from, *to;
	unsigned int flags;                /* enum image_copy_flags */
	const struct image_remote *source; /* how to talk to the one, and which platform */
	const struct image_remote *target; /* and to the other; its progress is not used */
};

/* Copies; writes the digest of what the name at the destination stands for. -ENOENT, -EACCES, -EBADMSG:
 * something has not the digest that it should have; -EINTR. */
int image_copy(const struct image_copy *copy, struct digest *ret, struct error *err) must_check;
