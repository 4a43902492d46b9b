/* fixture: a store in a temporary directory, and small images for it. */
#pragma once

#include "image/store.h"

struct fixture {
	char path[64];
	int root_fd, state_fd;
	struct db *db;
	struct image_store *store;
};

void fixture_begin(struct fixture *f);
void fixture_end(struct fixture *f);
/* Closes and opens the store and its database, as another command would. */
void fixture_reopen(struct fixture *f);

/* The tar of a file "file" with the given text. The caller closes the descriptor. */
int fixture_tar(const char *text);
/* Imports that tar under a name (may be NULL). */
void fixture_import(struct fixture *f, const char *name, const char *text, struct digest *ret_id);
/* The number of files in a directory below the root. */
size_t fixture_count(struct fixture *f, const char *dir);
/* Problems that image_store_check finds. */
int fixture_check(struct fixture *f, enum image_check_flags flags);
