/* list: `ps` with docker's filters (verbs of workload.h). */
#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/find.h"
#include "engine/record.h"
#include "image/reference.h"

enum filter_key {
	FILTER_ID,
	FILTER_NAME,
	FILTER_LABEL,
	FILTER_STATUS,
	FILTER_EXITED,
	FILTER_ANCESTOR,
	FILTER_BEFORE,
	FILTER_SINCE,
	FILTER_VOLUME,
	FILTER_NETWORK,
	FILTER_ISOLATION,
	FILTER_COUNT,
};
static const char keys[FILTER_COUNT][12] = {
	"id",     "name",  "label",  "status",  "exited",    "ancestor",
	"before", "since", "volume", "network", "isolation",
};

/* The filters by key; before and since as points in time. */
struct matcher {
	char **values[FILTER_COUNT];
	int64_t before_ns, since_ns;
};

static void matcher_release(struct matcher *m)
{
	for (size_t i = 0; i < FILTER_COUNT; i++)
		strv_free(m->values[i]);
}

static int find_time(struct engine *engine, const char *ref, int64_t *ret, struct error *err)
{
	own_workload struct workload w = {0};
	int rc = workload_find(engine, ref, &w, err);

	if (rc == 0)
		*ret = w.created_ns;
	return rc;
}

/* A regular expression, for the name with or without the slash that docker's documents have before it:
 * "web", "^web$" and "^/web$" all find "web". -EINVAL: it is none. */
static int match_name(const char *expression, const char *name)
{
	own_mem char *with_slash = str_format("/%s", name);
	regex_t regex;
	bool found;

	if (regcomp(&regex, expression, REG_EXTENDED | REG_NOSUB) != 0)
		return -EINVAL;
	found = regexec(&regex, name, 0, NULL, 0) == 0 ||
		regexec(&regex, with_slash, 0, NULL, 0) == 0;
	regfree(&regex);
	return found;
}

static int check_value(struct engine *engine, struct matcher *m, enum filter_key key,
		       const char *value, struct error *err)
{
	int64_t number;

	if (key == FILTER_BEFORE)
		return find_time(engine, value, &m->before_ns, err);
	if (key == FILTER_SINCE)
		return find_time(engine, value, &m->since_ns, err);
	if (key == FILTER_NAME && match_name(value, "") < 0)
		return refuse(err, -EINVAL, "filter name: \"%s\" is not a regular expression",
			      value);
	if (key == FILTER_EXITED && str_to_int(value, 0, 255, &number) < 0)
		return refuse(err, -EINVAL, "filter exited: \"%s\" is not an exit code", value);
	if (key == FILTER_STATUS) {
		for (int s = WORKLOAD_CREATED; s <= WORKLOAD_DEAD; s++)
			if (str_eq(value, workload_status_name((enum workload_status)s)))
				return 0;
		return refuse(err, -EINVAL, "filter status: there is no status \"%s\"", value);
	}
	return 0;
}

static int matcher_init(struct engine *engine, char *const *filters, struct matcher *m,
			struct error *err)
{
	for (size_t i = 0; filters != NULL && filters[i] != NULL; i++) {
		const char *equals = strchr(filters[i], '=');
		size_t length = equals ? (size_t)(equals - filters[i]) : 0, key;
		int rc;

		for (key = 0; key < FILTER_COUNT; key++)
			if (strlen(keys[key]) == length &&
			    strncmp(keys[key], filters[i], length) == 0)
				break;
		if (key == FILTER_COUNT)
			return hint(
				err, refuse(err, -EINVAL, "unknown filter \"%s\"", filters[i]),
				"KEY=VALUE with id, name, label, status, exited, ancestor, before, "
				"since, volume, network or isolation");
		rc = check_value(engine, m, (enum filter_key)key, equals + 1, err);
		if (rc < 0)
			return rc;
		strv_push(&m->values[key], equals + 1);
	}
	return 0;
}

static bool has_label(const struct workload *w, const char *wanted)
{
	const char *equals = strchr(wanted, '=');
	own_mem char *key = equals ? str_copy_n(wanted, (size_t)(equals - wanted)) : NULL;
	const char *value = env_get(w->config.labels, key ? key : wanted);

	return value != NULL && (equals == NULL || str_eq(value, equals + 1));
}

/* Whether both are names of one image: "busybox", "docker.io/library/busybox:latest". */
static bool is_same_name(const char *name, const char *wanted)
{
	char full[REFERENCE_TEXT_MAX], full_wanted[REFERENCE_TEXT_MAX];
	struct reference a, b;

	if (name == NULL || reference_parse(name, &a, NULL) < 0 ||
	    reference_parse(wanted, &b, NULL) < 0)
		return false;
	reference_format(&a, full);
	reference_format(&b, full_wanted);
	return strcmp(full, full_wanted) == 0;
}

static bool is_image(const struct workload *w, const char *wanted)
{
	const char *hex = digest_text_hex(w->config.image_id ? w->config.image_id : "");

	return is_same_name(w->config.image, wanted) || str_eq(w->config.image_id, wanted) ||
	       (hex != NULL && strlen(wanted) >= 12 && str_after(hex, wanted) != NULL);
}

static bool has_mount(const struct workload *w, const char *wanted)
{
	for (size_t i = 0; i < w->config.mounts_count; i++)
		if (str_eq(w->config.mounts[i].source, wanted) ||
		    str_eq(w->config.mounts[i].target, wanted))
			return true;
	return false;
}

static bool holds(const struct workload *w, enum filter_key key, const char *value)
{
	int64_t number;

	switch (key) {
	case FILTER_ID:
		return str_after(w->id, value) != NULL;
	case FILTER_NAME:
		return match_name(value, w->name) > 0;
	case FILTER_LABEL:
		return has_label(w, value);
	case FILTER_STATUS:
		return str_eq(workload_status_name(w->status), value);
	case FILTER_EXITED:
		return w->status == WORKLOAD_EXITED && str_to_int(value, 0, 255, &number) == 0 &&
		       w->exit_code == number;
	case FILTER_ANCESTOR:
		return is_image(w, value);
	case FILTER_VOLUME:
		return has_mount(w, value);
	case FILTER_NETWORK:
		return str_eq(w->config.network == WORKLOAD_NETWORK_HOST ? "host" : "none", value);
	case FILTER_ISOLATION:
		return str_eq(w->config.isolation == WORKLOAD_CONTAINER ? "container" : "vm",
			      value);
	case FILTER_BEFORE:
	case FILTER_SINCE:
	case FILTER_COUNT:
		break;
	}
	return true;
}

static bool matches(const struct matcher *m, const struct workload *w)
{
	if (m->before_ns != 0 && w->created_ns >= m->before_ns)
		return false;
	if (m->since_ns != 0 && w->created_ns <= m->since_ns)
		return false;
	for (size_t key = 0; key < FILTER_COUNT; key++) {
		const bool all = key == FILTER_LABEL;
		bool found = m->values[key] == NULL || all;

		for (size_t i = 0; m->values[key] != NULL && m->values[key][i] != NULL; i++) {
			bool here = holds(w, (enum filter_key)key, m->values[key][i]);

			found = all ? found && here : found || here;
		}
		if (!found)
			return false;
	}
	return true;
}

struct listing {
	struct engine *engine;
	const struct workload_filter *filter;
	struct matcher matcher;
	int left; /* rows to be shown still; negative: all */
	workload_list_fn *fn;
	void *data;
};

static int look_at(struct workload *w, enum record_status status, void *data, struct error *err)
{
	struct listing *l = data;
	const struct workload_filter *f = l->filter;
	/* Who asks for a state means those in it, also if they do not run. */
	const bool any = f->all || f->last > 0 || l->matcher.values[FILTER_STATUS] ||
			 l->matcher.values[FILTER_EXITED];

	find_add_live(l->engine, status, w);
	if (!any && w->status != WORKLOAD_RUNNING && w->status != WORKLOAD_PAUSED &&
	    w->status != WORKLOAD_RESTARTING)
		return 0;
	if (l->left == 0 || !matches(&l->matcher, w))
		return 0;
	if (l->left > 0)
		l->left--;
	return l->fn(w, l->data, err);
}

int workload_list(struct engine *engine, const struct workload_filter *filter, workload_list_fn *fn,
		  void *data, struct error *err)
{
	struct listing l = {
		.engine = engine,
		.filter = filter,
		.left = filter->last > 0 ? filter->last : -1,
		.fn = fn,
		.data = data,
	};
	int rc = matcher_init(engine, filter->filters, &l.matcher, err);

	if (rc == 0)
		rc = record_each(engine, look_at, &l, err);
	matcher_release(&l.matcher);
	return rc;
}
