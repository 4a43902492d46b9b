/* cgroup_systemd: see cgroup_systemd.h. */
#include "oci/cgroup_systemd.h"

#include <errno.h>

static int unsupported(struct error *err)
{
	return hint(err,
		    refuse(err, -ENOTSUP, "systemd is not supported as the manager of cgroups"),
		    "use --cgroup-manager cgroupfs");
}

int cgroup_systemd_names(struct cgroup *cg, const char *cgroups_path, const char *id,
			 struct error *err)
{
	(void)cg;
	(void)cgroups_path;
	(void)id;
	return unsupported(err);
}

int cgroup_systemd_start(const struct cgroup *cg, pid_t pid, struct error *err)
{
	(void)cg;
	(void)pid;
	return unsupported(err);
}

int cgroup_systemd_stop(const struct cgroup *cg, struct error *err)
{
	(void)cg;
	return unsupported(err);
}
