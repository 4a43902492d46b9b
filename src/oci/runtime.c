/* runtime: looking at containers and acting on them. See runtime.h. */
#include "oci/runtime.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/proc_info.h"
#include "base/str.h"
#include "oci/cgroup_systemd.h"
#include "oci/container.h"
#include "oci/hooks.h"
#include "oci/resctrl.h"

/* --- state -------------------------------------------------------------------------------------- */

void oci_state_release(struct oci_state *state)
{
	free(state->id);
	free(state->bundle);
	free(state->rootfs);
	free(state->owner);
	free(state->created);
	json_decref(state->annotations);
	json_decref(state->record);
	*state = (struct oci_state){0};
}

static char *record_text(const struct container *c, const char *key)
{
	const char *text = json_string_value(json_object_get(c->record, key));

	return str_copy(text ? text : "");
}

static char *owner_name(const struct container *c)
{
	const uid_t uid = (uid_t)json_integer_value(json_object_get(c->record, "owner"));

	/* Without asking the name service: it would be loaded for this alone. */
	return uid == 0 ? str_copy("root") : str_format("#%u", uid);
}

int oci_get_state(const char *state_root, const char *id, struct oci_state *ret, struct error *err)
{
	own_container struct container *c = NULL;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	if (rc < 0)
		return rc;
	*ret = (struct oci_state){
		.id = str_copy(id),
		.bundle = record_text(c, "bundle"),
		.rootfs = record_text(c, "rootfs"),
		.owner = owner_name(c),
		.created = record_text(c, "created"),
		.pid = container_pid(c),
		.start_ticks =
			(uint64_t)json_integer_value(json_object_get(c->record, "startTime")),
		.status = container_status(c),
		.annotations = json_incref(json_object_get(c->record, "annotations")),
		.record = json_incref(c->record),
	};
	return 0;
}

int oci_get_config(const char *state_root, const char *id, json_t **ret, struct error *err)
{
	own_container struct container *c = NULL;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	return rc < 0 ? rc : container_config_json(c, ret, err);
}

json_t *oci_state_json(const struct oci_state *s)
{
	json_t *json = json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s}", "ociVersion", OCI_VERSION,
				 "id", s->id, "pid", s->status == OCI_STOPPED ? 0 : (int)s->pid,
				 "status", oci_status_name(s->status), "bundle", s->bundle,
				 "rootfs", s->rootfs, "created", s->created);

	if (s->annotations != NULL)
		json_object_set(json, "annotations", s->annotations);
	json_object_set_new(json, "owner", json_string(str_eq(s->owner, "root") ? "" : s->owner));
	return json;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int oci_list(const char *state_root, char ***ret_ids, struct error *err)
{
	own_strv char **ids = NULL;
	own_dir DIR *dir = opendir(state_root);
	struct dirent *entry;

	if (dir == NULL && errno != ENOENT)
		return fail(err, -errno, "open directory %s", state_root);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (container_is(dirfd(dir), entry->d_name, entry->d_type))
			strv_push(&ids, entry->d_name);
	if (ids != NULL)
		qsort(ids, strv_len(ids), sizeof(*ids), compare_text);
	*ret_ids = take(ids);
	return 0;
}

/* --- kill --------------------------------------------------------------------------------------- */

static int not_running(const char *id, struct error *err)
{
	return refuse(err, -ESRCH, "container not running (%s)", id);
}

/* Signals the init process through a descriptor, so that it cannot be another one by now. */
static int signal_init(const struct container *c, int signal, struct error *err)
{
	const pid_t pid = container_pid(c);
	own_fd int pidfd = pid > 0 ? proc_open(pid) : -ESRCH;
	int rc;

	if (pidfd == -ESRCH || (pidfd >= 0 && container_pid(c) != pid))
		return not_running(c->id, err);
	rc = pidfd < 0 ? pidfd : proc_signal(pidfd, signal);
	if (rc == -ESRCH)
		return not_running(c->id, err);
	return rc < 0 ? fail(err, rc, "send signal %d to container %s", signal, c->id) : 0;
}

int oci_kill(const char *state_root, const char *id, int signal, enum oci_kill_flags flags,
	     struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	if (rc < 0)
		return rc;
	if (flags & OCI_KILL_ALL) {
		rc = container_cgroup(c, &cg, err);
		if (rc == 0)
			rc = cgroup_signal(cg, signal, err);
		return rc;
	}
	rc = signal_init(c, signal, err);
	/* A frozen process does not die. */
	if (rc == 0 && signal == SIGKILL && container_cgroup(c, &cg, NULL) == 0 &&
	    cgroup_is_frozen(cg))
		rc = cgroup_freeze(cg, false, err);
	return rc;
}

/* --- delete ------------------------------------------------------------------------------------- */

static void run_poststop(const struct container *c)
{
	own_config struct config *config = NULL;
	own_mem char *bundle = record_text(c, "bundle");
	struct hook_state state = {
		.id = c->id,
		.bundle = bundle,
		.status = OCI_STOPPED,
		.annotations = json_object_get(c->record, "annotations"),
	};
	struct error err = {0};

	/* Parsing is for those only that have such hooks. */
	if (json_object_get(c->record, "poststop") == NULL)
		return;
	if (container_config(c, &config, &err) < 0)
		log_warn("%s", err.text);
	else
		hooks_run_late(config, HOOK_POSTSTOP, &state);
}

/* Kills the init process and waits until it is gone. */
static int end_init(const struct container *c, struct error *err)
{
	enum { PATIENCE_MS = 200, TIMEOUT_MS = 10000 };
	const pid_t pid = container_pid(c);
	own_cgroup struct cgroup *cg = NULL;
	own_fd int pidfd = pid > 0 ? proc_open(pid) : -ESRCH;
	struct pollfd wait = {.fd = pidfd, .events = POLLIN};

	if (pid == 0 || pidfd == -ESRCH || container_pid(c) != pid)
		return 0;
	if (pidfd < 0)
		return fail(err, pidfd, "open process %d", (int)pid);
	if (proc_signal(pidfd, SIGKILL) < 0)
		return 0;
	if (container_cgroup(c, &cg, NULL) == 0 && cgroup_is_frozen(cg) &&
	    cgroup_freeze(cg, false, err) < 0)
		return -EBUSY;
	/* Somebody may have moved it to a group that is frozen: back in its own it can die. */
	if (poll(&wait, 1, PATIENCE_MS) == 0 && cg != NULL) {
		(void)!cgroup_join_pid(cg, pid, NULL);
		/* The first process of a pid namespace ends after the others, and one that is traced not
		 * before its tracer has looked: a restore that hangs is such a one, in the cgroup too. */
		if (!cg->shared)
			(void)!cgroup_signal(cg, SIGKILL, NULL);
	}
	if (poll(&wait, 1, TIMEOUT_MS) == 0)
		return refuse(err, -ETIMEDOUT, "process %d does not end", (int)pid);
	return 0;
}

/* What is in the container's cgroup and no process that the record knows: a restore's, for example. */
static void end_unknown(const struct container *c)
{
	own_cgroup struct cgroup *cg = NULL;

	if (container_pid(c) == 0 && container_cgroup(c, &cg, NULL) == 0 && !cg->shared)
		(void)!cgroup_signal(cg, SIGKILL, NULL);
}

/* Opens it for a deletion that is to succeed whatever others do with it: who waits for a hook ends that, and
 * who waits for the container's process, or CRIU, sees it end. Asked once they might not have listened yet. */
static int open_by_force(const char *state_root, const char *id, struct container **ret,
			 struct error *err)
{
	const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	for (;;) {
		own_container struct container *c = NULL;
		int rc = container_open(state_root, id, CONTAINER_TRY, &c, err);

		if (rc == 0 && c->locked)
			*ret = take(c);
		else if (rc == 0)
			rc = end_init(c, err);
		if (rc < 0 || c == NULL)
			return rc;
		end_unknown(c);
		container_ask(c);
		nanosleep(&pause, NULL);
	}
}

static int check_ended(const struct container *c, struct error *err)
{
	const enum oci_status status = container_status(c);

	/* A created one has not run yet: there is nothing to lose, and engines delete it like this. */
	if (status == OCI_STOPPED || status == OCI_CREATED)
		return 0;
	return hint(err,
		    refuse(err, -EBUSY, "cannot delete container %s that is not stopped: %s", c->id,
			   oci_status_name(status)),
		    "stop it first, or delete with --force");
}

/* Opens it for a deletion that leaves alone what is alive: nobody waits for a call that makes it. */
static int open_ended(const char *state_root, const char *id, struct container **ret,
		      struct error *err)
{
	own_container struct container *c = NULL;
	int rc = container_open(state_root, id, CONTAINER_TRY, &c, err);

	if (rc < 0 || (rc = check_ended(c, err)) < 0)
		return rc;
	if (!c->locked) {
		container_close(take(c));
		rc = container_open(state_root, id, CONTAINER_LOCK, &c, err);
		if (rc < 0 || (rc = check_ended(c, err)) < 0)
			return rc;
	}
	*ret = take(c);
	return 0;
}

/* What is left when its first process has gone. */
static int remove_rest(struct container *c, struct cgroup *cg, struct error *err)
{
	int rc = cg ? cgroup_remove(cg, err) : 0;

	if (rc < 0)
		return fail(err, rc, "delete container %s", c->id);
	container_unmount(c);
	resctrl_leave(json_object_get(c->record, "resctrl"));
	run_poststop(c);
	return container_remove(c, err);
}

int oci_delete_child(const char *state_root, const char *id, const struct oci_child *child,
		     struct error *err)
{
	const struct oci_made *made = child->made;

	if (made == NULL)
		return oci_delete(state_root, id, OCI_DELETE_FORCE, err);
	return container_is_there(made->container) ? remove_rest(made->container, made->cgroup, err)
						   : 0;
}

int oci_delete(const char *state_root, const char *id, enum oci_delete_flags flags,
	       struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	int rc = flags & OCI_DELETE_FORCE ? open_by_force(state_root, id, &c, err)
					  : open_ended(state_root, id, &c, err);

	if (rc == -ENOENT && flags & OCI_DELETE_FORCE) {
		error_clear(err);
		return 0;
	}
	if (rc < 0)
		return rc;
	rc = end_init(c, err);
	if (rc == 0 && json_object_get(c->record, "cgroup") != NULL)
		rc = container_cgroup(c, &cg, err);
	return rc < 0 ? fail(err, rc, "delete container %s", id) : remove_rest(c, cg, err);
}

/* --- pausing, limits, processes ----------------------------------------------------------------- */

static int set_paused(const char *state_root, const char *id, bool pause, struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	enum oci_status status;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	if (rc < 0)
		return rc;
	status = container_status(c);
	if (status == OCI_STOPPED)
		return not_running(id, err);
	if (!pause && status != OCI_PAUSED)
		return refuse(err, -EALREADY, "container %s is not paused", id);
	if (pause && status == OCI_PAUSED)
		return refuse(err, -EINVAL, "container %s is paused already", id);
	rc = container_cgroup(c, &cg, err);
	return rc < 0 ? rc : cgroup_freeze(cg, pause, err);
}

int oci_pause(const char *state_root, const char *id, struct error *err)
{
	return set_paused(state_root, id, true, err);
}

int oci_resume(const char *state_root, const char *id, struct error *err)
{
	return set_paused(state_root, id, false, err);
}

int oci_update(const char *state_root, const char *id, json_t *resources, struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	own_config struct config *owner = mem_new(sizeof(*owner));
	struct config_resources r = {0};
	struct json_at at = json_root(resources);
	int rc = container_open(state_root, id, CONTAINER_LOCK, &c, err);

	if (rc < 0)
		return rc;
	owner->json = json_incref(resources);
	rc = config_parse_resources(owner, &at, &r, err);
	if (rc < 0)
		return fail(err, rc, "linux.resources");
	if (container_status(c) == OCI_STOPPED)
		return not_running(id, err);
	if ((rc = container_cgroup(c, &cg, err)) < 0 || (rc = cgroup_apply(cg, &r, err)) < 0)
		return rc;
	return cg->unit ? cgroup_systemd_update(cg, &r, err) : 0;
}

int oci_pids(const char *state_root, const char *id, pid_t **ret_pids, size_t *ret_count,
	     struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	if (rc < 0 || (rc = container_cgroup(c, &cg, err)) < 0)
		return rc;
	/* Without a group of its own it may still have a pid namespace. */
	if (cg->dir_count == 0 && container_pid(c) > 0 &&
	    (*ret_count = proc_beside(container_pid(c), ret_pids)) > 0)
		return 0;
	return cgroup_pids(cg, ret_pids, ret_count, err);
}

int oci_get_stats(const char *state_root, const char *id, struct oci_stats *ret, struct error *err)
{
	own_container struct container *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	int rc = container_open(state_root, id, CONTAINER_LOOK, &c, err);

	if (rc < 0)
		return rc;
	/* One that has stopped still has its counters: whether it ran out of memory, for example. */
	rc = container_cgroup(c, &cg, err);
	return rc < 0 ? rc : cgroup_stats(cg, ret, err);
}
