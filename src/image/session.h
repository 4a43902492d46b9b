/*
 * session: what a command needs while it adds to the store, and what makes a crash harmless.
 *
 * A session has a directory <root>/ingest/<name> for temporary files and, beside it, <name>.lock,
 * which its processes hold exclusively: a lock that can be taken belongs to a dead session. It also
 * holds <root>/images.lock shared, so that nobody deletes files under it (I3 in store.h).
 *
 * Invariants
 *   N1  the lock file exists, and is locked, before the directory does; it is removed after it.
 */
#pragma once

#include "image/store.h"

struct image_session {
	struct image_store *store;
	int store_lock_fd, lock_fd;
	int dir_fd;    /* of the temporary files */
	char name[17]; /* "" when it has ended */
};

/* Begins: makes the store's directories if they are missing, and clears away dead sessions. */
int image_session_begin(struct image_store *store, struct image_session *ret,
			struct error *err) must_check;
/* Removes the temporary files and lets go. Does nothing to one that has not begun (zeroed). */
void image_session_end(struct image_session *session);
#define own_image_session __attribute__((cleanup(image_session_end)))
/* Leaves a note that files without rows are to be looked for: the next command does, when it finds what
 * looks like a dead session. */
int image_session_note(struct image_store *store, char name[static 17],
		       struct error *err) must_check;
/* Takes the note back. */
void image_session_unnote(struct image_store *store, const char *name);

/* Takes the store's lock shared, so that nobody deletes while it is held: its descriptor. Waits, but ends with
 * -EINTR if a signal comes (base/interrupt.h). */
int image_store_lock(struct image_store *store, struct error *err) must_check;

/* Removes what dead sessions left. Returns how many there were. */
int image_session_recover(struct image_store *store, struct error *err) must_check;

/* A new temporary file of the session, with its name in `name`. Returns the descriptor. */
int image_session_file(struct image_session *session, char name[static 17],
		       struct error *err) must_check;
/* Makes the temporary file `name` the blob `digest`: syncs it, names it, syncs the directory. */
int image_session_keep(struct image_session *session, int fd, const char *name,
		       const struct digest *digest, struct error *err) must_check;
