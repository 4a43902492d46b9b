/* ps: the table of workloads. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/when.h"

enum { COMMAND_COLUMNS = 20 };

static const struct option_spec ps_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "", "Those that do not run, too"},
	{"filter", 'f', OPTION_LIST, 0, "KEY=VALUE", "",
	 "Only some: name, id, label, status, exited, ancestor, before, since, volume, network"},
	LISTING_OPTION_FORMAT,
	{"last", 'n', OPTION_INT, 0, "COUNT", "", "Only the newest ones, in any state"},
	{"latest", 'l', OPTION_FLAG, 0, "", "", "Only the newest one, in any state"},
	LISTING_OPTION_NO_TRUNC,
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Only the ids"},
	{"size", 's', OPTION_FLAG, 0, "", "",
	 "Show what has been written, and the size with the image"},
};

static const struct listing_heading headings[] = {
	{"ID", "CONTAINER ID"},      {"Image", "IMAGE"},        {"Command", "COMMAND"},
	{"CreatedAt", "CREATED AT"}, {"RunningFor", "CREATED"}, {"Ports", "PORTS"},
	{"State", "STATE"},          {"Status", "STATUS"},      {"Names", "NAMES"},
	{"Labels", "LABELS"},        {"Mounts", "MOUNTS"},      {"Networks", "NETWORKS"},
	{"Isolation", "ISOLATION"},  {"Size", "SIZE"},
};

#define PS_TABLE                                                                                   \
	"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"

static const struct listing_spec ps_listing = {
	.table = PS_TABLE,
	.quiet = "{{.ID}}",
	.headings = headings,
	.headings_count = array_size(headings),
};

static const struct listing_spec ps_listing_with_size = {
	.table = PS_TABLE "\t{{.Size}}",
	.quiet = "{{.ID}}",
	.headings = headings,
	.headings_count = array_size(headings),
};

/* The command line in quotes, cut to its column, with what would disturb a terminal escaped. */
static char *quote_command(char *const *argv, bool whole)
{
	own_mem char *joined = argv ? strv_join(argv, " ") : str_copy("");
	own_mem char *text = whole ? str_copy(joined) : text_shorten(joined, COMMAND_COLUMNS);
	own_buf struct buf out = {0};

	buf_add_char(&out, '"');
	for (const char *p = text; *p != '\0'; p++) {
		if (*p == '"' || *p == '\\')
			buf_format(&out, "\\%c", *p);
		else if (*p == '\n')
			buf_add_str(&out, "\\n");
		else if (*p == '\t')
			buf_add_str(&out, "\\t");
		else if (iscntrl((unsigned char)*p))
			buf_format(&out, "\\x%02x", (unsigned char)*p);
		else
			buf_add_char(&out, *p);
	}
	buf_add_char(&out, '"');
	return buf_take(&out);
}

static json_t *mounts_of(const struct workload_config *config)
{
	own_buf struct buf out = {0};

	for (size_t i = 0; i < config->mounts_count; i++)
		if (config->mounts[i].type == WORKLOAD_MOUNT_BIND)
			buf_format(&out, "%s%s", out.len > 0 ? "," : "", config->mounts[i].source);
	return json_string(out.data ? out.data : "");
}

/* A full machine has none: it is named by its first disk. */
static const char *image_of(const struct workload_config *config)
{
	if (config->image != NULL)
		return config->image;
	return config->disks != NULL ? config->disks[0] : "";
}

static json_t *make_row(const struct workload *workload, bool whole)
{
	const struct workload_config *config = &workload->config;
	own_mem char *command = quote_command(workload->argv, whole);
	own_mem char *status = workload_status_text(workload);
	own_mem char *labels = config->labels ? strv_join(config->labels, ",") : str_copy("");
	char created[CLOCK_TEXT_MAX], ago[CLOCK_TEXT_MAX];
	json_t *row = json_object();

	when_local(workload->created_ns, created);
	when_ago(workload->created_ns, ago);
	json_object_set_new(row, "Command", json_string(command));
	json_object_set_new(row, "CreatedAt", json_string(created));
	json_object_set_new(
		row, "ID",
		json_stringn(workload->id, whole ? WORKLOAD_ID_LEN : WORKLOAD_SHORT_ID_LEN));
	json_object_set_new(row, "Image", json_string(image_of(config)));
	json_object_set_new(
		row, "Isolation",
		json_string(config->isolation == WORKLOAD_CONTAINER ? "container" : "vm"));
	json_object_set_new(row, "Labels", json_string(labels));
	json_object_set_new(row, "Mounts", mounts_of(config));
	json_object_set_new(row, "Names", json_string(workload->name ? workload->name : ""));
	json_object_set_new(
		row, "Networks",
		json_string(config->network == WORKLOAD_NETWORK_HOST ? "host" : "none"));
	json_object_set_new(row, "Ports", json_string(""));
	json_object_set_new(row, "RunningFor", json_string(ago));
	json_object_set_new(row, "State", json_string(workload_status_name(workload->status)));
	json_object_set_new(row, "Status", json_string(status));
	return row;
}

struct ps {
	struct engine *engine;
	struct listing listing;
	bool whole, with_size;
};

/* "12B (virtual 1.98MB)" */
static int add_size(struct engine *engine, const struct workload *workload, json_t *row,
		    struct error *err)
{
	struct workload_usage usage;
	char written[24], all[24];
	int rc = workload_get_usage(engine, workload, &usage, err);

	if (rc < 0)
		return rc;
	str_from_size(usage.written_bytes, 3, written);
	str_from_size(usage.written_bytes + usage.image_bytes, 3, all);
	json_object_set_new(row, "Size", json_sprintf("%s (virtual %s)", written, all));
	return 0;
}

static int add_workload(const struct workload *workload, void *data, struct error *err)
{
	struct ps *ps = data;
	own_json json_t *row = make_row(workload, ps->whole);
	int rc = ps->with_size ? add_size(ps->engine, workload, row, err) : 0;

	return rc < 0 ? rc : listing_add(&ps->listing, json_incref(row), err);
}

/* It takes a look at every file that was written: only who asks for it waits for that. */
static bool wants_size(const struct args *args)
{
	const char *format = args_string(args, "format");

	return args_flag(args, "size") || (format != NULL && strstr(format, ".Size") != NULL);
}

static int run_ps(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct ps ps = {.whole = args_flag(args, "no-trunc"), .with_size = wants_size(args)};
	const int64_t last = args_flag(args, "latest") ? 1 : args_int(args, "last");
	const struct workload_filter filter = {
		.filters = (char **)(uintptr_t)args_list(args, "filter"),
		.all = args_flag(args, "all"),
		.last = last > INT_MAX ? INT_MAX : (int)last,
	};
	int rc = listing_begin(&ps.listing, ps.with_size ? &ps_listing_with_size : &ps_listing,
			       args, err);

	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	ps.engine = engine;
	if (rc >= 0)
		rc = workload_list(engine, &filter, add_workload, &ps, err);
	if (rc >= 0)
		rc = listing_end(&ps.listing, err);
	listing_release(&ps.listing);
	return rc;
}

const struct command ps_command = {
	.summary = "List containers",
	.examples = "berth ps -a\tAlso those that have ended\n"
		    "berth ps -q --filter label=app=shop\tOnly the ids of some\n"
		    "berth ps --format '{{.Names}}: {{.Status}}'\tIn a form of your own\n",
	.options = {OPTION_SET(ps_options)},
	.run = run_ps,
};
