/* top: the processes of a workload. stats: what workloads use. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/top_columns.h"

/* What is made of the processes. */
struct top {
	const struct top_columns *columns;
	struct table *table;
};

static int add_process(const struct proc_info *process, void *data, struct error *err)
{
	struct top *top = data;
	own_mem char *line = top_columns_line(top->columns, process);

	(void)err;
	table_add(top->table, line);
	return 0;
}

static int run_top(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_top_columns struct top_columns columns = {0};
	own_table struct table table = {0};
	own_buf struct buf out = {0};
	own_mem char *heading = NULL;
	struct top top = {&columns, &table};
	int rc = top_columns_parse(args_positional(args) + 1, &columns, err);

	if (rc == 0)
		rc = open_engine(args, &engine, err);
	if (rc < 0)
		return rc;
	heading = top_columns_heading(&columns);
	if (heading != NULL)
		table_add(&table, heading);
	rc = workload_top(engine, args_at(args, 0), add_process, &top, err);
	if (rc < 0)
		return rc;
	table_format(&table, &out);
	return print_text(out.data, err);
}

const struct command top_command = {
	.arguments = "CONTAINER [PS-OPTION...]",
	.summary = "List the processes of a container",
	.description =
		"Users and process ids are those that the host sees. Columns are chosen as for ps: "
		"\"-o pid,comm\", or only \"pid comm\".",
	.flags = COMMAND_STOP_AT_ARGUMENT,
	.run = run_top,
};

/* --- stats --------------------------------------------------------------------------------------- */

static const struct option_spec stats_options[] = {
	{"all", 'a', OPTION_FLAG, OPTION_REFUSED, "", "", "what does not run uses nothing"},
	LISTING_OPTION_FORMAT,
	{"no-stream", 0, OPTION_FLAG, 0, "", "", "Print once and end"},
	LISTING_OPTION_NO_TRUNC,
};

static const struct listing_heading stats_headings[] = {
	{"ID", "CONTAINER ID"},        {"Container", "CONTAINER"},        {"Name", "NAME"},
	{"CPUPerc", "CPU %"},          {"MemUsage", "MEM USAGE / LIMIT"}, {"MemPerc", "MEM %"},
	{"NetIO", "NET I/O"},          {"BlockIO", "BLOCK I/O"},          {"PIDs", "PIDS"},
	{"HostCPUPerc", "HOST CPU %"}, {"HostMemUsage", "HOST MEM"},
};

static const struct listing_spec stats_listing = {
	.table = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t"
		 "{{.BlockIO}}\t{{.PIDs}}",
	.headings = stats_headings,
	.headings_count = array_size(stats_headings),
};

/* One workload that is watched. */
struct watched {
	char id[WORKLOAD_ID_LEN + 1];
	char *name;
	struct workload_stats before, now;
};

struct watch {
	struct watched *items;
	size_t count, capacity;
};

static void watch_release(struct watch *watch)
{
	for (size_t i = 0; i < watch->count; i++)
		free(watch->items[i].name);
	free(watch->items);
}
#define own_watch __attribute__((cleanup(watch_release)))

static int watch_add(const struct workload *workload, void *data, struct error *err)
{
	struct watch *watch = data;
	struct watched *item;

	(void)err;
	watch->items = mem_grow(watch->items, watch->count, &watch->capacity, sizeof(*item));
	item = &watch->items[watch->count++];
	memset(item, 0, sizeof(*item));
	memcpy(item->id, workload->id, sizeof(item->id));
	item->name = str_copy(workload->name);
	return 0;
}

static json_t *pair_of(uint64_t a, uint64_t b)
{
	char left[24], right[24];

	str_from_size(a, 3, left);
	str_from_size(b, 3, right);
	return json_sprintf("%s / %s", left, right);
}

/* Memory is shown in binary units, as docker does. */
static void binary_size(uint64_t bytes, char out[static 24])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double value = (double)bytes;
	size_t unit = 0;

	while (value >= 1024 && unit + 1 < array_size(units)) {
		value /= 1024;
		unit++;
	}
	snprintf(out, 24, "%.4g%s", value, units[unit]);
}

static double percent(uint64_t before_ns, uint64_t now_ns, int64_t elapsed_ns)
{
	return elapsed_ns > 0 && now_ns >= before_ns
		       ? 100.0 * (double)(now_ns - before_ns) / (double)elapsed_ns
		       : 0;
}

static json_t *stats_row(const struct watched *item, bool whole)
{
	const struct workload_stats *now = &item->now, *before = &item->before;
	const uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t limit = now->memory_limit_bytes < host ? now->memory_limit_bytes : host;
	const int64_t elapsed_ns = now->time_ns - before->time_ns;
	char used[24], of[24], host_used[24];
	json_t *row = json_object();
	double cpu = percent(before->cpu_total_ns, now->cpu_total_ns, elapsed_ns);
	double host_cpu = percent(before->host_cpu_ns, now->host_cpu_ns, elapsed_ns);

	binary_size(now->memory_bytes, used);
	binary_size(limit, of);
	json_object_set_new(row, "BlockIO", pair_of(now->block_read_bytes, now->block_write_bytes));
	json_object_set_new(row, "CPUPerc", json_sprintf("%.2f%%", cpu));
	binary_size(now->host_memory_bytes, host_used);
	json_object_set_new(row, "HostCPUPerc", json_sprintf("%.2f%%", host_cpu));
	json_object_set_new(row, "HostMemUsage", json_string(host_used));
	json_object_set_new(row, "Container", json_string(item->name ? item->name : item->id));
	json_object_set_new(
		row, "ID", json_stringn(item->id, whole ? WORKLOAD_ID_LEN : WORKLOAD_SHORT_ID_LEN));
	json_object_set_new(
		row, "MemPerc",
		json_sprintf("%.2f%%",
			     limit ? 100.0 * (double)now->memory_bytes / (double)limit : 0.0));
	json_object_set_new(row, "MemUsage", json_sprintf("%s / %s", used, of));
	json_object_set_new(row, "Name", json_string(item->name ? item->name : ""));
	json_object_set_new(row, "NetIO", pair_of(now->network_rx_bytes, now->network_tx_bytes));
	json_object_set_new(row, "PIDs", json_sprintf("%llu", (unsigned long long)now->pids));
	return row;
}

/* Collects whom to watch: those named, or all that run. */
static int find_watched(const struct args *args, struct engine *engine, struct watch *watch,
			struct error *err)
{
	const struct workload_filter running = {0};
	int rc = 0;

	if (args_count(args) == 0)
		return workload_list(engine, &running, watch_add, watch, err);
	for (int i = 0; i < args_count(args) && rc >= 0; i++) {
		own_workload struct workload workload = {0};

		rc = workload_find(engine, args_at(args, i), &workload, err);
		if (rc >= 0)
			rc = watch_add(&workload, watch, err);
	}
	return rc;
}

/* Reads everybody's figures; who has ended meanwhile is dropped unless it was named. */
static int measure(struct engine *engine, struct watch *watch, bool named, struct error *err)
{
	size_t kept = 0;

	for (size_t i = 0; i < watch->count; i++) {
		struct watched *item = &watch->items[i];
		struct error one = {0};
		int rc;

		item->before = item->now;
		rc = workload_get_stats(engine, item->id, &item->now, &one);
		if (rc < 0 && named) {
			*err = one;
			return rc;
		}
		if (rc < 0) {
			free(item->name);
			continue;
		}
		watch->items[kept++] = *item;
	}
	watch->count = kept;
	return 0;
}

static int print_stats(const struct args *args, const struct watch *watch, bool clear,
		       struct error *err)
{
	own_listing struct listing listing;
	int rc = listing_begin(&listing, &stats_listing, args, err);

	for (size_t i = 0; i < watch->count && rc >= 0; i++)
		rc = listing_add(&listing, stats_row(&watch->items[i], args_flag(args, "no-trunc")),
				 err);
	if (rc >= 0 && clear)
		rc = print_text("\033[H\033[2J", err);
	return rc < 0 ? rc : listing_end(&listing, err);
}

static int run_stats(const struct args *args, struct error *err)
{
	const bool once = args_flag(args, "no-stream"), named = args_count(args) > 0;
	const struct timespec second = {.tv_sec = 1};
	own_engine struct engine *engine = NULL;
	own_watch struct watch watch = {0};
	int rc = open_engine(args, &engine, err);

	if (rc >= 0)
		rc = find_watched(args, engine, &watch, err);
	if (rc >= 0)
		rc = measure(engine, &watch, named, err);
	/* A use of the CPU is a difference: it takes two looks. */
	while (rc >= 0 && (watch.count > 0 || once)) {
		nanosleep(&second, NULL);
		rc = measure(engine, &watch, named, err);
		if (rc >= 0)
			rc = print_stats(args, &watch, !once && isatty(1), err);
		if (once)
			break;
	}
	return rc;
}

const struct command stats_command = {
	.arguments = "[CONTAINER...]",
	.summary = "Show what running containers use",
	.description =
		"Of a virtual machine it is what its workload uses inside. What the host spends on "
		"it is {{.HostCPUPerc}} and {{.HostMemUsage}} of --format.",
	.options = {OPTION_SET(stats_options)},
	.run = run_stats,
};
