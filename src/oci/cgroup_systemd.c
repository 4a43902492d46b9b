/* cgroup_systemd: see cgroup_systemd.h. */
#include "oci/cgroup_systemd.h"

#include <errno.h>

int cgroup_systemd_names(struct cgroup *cg, const char *cgroups_path, const char *id,
			 struct error *err)
{
	(void)cg;
	(void)cgroups_path;
	(void)id;
	return refuse(err, -ENOSYS, "the systemd cgroup manager is not implemented yet");
}

int cgroup_systemd_start(const struct cgroup *cg, pid_t pid, struct error *err)
{
	(void)cg;
	(void)pid;
	return refuse(err, -ENOSYS, "the systemd cgroup manager is not implemented yet");
}

int cgroup_systemd_stop(const struct cgroup *cg, struct error *err)
{
	(void)cg;
	return refuse(err, -ENOSYS, "the systemd cgroup manager is not implemented yet");
}
