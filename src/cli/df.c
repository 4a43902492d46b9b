/* df: `system df`: what images and containers take on the disk. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/when.h"
#include "image/reference.h"

enum { SHORT_ID_LEN = 12 };

static const struct option_spec df_options[] = {
	LISTING_OPTION_FORMAT,
	{"verbose", 'v', OPTION_FLAG, 0, "", "", "Each image and container by itself"},
};

static const struct listing_heading df_headings[] = {
	{"Type", "TYPE"}, {"TotalCount", "TOTAL"},        {"Active", "ACTIVE"},
	{"Size", "SIZE"}, {"Reclaimable", "RECLAIMABLE"}, {"SizeBytes", "BYTES"},
};

static const struct listing_spec df_listing = {
	.table = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
	.headings = df_headings,
	.headings_count = array_size(df_headings),
};

static void set_size(json_t *row, const char *key, uint64_t bytes)
{
	own_mem char *exact = str_format("%sBytes", key);
	char size[24];

	str_from_size(bytes, 4, size);
	json_object_set_new(row, key, json_string(size));
	json_object_set_new(row, exact, json_integer((json_int_t)bytes));
}

static json_t *df_row(const char *type, size_t total, size_t active, uint64_t bytes,
		      uint64_t reclaimable_bytes)
{
	json_t *row = json_object();
	char reclaimable[24];

	str_from_size(reclaimable_bytes, 4, reclaimable);
	set_size(row, "Size", bytes);
	json_object_set_new(row, "Active", json_sprintf("%zu", active));
	json_object_set_new(
		row, "Reclaimable",
		bytes > 0 ? json_sprintf("%s (%d%%)", reclaimable,
					 (int)((double)reclaimable_bytes * 100 / (double)bytes))
			  : json_string(reclaimable));
	json_object_set_new(row, "TotalCount", json_sprintf("%zu", total));
	json_object_set_new(row, "Type", json_string(type));
	return row;
}

struct df {
	struct engine *engine;
	size_t containers, active;
	uint64_t bytes, reclaimable_bytes;
	json_t *images, *workloads; /* with --verbose */
};

static int add_workload(const struct workload *w, void *data, struct error *err)
{
	struct df *df = data;
	struct workload_usage usage;
	const bool active = w->status == WORKLOAD_RUNNING || w->status == WORKLOAD_PAUSED ||
			    w->status == WORKLOAD_RESTARTING;
	int rc = workload_get_usage(df->engine, w, &usage, err);
	char ago[CLOCK_TEXT_MAX];
	own_mem char *status = NULL, *command = NULL;
	json_t *row;

	if (rc < 0)
		return rc;
	df->containers++;
	df->active += active;
	df->bytes += usage.total_bytes;
	df->reclaimable_bytes += active ? 0 : usage.total_bytes;
	if (df->workloads == NULL)
		return 0;
	row = json_object();
	status = workload_status_text(w);
	command = strv_join(w->argv, " ");
	when_ago(w->created_ns, ago);
	set_size(row, "Size", usage.written_bytes);
	set_size(row, "TotalSize", usage.total_bytes);
	json_object_set_new(row, "ID", json_stringn(w->id, SHORT_ID_LEN));
	json_object_set_new(row, "Image", json_string(w->config.image ? w->config.image : ""));
	json_object_set_new(row, "Command", json_string(command));
	json_object_set_new(row, "RunningFor", json_string(ago));
	json_object_set_new(row, "Status", json_string(status));
	json_object_set_new(row, "Names", json_string(w->name));
	json_array_append_new(df->workloads, row);
	return 0;
}

static int add_image(const struct image_usage_row *image, void *data, struct error *err)
{
	struct df *df = data;
	json_t *row = json_object();
	struct reference reference;
	char familiar[REFERENCE_TEXT_MAX] = "<none>:<none>", ago[CLOCK_TEXT_MAX], *colon;

	(void)err;
	if (image->name != NULL && reference_parse(image->name, &reference, NULL) == 0)
		reference_format_familiar(&reference, familiar);
	colon = strrchr(familiar, ':');
	when_ago(image->created_ns, ago);
	json_object_set_new(row, "Tag", json_string(colon ? colon + 1 : "<none>"));
	if (colon != NULL)
		*colon = '\0';
	json_object_set_new(row, "Repository", json_string(familiar));
	json_object_set_new(row, "ID", json_stringn(digest_hex(&image->id), SHORT_ID_LEN));
	json_object_set_new(row, "CreatedSince", json_string(ago[0] ? ago : "N/A"));
	json_object_set_new(row, "Containers", json_sprintf("%zu", image->uses));
	set_size(row, "Size", image->size_bytes);
	set_size(row, "SharedSize", image->shared_bytes);
	set_size(row, "UniqueSize", image->size_bytes - image->shared_bytes);
	json_array_append_new(df->images, row);
	return 0;
}

static const struct listing_heading image_headings[] = {
	{"Repository", "REPOSITORY"},
	{"Tag", "TAG"},
	{"ID", "IMAGE ID"},
	{"CreatedSince", "CREATED"},
	{"Size", "SIZE"},
	{"SharedSize", "SHARED SIZE"},
	{"UniqueSize", "UNIQUE SIZE"},
	{"Containers", "CONTAINERS"},
};
static const char images_table[] =
	"{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t"
	"{{.UniqueSize}}\t{{.Containers}}";
static const struct listing_spec images_listing = {
	.table = images_table,
	.headings = image_headings,
	.headings_count = array_size(image_headings),
};

static const struct listing_heading container_headings[] = {
	{"ID", "CONTAINER ID"},    {"Image", "IMAGE"},   {"Command", "COMMAND"}, {"Size", "SIZE"},
	{"RunningFor", "CREATED"}, {"Status", "STATUS"}, {"Names", "NAMES"},
};
static const char containers_table[] =
	"{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
static const struct listing_spec containers_listing = {
	.table = containers_table,
	.headings = container_headings,
	.headings_count = array_size(container_headings),
};

static int print_rows(const char *title, const struct listing_spec *spec, const struct args *args,
		      json_t *rows, struct error *err)
{
	own_listing struct listing listing;
	int rc = listing_begin(&listing, spec, args, err);

	if (rc >= 0)
		rc = print_text(title, err);
	for (size_t i = 0; rc >= 0 && i < json_array_size(rows); i++)
		rc = listing_add(&listing, json_incref(json_array_get(rows, i)), err);
	return rc < 0 ? rc : listing_end(&listing, err);
}

static int run_verbose(const struct args *args, struct df *df, struct image_store *store,
		       struct error *err)
{
	const struct workload_filter all = {.all = true};
	const char *format = args_string(args, "format");
	own_json json_t *both = json_object();
	int rc;

	df->images = json_array();
	df->workloads = json_array();
	json_object_set_new(both, "Images", df->images);
	json_object_set_new(both, "Containers", df->workloads);
	rc = image_usage_list(store, add_image, df, err);
	if (rc >= 0)
		rc = workload_list(df->engine, &all, add_workload, df, err);
	if (rc < 0)
		return rc;
	if (format != NULL)
		return print_formatted(both, format, err);
	rc = print_rows("Images space usage:\n\n", &images_listing, args, df->images, err);
	return rc < 0 ? rc
		      : print_rows("\nContainers space usage:\n\n", &containers_listing, args,
				   df->workloads, err);
}

static int run_table(const struct args *args, struct df *df, struct image_store *store,
		     struct error *err)
{
	const struct workload_filter all = {.all = true};
	own_listing struct listing listing;
	struct image_usage usage = {0};
	int rc = listing_begin(&listing, &df_listing, args, err);

	if (rc >= 0)
		rc = image_usage(store, &usage, err);
	if (rc >= 0)
		rc = workload_list(df->engine, &all, add_workload, df, err);
	if (rc >= 0)
		rc = listing_add(&listing,
				 df_row("Images", usage.images, usage.active, usage.size_bytes,
					usage.reclaimable_bytes),
				 err);
	if (rc >= 0)
		rc = listing_add(&listing,
				 df_row("Containers", df->containers, df->active, df->bytes,
					df->reclaimable_bytes),
				 err);
	return rc < 0 ? rc : listing_end(&listing, err);
}

static int run_df(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	struct df df = {0};
	int rc = open_images(args, &engine, &store, err);

	df.engine = engine;
	if (rc < 0)
		return rc;
	return args_flag(args, "verbose") ? run_verbose(args, &df, store, err)
					  : run_table(args, &df, store, err);
}

const struct command system_df_command = {
	.summary = "Show what takes space",
	.description =
		"Sizes are those of the files, exact to the byte ({{.SizeBytes}}); what several "
		"images have in common is counted once.",
	.options = {OPTION_SET(df_options)},
	.run = run_df,
};
