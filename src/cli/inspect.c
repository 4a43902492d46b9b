/* inspect: everything that is known of a workload or an image, as docker's documents. */
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"

enum inspect_kind { INSPECT_ANY, INSPECT_CONTAINER, INSPECT_IMAGE };

#define FORMAT_OPTION                                                                              \
	{                                                                                          \
		"format", 'f', OPTION_STRING, 0, "TEMPLATE", "",                                   \
			"Print by a template, or \"json\" for one line"                            \
	}

#define SIZE_OPTION                                                                                \
	{                                                                                          \
		"size", 's', OPTION_FLAG, 0, "", "",                                               \
			"Of containers also SizeRw, what they have written, and SizeRootFs"        \
	}

static const struct option_spec inspect_options[] = {
	FORMAT_OPTION,
	SIZE_OPTION,
	{"type", 0, OPTION_ENUM, 0, "container|image", "", "Only objects of this kind"},
};

static const struct option_spec container_options[] = {FORMAT_OPTION, SIZE_OPTION};
static const struct option_spec image_options[] = {FORMAT_OPTION};

static int inspect_image(struct engine *engine, const char *name, json_t **ret, struct error *err)
{
	struct image_store *store;
	int rc = engine_images(engine, &store, err);

	return rc < 0 ? rc : image_inspect(store, name, ret, err);
}

static int inspect_container(struct engine *engine, const char *name, bool with_size, json_t **ret,
			     struct error *err)
{
	own_workload struct workload workload = {0};
	own_json json_t *document = NULL;
	struct workload_usage usage;
	int rc = workload_inspect(engine, name, &document, err);

	if (rc >= 0 && with_size)
		rc = workload_find(engine, name, &workload, err);
	if (rc >= 0 && with_size)
		rc = workload_get_usage(engine, &workload, &usage, err);
	if (rc < 0)
		return rc;
	if (with_size) {
		json_object_set_new(document, "SizeRw",
				    json_integer((json_int_t)usage.written_bytes));
		json_object_set_new(
			document, "SizeRootFs",
			json_integer((json_int_t)(usage.written_bytes + usage.image_bytes)));
	}
	*ret = json_incref(document);
	return 0;
}

static int inspect_one(struct engine *engine, const char *name, enum inspect_kind kind,
		       bool with_size, json_t **ret, struct error *err)
{
	struct error second = {0};
	int rc = -ENOENT;

	if (kind == INSPECT_IMAGE)
		return inspect_image(engine, name, ret, err);
	rc = inspect_container(engine, name, with_size, ret, err);
	if (rc != -ENOENT || kind == INSPECT_CONTAINER)
		return rc;
	rc = inspect_image(engine, name, ret, &second);
	if (rc >= 0) {
		error_clear(err);
		return rc;
	}
	error_clear(err);
	/* An image's name may be no image's name at all: what matters is that there is neither. */
	if (rc == -ENOENT || rc == -EINVAL)
		return refuse(err, -ENOENT, "there is no container and no image \"%s\"", name);
	*err = second;
	return rc;
}

/* Without a template all documents form one array, which is complete even if some were not found. */
static int inspect_all(const struct args *args, enum inspect_kind kind, struct error *err)
{
	const bool with_size = args_has(args, "size") && args_flag(args, "size");
	const char *format = args_string(args, "format");
	own_engine struct engine *engine = NULL;
	own_json json_t *documents = json_array();
	bool failed = false;
	int rc = open_engine(args, &engine, err);

	for (int i = 0; i < args_count(args) && rc >= 0; i++) {
		own_json json_t *document = NULL;
		struct error one = {0};

		if (inspect_one(engine, args_at(args, i), kind, with_size, &document, &one) < 0) {
			failed = true;
			log_failure(&one);
		} else if (str_empty(format) || strcmp(format, "json") == 0) {
			json_array_append(documents, document);
		} else {
			rc = print_formatted(document, format, err);
		}
	}
	if (rc >= 0 && (str_empty(format) || strcmp(format, "json") == 0))
		rc = print_formatted(documents, format, err);
	if (rc >= 0 && failed)
		err->code = rc = -ENOENT;
	return rc;
}

static int run_inspect(const struct args *args, struct error *err)
{
	const char *type = args_string(args, "type");
	enum inspect_kind kind = INSPECT_ANY;

	if (type != NULL)
		kind = strcmp(type, "image") == 0 ? INSPECT_IMAGE : INSPECT_CONTAINER;
	return inspect_all(args, kind, err);
}

static int run_container_inspect(const struct args *args, struct error *err)
{
	return inspect_all(args, INSPECT_CONTAINER, err);
}

static int run_image_inspect(const struct args *args, struct error *err)
{
	return inspect_all(args, INSPECT_IMAGE, err);
}

const struct command inspect_command = {
	.arguments = "CONTAINER|IMAGE...",
	.summary = "Show everything about containers and images",
	.examples = "berth inspect -f '{{.State.Pid}}' web\tOne fact\n"
		    "berth inspect -f '{{json .Config.Env}}' busybox\tA part, as JSON\n",
	.options = {OPTION_SET(inspect_options)},
	.run = run_inspect,
};

const struct command container_inspect_command = {
	.arguments = "CONTAINER...",
	.summary = "Show everything about containers",
	.options = {OPTION_SET(container_options)},
	.run = run_container_inspect,
};

const struct command image_inspect_command = {
	.arguments = "IMAGE...",
	.summary = "Show everything about images",
	.options = {OPTION_SET(image_options)},
	.run = run_image_inspect,
};
