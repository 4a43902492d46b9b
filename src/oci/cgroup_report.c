/*
 * cgroup_report: everything that the controllers count, as the JSON document that runc's `events` gives
 * and engines read. A member that this kernel or this version of control groups does not have is left out,
 * or 0 where runc always writes it.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"

enum { LIST_MAX = 4096 };

/* JSON's integers end before "no limit", which is the largest number of 64 bits. */
static json_t *integer(uint64_t value)
{
	return json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value);
}

/* 0 if there is no such file or line. */
static uint64_t get(const struct cgroup *cg, const char *controller, const char *file,
		    const char *key)
{
	uint64_t value;

	return cgroup_read_number(cg, controller, file, key, &value) == 0 ? value : 0;
}

static void add(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, integer(value));
}

static void add_unless_0(json_t *object, const char *key, uint64_t value)
{
	if (value != 0)
		add(object, key, value);
}

/* "0-2,5" as numbers. */
static void add_list(const struct cgroup *cg, const char *file, json_t *object, const char *key)
{
	own_mem char *text = NULL;
	json_t *list;
	char *p;

	if (cgroup_read(cg, "cpuset", file, &text) < 0 || !isdigit((unsigned char)text[0]))
		return;
	list = json_array();
	for (p = text; isdigit((unsigned char)*p) && json_array_size(list) < LIST_MAX;) {
		unsigned long first = strtoul(p, &p, 10), last = first;

		if (*p == '-')
			last = strtoul(p + 1, &p, 10);
		for (; first <= last && json_array_size(list) < LIST_MAX; first++)
			json_array_append_new(list, integer(first));
		p += *p == ',';
	}
	json_object_set_new(object, key, list);
}

/* "name number" lines as an object. */
static json_t *pairs(const struct cgroup *cg, const char *controller, const char *file)
{
	own_mem char *text = NULL;
	json_t *object = json_object();
	char *save = NULL;

	if (cgroup_read(cg, controller, file, &text) < 0)
		return object;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *blank = strchr(line, ' ');

		if (blank == NULL)
			continue;
		*blank = '\0';
		add(object, line, strtoull(blank + 1, NULL, 10));
	}
	return object;
}

/* --- processors --------------------------------------------------------------------------------- */

/* "cpu user system" lines, one for each processor, after one of names. */
static void add_each_processor(const struct cgroup *cg, json_t *usage)
{
	own_mem char *text = NULL;
	json_t *both, *kernel, *user;
	char *save = NULL;

	if (cgroup_read(cg, "cpuacct", "cpuacct.usage_all", &text) < 0)
		return;
	both = json_array(), kernel = json_array(), user = json_array();
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long long u, k;

		if (sscanf(line, "%*u %llu %llu", &u, &k) != 2)
			continue;
		json_array_append_new(both, integer(u + k));
		json_array_append_new(user, integer(u));
		json_array_append_new(kernel, integer(k));
	}
	json_object_set_new(usage, "percpu", both);
	json_object_set_new(usage, "percpu_kernel", kernel);
	json_object_set_new(usage, "percpu_user", user);
}

static json_t *processors(const struct cgroup *cg)
{
	const uint64_t tick_ns = UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK);
	json_t *usage = json_object(), *throttling = json_object();

	if (cg->v2) {
		add_unless_0(usage, "total", get(cg, "", "cpu.stat", "usage_usec") * 1000);
		add(usage, "kernel", get(cg, "", "cpu.stat", "system_usec") * 1000);
		add(usage, "user", get(cg, "", "cpu.stat", "user_usec") * 1000);
	} else {
		add_unless_0(usage, "total", get(cg, "cpuacct", "cpuacct.usage", NULL));
		add_each_processor(cg, usage);
		add(usage, "kernel", get(cg, "cpuacct", "cpuacct.stat", "system") * tick_ns);
		add(usage, "user", get(cg, "cpuacct", "cpuacct.stat", "user") * tick_ns);
	}
	add_unless_0(throttling, "periods", get(cg, "cpu", "cpu.stat", "nr_periods"));
	add_unless_0(throttling, "throttledPeriods", get(cg, "cpu", "cpu.stat", "nr_throttled"));
	add_unless_0(throttling, "throttledTime",
		     cg->v2 ? get(cg, "", "cpu.stat", "throttled_usec") * 1000
			    : get(cg, "cpu", "cpu.stat", "throttled_time"));
	return json_pack("{s:o, s:o}", "usage", usage, "throttling", throttling);
}

static json_t *cpuset(const struct cgroup *cg)
{
	static const char *const names[] = {
		"cpu_exclusive",   "mem_hardwall",       "mem_exclusive",
		"memory_migrate",  "memory_spread_page", "memory_spread_slab",
		"memory_pressure", "sched_load_balance", "sched_relax_domain_level",
	};
	json_t *set = json_object();

	if (!cg->v2) {
		add_list(cg, "cpuset.cpus", set, "cpus");
		add_list(cg, "cpuset.mems", set, "mems");
	}
	for (size_t i = 0; i < array_size(names); i++) {
		own_mem char *file = str_format("cpuset.%s", names[i]), *text = NULL;

		/* The last one may be below 0. */
		json_object_set_new(set, names[i],
				    json_integer(cgroup_read(cg, "cpuset", file, &text) == 0
							 ? strtoll(text, NULL, 10)
							 : 0));
	}
	return set;
}

/* --- memory ------------------------------------------------------------------------------------- */

static json_t *amount_v1(const struct cgroup *cg, const char *name)
{
	own_mem char *limit = str_format("memory.%slimit_in_bytes", name);
	own_mem char *usage = str_format("memory.%susage_in_bytes", name);
	own_mem char *most = str_format("memory.%smax_usage_in_bytes", name);
	own_mem char *failed = str_format("memory.%sfailcnt", name);
	json_t *amount = json_object();

	add(amount, "limit", get(cg, "memory", limit, NULL));
	add_unless_0(amount, "usage", get(cg, "memory", usage, NULL));
	add_unless_0(amount, "max", get(cg, "memory", most, NULL));
	add(amount, "failcnt", get(cg, "memory", failed, NULL));
	return amount;
}

static json_t *amount(uint64_t limit, uint64_t usage, uint64_t most)
{
	json_t *object = json_object();

	add(object, "limit", limit);
	add_unless_0(object, "usage", usage);
	add_unless_0(object, "max", most);
	add(object, "failcnt", 0);
	return object;
}

static json_t *memory_v2(const struct cgroup *cg)
{
	const uint64_t usage = get(cg, "", "memory.current", NULL);
	const uint64_t limit = get(cg, "", "memory.max", NULL);
	const uint64_t swap = get(cg, "", "memory.swap.max", NULL);

	/* Swap is counted together with memory, as on v1: that is what readers of this expect. */
	return json_pack(
		"{s:o, s:o, s:o, s:o}", "usage",
		amount(limit, usage, get(cg, "", "memory.peak", NULL)), "swap",
		amount(swap == UINT64_MAX || limit == UINT64_MAX ? UINT64_MAX : swap + limit,
		       usage + get(cg, "", "memory.swap.current", NULL), 0),
		"kernel", amount(0, 0, 0), "kernelTCP", amount(0, 0, 0));
}

static json_t *memory(const struct cgroup *cg)
{
	json_t *object =
		cg->v2 ? memory_v2(cg)
		       : json_pack("{s:o, s:o, s:o, s:o}", "usage", amount_v1(cg, ""), "swap",
				   amount_v1(cg, "memsw."), "kernel", amount_v1(cg, "kmem."),
				   "kernelTCP", amount_v1(cg, "kmem.tcp."));

	add_unless_0(object, "cache", get(cg, "memory", "memory.stat", cg->v2 ? "file" : "cache"));
	json_object_set_new(object, "raw", pairs(cg, "memory", "memory.stat"));
	return object;
}

/* --- the others --------------------------------------------------------------------------------- */

static void add_entry(json_t *list, unsigned int major, unsigned int minor, const char *op,
		      uint64_t value)
{
	json_t *entry = json_object();

	add_unless_0(entry, "major", major);
	add_unless_0(entry, "minor", minor);
	json_set_string(entry, "op", op);
	add_unless_0(entry, "value", value);
	json_array_append_new(list, entry);
}

/* "8:0 Read 4096" lines. */
static void add_io_v1(const struct cgroup *cg, const char *file, json_t *io, const char *key)
{
	own_mem char *text = NULL;
	json_t *list;
	char *save = NULL;

	if (cgroup_read(cg, "blkio", file, &text) < 0)
		return;
	list = json_array();
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned int major, minor;
		unsigned long long value;
		char op[16];

		if (sscanf(line, "%u:%u %15s %llu", &major, &minor, op, &value) == 4)
			add_entry(list, major, minor, op, value);
	}
	if (json_array_size(list) > 0)
		json_object_set(io, key, list);
	json_decref(list);
}

/* "8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ..." lines. */
static void add_io_v2(const char *text, const char *const keys[2], json_t *io, const char *name)
{
	static const char *const ops[] = {"Read", "Write"};
	json_t *list = json_array();

	for (const char *line = text; *line != '\0';) {
		const char *end = strchrnul(line, '\n');
		unsigned int major, minor;

		for (size_t i = 0; i < 2; i++) {
			const char *at = strstr(line, keys[i]);

			if (at != NULL && at < end && sscanf(line, "%u:%u", &major, &minor) == 2)
				add_entry(list, major, minor, ops[i],
					  strtoull(at + strlen(keys[i]), NULL, 10));
		}
		line = *end ? end + 1 : end;
	}
	if (json_array_size(list) > 0)
		json_object_set(io, name, list);
	json_decref(list);
}

static json_t *block_devices(const struct cgroup *cg)
{
	static const char *const bytes[] = {" rbytes=", " wbytes="}, *const counts[] = {" rios=",
											" wios="};
	json_t *io = json_object();
	own_mem char *text = NULL;

	if (!cg->v2) {
		add_io_v1(cg, "blkio.throttle.io_service_bytes_recursive", io,
			  "ioServiceBytesRecursive");
		add_io_v1(cg, "blkio.throttle.io_serviced_recursive", io, "ioServicedRecursive");
	} else if (cgroup_read(cg, "", "io.stat", &text) == 0) {
		add_io_v2(text, bytes, io, "ioServiceBytesRecursive");
		add_io_v2(text, counts, io, "ioServicedRecursive");
	}
	return io;
}

static json_t *huge_pages(const struct cgroup *cg)
{
	static const char *const sizes[] = {"64KB", "1MB", "2MB", "4MB", "16MB", "512MB", "1GB"};
	json_t *all = json_object();

	for (size_t i = 0; i < array_size(sizes); i++) {
		own_mem char *usage = str_format("hugetlb.%s.%s", sizes[i],
						 cg->v2 ? "current" : "usage_in_bytes");
		own_mem char *most = str_format("hugetlb.%s.max_usage_in_bytes", sizes[i]);
		own_mem char *failed =
			str_format("hugetlb.%s.%s", sizes[i], cg->v2 ? "events" : "failcnt");
		uint64_t value;
		json_t *one;

		if (cgroup_read_number(cg, "hugetlb", usage, NULL, &value) < 0)
			continue;
		one = json_object();
		add_unless_0(one, "usage", value);
		add_unless_0(one, "max", cg->v2 ? 0 : get(cg, "hugetlb", most, NULL));
		add(one, "failcnt", get(cg, "hugetlb", failed, cg->v2 ? "max" : NULL));
		json_object_set_new(all, sizes[i], one);
	}
	return all;
}

int cgroup_report(const struct cgroup *cg, json_t **ret, struct error *err)
{
	json_t *pids = json_object();
	uint64_t limit = get(cg, "pids", "pids.max", NULL);

	if (cg->dir_count == 0) {
		json_decref(pids);
		return refuse(err, -ENOTSUP, "the container has no cgroup of its own");
	}
	add_unless_0(pids, "current", get(cg, "pids", "pids.current", NULL));
	add_unless_0(pids, "limit", limit == UINT64_MAX ? 0 : limit);
	*ret = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:{}, s:n}", "cpu", processors(cg),
			 "cpuset", cpuset(cg), "memory", memory(cg), "pids", pids, "blkio",
			 block_devices(cg), "hugetlb", huge_pages(cg), "intel_rdt",
			 "network_interfaces");
	return 0;
}
