/*
 * garbage: blobs and layers that no image needs.
 *
 * What an interrupted pull has completed stays for a day, so that the next try goes on from there;
 * what rmi or a refused pull leaves is condemned and goes at once. Files go under the exclusive store
 * lock only (I3 in store.h): if somebody is adding just now, the rows stay, and with them the
 * knowledge of what is to be removed.
 */
#pragma once

#include "image/store.h"

enum garbage_age {
	GARBAGE_CONDEMNED, /* what is condemned, and unreferenced for a day */
	GARBAGE_ALL,       /* all that is unreferenced */
};

/* Marks the parts of an image as condemned, if no other image needs them. Inside the caller's
 * transaction, after the image's row is gone is too late: call it before. */
int image_garbage_condemn(struct image_store *store, const char *image_id,
			  struct error *err) must_check;
/* The same for what has been recorded since `since_ns` and belongs to no image. */
int image_garbage_condemn_since(struct image_store *store, int64_t since_ns,
				struct error *err) must_check;
/* Removes the temporary files of dead sessions and unfinished layers of dead processes. */
int image_leftovers_remove(struct image_store *store, struct error *err) must_check;
/* Removes garbage, rows first. Adds what it freed to *reclaimed_bytes (may be NULL). Not to be
 * called while a session of this process is open. */
int image_garbage_collect(struct image_store *store, enum garbage_age age,
			  uint64_t *reclaimed_bytes, struct error *err) must_check;
