/* cgroup_stats: reading what the container uses. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "oci/cgroup_priv.h"

/* A file that this kernel does not have leaves the number as it is. */
static void number(const struct cgroup *cg, const char *controller, const char *file,
		   const char *key, uint64_t factor, uint64_t *ret)
{
	uint64_t value;

	if (cgroup_read_number(cg, controller, file, key, &value) == 0)
		*ret = value == UINT64_MAX ? value : value * factor;
}

/* v1 says "no limit" with the largest page-aligned number. */
static void limit_v1(const struct cgroup *cg, const char *file, uint64_t *ret)
{
	number(cg, "memory", file, NULL, 1, ret);
	if (*ret >= (uint64_t)INT64_MAX - 65536)
		*ret = UINT64_MAX;
}

/* "8:0 Read 4096" lines. */
static void io_v1(const struct cgroup *cg, const char *file, uint64_t *ret_read,
		  uint64_t *ret_write)
{
	own_mem char *text = NULL;
	char *save = NULL;

	if (cgroup_read(cg, "blkio", file, &text) < 0)
		return;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		const char *operation = strchr(line, ' ');

		if (operation != NULL && strncmp(operation, " Read ", 6) == 0)
			*ret_read += strtoull(operation + 6, NULL, 10);
		else if (operation != NULL && strncmp(operation, " Write ", 7) == 0)
			*ret_write += strtoull(operation + 7, NULL, 10);
	}
}

static void stats_v1(const struct cgroup *cg, struct oci_stats *s)
{
	const uint64_t tick_ns = UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t with_swap = 0;

	number(cg, "cpuacct", "cpuacct.usage", NULL, 1, &s->cpu_total_ns);
	number(cg, "cpuacct", "cpuacct.stat", "user", tick_ns, &s->cpu_user_ns);
	number(cg, "cpuacct", "cpuacct.stat", "system", tick_ns, &s->cpu_system_ns);
	number(cg, "cpu", "cpu.stat", "nr_periods", 1, &s->cpu_periods);
	number(cg, "cpu", "cpu.stat", "nr_throttled", 1, &s->cpu_throttled_periods);
	number(cg, "cpu", "cpu.stat", "throttled_time", 1, &s->cpu_throttled_ns);
	number(cg, "memory", "memory.usage_in_bytes", NULL, 1, &s->memory_bytes);
	number(cg, "memory", "memory.max_usage_in_bytes", NULL, 1, &s->memory_peak_bytes);
	limit_v1(cg, "memory.limit_in_bytes", &s->memory_limit_bytes);
	number(cg, "memory", "memory.stat", "total_inactive_file", 1, &s->memory_cache_bytes);
	number(cg, "memory", "memory.memsw.usage_in_bytes", NULL, 1, &with_swap);
	s->swap_bytes = with_swap > s->memory_bytes ? with_swap - s->memory_bytes : 0;
	limit_v1(cg, "memory.memsw.limit_in_bytes", &s->swap_limit_bytes);
	number(cg, "memory", "memory.oom_control", "oom_kill", 1, &s->oom_kills);
	io_v1(cg, "blkio.throttle.io_service_bytes", &s->io_read_bytes, &s->io_write_bytes);
	io_v1(cg, "blkio.throttle.io_serviced", &s->io_read_ops, &s->io_write_ops);
}

/* "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ..." lines. */
static uint64_t io_sum(const char *text, const char *key)
{
	uint64_t sum = 0;

	for (const char *p = text; (p = strstr(p, key)) != NULL; p += strlen(key))
		sum += strtoull(p + strlen(key), NULL, 10);
	return sum;
}

static void stats_v2(const struct cgroup *cg, struct oci_stats *s)
{
	own_mem char *io = NULL;

	number(cg, "", "cpu.stat", "usage_usec", 1000, &s->cpu_total_ns);
	number(cg, "", "cpu.stat", "user_usec", 1000, &s->cpu_user_ns);
	number(cg, "", "cpu.stat", "system_usec", 1000, &s->cpu_system_ns);
	number(cg, "", "cpu.stat", "nr_periods", 1, &s->cpu_periods);
	number(cg, "", "cpu.stat", "nr_throttled", 1, &s->cpu_throttled_periods);
	number(cg, "", "cpu.stat", "throttled_usec", 1000, &s->cpu_throttled_ns);
	number(cg, "", "memory.current", NULL, 1, &s->memory_bytes);
	number(cg, "", "memory.peak", NULL, 1, &s->memory_peak_bytes);
	number(cg, "", "memory.max", NULL, 1, &s->memory_limit_bytes);
	number(cg, "", "memory.stat", "inactive_file", 1, &s->memory_cache_bytes);
	number(cg, "", "memory.swap.current", NULL, 1, &s->swap_bytes);
	number(cg, "", "memory.swap.max", NULL, 1, &s->swap_limit_bytes);
	number(cg, "", "memory.events", "oom_kill", 1, &s->oom_kills);
	if (cgroup_read(cg, "", "io.stat", &io) == 0) {
		s->io_read_bytes = io_sum(io, " rbytes=");
		s->io_write_bytes = io_sum(io, " wbytes=");
		s->io_read_ops = io_sum(io, " rios=");
		s->io_write_ops = io_sum(io, " wios=");
	}
}

int cgroup_stats(const struct cgroup *cg, struct oci_stats *ret, struct error *err)
{
	struct oci_stats s = {
		.memory_limit_bytes = UINT64_MAX,
		.swap_limit_bytes = UINT64_MAX,
		.pids_limit = UINT64_MAX,
	};

	if (cg->dir_count == 0)
		return refuse(err, -ENOTSUP, "the container has no cgroup of its own");
	if (cg->v2)
		stats_v2(cg, &s);
	else
		stats_v1(cg, &s);
	number(cg, "pids", "pids.current", NULL, 1, &s.pids);
	number(cg, "pids", "pids.max", NULL, 1, &s.pids_limit);
	*ret = s;
	return 0;
}
