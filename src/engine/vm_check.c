/*
 * vm_check: what a machine cannot have, of what a container can. It is refused before anything of the workload
 * is there, with the reason and what to do instead; docs/virtual-machines.md has the table.
 */
#include <errno.h>

#include "base/str.h"
#include "engine/vm.h"
#include "engine/vm_template.h"

enum { CPUS_MAX = 64 };
static const int64_t NANO = 1000000000;
static const int64_t STORAGE_MIN = 1 << 20, STORAGE_MAX = (int64_t)8 << 40;

static int refuse_namespaces(const struct workload_config *c, struct error *err)
{
	if (c->flags & WORKLOAD_PID_HOST)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--pid host: a virtual machine has its own kernel, "
				   "which does not know the host's processes"),
			    "run it as a container, or leave --pid out");
	if (c->flags & WORKLOAD_IPC_HOST)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--ipc host: a virtual machine shares no memory with the "
				   "host's processes"),
			    "run it as a container, or leave --ipc out");
	if (c->flags & WORKLOAD_UTS_HOST)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--uts host: a virtual machine's host name is its own"),
			    "give it the same name with --hostname");
	if (c->network == WORKLOAD_NETWORK_HOST)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--network host: a virtual machine has its own network "
				   "cards, not the host's"),
			    "use --network none");
	return 0;
}

static int refuse_resources(const struct workload_config *c, struct error *err)
{
	int rc = vm_devices_check(c, err);

	if (rc < 0)
		return rc;
	if (c->cpuset_cpus != NULL || c->cpuset_mems != NULL)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--cpuset-cpus and --cpuset-mems name CPUs and memory of the "
				   "host, which a virtual machine does not see"),
			    "use --cpus");
	if (c->cgroup_parent != NULL)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "--cgroup-parent: the workload's control groups are in the "
				   "virtual machine"),
			    "leave it out");
	if (c->apparmor != NULL && !str_eq(c->apparmor, "unconfined"))
		return hint(
			err,
			refuse(err, -ENOTSUP,
			       "--security-opt apparmor=%s: profiles are in the host's kernel, not "
			       "in the virtual machine's",
			       c->apparmor),
			"leave it out, or run it as a container");
	if (c->flags & WORKLOAD_OOM_KILL_DISABLE)
		return hint(
			err,
			refuse(err, -ENOTSUP,
			       "--oom-kill-disable: the kernel of a virtual machine has control "
			       "groups of version 2, which cannot do that"),
			"leave it out");
	if (c->storage_bytes >= 0 &&
	    (c->storage_bytes < STORAGE_MIN || c->storage_bytes > STORAGE_MAX))
		return hint(
			err,
			refuse(err, -EINVAL,
			       "--storage-opt size: the disk of a virtual machine has from 1 MiB "
			       "to 8 TiB, not %lld bytes",
			       (long long)c->storage_bytes),
			"leave it out for 10 GiB; what is not written takes no room");
	if (c->nano_cpus > CPUS_MAX * NANO)
		return refuse(err, -EINVAL, "a virtual machine has at most %d CPUs", CPUS_MAX);
	return 0;
}

unsigned int vm_share_count(const struct workload_config *c)
{
	unsigned int count = 0;

	for (size_t i = 0; i < c->mounts_count; i++)
		count += c->mounts[i].type == WORKLOAD_MOUNT_BIND;
	return count;
}

int vm_check(const struct workload_config *config, struct error *err)
{
	int rc = refuse_namespaces(config, err);

	if (rc == 0 && vm_share_count(config) > VM_SHARES_MAX)
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "a virtual machine has at most %d directories and files of the "
				   "host, not %u",
				   VM_SHARES_MAX, vm_share_count(config)),
			    "mount a directory that several of them are in");
	return rc < 0 ? rc : refuse_resources(config, err);
}
