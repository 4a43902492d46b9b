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

/* Has the agent do so. It remembers the configuration, which is that of a workload for which nothing was
 * asked for. */
int vm_train_warm(struct attendant *a, struct error *err) must_check;
/* For a machine from a template: takes out of the configuration `spec` what is the same in that container's,
 * and lists it in the request "run" (guest/protocol.h). */
int vm_train_leave_out(json_t *spec, json_t *run, struct error *err) must_check;
/* Takes what the machine has instead of the workload's container out of `spec`: its network, to be set up
 * by the request "prepare". */
void vm_take_network(json_t *spec, json_t *prepare);
/* The template that is being made is `dir`/snapshot; `name` is `dir` below the directory `templates`. */
int vm_train(int templates, const char *name, const char *dir, struct error *err) must_check;
