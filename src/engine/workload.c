/* workload: see workload.h. */
#include "engine/workload.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"

void workload_release(struct workload *w)
{
	free(w->name);
	free(w->error);
	strv_free(w->argv);
	workload_config_release(&w->config);
	memset(w, 0, sizeof(*w));
}

const char *workload_status_name(enum workload_status status)
{
	static const char *const names[] = {
		[WORKLOAD_CREATED] = "created", [WORKLOAD_RUNNING] = "running",
		[WORKLOAD_PAUSED] = "paused",   [WORKLOAD_RESTARTING] = "restarting",
		[WORKLOAD_EXITED] = "exited",   [WORKLOAD_REMOVING] = "removing",
		[WORKLOAD_DEAD] = "dead",
	};

	return names[status];
}

char *workload_status_text(const struct workload *w)
{
	int64_t now = clock_now_ns();
	char age[CLOCK_TEXT_MAX];

	switch (w->status) {
	case WORKLOAD_RUNNING:
	case WORKLOAD_PAUSED:
		clock_format_age(now - w->started_ns, age);
		return str_format("Up %s%s", age, w->status == WORKLOAD_PAUSED ? " (Paused)" : "");
	case WORKLOAD_RESTARTING:
		clock_format_age(now - w->finished_ns, age);
		return str_format("Restarting (%d) %s ago", w->exit_code, age);
	case WORKLOAD_EXITED:
		clock_format_age(now - w->finished_ns, age);
		/* Of a machine the exit code alone does not say what happened. */
		if (w->config.isolation != WORKLOAD_CONTAINER && w->error != NULL)
			return str_format("Exited (%d) %s ago: %s", w->exit_code, age, w->error);
		return str_format("Exited (%d) %s ago", w->exit_code, age);
	case WORKLOAD_CREATED:
		return str_copy("Created");
	case WORKLOAD_REMOVING:
		return str_copy("Removal In Progress");
	case WORKLOAD_DEAD:
		return str_copy("Dead");
	}
	return str_copy("");
}
