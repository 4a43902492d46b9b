/*
 * record: what making a container and restoring one have in common: its configuration, what the state
 * file says of it, the file with its pid, the hooks of the runtime.
 */
#pragma once

#include "oci/container.h"

/* The configuration: `spec`, or with NULL <bundle>/config.json. The caller's reference.
 * *ret_text, if that is asked for: the text of the file, or NULL. The caller frees it. */
int record_read_spec(json_t *spec, const char *bundle, json_t **ret, char **ret_text,
		     struct error *err) must_check;
/* The root directory that it names; "" if it has none. The caller frees it. */
char *record_root(const struct config *c, const char *bundle);
/* Fills the container's record, which has no process yet. */
void record_fill(struct container *container, const struct config *c, const char *bundle,
		 const struct cgroup *cg);
/* Writes the pid to a file; NULL: none. */
int record_pid_file(const char *path, pid_t pid, struct error *err) must_check;
/* The prestart and createRuntime hooks. */
int record_runtime_hooks(const struct container *container, const struct config *c,
			 const char *bundle, pid_t pid, struct error *err) must_check;
/* The file `status` for whoever looks for one as crun writes it: nothing here reads it. `stdio` are the
 * descriptors that became 0, 1 and 2; what they are is told as a text that is a JSON list. */
int record_status(const struct container *container, const struct cgroup *cg, const int stdio[3],
		  struct error *err) must_check;
