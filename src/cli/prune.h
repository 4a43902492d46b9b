/* prune: removing what is not used, shared by the prune commands of several groups. Prints what went. */
#pragma once

#include "cli/args.h"
#include "engine/engine.h"

/* All workloads that do not run; `filters` as of `berth ps`. */
int prune_workloads(struct engine *engine, char *const *filters, struct error *err) must_check;
/* All images without a name, or, with `all`, all that no workload uses; after args' "filter". */
int prune_images(struct image_store *store, const struct args *args, bool all,
		 struct error *err) must_check;
