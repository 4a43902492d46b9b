/* images: looking at images: `images`, `history`; and `tag`, `rmi`, `image prune`. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/prune.h"
#include "cli/suggest.h"
#include "cli/when.h"

enum { SHORT_ID_LEN = 12, CREATED_BY_COLUMNS = 45 };

/* --- filters ------------------------------------------------------------------------------------- */

/* What --filter says, in the store's form; the lists own their strings. */
struct filters {
	struct image_filter filter;
	char **labels, **labels_absent, **references;
};

static void filters_release(struct filters *filters)
{
	strv_free(filters->labels);
	strv_free(filters->labels_absent);
	strv_free(filters->references);
}
#define own_filters __attribute__((cleanup(filters_release)))

static int read_until(const char *text, int64_t *ret_ns, struct error *err)
{
	int64_t ago_ns;

	if (clock_parse(text, ret_ns) >= 0)
		return 0;
	if (str_to_duration(text, &ago_ns) < 0)
		return refuse(err, -EINVAL,
			      "invalid value \"%s\" for --filter until: expected a time "
			      "or a duration such as 24h",
			      text);
	*ret_ns = clock_now_ns() - ago_ns;
	return 0;
}

static int unknown_filter(const char *text, struct error *err)
{
	static const char *const keys[] = {"before",    "dangling", "label",
					   "reference", "since",    "until"};
	own_mem char *key = str_copy_n(text, strcspn(text, "!="));
	struct suggest suggest = suggest_for(key);

	for (size_t i = 0; i < array_size(keys); i++)
		suggest_offer(&suggest, keys[i]);
	if (suggest.best != NULL)
		hint(err, 0, "did you mean %s=?", suggest.best);
	hint(err, 0, "there are: before, dangling, label, label!, reference, since, until");
	if (strchr(text, '=') == NULL)
		return refuse(err, -EINVAL, "invalid filter \"%s\": expected KEY=VALUE", text);
	return refuse(err, -EINVAL, "unknown filter \"%s\"", key);
}

static int read_filter(const char *text, struct filters *filters, struct error *err)
{
	const char *value;

	if ((value = str_after(text, "label=")) != NULL)
		strv_push(&filters->labels, value);
	else if ((value = str_after(text, "label!=")) != NULL)
		strv_push(&filters->labels_absent, value);
	else if ((value = str_after(text, "reference=")) != NULL)
		strv_push(&filters->references, value);
	else if ((value = str_after(text, "before=")) != NULL)
		filters->filter.before = value;
	else if ((value = str_after(text, "since=")) != NULL)
		filters->filter.since = value;
	else if ((value = str_after(text, "until=")) != NULL)
		return read_until(value, &filters->filter.until_ns, err);
	else if (str_eq(text, "dangling=true") || str_eq(text, "dangling=1"))
		filters->filter.dangling = 1;
	else if (str_eq(text, "dangling=false") || str_eq(text, "dangling=0"))
		filters->filter.dangling = -1;
	else if (str_after(text, "dangling=") != NULL)
		return refuse(err, -EINVAL,
			      "invalid value \"%s\" for --filter dangling: expected true or false",
			      text + strlen("dangling="));
	else
		return unknown_filter(text, err);
	return 0;
}

static int read_filters(const struct args *args, struct filters *filters, struct error *err)
{
	int rc = 0;

	for (char *const *text = args_list(args, "filter"); *text != NULL && rc >= 0; text++)
		rc = read_filter(*text, filters, err);
	filters->filter.labels = filters->labels;
	filters->filter.labels_absent = filters->labels_absent;
	filters->filter.references = filters->references;
	return rc;
}

/* --- images -------------------------------------------------------------------------------------- */

#define FILTER_OPTION                                                                              \
	{                                                                                          \
		"filter", 'f', OPTION_LIST, 0, "KEY=VALUE", "",                                    \
			"Only some: reference, label, before, since, until, dangling"              \
	}

static const struct option_spec images_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "",
	 "The same (no images are hidden: none is a part of another)"},
	{"digests", 0, OPTION_FLAG, 0, "", "", "Show the digests they were pulled by"},
	FILTER_OPTION,
	LISTING_OPTION_FORMAT,
	LISTING_OPTION_NO_TRUNC,
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Only the ids"},
};

static const struct listing_heading images_headings[] = {
	{"ID", "IMAGE ID"},   {"Repository", "REPOSITORY"}, {"Tag", "TAG"},
	{"Digest", "DIGEST"}, {"CreatedSince", "CREATED"},  {"CreatedAt", "CREATED AT"},
	{"Size", "SIZE"},     {"Containers", "CONTAINERS"},
};

static const struct listing_spec images_listing = {
	.table = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
	.quiet = "{{.ID}}",
	.headings = images_headings,
	.headings_count = array_size(images_headings),
};

static const struct listing_spec digests_listing = {
	.table = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
	.quiet = "{{.ID}}",
	.headings = images_headings,
	.headings_count = array_size(images_headings),
};

struct images {
	struct listing listing;
	bool whole;
};

static int add_image(const struct image_row *image, void *data, struct error *err)
{
	struct images *images = data;
	char created[CLOCK_TEXT_MAX], ago[CLOCK_TEXT_MAX], size[24], exact[24];
	json_t *row = json_object();

	when_local(image->created_ns, created);
	when_ago(image->created_ns, ago);
	str_from_size(image->size_bytes, 3, size);
	str_from_size(image->size_bytes, 4, exact);
	json_object_set_new(row, "Containers", json_sprintf("%zu", image->uses));
	json_object_set_new(row, "CreatedAt", json_string(created[0] ? created : "N/A"));
	json_object_set_new(row, "CreatedSince", json_string(ago[0] ? ago : "N/A"));
	json_object_set_new(
		row, "Digest",
		json_string(image->repo_digest.text[0] ? image->repo_digest.text : "<none>"));
	json_object_set_new(row, "ID",
			    images->whole ? json_string(image->id.text)
					  : json_stringn(digest_hex(&image->id), SHORT_ID_LEN));
	json_object_set_new(row, "Repository",
			    json_string(image->repository ? image->repository : "<none>"));
	/* What images have in common is in `system df -v`. */
	json_object_set_new(row, "SharedSize", json_string("N/A"));
	json_object_set_new(row, "Size", json_string(size));
	json_object_set_new(row, "UniqueSize", json_string("N/A"));
	json_object_set_new(row, "VirtualSize", json_string(exact));
	json_object_set_new(row, "Tag", json_string(image->tag ? image->tag : "<none>"));
	return listing_add(&images->listing, row, err);
}

static int run_images(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_filters struct filters filters = {0};
	struct images images = {.whole = args_flag(args, "no-trunc")};
	struct image_store *store;
	int rc = listing_begin(&images.listing,
			       args_flag(args, "digests") ? &digests_listing : &images_listing,
			       args, err);

	if (rc >= 0)
		rc = read_filters(args, &filters, err);
	if (args_at(args, 0) != NULL)
		filters.filter.reference = args_at(args, 0);
	if (rc >= 0)
		rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = image_list(store, &filters.filter, add_image, &images, err);
	if (rc >= 0)
		rc = listing_end(&images.listing, err);
	listing_release(&images.listing);
	return rc;
}

const struct command images_command = {
	.arguments = "[IMAGE]",
	.summary = "List images",
	.description = "IMAGE is a name, or a pattern with * and ?.",
	.options = {OPTION_SET(images_options)},
	.run = run_images,
};

/* --- history ------------------------------------------------------------------------------------- */

static const struct option_spec history_options[] = {
	LISTING_OPTION_FORMAT,
	{"human", 'H', OPTION_FLAG, 0, "", "true", "Sizes and times as people read them"},
	LISTING_OPTION_NO_TRUNC,
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Only the ids"},
};

static const struct listing_heading history_headings[] = {
	{"ID", "IMAGE"},
	{"CreatedSince", "CREATED"},
	{"CreatedAt", "CREATED AT"},
	{"CreatedBy", "CREATED BY"},
	{"Size", "SIZE"},
	{"Comment", "COMMENT"},
};

static const struct listing_spec history_listing = {
	.table = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
	.quiet = "{{.ID}}",
	.headings = history_headings,
	.headings_count = array_size(history_headings),
};

struct history {
	struct listing listing;
	bool whole, human;
};

static json_t *history_id(const char *id, bool whole)
{
	const char *hex = digest_text_hex(id);

	return hex != NULL && !whole ? json_stringn(hex, SHORT_ID_LEN) : json_string(id);
}

static int add_history(const struct image_history *line, void *data, struct error *err)
{
	struct history *history = data;
	own_mem char *by = history->whole ? str_copy(line->created_by ? line->created_by : "")
					  : text_shorten(line->created_by ? line->created_by : "",
							 CREATED_BY_COLUMNS);
	char created[CLOCK_TEXT_MAX], ago[CLOCK_TEXT_MAX], size[24];
	json_t *row = json_object();

	clock_format(line->created_ns, created);
	/* To the second, as docker has it. */
	if (strchr(created, '.') != NULL)
		strcpy(strchr(created, '.'), "Z");
	when_ago(line->created_ns, ago);
	if (history->human)
		str_from_size(line->size_bytes, 3, size);
	else
		snprintf(size, sizeof(size), "%llu", (unsigned long long)line->size_bytes);
	json_object_set_new(row, "Comment", json_string(line->comment ? line->comment : ""));
	json_object_set_new(row, "CreatedAt", json_string(created));
	json_object_set_new(row, "CreatedBy", json_string(by));
	json_object_set_new(row, "CreatedSince",
			    json_string(!history->human ? created
					: ago[0]        ? ago
							: "N/A"));
	json_object_set_new(row, "ID", history_id(line->id, history->whole));
	json_object_set_new(row, "Size", json_string(size));
	return listing_add(&history->listing, row, err);
}

static int run_history(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct history history = {
		.whole = args_flag(args, "no-trunc"),
		.human = args_flag(args, "human"),
	};
	struct image_store *store;
	int rc = listing_begin(&history.listing, &history_listing, args, err);

	if (rc >= 0)
		rc = open_images(args, &engine, &store, err);
	if (rc >= 0)
		rc = image_history(store, args_at(args, 0), add_history, &history, err);
	if (rc >= 0)
		rc = listing_end(&history.listing, err);
	listing_release(&history.listing);
	return rc;
}

const struct command history_command = {
	.arguments = "IMAGE",
	.summary = "Show how an image was made",
	.options = {OPTION_SET(history_options)},
	.run = run_history,
};

/* --- tag, rmi, prune ----------------------------------------------------------------------------- */

static int run_tag(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc = open_images(args, &engine, &store, err);

	return rc < 0 ? rc : image_tag(store, args_at(args, 0), args_at(args, 1), err);
}

const struct command tag_command = {
	.arguments = "IMAGE NAME",
	.summary = "Give an image another name",
	.run = run_tag,
};

static const struct option_spec rmi_options[] = {
	{"all", 'a', OPTION_FLAG, OPTION_REFUSED, "", "",
	 "\"berth image prune --all\" removes all that no container uses"},
	{"force", 'f', OPTION_FLAG, 0, "", "",
	 "Remove all its names, and do not mind what does not exist"},
	{"no-prune", 0, OPTION_FLAG, 0, "", "", "Keep untagged parents (there are none)"},
};

static void print_removed(bool deleted, const char *what, void *data)
{
	(void)data;
	printf("%s: %s\n", deleted ? "Deleted" : "Untagged", what);
}

static int rmi_one(struct engine *engine, const char *name, const struct args *args,
		   struct error *err)
{
	const bool force = args_flag(args, "force");
	struct image_store *store;
	int rc = engine_images(engine, &store, err);

	if (rc >= 0)
		rc = image_remove(store, name, force ? IMAGE_REMOVE_FORCE : 0, print_removed, NULL,
				  err);
	if (rc == -ENOENT && force) {
		error_clear(err);
		return 0;
	}
	return rc;
}

static int run_rmi(const struct args *args, struct error *err)
{
	return for_each_argument(args, rmi_one, false, err);
}

const struct command rmi_command = {
	.arguments = "IMAGE...",
	.summary = "Remove names of images, and images that have none left",
	.options = {OPTION_SET(rmi_options)},
	.run = run_rmi,
};

static const struct option_spec prune_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "",
	 "All that no container uses, not only those without a name"},
	{"filter", 0, OPTION_LIST, 0, "KEY=VALUE", "", "Only some: until=TIME, label=NAME[=VALUE]"},
	{"force", 'f', OPTION_FLAG, 0, "", "", "Do not ask"},
};

int prune_images(struct image_store *store, const struct args *args, bool all, struct error *err)
{
	own_filters struct filters filters = {0};
	uint64_t bytes = 0;
	char size[24];
	int rc = read_filters(args, &filters, err);

	if (rc >= 0)
		rc = image_prune(store, &filters.filter, all, print_removed, NULL, &bytes, err);
	if (rc < 0)
		return rc;
	str_from_size(bytes, 4, size);
	printf("Total reclaimed space: %s\n", size);
	return fflush(stdout) == 0 ? 0 : fail(err, -errno, "write the output");
}

static int run_prune(const struct args *args, struct error *err)
{
	const bool all = args_flag(args, "all");
	own_engine struct engine *engine = NULL;
	struct image_store *store;
	int rc;

	if (!args_flag(args, "force") &&
	    !confirm(all ? "This removes all images that no container uses. Go on?"
			 : "This removes all images without a name. Go on?"))
		return hint(err, refuse(err, -ECANCELED, "nothing was removed"),
			    "confirm with y, or give --force");
	rc = open_images(args, &engine, &store, err);
	return rc < 0 ? rc : prune_images(store, args, all, err);
}

const struct command image_prune_command = {
	.summary = "Remove images that nothing uses",
	.options = {OPTION_SET(prune_options)},
	.run = run_prune,
};
