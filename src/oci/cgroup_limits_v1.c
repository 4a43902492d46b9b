/* cgroup_limits_v1: what of linux.resources the hierarchies of v1 take. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"

/* Writes a number; what is not given is not written. */
static int put_given(const struct cgroup *cg, const char *controller, const char *file,
		     struct config_number number, const char *field, struct error *err)
{
	return number.given ? cgroup_put_number(cg, controller, file, number.value, field, err) : 0;
}

static int device_text(const struct config_device_rule *d, size_t i, char out[static 80],
		       struct error *err)
{
	char major[24] = "*", minor[24] = "*";

	if (d->major >= 0)
		snprintf(major, sizeof(major), "%" PRId64, d->major);
	if (d->minor >= 0)
		snprintf(minor, sizeof(minor), "%" PRId64, d->minor);
	/* "a" alone means everything; the kernel ignores what follows it. */
	if (d->type == 'a' && d->major < 0 && d->minor < 0)
		snprintf(out, 80, "a");
	else if (d->type == 'a')
		return refuse(err, -EINVAL,
			      "linux.resources.devices[%zu]: type a goes without numbers", i);
	else
		snprintf(out, 80, "%c %s:%s %s%s%s", d->type, major, minor, d->read ? "r" : "",
			 d->write ? "w" : "", d->mknod ? "m" : "");
	return 0;
}

static bool is_same_rule(const struct config_device_rule *a, const struct config_device_rule *b)
{
	return a->allow == b->allow && a->type == b->type && a->major == b->major &&
	       a->minor == b->minor && a->read == b->read && a->write == b->write &&
	       a->mknod == b->mknod;
}

/* True if an earlier rule said just this, and nothing since took anything away again: the devices that
 * every container gets are often listed by the engine too. */
static bool is_repeated(const struct config_device_rule *rules, size_t i)
{
	for (size_t k = i; k-- > 0 && rules[k].allow == rules[i].allow;)
		if (is_same_rule(&rules[k], &rules[i]))
			return true;
	return false;
}

static int devices_v1(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	static const char *const files[] = {"devices.deny", "devices.allow"};
	const char *dir = cgroup_path(cg, "devices");
	own_fd int deny = -1, allow = -1;

	if (r->device_count > 0 && dir == NULL)
		return refuse(
			err, -ENOTSUP,
			"linux.resources.devices: this host has no devices cgroup controller");
	for (size_t i = 0; i < r->device_count; i++) {
		const struct config_device_rule *d = &r->devices[i];
		int *fd = d->allow ? &allow : &deny;
		char text[80];
		int rc = device_text(d, i, text, err);

		if (rc < 0)
			return rc;
		if (*fd < 0) {
			own_mem char *path = str_format("%s/%s", dir, files[d->allow]);

			*fd = open(path, O_WRONLY | O_CLOEXEC);
			if (*fd < 0)
				return fail(err, -errno, "linux.resources.devices: open %s", path);
		}
		if (!is_repeated(r->devices, i) && write(*fd, text, strlen(text)) < 0)
			return fail(err, -errno, "linux.resources.devices: write \"%s\" to %s/%s",
				    text, dir, files[d->allow]);
	}
	return 0;
}

static int swap_v1(const struct cgroup *cg, int64_t swap, struct error *err)
{
	return cgroup_put_number(cg, "memory", "memory.memsw.limit_in_bytes", swap,
				 "linux.resources.memory.swap", err);
}

/* The kernel wants limit <= memory+swap at every moment, so the order depends on the direction. */
static int memory_v1(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	const struct config_number limit = r->memory.limit;
	struct config_number swap = r->memory.swap;
	uint64_t current = 0;
	bool swap_first = false;
	int rc = 0;

	/* No limit on memory means none on memory and swap together either, where that can be said. */
	if (limit.given && limit.value < 0 && !swap.given &&
	    cgroup_read_number(cg, "memory", "memory.memsw.limit_in_bytes", NULL, &current) == 0)
		swap = (struct config_number){.given = true, .value = -1};
	if (limit.given && swap.given &&
	    cgroup_read_number(cg, "memory", "memory.memsw.limit_in_bytes", NULL, &current) == 0)
		swap_first = swap.value < 0 || (uint64_t)swap.value > current;
	rc = cgroup_check_memory_use(cg, "memory", "memory.usage_in_bytes", r, err);
	if (rc < 0)
		return rc;
	if (swap.given && swap_first)
		rc = swap_v1(cg, swap.value, err);
	if (rc == 0)
		rc = put_given(cg, "memory", "memory.limit_in_bytes", limit,
			       "linux.resources.memory.limit", err);
	if (rc == 0 && swap.given && !swap_first)
		rc = swap_v1(cg, swap.value, err);
	if (rc < 0 ||
	    (rc = put_given(cg, "memory", "memory.soft_limit_in_bytes", r->memory.reservation,
			    "linux.resources.memory.reservation", err)) < 0 ||
	    (rc = put_given(cg, "memory", "memory.kmem.tcp.limit_in_bytes", r->memory.kernel_tcp,
			    "linux.resources.memory.kernelTCP", err)) < 0 ||
	    (r->memory.swappiness.given && r->memory.swappiness.value >= 0 &&
	     (rc = put_given(cg, "memory", "memory.swappiness", r->memory.swappiness,
			     "linux.resources.memory.swappiness", err)) < 0))
		return rc;
	return r->memory.disable_oom_killer
		       ? cgroup_put(cg, "memory", "memory.oom_control", "1",
				    "linux.resources.memory.disableOOMKiller", err)
		       : 0;
}

/* A share of a period: the two files of a bandwidth limit on v1. The period comes first; where a limit of
 * the parent does not allow the old share of the new period, the share has to come before it. */
static int bandwidth_v1(const struct cgroup *cg, const char *const files[2],
			const char *const fields[2], const struct config_number *period,
			const struct config_number *share, struct error *err)
{
	const bool both = period->value > 0 && share->value != 0;
	int rc = 0;

	if (period->value > 0)
		rc = cgroup_put_number(cg, "cpu", files[0], period->value, fields[0], err);
	if (rc == -EINVAL && both) {
		error_clear(err);
		rc = cgroup_put_number(cg, "cpu", files[1], share->value, fields[1], err);
		if (rc == 0)
			rc = cgroup_put_number(cg, "cpu", files[0], period->value, fields[0], err);
	}
	if (rc == 0 && share->value != 0)
		rc = cgroup_put_number(cg, "cpu", files[1], share->value, fields[1], err);
	return rc;
}

static int cpu_v1(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	static const char *const fair[] = {"cpu.cfs_period_us", "cpu.cfs_quota_us"};
	static const char *const fair_fields[] = {"linux.resources.cpu.period",
						  "linux.resources.cpu.quota"};
	static const char *const real[] = {"cpu.rt_period_us", "cpu.rt_runtime_us"};
	static const char *const real_fields[] = {"linux.resources.cpu.realtimePeriod",
						  "linux.resources.cpu.realtimeRuntime"};
	int rc;

	if ((r->cpu.shares.value > 0 && (rc = put_given(cg, "cpu", "cpu.shares", r->cpu.shares,
							"linux.resources.cpu.shares", err)) < 0) ||
	    (rc = bandwidth_v1(cg, fair, fair_fields, &r->cpu.period, &r->cpu.quota, err)) < 0 ||
	    (rc = put_given(cg, "cpu", "cpu.cfs_burst_us", r->cpu.burst,
			    "linux.resources.cpu.burst", err)) < 0 ||
	    (rc = bandwidth_v1(cg, real, real_fields, &r->cpu.rt_period, &r->cpu.rt_runtime, err)) <
		    0 ||
	    (rc = put_given(cg, "cpu", "cpu.idle", r->cpu.idle, "linux.resources.cpu.idle", err)) <
		    0)
		return rc;
	if (!str_empty(r->cpu.cpus) && (rc = cgroup_put(cg, "cpuset", "cpuset.cpus", r->cpu.cpus,
							"linux.resources.cpu.cpus", err)) < 0)
		return rc;
	if (!str_empty(r->cpu.mems) && (rc = cgroup_put(cg, "cpuset", "cpuset.mems", r->cpu.mems,
							"linux.resources.cpu.mems", err)) < 0)
		return rc;
	return 0;
}

/* The weight files exist under one of two names, depending on the I/O scheduler. */
static const char *weight_file(const struct cgroup *cg, const char *plain, const char *bfq)
{
	own_mem char *text = NULL;

	return cgroup_read(cg, "blkio", plain, &text) == 0 ? plain : bfq;
}

static int io_v1(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	static const char *const files[THROTTLE_KINDS] = {
		[THROTTLE_READ_BPS] = "blkio.throttle.read_bps_device",
		[THROTTLE_WRITE_BPS] = "blkio.throttle.write_bps_device",
		[THROTTLE_READ_IOPS] = "blkio.throttle.read_iops_device",
		[THROTTLE_WRITE_IOPS] = "blkio.throttle.write_iops_device",
	};
	int rc = 0;

	if (r->io.weight.given && r->io.weight.value != 0)
		rc = put_given(cg, "blkio", weight_file(cg, "blkio.weight", "blkio.bfq.weight"),
			       r->io.weight, "linux.resources.blockIO.weight", err);
	if (rc == 0 && r->io.leaf_weight.given && r->io.leaf_weight.value != 0)
		rc = put_given(cg, "blkio", "blkio.leaf_weight", r->io.leaf_weight,
			       "linux.resources.blockIO.leafWeight", err);
	for (size_t i = 0; rc == 0 && i < r->io.weight_device.count; i++) {
		const struct config_device_value *v = &r->io.weight_device.items[i];

		if (v->value != 0)
			rc = cgroup_put_device_value(
				cg, "blkio",
				weight_file(cg, "blkio.weight_device", "blkio.bfq.weight_device"),
				v, "", v->value, "linux.resources.blockIO.weightDevice", err);
		if (rc == 0 && v->leaf != 0)
			rc = cgroup_put_device_value(cg, "blkio", "blkio.leaf_weight_device", v, "",
						     v->leaf,
						     "linux.resources.blockIO.weightDevice", err);
	}
	for (size_t kind = 0; kind < THROTTLE_KINDS; kind++)
		for (size_t i = 0; rc == 0 && i < r->io.throttle[kind].count; i++)
			rc = cgroup_put_device_value(cg, "blkio", files[kind],
						     &r->io.throttle[kind].items[i], "",
						     r->io.throttle[kind].items[i].value,
						     cgroup_throttle_fields[kind], err);
	return rc;
}

static int others_v1(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	int rc = 0;

	/* 0 and below mean no limit, as other runtimes read it. */
	if (r->pids_limit.given && r->pids_limit.value > 0)
		rc = put_given(cg, "pids", "pids.max", r->pids_limit, "linux.resources.pids.limit",
			       err);
	else if (r->pids_limit.given)
		rc = cgroup_put(cg, "pids", "pids.max", "max", "linux.resources.pids.limit", err);
	for (size_t i = 0; rc == 0 && i < r->hugepage_count; i++) {
		own_mem char *file = str_format("hugetlb.%s.limit_in_bytes", r->hugepages[i].key);

		rc = cgroup_put_number(cg, "hugetlb", file, r->hugepages[i].value,
				       "linux.resources.hugepageLimits", err);
	}
	if (rc == 0)
		rc = put_given(cg, "net_cls", "net_cls.classid", r->network_class,
			       "linux.resources.network.classID", err);
	for (size_t i = 0; rc == 0 && i < r->network_priority_count; i++) {
		own_mem char *text = str_format("%s %" PRId64, r->network_priorities[i].key,
						r->network_priorities[i].value);

		rc = cgroup_put(cg, "net_prio", "net_prio.ifpriomap", text,
				"linux.resources.network.priorities", err);
	}
	return rc;
}

int cgroup_apply_v1(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	int rc;

	if (r->unified_count > 0)
		return refuse(err, -EINVAL,
			      "linux.resources.unified: invalid configuration: this host's "
			      "controllers are those of cgroup v1");
	if ((rc = devices_v1(cg, r, err)) < 0 || (rc = memory_v1(cg, r, err)) < 0 ||
	    (rc = cpu_v1(cg, r, err)) < 0 || (rc = io_v1(cg, r, err)) < 0 ||
	    (rc = others_v1(cg, r, err)) < 0)
		return rc;
	return cgroup_apply_rdma(cg, r, err);
}
