/*
 * repack: the blobs of an image's layers as they leave this host. One that is here goes as it is. One that is
 * not is made again from the layer: its tar, packed as layers that are made here are. That gives the blob
 * that once came if it was made so, or was a plain tar; another one, with another digest, if somebody
 * else packed it.
 */
#pragma once

#include "image/manifest.h"
#include "image/session.h"

struct packed_layer {
	int fd; /* of the blob, from its start; -1: it is where it is to go already */
	struct digest digest;
	uint64_t size_bytes;
	enum compression compression;
	bool changed; /* it is not the blob that the manifest names */
};
void packed_layer_release(struct packed_layer *packed);
#define own_packed_layer __attribute__((cleanup(packed_layer_release)))

/* The blob of a layer that `named`, in the manifest, describes. `directory_fd` is where a file without a
 * name can be made. -ENOENT: the layer cannot be had any more, with a hint. */
int image_pack_layer(struct image_store *store, int directory_fd, const struct descriptor *named,
		     const struct digest *diffid, struct packed_layer *ret,
		     struct error *err) must_check;
/* The text of the manifest with `layers` instead of its own. What annotations said of the old blobs' insides
 * is left out. */
int image_pack_manifest(const char *text, size_t len, const struct packed_layer *layers,
			size_t count, char **ret, struct error *err) must_check;
