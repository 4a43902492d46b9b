/*
 * turn: of several commands that want the same layer one fetches it, the others wait and then have it.
 *
 * The turn is a lock on <state>/fetch/<hex>. The parent of the jobs opens the file, its child waits for
 * the lock, and both share it (it is of the open file): so it lasts until the parent has recorded the
 * layer, although the child has ended by then, and goes when both are dead. Nobody waits for a turn who
 * has one that somebody else could wait for and does not work on it: no circle can form.
 *
 * It only spares work: a layer that is fetched twice, because a file was removed between two others'
 * looks at it, is named once all the same.
 */
#pragma once

#include "base/digest.h"
#include "base/error.h"
#include "image/store.h"

/* In the parent: the descriptor, or -errno. The turn is not ours yet. */
int turn_open(struct image_store *store, const struct digest *layer, struct error *err) must_check;
/* In the child: waits for it. */
int turn_await(int turn_fd, struct error *err) must_check;
/* In the parent: gives it to the next and closes *turn_fd, which may be -1. */
void turn_release(struct image_store *store, const struct digest *layer, int *turn_fd);
/* Removes the files of those who died with a turn. */
void turn_recover(struct image_store *store);
