/*
 * vm_files: the files of a workload in a machine for `cp`, `diff`, `commit` and `export` (hooks of
 * isolation.h): the agent makes the tars, and takes them. The disk of one that does not run was written
 * by a guest, so a guest reads it: for as long as the request takes a machine is started with it, in
 * which nothing of the workload runs.
 *
 * What comes from a machine may be anything. Names in its tars are compared with what was asked for, so
 * that whoever extracts one gets nothing beside it.
 */
#pragma once

#include "engine/isolation.h"

int vm_read_changes(struct engine *engine, const struct workload *workload, unsigned int flags,
		    workload_bytes_fn *out, void *context, struct error *err) must_check;
int vm_read_tree(struct engine *engine, const struct workload *workload, workload_bytes_fn *out,
		 void *context, struct error *err) must_check;
int vm_stat_path(struct engine *engine, const struct workload *workload, const char *path,
		 struct workload_path *ret, struct error *err) must_check;
int vm_read_path(struct engine *engine, const struct workload *workload, const char *path,
		 const char *as, workload_bytes_fn *out, void *context,
		 struct error *err) must_check;
int vm_write_path(struct engine *engine, const struct workload *workload, const char *dir,
		  unsigned int flags, workload_produce_fn *produce, void *context,
		  struct error *err) must_check;
