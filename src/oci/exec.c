/*
 * exec: a further process in a running container. See runtime.h.
 *
 * The container's namespaces are joined through a descriptor of its first process, all at once, so
 * that none of them can be swapped in between. The runtime visits the pid namespace itself while it
 * creates the process, which is therefore a member from birth.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/container.h"
#include "oci/launch.h"
#include "oci/resctrl.h"
#include "oci/runtime.h"
#include "oci/sync.h"
#include "oci/terminal.h"

/* --- the process -------------------------------------------------------------------------------- */

static int join(struct launch *l, struct error *err)
{
	const bool user = l->user_first || l->join_flags & CLONE_NEWUSER;

	if (l->join_flags != 0 && setns(l->target_pidfd, (int)l->join_flags) < 0)
		return fail(err, -errno, "join the container's namespaces");
	/* In its user namespace we are nobody until we say who. */
	if (user && ((setresgid(0, 0, 0) < 0 && errno != EINVAL) ||
		     (setresuid(0, 0, 0) < 0 && errno != EINVAL)))
		return fail(err, -errno, "become root of the user namespace");
	return chdir("/") < 0 ? fail(err, -errno, "change to /") : 0;
}

static int set_up(struct launch *l, struct error *err)
{
	own_fd int terminal = -1, root = -1;
	int rc;

	if ((rc = launch_begin(l, err)) < 0 || (rc = process_set_limits(0, l->process, err)) < 0 ||
	    (rc = process_set_scheduling(l->config, l->process, err)) < 0 ||
	    (rc = process_set_affinity(l->process->cpu_affinity_final, "final", err)) < 0 ||
	    (rc = process_open_labels(l->process, &l->labels, err)) < 0)
		return rc;
	if (setsid() < 0)
		return fail(err, -errno, "create a session");
	rc = join(l, err);
	if (rc < 0)
		return rc;
	if (!l->terminal)
		return launch_place_stdio(l, err);
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	terminal = root < 0 ? -errno : launch_open_terminal(l, root, err);
	return terminal < 0 ? terminal : terminal_attach(terminal, err);
}

static void exec_main(struct launch *l)
{
	own_strv char **env = NULL;
	own_mem char *path = NULL;
	struct error err = {0};
	int rc = set_up(l, &err);

	if (rc == 0)
		rc = launch_settle(l, &path, &env, &err);
	if (rc == 0 && (rc = sync_send(l->child_sock, SYNC_READY, -1)) < 0)
		fail(&err, rc, "talk to the runtime");
	if (rc == 0)
		rc = sync_wait_go(l->child_sock, &err);
	if (rc == 0)
		rc = launch_execute(l, path, env, &err);
	if (rc < 0 && err.code == 0)
		fail(&err, rc, "start the process");
	sync_send_error(l->child_sock, &err);
	_exit(err.exit_status ? err.exit_status : 1);
}

/* --- preparing ---------------------------------------------------------------------------------- */

/* True if the target is in another namespace of that kind than we are. */
static bool differs(pid_t pid, const char *name)
{
	own_mem char *theirs = str_format("/proc/%d/ns/%s", (int)pid, name);
	own_mem char *ours = str_format("/proc/self/ns/%s", name);
	struct stat a, b;

	return stat(theirs, &a) < 0 || stat(ours, &b) < 0 || a.st_ino != b.st_ino ||
	       a.st_dev != b.st_dev;
}

static int open_target(struct launch *l, const struct container *container, struct error *err)
{
	const pid_t pid = container_pid(container);

	l->target_pidfd = pid > 0 ? proc_open(pid) : -ESRCH;
	if (l->target_pidfd < 0 || container_pid(container) != pid) {
		l->target_pidfd = -1;
		return refuse(err, -ESRCH, "cannot exec in a container that is not running");
	}
	for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
		const struct namespace_kind *kind = &namespace_kinds[i];

		if (!config_has_namespace(l->config, i) || !differs(pid, kind->proc_name))
			continue;
		if (i == NAMESPACE_PID) {
			own_mem char *path = str_format("/proc/%d/ns/pid", (int)pid);

			l->namespace_fds[i] = open(path, O_RDONLY | O_CLOEXEC);
			if (l->namespace_fds[i] < 0)
				return fail(err, -errno, "open %s", path);
			continue;
		}
		l->join_flags |= kind->clone_flag;
	}
	l->user_first = geteuid() != 0 && !l->sibling && l->join_flags & CLONE_NEWUSER &&
			l->namespace_fds[NAMESPACE_PID] >= 0;
	if (l->user_first)
		l->join_flags &= ~(uint64_t)CLONE_NEWUSER;
	/* The descriptors were opened by number: the process must still be the same one. */
	if (container_pid(container) != pid)
		return refuse(err, -ESRCH, "cannot exec in a container that is not running");
	return 0;
}

/* The container's own process, overlaid by what the caller gives. */
static int parse_process(struct config *c, json_t *given, struct config_process *ret,
			 struct error *err)
{
	struct json_at at = json_root(given);
	int rc;

	*ret = c->process;
	ret->terminal = false;
	ret->console_rows = ret->console_columns = 0;
	ret->args = NULL;
	if (json_object_get(given, "execCPUAffinity") != NULL)
		ret->cpu_affinity_initial = ret->cpu_affinity_final = NULL;
	/* Lists are replaced as a whole. */
	if (json_object_get(given, "rlimits") != NULL)
		ret->rlimit_count = 0;
	if (json_object_get(given, "user") != NULL) {
		ret->uid = ret->gid = 0;
		ret->group_count = 0;
		ret->has_umask = false;
	}
	rc = config_parse_process(c, &at, ret, err);
	if (rc < 0)
		return fail(err, rc, "process");
	if (ret->args == NULL)
		return refuse(err, -EINVAL, "process.args: is required but missing");
	return 0;
}

/* True for a path that stays where it is put. */
static bool is_below(const char *path)
{
	int depth = 0;

	for (const char *p = path; *p != '\0' && depth >= 0; p += strcspn(p, "/")) {
		p += strspn(p, "/");
		if (str_eq(p, "..") || strncmp(p, "../", 3) == 0)
			depth--;
		else if (*p != '\0')
			depth++;
	}
	return depth >= 0;
}

/* Applies one "[controllers:]path". */
static int go_below(struct cgroup *cg, const char *text, struct error *err)
{
	const char *colon = strchr(text, ':');
	const char *path = colon ? colon + 1 : text;
	own_mem char *names = colon ? str_copy_n(text, (size_t)(colon - text)) : NULL;
	own_strv char **controllers = names ? strv_split(names, ',') : NULL;
	bool known = controllers == NULL;

	if (colon != NULL && cg->v2)
		return refuse(err, -EINVAL,
			      "cgroup \"%s\": there are no separate controllers on v2", text);
	if (!is_below(path))
		return refuse(err, -EINVAL, "cgroup: %s is not a sub cgroup path", path);
	for (size_t i = 0; i < cg->dir_count; i++) {
		struct cgroup_dir *dir = &cg->dirs[i];
		bool meant = controllers == NULL;
		char *below;

		for (size_t k = 0; controllers != NULL && controllers[k] != NULL; k++)
			meant |= cgroup_has_word(dir->controllers, controllers[k]);
		if (!meant)
			continue;
		known = true;
		below = str_format("%s/%s", dir->path, path + strspn(path, "/"));
		free(dir->path);
		dir->path = below;
	}
	return known ? 0
		     : refuse(err, -EINVAL, "cgroup \"%s\": unknown controller %s", text, names);
}

/* A path that does not exist is told in words that other runtimes have as well. */
static int check_exist(const struct cgroup *cg, struct error *err)
{
	for (size_t i = 0; i < cg->dir_count; i++)
		if (access(cg->dirs[i].path, F_OK) < 0)
			return refuse(
				err, -ENOENT,
				"cgroup: adding pid to %s/cgroup.procs: no such file or directory",
				cg->dirs[i].path);
	return 0;
}

/* The container's cgroup, or one below it. */
static int open_cgroup(const struct container *container, char *const *below, struct cgroup **ret,
		       struct error *err)
{
	own_cgroup struct cgroup *cg = NULL;
	int rc = container_cgroup(container, &cg, err);

	for (size_t i = 0; rc == 0 && below != NULL && below[i] != NULL; i++)
		rc = go_below(cg, below[i], err);
	if (rc == 0 && below != NULL && below[0] != NULL)
		rc = check_exist(cg, err);
	else if (rc == 0)
		cgroup_follow(cg, container_pid(container));
	if (rc == 0)
		rc = cgroup_open_join(cg, err);
	if (rc == 0)
		*ret = take(cg);
	return rc;
}

static int let_go(const struct launch *l, const struct oci_exec *o, const struct oci_child *child,
		  struct error *err)
{
	own_mem char *text = str_format("%d", (int)child->pid);
	int rc = 0;

	log_debug("setns_init: about to exec in %s, process %s", o->id, text);
	if (o->pid_file != NULL)
		rc = file_write(AT_FDCWD, o->pid_file, text, strlen(text), 0644, FILE_WRITE_ATOMIC,
				err);
	if (rc == 0 && (rc = sync_send(l->parent_sock, SYNC_GO, -1)) < 0)
		rc = fail(err, rc, "talk to the process");
	return rc;
}

static int finish(struct launch *l, const struct oci_exec *o, struct oci_child *child,
		  struct error *err)
{
	/* Nothing to be done between its being ready and its going on: it need not wait for us. */
	const bool eager = o->pid_file == NULL && !l->terminal;
	/* If that fails it has ended, and says why. */
	const bool told = eager && let_go(l, o, child, NULL) == 0;
	int rc = 0;

	while (rc == 0) {
		own_fd int fd = -1;
		int kind = sync_receive(l->parent_sock, &fd, err);

		if (kind < 0)
			return kind;
		if (kind == SYNC_READY)
			break;
		if (kind != SYNC_TERMINAL)
			return refuse(err, -ECHILD, "the process ended while it was set up");
		if (o->console_socket != NULL)
			rc = terminal_send(o->console_socket, fd, err);
		else
			child->console_fd = take(fd);
	}
	if (rc == 0 && !told)
		rc = let_go(l, o, child, err);
	if (rc < 0)
		return rc;
	rc = sync_receive(l->parent_sock, NULL, err);
	return rc < 0 ? rc : 0;
}

static int prepare(struct launch *l, struct container *container, const struct oci_exec *o,
		   struct cgroup **ret_cgroup, struct error *err)
{
	const struct config_seccomp *s = &l->config->linux_.seccomp;
	enum oci_status status = container_status(container);
	int rc;

	if (status == OCI_STOPPED || status == OCI_CREATING)
		return refuse(err, -ESRCH,
			      "cannot exec in a container that is not running: %s is %s", o->id,
			      oci_status_name(status));
	if (status == OCI_PAUSED && !(o->flags & OCI_EXEC_IGNORE_PAUSED))
		return hint(err, refuse(err, -EBUSY, "cannot exec in a paused container"),
			    "resume it first, or use --ignore-paused");
	if (l->terminal && o->console_socket == NULL && !(o->flags & OCI_EXEC_KEEP_TERMINAL))
		return hint(err,
			    refuse(err, -EINVAL,
				   "process.terminal: a terminal needs a console socket to send it "
				   "to"),
			    "use --console-socket");
	if ((rc = launch_preserve(l, o->preserve_fds, err)) < 0 ||
	    (rc = open_target(l, container, err)) < 0 ||
	    (rc = open_cgroup(container, o->cgroups, ret_cgroup, err)) < 0)
		return rc;
	l->cgroup = *ret_cgroup;
	if (s->given && l->program.code == NULL &&
	    (rc = seccomp_compile(s, container->root_fd, &l->program, err)) < 0)
		return rc;
	if (s->given && !str_empty(s->listener_path)) {
		l->listener_sock = sock_connect(AT_FDCWD, s->listener_path, SOCK_STREAM);
		if (l->listener_sock < 0)
			return fail(err, l->listener_sock,
				    "linux.seccomp.listenerPath: connect to %s", s->listener_path);
	}
	return 0;
}

/* The process is on the initial CPUs before it is in the container's cgroup: it has them from us. */
static int spawn_on_initial(struct launch *l, struct oci_child *child, struct error *err)
{
	const char *initial = l->process->cpu_affinity_initial;
	cpu_set_t ours;
	int rc;

	if (initial != NULL && sched_getaffinity(0, sizeof(ours), &ours) < 0)
		return fail(err, -errno, "process.execCPUAffinity.initial");
	rc = process_set_affinity(initial, "initial", err);
	if (rc == 0)
		rc = launch_spawn(l, exec_main, &child->pid, &child->pidfd, err);
	if (initial != NULL && sched_setaffinity(0, sizeof(ours), &ours) < 0)
		log_warn("return to our CPUs: %s", strerror(errno));
	return rc;
}

int oci_exec(const struct oci_exec *o, struct oci_child *ret, struct error *err)
{
	own_container struct container *container = NULL;
	own_config struct config *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	struct config_process process;
	struct oci_child child = OCI_CHILD_EMPTY;
	own_launch struct launch l;
	own_mem char *bundle = NULL;
	int rc;

	launch_init(&l);
	if ((rc = container_open(o->state_root, o->id, CONTAINER_LOOK, &container, err)) < 0 ||
	    (rc = container_config(container, &c, err)) < 0 ||
	    (rc = parse_process(c, o->process, &process, err)) < 0)
		return rc;
	bundle = str_copy(json_string_value(json_object_get(container->record, "bundle")));
	if (o->filter != NULL)
		seccomp_use(o->filter, &c->linux_.seccomp, &l.program);
	l.config = c;
	l.process = &process;
	memcpy(l.stdio, o->stdio, sizeof(l.stdio));
	l.sibling = o->flags & OCI_EXEC_SIBLING;
	l.terminal = process.terminal;
	l.plain_output = o->flags & OCI_EXEC_PLAIN_OUTPUT;
	l.id = o->id;
	l.bundle = bundle;
	rc = prepare(&l, container, o, &cg, err);
	if (rc < 0)
		return rc;
	/* From its first instruction the process is in the container's pid namespace, where others may
	 * be allowed to trace: it inherits that it cannot be. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return fail(err, -errno, "guard against tracing");
	rc = spawn_on_initial(&l, &child, err);
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 && rc == 0)
		rc = fail(err, -errno, "allow tracing again");
	if (rc == 0)
		rc = resctrl_assign(&c->linux_.intel_rdt, o->id, child.pid, true, err);
	if (rc == 0)
		rc = finish(&l, o, &child, err);
	if (rc < 0) {
		if (child.pid > 0 && proc_signal(child.pidfd, SIGKILL) == 0 &&
		    !(o->flags & OCI_EXEC_SIBLING))
			(void)!proc_wait(child.pidfd, NULL);
		oci_child_release(&child);
		return rc;
	}
	*ret = child;
	return 0;
}
