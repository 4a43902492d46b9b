/*
 * container_files: a container's files for `cp`, `diff`, `commit` and `export` (hooks of isolation.h). A
 * running container is seen through its first process's root directory, mounts and all; of one that does
 * not run the image's layers are stacked with what it wrote, without the mounts it would have.
 */
#pragma once

#include "engine/isolation.h"

/* Places where the runtime mounts something: it makes them if the image has none, and if there is nothing
 * in them they are nothing that the workload did. Ends with NULL. */
extern const char *const container_stubs[];
/* Refuses a path on a mount, which is not there while the container does not run. */
int container_check_mounts(const struct workload *workload, const char *path,
			   struct error *err) must_check;

int container_read_changes(struct engine *engine, const struct workload *workload,
			   unsigned int flags, workload_bytes_fn *out, void *context,
			   struct error *err) must_check;
int container_read_tree(struct engine *engine, const struct workload *workload,
			workload_bytes_fn *out, void *context, struct error *err) must_check;
int container_stat_path(struct engine *engine, const struct workload *workload, const char *path,
			struct workload_path *ret, struct error *err) must_check;
int container_read_path(struct engine *engine, const struct workload *workload, const char *path,
			const char *as, workload_bytes_fn *out, void *context,
			struct error *err) must_check;
int container_write_path(struct engine *engine, const struct workload *workload, const char *dir,
			 unsigned int flags, workload_produce_fn *produce, void *context,
			 struct error *err) must_check;
