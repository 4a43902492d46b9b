/*
 * vm_cgroup: the host's side of a machine's limits. The workload is limited in its machine, by a kernel
 * that it may come to own; so the processes that are the machine are in a control group of the host's,
 * which gives them what the machine needs and no more.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/own.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/vm.h"
#include "oci/cgroup.h"
#include "oci/config.h"

enum {
	PERIOD_US = 100000,
	PROCESSES_MAX = 1024, /* threads of vCPUs, devices and shares, and a few processes */
	SAVED_MAX = 64 << 10,
	NANO = 1000000000,
};
/* Beyond the guest's memory: what the machine's devices need, and what each software CPU decodes. */
#define MEMORY_BASE (INT64_C(96) << 20)
#define MEMORY_PER_CPU (INT64_C(64) << 20)

json_t *vm_cgroup_plan(const char *id, int64_t memory_bytes, unsigned int cpus, int64_t nano_cpus)
{
	own_mem char *path = str_format("/berth-%s", id);
	json_t *resources =
		json_pack("{s:{s:I},s:{s:i}}", "memory", "limit",
			  (json_int_t)(memory_bytes + MEMORY_BASE + MEMORY_PER_CPU * cpus), "pids",
			  "limit", PROCESSES_MAX);

	if (nano_cpus > 0)
		json_object_set_new(resources, "cpu",
				    json_pack("{s:I,s:I}", "quota",
					      (json_int_t)(nano_cpus / (NANO / PERIOD_US)),
					      "period", (json_int_t)PERIOD_US));
	return json_pack("{s:s,s:o}", "path", path, "resources", resources);
}

static int enter(int state_fd, const char *id, const char *path, const struct config *c,
		 struct error *err)
{
	own_cgroup struct cgroup *cg = NULL;
	own_json json_t *saved = NULL;
	int rc = cgroup_plan(OCI_CGROUPFS, path, id, &cg, err);

	if (rc < 0)
		return rc;
	/* Before it is there: who is killed leaves nothing that nobody knows of. */
	saved = cgroup_save(cg);
	rc = json_write_file(state_fd, vm_path(id, VM_CGROUP_NAME).text, saved, 0600, err);
	if (rc == 0)
		rc = cgroup_make(cg, c, !proc_is_root(), err);
	if (rc == 0)
		rc = cgroup_apply(cg, &c->linux_.resources, err);
	if (rc == 0)
		rc = cgroup_open_join(cg, err);
	if (rc == 0)
		rc = cgroup_clone_fd(cg) >= 0 ? cgroup_join_pid(cg, getpid(), err)
					      : cgroup_join_self(cg, err);
	cgroup_close_join(cg);
	return rc;
}

int vm_cgroup_enter(int state_fd, const char *id, const json_t *plan, struct error *err)
{
	own_json json_t *spec = NULL;
	own_config struct config *c = NULL;
	const char *path = json_string_value(json_object_get(plan, "path"));
	struct error why = {0};
	int rc;

	if (path == NULL)
		return 0;
	spec = json_pack("{s:s,s:{s:O}}", "ociVersion", "1.2.0", "linux", "resources",
			 json_object_get(plan, "resources"));
	rc = config_parse(spec, &c, &why);
	if (rc == 0)
		rc = enter(state_fd, id, path, c, &why);
	if (rc == 0)
		return 0;
	/* A user to whom nothing is delegated has the machine's own limits. */
	if (!proc_is_root()) {
		log_debug("no control group for the virtual machine: %s", why.text);
		return 0;
	}
	return refuse(err, rc, "limit the virtual machine: %s", why.text);
}

int vm_cgroup_remove(const char *state, const char *id, struct error *err)
{
	own_mem char *path = str_format("%s/%s", state, vm_path(id, VM_CGROUP_NAME).text);
	own_json json_t *saved = NULL;
	own_cgroup struct cgroup *cg = NULL;
	int rc = json_read_file(AT_FDCWD, path, SAVED_MAX, &saved, NULL);

	/* None, or one that was not made yet. */
	if (rc < 0)
		return 0;
	rc = cgroup_load(saved, &cg, err);
	return rc < 0 ? rc : cgroup_remove(cg, err);
}
