/*
 * fuzz-config: the OCI runtime configuration, from text to structs, and what is made of those without
 * touching the host: the seccomp filter, the paths of the control groups, the values written to them (both
 * versions, in a directory of plain files), and the device filter, which the kernel's verifier judges.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "oci/cgroup_priv.h"
#include "oci/config.h"
#include "oci/config_file.h"
#include "oci/seccomp_filter.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Slow steps are for small configurations only. */
enum { RULES_MAX = 4, DEVICES_MAX = 64 };

static char groups[] = "/tmp/fuzz-config-XXXXXX";
static char all_v1[] = "cpu,cpuacct,cpuset,memory,devices,freezer,blkio,pids,hugetlb,rdma,net_cls,"
		       "net_prio";
static char unified[] = "";

static void remove_groups(void)
{
	(void)!tree_remove(AT_FDCWD, groups, NULL);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const files[] = {
		"blkio.bfq.weight",
		"blkio.bfq.weight_device",
		"blkio.leaf_weight",
		"blkio.leaf_weight_device",
		"blkio.throttle.read_bps_device",
		"blkio.throttle.read_iops_device",
		"blkio.throttle.write_bps_device",
		"blkio.throttle.write_iops_device",
		"cpu.cfs_burst_us",
		"cpu.cfs_period_us",
		"cpu.cfs_quota_us",
		"cpu.idle",
		"cpu.max",
		"cpu.max.burst",
		"cpu.rt_period_us",
		"cpu.rt_runtime_us",
		"cpu.shares",
		"cpu.weight",
		"cpuset.cpus",
		"cpuset.mems",
		"devices.allow",
		"devices.deny",
		"hugetlb.2MB.limit_in_bytes",
		"hugetlb.2MB.max",
		"io.max",
		"io.weight",
		"memory.high",
		"memory.kmem.tcp.limit_in_bytes",
		"memory.limit_in_bytes",
		"memory.low",
		"memory.max",
		"memory.memsw.limit_in_bytes",
		"memory.oom_control",
		"memory.soft_limit_in_bytes",
		"memory.swap.max",
		"memory.swappiness",
		"memory.usage_in_bytes",
		"net_cls.classid",
		"net_prio.ifpriomap",
		"pids.max",
		"rdma.max",
	};

	(void)argc;
	(void)argv;
	if (mkdtemp(groups) == NULL)
		abort();
	atexit(remove_groups);
	for (size_t i = 0; i < array_size(files); i++) {
		own_mem char *path = str_format("%s/%s", groups, files[i]);

		if (file_write(AT_FDCWD, path, "0\n", 2, 0600, FILE_WRITE_PLAIN, NULL) < 0)
			abort();
	}
	return 0;
}

static void need_reason(int rc, const struct error *err)
{
	if (rc < 0 && err->text[0] == '\0')
		abort(); /* a failure without a reason */
}

static void apply(const struct config_resources *given)
{
	struct cgroup cg = {
		.relative = unified,
		.dirs = {{.controllers = all_v1, .path = groups, .join_fd = -1},
			 {.controllers = unified, .path = groups, .join_fd = -1}},
		.dir_count = 2,
	};
	struct config_resources r = *given;
	struct error err = {0};

	need_reason(cgroup_apply(&cg, &r, &err), &err);
	cg.v2 = true;
	r.device_count = 0; /* would be attached: see check_device_filter */
	err = (struct error){0};
	need_reason(cgroup_apply(&cg, &r, &err), &err);
}

/* The kernel must accept what we made of any rules; attaching it to no directory fails after that. */
static void check_device_filter(const struct config_resources *r)
{
	struct error err = {0};
	int rc;

	if (geteuid() != 0 || r->device_count == 0 || r->device_count > DEVICES_MAX)
		return;
	rc = cgroup_attach_devices(-1, r->devices, r->device_count, NULL, &err);
	if (rc == -EPERM || rc == -ENOSYS)
		return; /* a host that lets nobody load programs */
	if (rc != -EBADF || strstr(err.text, "attach") == NULL)
		abort();
}

/* Wherever the configuration wants its control group, it is below one of the hierarchies. */
static void check_paths(const struct config *c)
{
	own_cgroup struct cgroup *cg = NULL;
	struct error err = {0};
	int rc = cgroup_plan(OCI_CGROUPFS, c->linux_.cgroups_path, "fuzz", &cg, &err);

	need_reason(rc, &err);
	for (size_t i = 0; rc == 0 && i < cg->dir_count; i++) {
		const char *below = str_after(cg->dirs[i].path, cg->dirs[i].mount);

		if (below == NULL || below[0] != '/' || strstr(below, "/../") != NULL ||
		    str_ends_with(below, "/.."))
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	own_mem char *text = str_copy_n((const char *)data, size);
	own_seccomp_program struct seccomp_program program = {0};
	own_config struct config *config = NULL;
	own_json json_t *json = NULL;
	struct error err = {0};
	int rc = config_read_text(text, strlen(text), "input", &json, &err);

	if (rc == 0)
		rc = config_parse(json, &config, &err);
	need_reason(rc, &err);
	if (rc < 0)
		return 0;
	apply(&config->linux_.resources);
	check_device_filter(&config->linux_.resources);
	check_paths(config);
	if (config->linux_.seccomp.given && config->linux_.seccomp.rule_count < RULES_MAX) {
		rc = seccomp_compile(&config->linux_.seccomp, -1, &program, &err);
		need_reason(rc, &err);
	}
	return 0;
}
