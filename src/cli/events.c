/* events: what happened to workloads, and what happens to them. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/when.h"

static const struct option_spec events_options[] = {
	{"filter", 'f', OPTION_LIST, 0, "KEY=VALUE", "",
	 "Only some: event, container, image, type=container"},
	{"format", 0, OPTION_STRING, 0, "TEMPLATE", "", "Print by a template, or as \"json\""},
	{"since", 0, OPTION_STRING, 0, "TIME", "",
	 "Also those from this moment on: 2024-01-02T13:23:37Z, or 42m for that long ago"},
	{"until", 0, OPTION_STRING, 0, "TIME", "", "End at this moment, instead of never"},
};

enum filter_key { FILTER_EVENT, FILTER_CONTAINER, FILTER_IMAGE, FILTER_TYPE, FILTER_COUNT };
static const char keys[FILTER_COUNT][12] = {"event", "container", "image", "type"};

/* docker has one set of names for templates and another for JSON. */
enum name { NAME_ID, NAME_STATUS, NAME_FROM, NAME_SCOPE, NAME_TIME, NAME_TIME_NS, NAME_COUNT };
static const char in_templates[NAME_COUNT][12] = {"ID",    "Status", "From",
						  "Scope", "Time",   "TimeNano"};
static const char in_json[NAME_COUNT][12] = {"id", "status", "from", "scope", "time", "timeNano"};

struct events {
	char **values[FILTER_COUNT];
	const char *format; /* NULL: lines */
};

static void events_release(struct events *events)
{
	for (size_t i = 0; i < FILTER_COUNT; i++)
		strv_free(events->values[i]);
}
#define own_events __attribute__((cleanup(events_release)))

static int read_filters(const struct args *args, struct events *events, struct error *err)
{
	for (char *const *text = args_list(args, "filter"); *text != NULL; text++) {
		const char *equals = strchr(*text, '=');
		own_mem char *key = str_copy_n(*text, strcspn(*text, "="));
		size_t i = 0;

		while (i < FILTER_COUNT && strcmp(keys[i], key) != 0)
			i++;
		if (equals == NULL || i == FILTER_COUNT)
			return hint(err, refuse(err, -EINVAL, "unknown filter \"%s\"", *text),
				    "KEY=VALUE with event, container, image or type");
		strv_push(&events->values[i], equals + 1);
	}
	return 0;
}

static bool holds(const struct workload_event *event, enum filter_key key, const char *value)
{
	switch (key) {
	case FILTER_EVENT:
		return strcmp(event->action, value) == 0;
	case FILTER_CONTAINER:
		return strcmp(event->name, value) == 0 || str_after(event->id, value) != NULL;
	case FILTER_IMAGE:
		return strcmp(event->image, value) == 0;
	case FILTER_TYPE:
		return strcmp(value, "container") == 0;
	case FILTER_COUNT:
		break;
	}
	return true;
}

/* Of several values of a key any is enough. */
static bool matches(const struct events *events, const struct workload_event *event)
{
	for (size_t key = 0; key < FILTER_COUNT; key++) {
		char **values = events->values[key];
		bool found = values == NULL;

		for (size_t i = 0; !found && values[i] != NULL; i++)
			found = holds(event, (enum filter_key)key, values[i]);
		if (!found)
			return false;
	}
	return true;
}

static json_t *attributes_of(const struct workload_event *event)
{
	json_t *attributes = event->detail ? json_loads(event->detail, 0, NULL) : NULL;

	if (!json_is_object(attributes)) {
		json_decref(attributes);
		attributes = json_object();
	}
	json_object_set_new(attributes, "image", json_string(event->image));
	json_object_set_new(attributes, "name", json_string(event->name));
	return attributes;
}

static json_t *document_of(const struct workload_event *event, const char (*names)[12])
{
	json_t *document = json_object(), *actor = json_object();

	json_object_set_new(actor, "ID", json_string(event->id));
	json_object_set_new(actor, "Attributes", attributes_of(event));
	json_object_set_new(document, names[NAME_STATUS], json_string(event->action));
	json_object_set_new(document, names[NAME_ID], json_string(event->id));
	json_object_set_new(document, names[NAME_FROM], json_string(event->image));
	json_object_set_new(document, "Type", json_string("container"));
	json_object_set_new(document, "Action", json_string(event->action));
	json_object_set_new(document, "Actor", actor);
	json_object_set_new(document, names[NAME_SCOPE], json_string("local"));
	json_object_set_new(document, names[NAME_TIME], json_integer(event->time_ns / 1000000000));
	json_object_set_new(document, names[NAME_TIME_NS], json_integer(event->time_ns));
	return document;
}

/* "2024-01-02T13:23:37.123456789Z container die ID (exitCode=0, image=busybox, name=web)" */
static int print_line(const struct workload_event *event, struct error *err)
{
	own_json json_t *attributes = attributes_of(event);
	own_buf struct buf line = {0};
	char when[CLOCK_TEXT_MAX];
	const char *key, *before = " (";
	json_t *value;

	clock_format(event->time_ns, when);
	buf_format(&line, "%s container %s %s", when, event->action, event->id);
	json_object_foreach (attributes, key, value) {
		buf_format(&line, "%s%s=%s", before, key, json_string_value(value));
		before = ", ";
	}
	buf_add_str(&line, ")\n");
	return print_text(line.data, err);
}

static int print_event(const struct workload_event *event, void *data, struct error *err)
{
	const struct events *events = data;
	own_json json_t *document = NULL;

	if (!matches(events, event))
		return 0;
	if (events->format == NULL)
		return print_line(event, err);
	document = document_of(event, strstr(events->format, "json") ? in_json : in_templates);
	return print_formatted(document, events->format, err);
}

static int run_events(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_events struct events events = {.format = args_string(args, "format")};
	int64_t since_ns = 0, until_ns = 0;
	int rc = read_filters(args, &events, err);

	if (rc >= 0)
		rc = when_read(args, "since", &since_ns, err);
	if (rc >= 0)
		rc = when_read(args, "until", &until_ns, err);
	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc < 0)
		return rc;
	return workload_watch(engine, since_ns ? since_ns : clock_now_ns(),
			      until_ns ? until_ns : INT64_MAX, print_event, &events, err);
}

const struct command events_command = {
	.summary = "Show what happens to containers, as it happens",
	.description =
		"The events are create, start, die, rename and destroy, not what happens while a "
		"container runs. The newest ten thousand are kept.",
	.examples = "berth events --since 1h --until 0s\tOf the last hour\n"
		    "berth events -f event=die --format '{{.Actor.Attributes.name}}'\tWho ends\n",
	.options = {OPTION_SET(events_options)},
	.run = run_events,
};
