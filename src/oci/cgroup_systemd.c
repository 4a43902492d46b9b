/* cgroup_systemd: see cgroup_systemd.h. */
#include "oci/cgroup_systemd.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "oci/bus.h"
#include "oci/cgroup_unit.h"
#include "oci/userns.h"

#define MANAGER "org.freedesktop.systemd1.Manager"
#define PROPERTIES "org.freedesktop.DBus.Properties"

/* Root of a user namespace has the manager of the user that it is outside. */
static enum bus_kind whose(void)
{
	return geteuid() == 0 && userns_is_initial() ? BUS_SYSTEM : BUS_USER;
}

bool cgroup_systemd_is_there(void)
{
	own_bus struct bus *bus = NULL;
	struct error err = {0};

	return bus_open(whose(), &bus, &err) == 0;
}

/* --- names -------------------------------------------------------------------------------------- */

/* "a-b.slice" is below "a.slice": "/a.slice/a-b.slice". NULL for what is no name of a slice. */
static char *slice_path(const char *slice)
{
	own_buf struct buf path = {0};
	const size_t len = strlen(slice) - (str_ends_with(slice, ".slice") ? 6 : 0);

	if (str_eq(slice, "-.slice"))
		return str_copy("");
	if (!str_ends_with(slice, ".slice") || len == 0 || strchr(slice, '/') != NULL ||
	    slice[0] == '-' || slice[len - 1] == '-' || strstr(slice, "--") != NULL)
		return NULL;
	for (size_t end = 1; end <= len; end++)
		if (end == len || slice[end] == '-')
			buf_format(&path, "/%.*s.slice", (int)end, slice);
	return buf_take(&path);
}

static int parse_names(struct cgroup *cg, const char *cgroups_path, const char *id,
		       struct error *err)
{
	own_strv char **parts = NULL;

	if (str_empty(cgroups_path)) {
		cg->slice = str_copy(whose() == BUS_USER ? "user.slice" : "system.slice");
		cg->unit = str_format("berth-%s.scope", id);
		return 0;
	}
	parts = strv_split(cgroups_path, ':');
	if (strv_len(parts) != 3 || parts[2][0] == '\0' || strchr(parts[1], '/') != NULL ||
	    strchr(parts[2], '/') != NULL)
		return refuse(err, -EINVAL,
			      "linux.cgroupsPath: for systemd it has the form "
			      "\"slice:prefix:name\", not \"%s\"",
			      cgroups_path);
	if (parts[0][0] != '\0')
		cg->slice = str_copy(parts[0]);
	else
		cg->slice = str_copy(whose() == BUS_USER ? "user.slice" : "system.slice");
	cg->unit = parts[1][0] != '\0' ? str_format("%s-%s.scope", parts[1], parts[2])
				       : str_format("%s.scope", parts[2]);
	return 0;
}

/* The manager's own cgroup, "" for the root. */
static int manager_cgroup(char **ret, struct error *err)
{
	own_bus struct bus *bus = NULL;
	own_buf struct buf body = {0};
	own_mem char *path = NULL;
	int rc = bus_open(whose(), &bus, err);

	if (rc < 0)
		return rc;
	bus_put_string(&body, MANAGER);
	bus_put_string(&body, "ControlGroup");
	rc = bus_call(bus, PROPERTIES, "Get", "ss", &body, &path, err);
	if (rc < 0)
		return rc;
	*ret = str_copy(path == NULL || str_eq(path, "/") ? "" : path);
	return 0;
}

int cgroup_systemd_names(struct cgroup *cg, const char *cgroups_path, const char *id,
			 struct error *err)
{
	own_mem char *above = NULL, *slices = NULL;
	int rc = parse_names(cg, cgroups_path, id, err);

	if (rc < 0)
		return rc;
	slices = slice_path(cg->slice);
	if (slices == NULL)
		return refuse(err, -EINVAL, "linux.cgroupsPath: \"%s\" is no slice of systemd",
			      cg->slice);
	rc = manager_cgroup(&above, err);
	if (rc < 0)
		return rc;
	free(cg->relative);
	cg->relative = str_format("%s%s/%s", above, slices, cg->unit);
	return 0;
}

/* --- the scope ---------------------------------------------------------------------------------- */

/* A process that does nothing, and ends with us. */
static int start_anchor(pid_t *ret, struct error *err)
{
	const pid_t us = getpid();
	const pid_t pid = fork();

	if (pid < 0)
		return fail(err, -errno, "create a process for the scope");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != us)
			_exit(0);
		close_range(0, ~0U, 0);
		for (;;)
			pause();
	}
	*ret = pid;
	return 0;
}

void cgroup_systemd_let_go(struct cgroup *cg)
{
	if (cg->anchor <= 0)
		return;
	kill(cg->anchor, SIGKILL);
	while (waitpid(cg->anchor, NULL, 0) < 0 && errno == EINTR)
		;
	cg->anchor = 0;
}

static void put_bool(struct buf *b, const char *name, bool value)
{
	bus_put_property(b, name, "b");
	bus_put_bool(b, value);
}

static void put_string(struct buf *b, const char *name, const char *value)
{
	bus_put_property(b, name, "s");
	bus_put_string(b, value);
}

/* An array of one. */
static void put_pids(struct buf *b, pid_t pid)
{
	const size_t begin = bus_begin_array(b, 4);

	bus_put_u32(b, (uint32_t)pid);
	bus_end_array(b, begin, 4);
}

static void put_process(struct buf *b, pid_t pid)
{
	bus_put_property(b, "PIDs", "au");
	put_pids(b, pid);
}

static int put_properties(struct buf *b, const struct cgroup *cg, const struct config *c,
			  struct error *err)
{
	const size_t begin = bus_begin_array(b, 8);
	int rc;

	put_string(b, "Description", "container of berth");
	put_string(b, "Slice", cg->slice);
	put_process(b, cg->anchor);
	put_bool(b, "Delegate", true);
	put_bool(b, "DefaultDependencies", false);
	put_bool(b, "MemoryAccounting", true);
	put_bool(b, "CPUAccounting", true);
	put_bool(b, "TasksAccounting", true);
	put_bool(b, cg->v2 ? "IOAccounting" : "BlockIOAccounting", true);
	cgroup_unit_limits(b, &c->linux_.resources, cg->v2);
	cgroup_unit_devices(b, &c->linux_.resources);
	/* Last, so that they win. */
	rc = cgroup_unit_annotations(b, c->annotations, err);
	bus_end_array(b, begin, 8);
	return rc;
}

static int call_and_wait(struct bus *bus, const char *member, const char *signature,
			 const struct buf *body, struct error *err)
{
	own_mem char *job = NULL;
	int rc = bus_call(bus, MANAGER, member, signature, body, &job, err);

	return rc < 0 || job == NULL ? rc : bus_wait_job(bus, job, err);
}

static int start_transient(struct bus *bus, const struct buf *body, struct error *err)
{
	return call_and_wait(bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", body, err);
}

static int reset_failed(struct bus *bus, const struct cgroup *cg, struct error *err)
{
	own_buf struct buf body = {0};

	bus_put_string(&body, cg->unit);
	return bus_call(bus, MANAGER, "ResetFailedUnit", "s", &body, NULL, err);
}

static int start_unit(struct bus *bus, const struct cgroup *cg, const struct config *c,
		      struct error *err)
{
	own_buf struct buf body = {0};
	int rc;

	bus_put_string(&body, cg->unit);
	bus_put_string(&body, "replace");
	rc = put_properties(&body, cg, c, err);
	if (rc < 0)
		return rc;
	bus_end_array(&body, bus_begin_array(&body, 8), 8);
	rc = start_transient(bus, &body, err);
	if (rc != -EEXIST)
		return rc;
	/* One that failed before is still known. */
	error_clear(err);
	rc = reset_failed(bus, cg, err);
	return rc < 0 ? rc : start_transient(bus, &body, err);
}

int cgroup_systemd_start(struct cgroup *cg, const struct config *c, struct error *err)
{
	own_bus struct bus *bus = NULL;
	int rc = start_anchor(&cg->anchor, err);

	if (rc < 0 || (rc = bus_open(whose(), &bus, err)) < 0)
		return rc;
	rc = start_unit(bus, cg, c, err);
	return rc < 0 ? fail(err, rc, "create the scope %s", cg->unit) : 0;
}

int cgroup_systemd_adopt(const char *unit, pid_t pid, struct error *err)
{
	own_bus struct bus *bus = NULL;
	own_buf struct buf body = {0};
	size_t begin;
	int rc = bus_open(whose(), &bus, err);

	if (rc < 0)
		return rc;
	bus_put_string(&body, unit);
	bus_put_string(&body, "fail");
	begin = bus_begin_array(&body, 8);
	put_string(&body, "Description", "monitor of berth");
	put_string(&body, "CollectMode", "inactive-or-failed");
	put_process(&body, pid);
	bus_end_array(&body, begin, 8);
	bus_end_array(&body, bus_begin_array(&body, 8), 8);
	rc = start_transient(bus, &body, err);
	return rc < 0 ? fail(err, rc, "create the scope %s", unit) : 0;
}

int cgroup_systemd_attach(const struct cgroup *cg, const char *below, pid_t pid, struct error *err)
{
	own_bus struct bus *bus = NULL;
	own_buf struct buf body = {0};
	int rc = bus_open(whose(), &bus, err);

	if (rc < 0)
		return rc;
	bus_put_string(&body, cg->unit);
	bus_put_string(&body, below);
	put_pids(&body, pid);
	rc = bus_call(bus, MANAGER, "AttachProcessesToUnit", "ssau", &body, NULL, err);
	return rc < 0 ? fail(err, rc, "move a process into the scope %s", cg->unit) : 0;
}

int cgroup_systemd_update(const struct cgroup *cg, const struct config_resources *r,
			  struct error *err)
{
	own_bus struct bus *bus = NULL;
	own_buf struct buf body = {0};
	size_t begin;
	int rc = bus_open(whose(), &bus, err);

	if (rc < 0)
		return rc;
	bus_put_string(&body, cg->unit);
	bus_put_bool(&body, true);
	begin = bus_begin_array(&body, 8);
	cgroup_unit_limits(&body, r, cg->v2);
	if (r->device_count > 0)
		cgroup_unit_devices(&body, r);
	bus_end_array(&body, begin, 8);
	rc = bus_call(bus, MANAGER, "SetUnitProperties", "sba(sv)", &body, NULL, err);
	return rc < 0 ? fail(err, rc, "change the scope %s", cg->unit) : 0;
}

int cgroup_systemd_stop(const struct cgroup *cg, struct error *err)
{
	own_bus struct bus *bus = NULL;
	own_buf struct buf body = {0};
	struct error ignored = {0};
	int rc = bus_open(whose(), &bus, err);

	if (rc < 0)
		return rc;
	bus_put_string(&body, cg->unit);
	bus_put_string(&body, "replace");
	rc = call_and_wait(bus, "StopUnit", "ss", &body, err);
	/* It ended with its last process. */
	if (rc == -ENOENT) {
		error_clear(err);
		rc = 0;
	}
	if (reset_failed(bus, cg, &ignored) < 0 && ignored.code != -ENOENT)
		log_debug("%s", ignored.text);
	return rc < 0 ? fail(err, rc, "stop the scope %s", cg->unit) : 0;
}
