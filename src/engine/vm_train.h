/*
 * vm_train: what makes the machines from a template start faster than the first one.
 *
 * Before the template is saved a container runs in it and goes ("warm"): what the kernel and the agent
 * make once, they have made then. After it has been saved a machine goes on from it as one of a workload
 * does, with disks and streams, and runs a program that ends at once: the code it has decoded on the way
 * is kept with the template. Nothing foreign runs in either: what is kept is trusted (vmm/cpu/cpu.h).
 */
#pragma once

#include "engine/vm_attend.h"

#define VM_CODE_NAME "code" /* in the template's directory */

/* The configuration of that container, whose system call filter the agent remembers. */
int vm_train_spec(json_t **ret, struct error *err) must_check;
int vm_train_warm(struct attendant *a, struct error *err) must_check;
/* The template that is being made is `dir`/snapshot; `name` is `dir` below the directory `templates`. */
int vm_train(struct engine *engine, int templates, const char *name, const char *dir,
	     struct error *err) must_check;
