/* check_priv: what the files of the check share. */
#pragma once

#include "image/store_priv.h"

struct check {
	struct image_store *store;
	enum image_check_flags flags;
	image_problem_fn *fn;
	void *data;
	int open; /* problems that are not repaired */
};

static inline bool check_repairing(const struct check *c)
{
	return c->flags & IMAGE_CHECK_REPAIR;
}
/* Tells of a problem. */
void check_problem(struct check *c, bool repaired, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Compares the tables with each other and with what manifests and configurations say. A layer or blob whose
 * row was missing gets one, without a size: the looks at the files that follow find out the rest. */
int check_tables(struct check *c, struct error *err) must_check;
