/*
 * config: the configuration of an image: what it asks of who runs it (OCI image specification,
 * "Image Configuration", and docker's additions: Healthcheck, Shell, OnBuild).
 */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

/* Times of 0 and retries of 0 mean docker's defaults (30 s, 30 s, 0, 3). */
struct image_healthcheck {
	char **test; /* NULL: inherit; {"NONE"}, {"CMD", ...} or {"CMD-SHELL", command} */
	int64_t interval_ns, timeout_ns, start_period_ns, start_interval_ns;
	int64_t retries;
};

struct image_config {
	char *user; /* "", "user", "uid:gid" ... ; never NULL */
	char **env;
	char **entrypoint, **cmd;
	char *working_dir;    /* "" if not given; never NULL */
	char *stop_signal;    /* NULL if not given */
	char **volumes;       /* paths */
	char **exposed_ports; /* "80/tcp" */
	char **labels;        /* "key=value" */
	char **shell;
	struct image_healthcheck healthcheck;
};

/* Reads the `config` object of an image configuration; null is an empty one. -EINVAL with the path. */
int image_config_parse(const struct json_at *config, struct image_config *ret,
		       struct error *err) must_check;
void image_config_release(struct image_config *config);
#define own_image_config __attribute__((cleanup(image_config_release)))
