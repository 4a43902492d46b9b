/*
 * config: see config.h. The members are listed once, in a table, which initialising, releasing and
 * both directions of JSON go through; the arrays of structs have a few lines each beside it.
 */
#include "engine/config.h"

#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum field_kind {
	FIELD_TEXT,  /* char * */
	FIELD_LIST,  /* char ** */
	FIELD_INT,   /* int, unsigned int or an enum */
	FIELD_LONG,  /* int64_t */
	FIELD_BOOL,  /* bool */
	FIELD_VALUE, /* json_t * */
};

struct field {
	const char *key;
	size_t offset;
	int fallback; /* what "not given" is for numbers */
	enum field_kind kind;
};

#define FIELD(kind, member, fallback)                                                              \
	{                                                                                          \
#member, offsetof(struct workload_config, member), fallback, kind                  \
	}

static const struct field fields[] = {
	FIELD(FIELD_TEXT, image, 0),
	FIELD(FIELD_TEXT, image_id, 0),
	FIELD(FIELD_TEXT, name, 0),
	FIELD(FIELD_INT, isolation, WORKLOAD_CONTAINER),
	FIELD(FIELD_INT, flags, 0),
	FIELD(FIELD_LIST, command, 0),
	FIELD(FIELD_LIST, entrypoint, 0),
	FIELD(FIELD_LIST, env, 0),
	FIELD(FIELD_TEXT, working_dir, 0),
	FIELD(FIELD_TEXT, user, 0),
	FIELD(FIELD_LIST, groups_add, 0),
	FIELD(FIELD_TEXT, hostname, 0),
	FIELD(FIELD_TEXT, domainname, 0),
	FIELD(FIELD_LIST, labels, 0),
	FIELD(FIELD_LIST, annotations, 0),
	FIELD(FIELD_TEXT, stop_signal, 0),
	FIELD(FIELD_INT, stop_timeout_s, -1),
	FIELD(FIELD_INT, oom_score_adj, 0),
	FIELD(FIELD_BOOL, oom_score_set, 0),
	FIELD(FIELD_LIST, sysctls, 0),
	FIELD(FIELD_LONG, memory_bytes, -1),
	FIELD(FIELD_LONG, memory_swap_bytes, -1),
	FIELD(FIELD_LONG, memory_reservation_bytes, -1),
	FIELD(FIELD_LONG, nano_cpus, -1),
	FIELD(FIELD_LONG, cpu_shares, -1),
	FIELD(FIELD_TEXT, cpuset_cpus, 0),
	FIELD(FIELD_TEXT, cpuset_mems, 0),
	FIELD(FIELD_LONG, pids_limit, -1),
	FIELD(FIELD_LONG, shm_size_bytes, -1),
	FIELD(FIELD_TEXT, cgroup_parent, 0),
	FIELD(FIELD_TEXT, kernel, 0),
	FIELD(FIELD_TEXT, accel, 0),
	FIELD(FIELD_LONG, storage_bytes, -1),
	FIELD(FIELD_LIST, disks, 0),
	FIELD(FIELD_TEXT, firmware, 0),
	FIELD(FIELD_TEXT, cloud_init, 0),
	FIELD(FIELD_LIST, caps_add, 0),
	FIELD(FIELD_LIST, caps_drop, 0),
	FIELD(FIELD_TEXT, seccomp, 0),
	FIELD(FIELD_VALUE, seccomp_profile, 0),
	FIELD(FIELD_TEXT, apparmor, 0),
	FIELD(FIELD_LIST, masked_paths_off, 0),
	FIELD(FIELD_INT, network, WORKLOAD_NETWORK_NONE),
	FIELD(FIELD_LIST, dns, 0),
	FIELD(FIELD_LIST, dns_search, 0),
	FIELD(FIELD_LIST, dns_options, 0),
	FIELD(FIELD_LIST, extra_hosts, 0),
	FIELD(FIELD_INT, restart, WORKLOAD_RESTART_NO),
	FIELD(FIELD_INT, restart_max, 0),
	FIELD(FIELD_INT, log, WORKLOAD_LOG_JSON_FILE),
	FIELD(FIELD_LONG, log_max_size_bytes, -1),
	FIELD(FIELD_INT, log_max_files, -1),
};

static void *member(const struct workload_config *config, const struct field *f)
{
	return (char *)(uintptr_t)config + f->offset;
}

void workload_config_init(struct workload_config *config)
{
	memset(config, 0, sizeof(*config));
	for (size_t i = 0; i < array_size(fields); i++) {
		if (fields[i].kind == FIELD_INT)
			*(int *)member(config, &fields[i]) = fields[i].fallback;
		else if (fields[i].kind == FIELD_LONG)
			*(int64_t *)member(config, &fields[i]) = fields[i].fallback;
	}
}

static void release_arrays(struct workload_config *config)
{
	for (size_t i = 0; i < config->mounts_count; i++) {
		free(config->mounts[i].source);
		free(config->mounts[i].target);
		strv_free(config->mounts[i].options);
	}
	for (size_t i = 0; i < config->devices_count; i++) {
		free(config->devices[i].source);
		free(config->devices[i].target);
	}
	for (size_t i = 0; i < config->ulimits_count; i++)
		free(config->ulimits[i].name);
	free(config->mounts);
	free(config->devices);
	free(config->ulimits);
}

void workload_config_release(struct workload_config *config)
{
	for (size_t i = 0; i < array_size(fields); i++) {
		void *at = member(config, &fields[i]);

		if (fields[i].kind == FIELD_TEXT)
			free(*(char **)at);
		else if (fields[i].kind == FIELD_LIST)
			strv_free(*(char ***)at);
		else if (fields[i].kind == FIELD_VALUE)
			json_decref(*(json_t **)at);
	}
	release_arrays(config);
	workload_config_init(config);
}

void workload_config_add_mount(struct workload_config *config, struct workload_mount mount)
{
	config->mounts = mem_resize(config->mounts, config->mounts_count + 1, sizeof(mount));
	config->mounts[config->mounts_count++] = mount;
}

void workload_config_add_device(struct workload_config *config, struct workload_device device)
{
	config->devices = mem_resize(config->devices, config->devices_count + 1, sizeof(device));
	config->devices[config->devices_count++] = device;
}

void workload_config_add_ulimit(struct workload_config *config, struct workload_ulimit ulimit)
{
	config->ulimits = mem_resize(config->ulimits, config->ulimits_count + 1, sizeof(ulimit));
	config->ulimits[config->ulimits_count++] = ulimit;
}

/* --- to JSON --------------------------------------------------------------------------------------- */

static void field_to_json(const struct field *f, const void *at, json_t *object)
{
	switch (f->kind) {
	case FIELD_TEXT:
		json_set_string(object, f->key, *(char *const *)at);
		break;
	case FIELD_LIST:
		json_set_strv(object, f->key, *(char **const *)at);
		break;
	case FIELD_INT:
		if (*(const int *)at != f->fallback)
			json_object_set_new(object, f->key, json_integer(*(const int *)at));
		break;
	case FIELD_LONG:
		if (*(const int64_t *)at != f->fallback)
			json_object_set_new(object, f->key, json_integer(*(const int64_t *)at));
		break;
	case FIELD_BOOL:
		if (*(const bool *)at)
			json_object_set_new(object, f->key, json_true());
		break;
	case FIELD_VALUE:
		if (*(json_t *const *)at != NULL)
			json_object_set(object, f->key, *(json_t *const *)at);
		break;
	}
}

static json_t *mounts_to_json(const struct workload_config *config)
{
	json_t *array = json_array();

	for (size_t i = 0; i < config->mounts_count; i++) {
		const struct workload_mount *m = &config->mounts[i];
		json_t *o = json_object();

		json_object_set_new(o, "type", json_integer(m->type));
		json_set_string(o, "source", m->source);
		json_set_string(o, "target", m->target);
		json_set_strv(o, "options", m->options);
		if (m->create_source)
			json_object_set_new(o, "create_source", json_true());
		json_array_append_new(array, o);
	}
	return array;
}

static json_t *devices_to_json(const struct workload_config *config)
{
	json_t *array = json_array();

	for (size_t i = 0; i < config->devices_count; i++) {
		const struct workload_device *d = &config->devices[i];
		json_t *o = json_object();

		json_set_string(o, "source", d->source);
		json_set_string(o, "target", d->target);
		json_set_string(o, "access", d->access);
		json_array_append_new(array, o);
	}
	return array;
}

static json_t *ulimits_to_json(const struct workload_config *config)
{
	json_t *array = json_array();

	for (size_t i = 0; i < config->ulimits_count; i++) {
		const struct workload_ulimit *u = &config->ulimits[i];
		json_t *o = json_object();

		/* "Unlimited", 2^64-1, is -1 here: JSON integers are signed. */
		json_set_string(o, "name", u->name);
		json_object_set_new(o, "soft", json_integer((json_int_t)u->soft));
		json_object_set_new(o, "hard", json_integer((json_int_t)u->hard));
		json_array_append_new(array, o);
	}
	return array;
}

json_t *workload_config_to_json(const struct workload_config *config)
{
	json_t *object = json_object();

	for (size_t i = 0; i < array_size(fields); i++)
		field_to_json(&fields[i], member(config, &fields[i]), object);
	if (config->mounts_count > 0)
		json_object_set_new(object, "mounts", mounts_to_json(config));
	if (config->devices_count > 0)
		json_object_set_new(object, "devices", devices_to_json(config));
	if (config->ulimits_count > 0)
		json_object_set_new(object, "ulimits", ulimits_to_json(config));
	return object;
}

/* --- from JSON ------------------------------------------------------------------------------------- */

static int field_from_json(const struct field *f, const struct json_at *object, void *at,
			   struct error *err)
{
	struct json_at value;
	const char *text;
	int64_t number;
	int rc;

	switch (f->kind) {
	case FIELD_TEXT:
		rc = json_get_string(object, f->key, JSON_OPTIONAL, &text, err);
		if (rc > 0)
			*(char **)at = str_copy(text);
		return rc;
	case FIELD_LIST:
		return json_get_strv(object, f->key, JSON_OPTIONAL, at, err);
	case FIELD_INT:
		rc = json_get_int(object, f->key, JSON_OPTIONAL, INT_MIN, INT_MAX, &number, err);
		if (rc > 0)
			*(int *)at = (int)number;
		return rc;
	case FIELD_LONG:
		return json_get_int(object, f->key, JSON_OPTIONAL, INT64_MIN, INT64_MAX, at, err);
	case FIELD_BOOL:
		return json_get_bool(object, f->key, JSON_OPTIONAL, at, err);
	case FIELD_VALUE:
		rc = json_member(object, f->key, JSON_OPTIONAL, &value, err);
		if (rc > 0)
			*(json_t **)at = json_incref(value.value);
		return rc;
	}
	return 0;
}

/* Reads a string member of `o` into heap memory. */
static int text_member(const struct json_at *o, const char *key, char **ret, struct error *err)
{
	const char *text;
	int rc = json_get_string(o, key, JSON_OPTIONAL, &text, err);

	if (rc > 0)
		*ret = str_copy(text);
	return rc;
}

static int mount_from_json(const struct json_at *o, struct workload_config *config,
			   struct error *err)
{
	struct workload_mount *m;
	int64_t type = 0;
	int rc = json_get_int(o, "type", JSON_REQUIRED, 0, WORKLOAD_MOUNT_TMPFS, &type, err);

	if (rc < 0)
		return rc;
	workload_config_add_mount(config, (struct workload_mount){.type = type});
	m = &config->mounts[config->mounts_count - 1];
	rc = text_member(o, "source", &m->source, err);
	if (rc >= 0)
		rc = text_member(o, "target", &m->target, err);
	if (rc >= 0)
		rc = json_get_strv(o, "options", JSON_OPTIONAL, &m->options, err);
	if (rc >= 0)
		rc = json_get_bool(o, "create_source", JSON_OPTIONAL, &m->create_source, err);
	return rc;
}

static int device_from_json(const struct json_at *o, struct workload_config *config,
			    struct error *err)
{
	struct workload_device *d;
	const char *access = "rwm";
	int rc;

	workload_config_add_device(config, (struct workload_device){0});
	d = &config->devices[config->devices_count - 1];
	rc = text_member(o, "source", &d->source, err);
	if (rc >= 0)
		rc = text_member(o, "target", &d->target, err);
	if (rc >= 0)
		rc = json_get_string(o, "access", JSON_OPTIONAL, &access, err);
	if (rc >= 0)
		strncpy(d->access, access, sizeof(d->access) - 1);
	return rc;
}

static int ulimit_from_json(const struct json_at *o, struct workload_config *config,
			    struct error *err)
{
	int64_t soft = -1, hard = -1;
	char *name = NULL;
	int rc = text_member(o, "name", &name, err);

	if (rc >= 0)
		rc = json_get_int(o, "soft", JSON_REQUIRED, INT64_MIN, INT64_MAX, &soft, err);
	if (rc >= 0)
		rc = json_get_int(o, "hard", JSON_REQUIRED, INT64_MIN, INT64_MAX, &hard, err);
	workload_config_add_ulimit(config, (struct workload_ulimit){.name = name,
								    .soft = (uint64_t)soft,
								    .hard = (uint64_t)hard});
	return rc;
}

typedef int element_fn(const struct json_at *o, struct workload_config *config, struct error *err);

static int array_from_json(const struct json_at *object, const char *key, element_fn *fn,
			   struct workload_config *config, struct error *err)
{
	struct json_at array, item;
	int rc = json_array_at(object, key, JSON_OPTIONAL, &array, err);

	if (rc <= 0)
		return rc;
	for (size_t i = 0; rc >= 0 && json_element(&array, i, &item); i++)
		rc = fn(&item, config, err);
	return rc;
}

int workload_config_from_json(json_t *value, struct workload_config *ret, struct error *err)
{
	own_workload_config struct workload_config config;
	struct json_at root = json_root(value);
	int rc = 0;

	workload_config_init(&config);
	for (size_t i = 0; rc >= 0 && i < array_size(fields); i++)
		rc = field_from_json(&fields[i], &root, member(&config, &fields[i]), err);
	if (rc >= 0)
		rc = array_from_json(&root, "mounts", mount_from_json, &config, err);
	if (rc >= 0)
		rc = array_from_json(&root, "devices", device_from_json, &config, err);
	if (rc >= 0)
		rc = array_from_json(&root, "ulimits", ulimit_from_json, &config, err);
	if (rc < 0)
		return rc;
	*ret = config;
	workload_config_init(&config);
	return 0;
}
