/*
 * create: making a container, and starting a created one. See runtime.h.
 *
 * The order is that of invariant R1: directory and lock, record with the cgroup's paths, cgroup,
 * process, record with the pid; and only then the process is told to carry on. A process whose runtime
 * dies before that ends by itself, because the conversation ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/str.h"
#include "oci/config_file.h"
#include "oci/config_priv.h"
#include "oci/container.h"
#include "oci/hooks.h"
#include "oci/init.h"
#include "oci/launch.h"
#include "oci/net_device.h"
#include "oci/notify.h"
#include "oci/record.h"
#include "oci/resctrl.h"
#include "oci/runtime.h"
#include "oci/sync.h"
#include "oci/terminal.h"
#include "oci/userns.h"

void oci_child_release(struct oci_child *child)
{
	fd_close(&child->pidfd);
	fd_close(&child->console_fd);
	fd_close(&child->notify_fd);
	if (child->made != NULL) {
		container_close(child->made->container);
		cgroup_free(child->made->cgroup);
		free(child->made);
		child->made = NULL;
	}
}

/* --- preparing ---------------------------------------------------------------------------------- */

/* In a user namespace that is joined, new namespaces have to belong to it; a pid namespace alone cannot be
 * made by the process itself. */
static uint64_t *flags_for(struct launch *l, enum config_namespace_kind kind)
{
	const bool joined = l->config->linux_.namespaces[NAMESPACE_USER].path != NULL;

	return joined && kind != NAMESPACE_PID ? &l->late_flags : &l->new_flags;
}

static int open_namespaces(struct launch *l, struct error *err)
{
	for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
		const struct config_namespace *n = &l->config->linux_.namespaces[i];

		if (!n->listed)
			continue;
		if (n->path == NULL) {
			/* These two the process makes for itself, at the right moment. */
			if (i != NAMESPACE_CGROUP && i != NAMESPACE_TIME)
				*flags_for(l, i) |= namespace_kinds[i].clone_flag;
			continue;
		}
		l->namespace_fds[i] = open(n->path, O_RDONLY | O_CLOEXEC);
		if (l->namespace_fds[i] < 0)
			return fail(err, -errno, "linux.namespaces: open the %s namespace %s",
				    namespace_kinds[i].name, n->path);
	}
	return 0;
}

static int connect_listener(struct launch *l, struct error *err)
{
	const char *path = l->config->linux_.seccomp.listener_path;

	if (str_empty(path))
		return 0;
	l->listener_sock = sock_connect(AT_FDCWD, path, SOCK_STREAM);
	if (l->listener_sock < 0)
		return fail(err, l->listener_sock,
			    "linux.seccomp.listenerPath: failed to connect with seccomp agent %s",
			    path);
	return 0;
}

static int prepare(struct launch *l, struct container *container, const struct oci_create *o,
		   struct error *err)
{
	const struct config *c = l->config;
	int rc;

	if (c->linux_.seccomp.given && l->program.code == NULL &&
	    (rc = seccomp_compile(&c->linux_.seccomp, container->root_fd, &l->program, err)) < 0)
		return rc;
	if ((rc = connect_listener(l, err)) < 0 || (rc = open_namespaces(l, err)) < 0)
		return rc;
	l->rootfs = (struct rootfs){
		.config = c,
		.cgroup = l->cgroup,
		.bundle = o->bundle,
		.given_fd = o->root_mount_fd,
		.null_fd = -1,
		.root_fd = -1,
		.no_pivot = o->flags & OCI_CREATE_NO_PIVOT,
		.user_namespace = config_has_namespace(c, NAMESPACE_USER),
		.shared = !config_new_namespace(c, NAMESPACE_MOUNT),
	};
	if ((rc = rootfs_prepare(&l->rootfs, err)) < 0)
		return rc;
	if (!(o->flags & OCI_CREATE_RUN)) {
		l->start_sock =
			sock_listen(container->dir_fd, CONTAINER_START_SOCKET, SOCK_SEQPACKET);
		if (l->start_sock < 0)
			return fail(err, l->start_sock, "create %s", CONTAINER_START_SOCKET);
	}
	return 0;
}

static int check_options(const struct oci_create *o, const struct config *c, struct error *err)
{
	const bool terminal = c->process.terminal;

	if (!c->has_process || c->process.args == NULL)
		return refuse(err, -EINVAL, "process.args: is required but missing");
	if (c->process.cwd == NULL)
		return refuse(err, -EINVAL, "process.cwd: is required but missing");
	if (terminal && o->console_socket == NULL && !(o->flags & OCI_CREATE_KEEP_TERMINAL))
		return hint(err,
			    refuse(err, -EINVAL,
				   "process.terminal: a terminal needs a console socket to send it "
				   "to"),
			    "use --console-socket");
	if (!terminal && o->console_socket != NULL)
		return refuse(err, -EINVAL,
			      "a console socket was given, but process.terminal is not set");
	return 0;
}

/* --- the conversation --------------------------------------------------------------------------- */

struct creation {
	const struct oci_create *options;
	struct launch *launch;
	struct container *container;
	const char *text; /* of the configuration; NULL: it is given as a value */
	struct oci_child child;
	uint64_t start_ticks; /* of the child; 0: not known yet */
};

static int run_runtime_hooks(struct creation *x, struct error *err)
{
	int rc = record_runtime_hooks(x->container, x->launch->config, x->options->bundle,
				      x->child.pid, err);

	if (rc == 0 && (rc = sync_send(x->launch->parent_sock, SYNC_GO, -1)) < 0)
		rc = fail(err, rc, "talk to the container's process");
	return rc;
}

/* What the process cannot do for itself in its user namespace. */
static int serve_user_namespace(struct creation *x, struct error *err)
{
	const struct config_linux *l = &x->launch->config->linux_;
	int rc;

	if (!config_new_namespace(x->launch->config, NAMESPACE_USER))
		return 0;
	if ((rc = userns_write_maps(x->child.pid, &l->uid_maps, &l->gid_maps, err)) < 0 ||
	    (rc = process_set_limits(x->child.pid, x->launch->process, err)) < 0)
		return rc;
	rc = sync_send(x->launch->parent_sock, SYNC_GO, -1);
	return rc < 0 ? fail(err, rc, "talk to the container's process") : 0;
}

static int record_process(struct creation *x, bool ready, struct error *err)
{
	int rc = x->start_ticks ? 0 : proc_start_time(x->child.pid, &x->start_ticks);

	if (rc < 0)
		return fail(err, rc, "look at process %d", (int)x->child.pid);
	return container_save_process(x->container, x->child.pid, x->start_ticks, ready, err);
}

/* Makes the process known, then lets it go on. */
static int acknowledge(struct creation *x, bool ready, struct error *err)
{
	int rc;

	log_debug("init: closing the pipe to signal completion, container %s", x->container->id);

	if ((rc = record_process(x, ready, err)) < 0 ||
	    (rc = record_pid_file(x->options->pid_file, x->child.pid, err)) < 0)
		return rc;
	rc = sync_send(x->launch->parent_sock, SYNC_GO, -1);
	return rc < 0 ? fail(err, rc, "talk to the container's process") : 0;
}

/* Follows the process until it is ready. */
static int follow(struct creation *x, struct error *err)
{
	int rc = 0;

	while (rc == 0) {
		own_fd int fd = -1;
		int kind = sync_receive(x->launch->parent_sock, &fd, err);

		if (kind < 0)
			return kind;
		switch (kind) {
		case SYNC_READY:
			return 0;
		case SYNC_HOOKS:
			rc = run_runtime_hooks(x, err);
			break;
		case SYNC_TERMINAL:
			if (x->options->console_socket != NULL)
				rc = terminal_send(x->options->console_socket, fd, err);
			else
				x->child.console_fd = take(fd);
			break;
		default:
			return refuse(err, -ECHILD,
				      "the container's process ended while it was set up (out of "
				      "memory?)");
		}
	}
	return rc;
}

/* The process asks for nothing while it is set up: so it need not wait for us when it is ready, and we
 * do our part while it does its. */
static bool is_eager(const struct creation *x)
{
	const struct config *c = x->launch->config;

	return !x->launch->terminal && c->hooks[HOOK_PRESTART].count == 0 &&
	       c->hooks[HOOK_CREATE_RUNTIME].count == 0;
}

static int make_ready(struct creation *x, struct error *err)
{
	struct error ours = {0};
	int rc, acknowledged;

	if (!is_eager(x)) {
		/* Known from the beginning: a deletion ends it, whatever we wait for. */
		if ((rc = record_process(x, false, err)) < 0 || (rc = follow(x, err)) < 0)
			return rc;
		return acknowledge(x, true, err);
	}
	acknowledged = acknowledge(x, false, &ours);
	/* If it has ended already it says why, and that is the reason for our failure too. */
	rc = follow(x, err);
	if (rc == 0 && acknowledged < 0 && err != NULL)
		*err = ours;
	if (rc < 0 || acknowledged < 0)
		return rc < 0 ? rc : acknowledged;
	return record_process(x, true, err);
}

static int converse(struct creation *x, struct error *err)
{
	int rc = serve_user_namespace(x, err);

	if (rc < 0 || (rc = make_ready(x, err)) < 0)
		return rc;
	if (!(x->options->flags & OCI_CREATE_RUN))
		return 0;
	return sync_await_execution(x->launch->parent_sock, err);
}

static void run_poststart(const struct container *container, const struct config *c,
			  const char *bundle, pid_t pid)
{
	struct hook_state state = {
		.id = container->id,
		.bundle = bundle,
		.status = OCI_RUNNING,
		.pid = pid,
		.annotations = c->annotations,
		.container = container,
	};

	hooks_run_late(c, HOOK_POSTSTART, &state);
}

/* --- creating ----------------------------------------------------------------------------------- */

static void undo(struct creation *x, struct cgroup *cg, bool made_cgroup)
{
	if (x->child.pid > 0) {
		if (proc_signal(x->child.pidfd, SIGKILL) == 0 &&
		    !(x->options->flags & OCI_CREATE_SIBLING))
			(void)!proc_wait(x->child.pidfd, NULL);
	}
	container_unmount(x->container);
	resctrl_leave(json_object_get(x->container->record, "resctrl"));
	/* What cannot be removed here stays named by the record for oci_delete. */
	if (!made_cgroup || cgroup_remove(cg, NULL) == 0)
		(void)!container_remove(x->container, NULL);
	if (x->options->pid_file != NULL && x->child.pid > 0)
		unlink(x->options->pid_file);
}

/* The process waits for us: it has not looked at its network yet. */
static int move_net_devices(const struct creation *x, struct error *err)
{
	const struct launch *l = x->launch;
	const int given = l->namespace_fds[NAMESPACE_NETWORK];

	if (l->config->linux_.net_device_count == 0)
		return 0;
	if (given < 0 && l->late_flags & CLONE_NEWNET)
		return refuse(err, -ENOTSUP,
			      "linux.netDevices: not with a user namespace that is joined by path");
	return net_devices_move(&l->config->linux_, given >= 0 ? given : x->child.pidfd, err);
}

/* What the record names is what there is: processes that join go there. */
static int make_cgroup(const struct creation *x, struct cgroup *cg, struct error *err)
{
	const struct config *c = x->launch->config;
	const size_t planned = cg->dir_count;
	int rc = cgroup_make(cg, c, !proc_is_root(), err);

	if (rc < 0 || cg->dir_count == planned)
		return rc;
	json_object_set_new(x->container->record, "cgroup", cgroup_save(cg));
	return container_save(x->container, c->json, x->text, err);
}

static int make(struct creation *x, struct cgroup *cg, bool *ret_made_cgroup, struct error *err)
{
	const struct config *c = x->launch->config;
	int rc;

	record_fill(x->container, c, x->options->bundle, cg);
	rc = container_save(x->container, c->json, x->text, err);
	if (rc < 0)
		return rc;
	*ret_made_cgroup = true;
	if ((rc = make_cgroup(x, cg, err)) < 0 ||
	    (rc = cgroup_apply(cg, &c->linux_.resources, err)) < 0 ||
	    (rc = cgroup_open_join(cg, err)) < 0 ||
	    (rc = prepare(x->launch, x->container, x->options, err)) < 0 ||
	    (rc = launch_spawn(x->launch, init_main, &x->child.pid, &x->child.pidfd, err)) < 0)
		return rc;
	/* The process waits for us still; what it starts is in the group as well. */
	if ((rc = move_net_devices(x, err)) < 0 ||
	    (rc = resctrl_assign(&c->linux_.intel_rdt, x->container->id, x->child.pid, false,
				 err)) < 0 ||
	    (rc = converse(x, err)) < 0)
		return rc;
	return x->options->flags & OCI_CREATE_STATUS
		       ? record_status(x->container, cg, x->options->stdio, err)
		       : 0;
}

/* The protocol of service managers: the process is told the count and its own pid. */
static void announce_descriptors(struct config *c, unsigned int count)
{
	own_mem char *text = NULL;
	char **env;
	size_t n = 0;

	if (count == 0)
		return;
	while (c->process.env != NULL && c->process.env[n] != NULL)
		n++;
	text = str_format("LISTEN_FDS=%u", count);
	env = config_alloc(c, n + 3, sizeof(*env));
	memcpy(env, c->process.env, n * sizeof(*env));
	env[n] = config_alloc(c, strlen(text) + 1, 1);
	memcpy(env[n], text, strlen(text) + 1);
	env[n + 1] = config_alloc(c, sizeof("LISTEN_PID=1"), 1);
	memcpy(env[n + 1], "LISTEN_PID=1", sizeof("LISTEN_PID=1"));
	c->process.env = env;
}

int oci_create(const struct oci_create *o, struct oci_child *ret, struct error *err)
{
	own_container struct container *container = NULL;
	own_config struct config *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	own_json json_t *json = NULL;
	own_mem char *text = NULL;
	own_launch struct launch l;
	struct creation x = {.options = o, .launch = &l, .child = OCI_CHILD_EMPTY};
	bool made_cgroup = false, notify;
	int rc;

	launch_init(&l);
	rc = launch_preserve(&l, o->preserve_fds, err);
	if (rc < 0)
		return rc;
	if ((rc = record_read_spec(o->spec, o->bundle, &json, &text, err)) < 0 ||
	    (rc = config_parse(json, &c, err)) < 0 || (rc = check_options(o, c, err)) < 0 ||
	    (rc = cgroup_plan(o->cgroup_manager, c->linux_.cgroups_path, o->id, &cg, err)) < 0 ||
	    (rc = cgroup_check_free(cg, err)) < 0)
		return rc;
	notify = notify_wanted(c, o->notify_socket);
	rc = container_create(o->state_root, o->id,
			      o->flags & OCI_CREATE_RUN && !(o->flags & OCI_CREATE_STATUS) &&
					      !notify
				      ? CONTAINER_FILE
				      : CONTAINER_DIRECTORY,
			      &container, err);
	if (rc < 0)
		return rc;
	cg->device_filter = o->device_filter;
	if (o->filter != NULL)
		seccomp_use(o->filter, &c->linux_.seccomp, &l.program);
	x.container = container;
	x.text = text;
	if (notify) {
		x.child.notify_fd = notify_add(c, container, o->state_root, o->notify_socket, err);
		if (x.child.notify_fd < 0) {
			undo(&x, cg, false);
			return x.child.notify_fd;
		}
	}
	l.config = c;
	l.process = &c->process;
	announce_descriptors(c, o->listen_fds);
	l.cgroup = cg;
	memcpy(l.stdio, o->stdio, sizeof(l.stdio));
	l.sibling = o->flags & OCI_CREATE_SIBLING;
	l.no_keyring = o->flags & OCI_CREATE_NO_KEYRING;
	l.reaper = o->flags & OCI_CREATE_REAPER;
	l.terminal = c->process.terminal;
	l.plain_output = o->flags & OCI_CREATE_PLAIN_OUTPUT;
	l.id = o->id;
	l.bundle = o->bundle;
	rc = make(&x, cg, &made_cgroup, err);
	if (rc < 0) {
		undo(&x, cg, made_cgroup);
		oci_child_release(&x.child);
		return rc;
	}
	if (o->flags & OCI_CREATE_RUN)
		run_poststart(container, c, o->bundle, x.child.pid);
	*ret = x.child;
	/* What systemd is to be told of it is in the record alone. */
	if (o->flags & OCI_CREATE_REMEMBER && cg->unit == NULL) {
		ret->made = mem_new(sizeof(*ret->made));
		cgroup_close_join(cg);
		container_unlock(container);
		*ret->made = (struct oci_made){take(container), take(cg)};
	}
	return 0;
}

/* --- starting ----------------------------------------------------------------------------------- */

int oci_start(const char *state_root, const char *id, struct error *err)
{
	own_container struct container *container = NULL;
	own_config struct config *c = NULL;
	own_fd int sock = -1;
	enum oci_status status;
	int rc = container_open(state_root, id, CONTAINER_LOCK, &container, err);

	if (rc < 0)
		return rc;
	status = container_status(container);
	if (status != OCI_CREATED)
		return refuse(err, -EINVAL, "cannot start container %s: it is %s, not created", id,
			      oci_status_name(status));
	sock = sock_connect(container->dir_fd, CONTAINER_START_SOCKET, SOCK_SEQPACKET);
	rc = sock < 0 ? sock : sync_send(sock, SYNC_GO, -1);
	if (rc < 0)
		return fail(err, rc, "start container %s", id);
	rc = sync_await_execution(sock, err);
	unlinkat(container->dir_fd, CONTAINER_START_SOCKET, 0);
	/* Parsing is for those only that have such hooks. They are told of a process that has started,
	 * also of one that has ended by now. */
	if (rc == 0 && json_object_get(container->record, "poststart") != NULL &&
	    (rc = container_config(container, &c, err)) == 0)
		run_poststart(container, c,
			      json_string_value(json_object_get(container->record, "bundle")),
			      (pid_t)json_integer_value(json_object_get(container->record, "pid")));
	return rc;
}
