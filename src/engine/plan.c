/* plan: see isolation.h. */
#include "engine/isolation.h"

#include <stdlib.h>

#include "base/file.h"

void plan_release(struct plan *plan)
{
	free(plan->text);
	fd_close(&plan->root_fd);
	for (size_t i = 0; i < plan->lock_count; i++)
		fd_close(&plan->locks[i].fd);
	free(plan->locks);
	*plan = PLAN_EMPTY;
}
