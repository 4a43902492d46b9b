/* store_priv: the store's inside, shared by the files of this directory. */
#pragma once

#include "image/store.h"

struct image_store {
	int root_fd, state_fd; /* the caller's */
	struct db *db;         /* the caller's */
	int blobs_fd;          /* <root>/blobs; -1 until needed */
	int layers_fd;         /* <root>/layers; -1 until needed */
	char *policy_path;     /* NULL: the usual places */
	struct image_limits limits;
	bool drops_blobs; /* of layers that can be made into a tar again */
};

/* The columns of an image row, in the order in which image_from_row reads them. */
#define IMAGE_COLUMNS                                                                              \
	"i.id, i.manifest, i.os, i.architecture, i.variant, i.created_ns, i.added_ns, i.size, "    \
	"i.runtime"
/* Makes an image of the current row (IMAGE_COLUMNS first); does not read its layers. */
struct image *image_from_row(struct db_query *q);
/* Reads image->layers. */
int image_read_layers(struct image_store *store, struct image *image, struct error *err) must_check;
/* Gives the name, moving it if another image has it. No transaction of its own. */
int image_set_name(struct image_store *store, const char *name, const struct digest *id,
		   const struct digest *manifest, struct error *err) must_check;
struct image_document;
/* Reads an image's configuration from its blob. */
int image_read_document(struct image_store *store, const struct digest *id,
			struct image_document *ret, struct error *err) must_check;
