/* cgroup_limits_v2: what of linux.resources the unified hierarchy takes. See cgroup_limits.c. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"

/* v2 writes "max" for what has no limit. */
static int put_limit(const struct cgroup *cg, const char *file, int64_t value, const char *field,
		     struct error *err)
{
	if (value < 0)
		return cgroup_put(cg, "", file, "max", field, err);
	return cgroup_put_number(cg, "", file, value, field, err);
}

static int memory_v2(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	const struct config_number limit = r->memory.limit;
	struct config_number swap = r->memory.swap;
	int rc = 0;

	/* No limit on memory means none on swap either. */
	if (limit.given && limit.value < 0 && !swap.given)
		swap = (struct config_number){.given = true, .value = -1};
	/* v1 counts memory and swap together, v2 swap alone. */
	if (swap.given && swap.value > 0) {
		if (!limit.given || limit.value <= 0 || swap.value < limit.value)
			return refuse(
				err, -EINVAL,
				"linux.resources.memory.swap: is memory and swap together, so "
				"it needs a memory limit that is not above it");
		rc = put_limit(cg, "memory.swap.max", swap.value - limit.value,
			       "linux.resources.memory.swap", err);
	} else if (swap.given) {
		/* Below 0: no limit; 0: no swap at all. */
		rc = put_limit(cg, "memory.swap.max", swap.value, "linux.resources.memory.swap",
			       err);
	}
	/* No swap on this host: there is nothing to limit. */
	if (rc == -ENOENT) {
		error_clear(err);
		rc = 0;
	}
	if (rc < 0)
		return rc;
	rc = cgroup_check_memory_use(cg, "", "memory.current", r, err);
	if (rc < 0)
		return rc;
	if (limit.given && limit.value != 0)
		rc = put_limit(cg, "memory.max", limit.value, "linux.resources.memory.limit", err);
	if (rc == 0 && r->memory.reservation.given && r->memory.reservation.value != 0)
		rc = put_limit(cg, "memory.low", r->memory.reservation.value,
			       "linux.resources.memory.reservation", err);
	if (rc == 0 && r->memory.kernel_tcp.given)
		return refuse(err, -ENOTSUP,
			      "linux.resources.memory.kernelTCP: does not exist on cgroup v2");
	if (rc == 0 && r->memory.swappiness.given && r->memory.swappiness.value >= 0)
		return refuse(err, -ENOTSUP,
			      "linux.resources.memory.swappiness: does not exist on cgroup v2");
	if (rc == 0 && r->memory.disable_oom_killer)
		return refuse(err, -ENOTSUP,
			      "linux.resources.memory.disableOOMKiller: does not exist on cgroup "
			      "v2");
	return rc;
}

static int cpu_v2(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	int rc = 0;

	if (r->cpu.idle.given)
		rc = cgroup_put_number(cg, "", "cpu.idle", r->cpu.idle.value,
				       "linux.resources.cpu.idle", err);
	/* 2..262144 to 1..10000, linearly. */
	if (rc == 0 && r->cpu.shares.given && r->cpu.shares.value > 0 &&
	    !(r->cpu.idle.given && r->cpu.idle.value)) {
		int64_t shares = r->cpu.shares.value < 2        ? 2
				 : r->cpu.shares.value > 262144 ? 262144
								: r->cpu.shares.value;

		rc = cgroup_put_number(cg, "", "cpu.weight", 1 + (shares - 2) * 9999 / 262142,
				       "linux.resources.cpu.shares", err);
	}
	if (rc == 0 && (r->cpu.quota.given || r->cpu.period.given)) {
		own_mem char *old = NULL;
		own_mem char *quota = r->cpu.quota.given && r->cpu.quota.value > 0
					      ? str_format("%" PRId64, r->cpu.quota.value)
					      : str_copy("max");
		own_mem char *text = NULL;

		/* An update of the period alone keeps the quota. */
		if (!r->cpu.quota.given && cgroup_read(cg, "", "cpu.max", &old) == 0) {
			free(quota);
			quota = str_copy_n(old, strcspn(old, " \n"));
		}
		text = r->cpu.period.value > 0
			       ? str_format("%s %" PRId64, quota, r->cpu.period.value)
			       : str_copy(quota);
		rc = cgroup_put(cg, "", "cpu.max", text, "linux.resources.cpu.quota", err);
	}
	if (rc == 0 && r->cpu.burst.given)
		rc = cgroup_put_number(cg, "", "cpu.max.burst", r->cpu.burst.value,
				       "linux.resources.cpu.burst", err);
	if (rc == 0 && ((r->cpu.rt_runtime.given && r->cpu.rt_runtime.value != 0) ||
			(r->cpu.rt_period.given && r->cpu.rt_period.value != 0)))
		return refuse(err, -ENOTSUP,
			      "linux.resources.cpu.realtimeRuntime: does not exist on cgroup v2");
	if (rc == 0 && !str_empty(r->cpu.cpus))
		rc = cgroup_put(cg, "", "cpuset.cpus", r->cpu.cpus, "linux.resources.cpu.cpus",
				err);
	if (rc == 0 && !str_empty(r->cpu.mems))
		rc = cgroup_put(cg, "", "cpuset.mems", r->cpu.mems, "linux.resources.cpu.mems",
				err);
	return rc;
}

/* 10..1000 to 1..10000; the file of the bfq scheduler keeps the old scale. */
static int64_t weight_v2(int64_t weight)
{
	const int64_t wide = 1 + (weight - 10) * 9999 / 990;

	return wide < 1 ? 1 : wide;
}

static int weigh_device_v2(const struct cgroup *cg, const struct config_device_value *v,
			   struct error *err)
{
	static const char field[] = "linux.resources.blockIO.weightDevice";
	int rc = cgroup_put_device_value(cg, "", "io.bfq.weight", v, "", v->value, field, NULL);

	return rc < 0 ? cgroup_put_device_value(cg, "", "io.weight", v, "",
						(uint64_t)weight_v2((int64_t)v->value), field, err)
		      : 0;
}

/* A rate of 0 is no limit, as on v1. */
static int throttle_v2(const struct cgroup *cg, const struct config_device_value *v,
		       enum config_throttle kind, struct error *err)
{
	static const char *const keys[THROTTLE_KINDS] = {
		[THROTTLE_READ_BPS] = "rbps",
		[THROTTLE_WRITE_BPS] = "wbps",
		[THROTTLE_READ_IOPS] = "riops",
		[THROTTLE_WRITE_IOPS] = "wiops",
	};
	own_mem char *rate = v->value ? str_format("%" PRIu64, v->value) : str_copy("max");
	own_mem char *text = str_format("%u:%u %s=%s", v->major, v->minor, keys[kind], rate);

	return cgroup_put(cg, "", "io.max", text, cgroup_throttle_fields[kind], err);
}

static int io_v2(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	int rc = 0;

	if (r->io.weight.given && r->io.weight.value != 0) {
		rc = cgroup_put_number(cg, "", "io.bfq.weight", r->io.weight.value,
				       "linux.resources.blockIO.weight", NULL);
		if (rc < 0)
			rc = cgroup_put_number(cg, "", "io.weight", weight_v2(r->io.weight.value),
					       "linux.resources.blockIO.weight", err);
	}
	if (rc == 0 && r->io.leaf_weight.given && r->io.leaf_weight.value != 0)
		return refuse(err, -ENOTSUP,
			      "linux.resources.blockIO.leafWeight: does not exist on cgroup v2");
	for (size_t i = 0; rc == 0 && i < r->io.weight_device.count; i++) {
		const struct config_device_value *v = &r->io.weight_device.items[i];

		if (v->leaf != 0)
			return refuse(err, -ENOTSUP,
				      "linux.resources.blockIO.weightDevice[%zu].leafWeight: does "
				      "not exist on cgroup v2",
				      i);
		if (v->value != 0)
			rc = weigh_device_v2(cg, v, err);
	}
	for (size_t kind = 0; kind < THROTTLE_KINDS; kind++)
		for (size_t i = 0; rc == 0 && i < r->io.throttle[kind].count; i++)
			rc = throttle_v2(cg, &r->io.throttle[kind].items[i], kind, err);
	return rc;
}

static int others_v2(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	int rc = 0;

	if (r->pids_limit.given)
		rc = put_limit(cg, "pids.max", r->pids_limit.value > 0 ? r->pids_limit.value : -1,
			       "linux.resources.pids.limit", err);
	for (size_t i = 0; rc == 0 && i < r->hugepage_count; i++) {
		own_mem char *file = str_format("hugetlb.%s.max", r->hugepages[i].key);

		rc = put_limit(cg, file, r->hugepages[i].value, "linux.resources.hugepageLimits",
			       err);
	}
	if (rc == 0 && r->network_class.given && r->network_class.value != 0)
		return refuse(err, -ENOTSUP,
			      "linux.resources.network.classID: does not exist on cgroup v2");
	if (rc == 0 && r->network_priority_count > 0)
		return refuse(err, -ENOTSUP,
			      "linux.resources.network.priorities: does not exist on cgroup v2");
	return rc;
}

/* A key belongs to a controller, which the container's directory must have; some files, as cpu.stat, are
 * there without. */
static int check_unified_key(const struct cgroup *cg, const char *key, struct error *err)
{
	const size_t len = strcspn(key, ".");
	own_mem char *name = str_copy_n(key, len), *have = NULL;
	own_mem char *path = str_format("%s/%s", cgroup_path(cg, name), key);

	if (faccessat(AT_FDCWD, path, F_OK, 0) == 0 ||
	    cgroup_read(cg, "", "cgroup.controllers", &have) < 0)
		return 0;
	for (char *p = have; *p != '\0'; p++)
		*p = *p == ' ' || *p == '\n' ? ',' : *p;
	if (!cgroup_has_word(have, name))
		return refuse(err, -ENOTSUP,
			      "linux.resources.unified.%s: the requested cgroup controller `%s` is "
			      "not available",
			      key, name);
	return 0;
}

static int apply_unified(const struct cgroup *cg, const struct config_resources *r,
			 struct error *err)
{
	for (size_t i = 0; i < r->unified_count; i++) {
		own_mem char *field = str_format("linux.resources.unified.%s", r->unified[i].key);
		own_mem char *text = str_copy(r->unified[i].text);
		char *save = NULL;
		int rc = check_unified_key(cg, r->unified[i].key, err);

		if (rc < 0)
			return rc;
		/* A file with one line per device takes one line per write. */
		for (char *line = strtok_r(text, "\n", &save); line != NULL;
		     line = strtok_r(NULL, "\n", &save)) {
			rc = cgroup_put(cg, "", r->unified[i].key, line, field, err);

			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

int cgroup_apply_v2(const struct cgroup *cg, const struct config_resources *r, struct error *err)
{
	int rc;

	if ((rc = memory_v2(cg, r, err)) < 0 || (rc = cpu_v2(cg, r, err)) < 0 ||
	    (rc = io_v2(cg, r, err)) < 0 || (rc = others_v2(cg, r, err)) < 0 ||
	    (rc = cgroup_apply_rdma(cg, r, err)) < 0 || (rc = apply_unified(cg, r, err)) < 0)
		return rc;
	if (r->device_count > 0) {
		const struct cgroup_dir *dir = cgroup_unified(cg);
		own_fd int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		if (fd < 0)
			return fail(err, -errno, "open %s", dir->path);
		return cgroup_attach_devices(fd, r->devices, r->device_count, cg->device_filter,
					     err);
	}
	return 0;
}
