/*
 * machine: full machines, which start from a disk instead of an image, with a system of their own in
 * them. There is no agent: all that is known of it is its serial line and its power button.
 *
 *     isolation_machine.c   the table (isolation.h)
 *     machine_plan.c        which options it can have, and the command line of its VMM
 *     machine_seed.c        what cloud-init in it is told
 *
 *     monitor
 *       `- berth vmm run --power-button ...   the workload's process; serial line on its 0 and 1
 *            `- the machine, in its jail
 *
 * Signals press the power button (SIGKILL pulls the plug), so the monitor knows nothing of machines.
 *
 * Files in <state>/<id>/: control (its socket), vmm (both processes, as in vm.h), report (why it failed).
 */
#pragma once

#include "engine/engine_priv.h"
#include "engine/isolation.h"

#define MACHINE_REPORT "report"
#define MACHINE_CONTROL "control"
#define MACHINE_SEED "seed.iso" /* in the workload's directory, as the next one */
#define MACHINE_VARS "vars.fd"
enum { MACHINE_MEMORY_DEFAULT = 1 << 30 };

/* Refuses what a machine cannot have, in words. */
int machine_check(const struct workload_config *config, struct error *err) must_check;
/* The plan's text is {"command":[arguments of berth],"terminal":bool}. */
int machine_prepare(struct engine *engine, const struct workload *workload, struct plan *ret,
		    struct error *err) must_check;
/* Whether the file or directory can be what cloud-init is told. */
int machine_seed_check(const char *path, struct error *err) must_check;
/* Makes the volume unless it is there. The caller frees *ret_path, which is set in any case. */
int machine_seed_make(struct engine *engine, const struct workload *workload, char **ret_path,
		      struct error *err) must_check;
