/* config_check: what can be refused before anything is done (declared in config.h). */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/proc.h"
#include "engine/capability.h"
#include "engine/config.h"
#include "engine/name.h"

enum {
	HOSTNAME_MAX = 64,
	MEMORY_MIN = 6 << 20, /* docker's, below it nothing starts */
};

static int check_lists(const struct workload_config *config, struct error *err)
{
	char *const *const lists[] = {config->command, config->env, config->labels,
				      config->extra_hosts};

	for (size_t i = 0; i < array_size(lists); i++)
		if (strv_len(lists[i]) > WORKLOAD_LIST_MAX)
			return refuse(err, -E2BIG, "more than %d arguments, variables or labels",
				      WORKLOAD_LIST_MAX);
	for (size_t i = 0; config->env != NULL && config->env[i] != NULL; i++)
		if (config->env[i][0] == '=' || strchr(config->env[i], '=') == NULL)
			return refuse(err, -EINVAL, "environment variable \"%s\" has no %s",
				      config->env[i], config->env[i][0] == '=' ? "name" : "value");
	for (size_t i = 0; config->extra_hosts != NULL && config->extra_hosts[i] != NULL; i++)
		if (strchr(config->extra_hosts[i], ':') == NULL)
			return hint(err,
				    refuse(err, -EINVAL, "\"%s\" is not a host entry",
					   config->extra_hosts[i]),
				    "--add-host NAME:ADDRESS");
	return 0;
}

static int check_names(const struct workload_config *config, struct error *err)
{
	int rc = config->name ? name_check(config->name, err) : 0;

	if (rc < 0)
		return rc;
	if (config->hostname != NULL && strlen(config->hostname) > HOSTNAME_MAX)
		return refuse(err, -EINVAL, "host name \"%s\" is longer than %d characters",
			      config->hostname, HOSTNAME_MAX);
	if (config->stop_signal != NULL && proc_parse_signal(config->stop_signal) < 0)
		return refuse(err, -EINVAL, "\"%s\" is not a signal", config->stop_signal);
	if (config->working_dir != NULL && config->working_dir[0] != '/')
		return refuse(err, -EINVAL, "working directory \"%s\" is not an absolute path",
			      config->working_dir);
	return 0;
}

static int check_limits(const struct workload_config *config, struct error *err)
{
	if (config->memory_bytes >= 0 && config->memory_bytes < MEMORY_MIN)
		return hint(err,
			    refuse(err, -EINVAL, "a memory limit of %lld bytes lets nothing start",
				   (long long)config->memory_bytes),
			    "6 MiB is the least: --memory 6m");
	if (config->memory_swap_bytes >= 0 && config->memory_bytes < 0)
		return hint(err, refuse(err, -EINVAL, "a swap limit needs a memory limit"),
			    "add --memory");
	if (config->memory_swap_bytes >= 0 && config->memory_swap_bytes < config->memory_bytes)
		return hint(err,
			    refuse(err, -EINVAL,
				   "the limit of memory and swap together is below "
				   "that of memory alone"),
			    "--memory-swap is the sum of both");
	if (config->nano_cpus == 0)
		return refuse(err, -EINVAL, "0 CPUs are not enough");
	if (config->oom_score_set &&
	    (config->oom_score_adj < -1000 || config->oom_score_adj > 1000))
		return refuse(err, -EINVAL, "an OOM score adjustment is within -1000 and 1000");
	return 0;
}

static int check_caps(char *const *list, struct error *err)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		if (strcasecmp(list[i], "ALL") != 0 && capability_find(list[i]) == NULL)
			return refuse(err, -EINVAL, "there is no capability \"%s\"", list[i]);
	return 0;
}

static int check_combinations(const struct workload_config *config, struct error *err)
{
	if ((config->flags & WORKLOAD_AUTO_REMOVE) && config->restart != WORKLOAD_RESTART_NO)
		return refuse(err, -EINVAL,
			      "a workload cannot be removed (--rm) and restarted (--restart)");
	if (config->hostname != NULL && (config->flags & WORKLOAD_UTS_HOST))
		return refuse(err, -EINVAL, "--hostname does not go with --uts host");
	for (size_t i = 0; i < config->mounts_count; i++)
		for (size_t j = 0; j < i; j++)
			if (str_eq(config->mounts[i].target, config->mounts[j].target))
				return refuse(err, -EINVAL, "two mounts at \"%s\"",
					      config->mounts[i].target);
	return 0;
}

int workload_config_check(const struct workload_config *config, struct error *err)
{
	int rc = check_lists(config, err);

	if (rc == 0)
		rc = check_names(config, err);
	if (rc == 0)
		rc = check_limits(config, err);
	if (rc == 0)
		rc = check_caps(config->caps_add, err);
	if (rc == 0)
		rc = check_caps(config->caps_drop, err);
	if (rc == 0)
		rc = check_combinations(config, err);
	return rc;
}
