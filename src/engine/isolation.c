/* isolation: see isolation.h. */
#include "engine/isolation.h"

#include <stdlib.h>

#include "base/own.h"

const struct isolation *isolation_of(enum workload_isolation kind)
{
	switch (kind) {
	case WORKLOAD_VM:
		return &isolation_vm;
	case WORKLOAD_CONTAINER:
		break;
	}
	return &isolation_container;
}

void plan_release(struct plan *plan)
{
	free(plan->text);
	fd_close(&plan->root_fd);
	for (size_t i = 0; i < plan->lock_count; i++)
		fd_close(&plan->locks[i].fd);
	free(plan->locks);
	*plan = PLAN_EMPTY;
}
