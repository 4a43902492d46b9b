/* isolation: see isolation.h. */
#include "engine/isolation.h"

#include <errno.h>

#include "base/own.h"

const struct isolation *isolation_of(enum workload_isolation kind)
{
	switch (kind) {
	case WORKLOAD_VM:
		return &isolation_vm;
	case WORKLOAD_MACHINE:
		return &isolation_machine;
	case WORKLOAD_CONTAINER:
		break;
	}
	return &isolation_container;
}

int isolation_check_inside(const struct workload *workload, struct error *err)
{
	const char *why = isolation_of(workload->config.isolation)->no_inside;

	if (why == NULL)
		return 0;
	return hint(err, refuse(err, -ENOTSUP, "%s", why),
		    "its serial console is what berth has of it: berth attach %s", workload->name);
}
