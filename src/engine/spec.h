/*
 * spec: the OCI configuration of a container made from a workload's configuration and its image's, with
 * the defaults that docker has.
 */
#pragma once

#include "engine/engine_priv.h"

struct image_config;

/* `root_fd` is the container's root file system, for names of users; -1: who has the files looks them
 * up, and the user is root until then. Also writes the files that are
 * bound into the container (hosts, hostname, resolv.conf) into the workload's directory. */
int spec_make(struct engine *engine, const struct workload *workload,
	      const struct image_config *image, int root_fd, json_t **ret,
	      struct error *err) must_check;

/* The command line: entrypoint and command of the workload where given, else of the image.
 * -EINVAL: there is none. */
int spec_command(const struct workload_config *config, const struct image_config *image,
		 char ***ret, struct error *err) must_check;
/* The environment: PATH, HOSTNAME, TERM, the image's, the workload's. */
char **spec_environment(const struct workload *workload, const struct image_config *image);
/* The user text that counts: the workload's or the image's. Never NULL. */
const char *spec_user(const struct workload_config *config, const struct image_config *image);

/* process.consoleSize, so that a program that asks at once gets the right answer; 0: not known. */
void spec_set_size(json_t *process, unsigned int rows, unsigned int columns);

/* The parts; each in a file of its own. */
int spec_process(const struct workload *workload, const struct image_config *image, int root_fd,
		 json_t **ret, struct error *err) must_check;
/* Of the mounts: the file systems of the kernel; and one of the files in /etc, from `source`. */
void spec_mounts_kernel(const struct workload_config *config, json_t *mounts);
void spec_mounts_file(const struct workload_config *config, const char *name, const char *source,
		      json_t *mounts);
int spec_mounts(struct engine *engine, const struct workload *workload, json_t **ret,
		struct error *err) must_check;
int spec_linux(const struct workload *workload, const json_t *capabilities, json_t **ret,
	       struct error *err) must_check;
