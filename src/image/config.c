/* config: see config.h. */
#include "image/config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

static int parse_healthcheck(const struct json_at *config, struct image_healthcheck *ret,
			     struct error *err)
{
	static const struct {
		const char *key;
		size_t offset;
	} times[] = {
		{"Interval", offsetof(struct image_healthcheck, interval_ns)},
		{"Timeout", offsetof(struct image_healthcheck, timeout_ns)},
		{"StartPeriod", offsetof(struct image_healthcheck, start_period_ns)},
		{"StartInterval", offsetof(struct image_healthcheck, start_interval_ns)},
		{"Retries", offsetof(struct image_healthcheck, retries)},
	};
	struct json_at at;
	int rc = json_object_at(config, "Healthcheck", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	rc = json_get_strv(&at, "Test", JSON_OPTIONAL, &ret->test, err);
	for (size_t i = 0; rc >= 0 && i < sizeof(times) / sizeof(times[0]); i++) {
		int64_t value = 0;

		rc = json_get_int(&at, times[i].key, JSON_OPTIONAL, 0, INT64_MAX, &value, err);
		memcpy((char *)ret + times[i].offset, &value, sizeof(value));
	}
	return rc;
}

/* The keys of an object whose values say nothing: {"/data": {}}. */
static int get_keys(const struct json_at *config, const char *key, char ***ret, struct error *err)
{
	struct json_at at;
	const char *name;
	json_t *value;
	int rc = json_object_at(config, key, JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	json_object_foreach (at.value, name, value)
		strv_push(ret, name);
	return 1;
}

static int get_text(const struct json_at *config, const char *key, char **ret, struct error *err)
{
	const char *s = NULL;
	int rc = json_get_string(config, key, JSON_OPTIONAL, &s, err);

	if (rc > 0)
		*ret = str_copy(s);
	return rc;
}

static int parse(const struct json_at *at, struct image_config *c, struct error *err)
{
	static const struct {
		const char *key;
		size_t offset;
	} lists[] = {
		{"Env", offsetof(struct image_config, env)},
		{"Entrypoint", offsetof(struct image_config, entrypoint)},
		{"Cmd", offsetof(struct image_config, cmd)},
		{"Shell", offsetof(struct image_config, shell)},
	};
	int rc = 0;

	for (size_t i = 0; rc >= 0 && i < sizeof(lists) / sizeof(lists[0]); i++) {
		char **list = NULL;

		rc = json_get_strv(at, lists[i].key, JSON_OPTIONAL, &list, err);
		memcpy((char *)c + lists[i].offset, &list, sizeof(list));
	}
	if (rc >= 0)
		rc = get_text(at, "User", &c->user, err);
	if (rc >= 0)
		rc = get_text(at, "WorkingDir", &c->working_dir, err);
	if (rc >= 0)
		rc = get_text(at, "StopSignal", &c->stop_signal, err);
	if (rc >= 0)
		rc = get_keys(at, "Volumes", &c->volumes, err);
	if (rc >= 0)
		rc = get_keys(at, "ExposedPorts", &c->exposed_ports, err);
	if (rc >= 0)
		rc = json_get_pairs(at, "Labels", JSON_OPTIONAL, &c->labels, err);
	if (rc >= 0)
		rc = parse_healthcheck(at, &c->healthcheck, err);
	return rc < 0 ? rc : 0;
}

int image_config_parse(const struct json_at *config, struct image_config *ret, struct error *err)
{
	own_image_config struct image_config c = {0};
	int rc = json_is_null(config->value) ? 0 : json_as_object(config, err);

	if (rc == 0 && !json_is_null(config->value))
		rc = parse(config, &c, err);
	if (rc < 0)
		return refuse(err, rc, "the image's configuration");
	if (c.user == NULL)
		c.user = str_copy("");
	if (c.working_dir == NULL)
		c.working_dir = str_copy("");
	*ret = c;
	memset(&c, 0, sizeof(c));
	return 0;
}

void image_config_release(struct image_config *c)
{
	free(c->user);
	strv_free(c->env);
	strv_free(c->entrypoint);
	strv_free(c->cmd);
	free(c->working_dir);
	free(c->stop_signal);
	strv_free(c->volumes);
	strv_free(c->exposed_ports);
	strv_free(c->labels);
	strv_free(c->shell);
	strv_free(c->healthcheck.test);
	memset(c, 0, sizeof(*c));
}
