/*
 * vm_template: snapshots of machines that have booted up to their agent, from which the machines of
 * workloads go on: <root>/templates/<key>/ with the snapshot's files (vmm/machine/snapshot.h) and
 * about.json.
 *
 * The key is a hash of all that is in a template: the kernel's files, this program (which has the agent
 * and the devices), vCPUs, memory, accelerator, command line, and the host's boot and CPU. So one whose
 * inputs have changed is never found, and building another one removes it.
 */
#pragma once

#include "engine/engine_priv.h"
#include "vmm/kernel/kernel.h"

/* What a machine is, apart from what a workload brings. */
struct vm_shape {
	const struct kernel *kernel;
	unsigned int cpus;
	int64_t memory_bytes;
	const char *accel;   /* "auto", "kvm", "soft" */
	unsigned int shares; /* devices for directories and files of the host: share0, ... */
};
enum { VM_SHARES_MAX = 24 };
/* Templates have few numbers of them: the next one that is enough for `count`. */
unsigned int vm_template_shares(unsigned int count);

#define VM_COMMAND_LINE                                                                            \
	"console=ttyS0 quiet panic=-1 reboot=t random.trust_cpu=on percpu_alloc=page cgroup_no_v1=all mitigations=off"

/* The directory of the template, which is built if there is none (which takes as long as the kernel
 * takes to boot) by a process that goes on with it when this one ends. The caller frees *ret_dir. */
int vm_template_get(struct engine *engine, const struct vm_shape *shape, char **ret_dir,
		    struct error *err) must_check;
/* The same two steps: in a process of its own, waiting for it; and here. */
int vm_template_build_apart(struct engine *engine, const struct vm_shape *shape,
			    struct error *err) must_check;
int vm_template_build(struct engine *engine, const struct vm_shape *shape,
		      struct error *err) must_check;
/* A small file that stands for layers that are not there yet, or never. The caller frees *ret. */
int vm_template_placeholder(struct engine *engine, char **ret, struct error *err) must_check;
/* The same for a disk, at a path below `dirfd`: a machine has its disks for itself. */
int vm_template_make_disk(int dirfd, const char *path, struct error *err) must_check;
/* An empty directory that stands for a share that is not used. */
int vm_template_empty(struct engine *engine, char **ret, struct error *err) must_check;

/* For users. */
struct vm_template {
	char *key, *kernel, *accel;
	unsigned int cpus, shares;
	int64_t memory_bytes, size_bytes, created_ns; /* size: on the host's disk */
};
typedef int vm_template_fn(const struct vm_template *template, void *data, struct error *err);
/* Calls `fn` for each that is complete, in no order. */
int vm_template_list(struct engine *engine, vm_template_fn *fn, void *data,
		     struct error *err) must_check;
/* By its key or an unambiguous beginning of it. -ENOENT, -ENOTUNIQ. Machines that run from it go on. */
int vm_template_remove(struct engine *engine, const char *key, struct error *err) must_check;
