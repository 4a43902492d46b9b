/* init: see init.h. */
#include "oci/init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/hooks.h"
#include "oci/sync.h"
#include "oci/terminal.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* --- namespaces --------------------------------------------------------------------------------- */

/* Becomes root of a new user namespace once the runtime has written its mappings. */
static int enter_user_namespace(struct launch *l, struct error *err)
{
	if (l->namespace_fds[NAMESPACE_USER] >= 0 &&
	    setns(l->namespace_fds[NAMESPACE_USER], CLONE_NEWUSER) < 0)
		return fail(err, -errno, "join the user namespace");
	if (l->late_flags != 0 && unshare((int)l->late_flags) < 0)
		return fail(err, -errno, "create namespaces in the user namespace");
	return 0;
}

static int become_root(const struct launch *l)
{
	/* The container may not have an id 0; then its own user has to do. */
	if (!config_has_namespace(l->config, NAMESPACE_USER))
		return 0;
	if (setresgid(0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	if (setresuid(0, 0, 0) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

/* A time namespace takes offsets only as long as nobody is in it: we make one for our children, set
 * it up, and enter it. */
static int enter_time_namespace(const struct config_linux *l, struct error *err)
{
	char text[128] = "";
	int n = 0, fd, rc = 0;

	if (unshare(CLONE_NEWTIME) < 0)
		return fail(err, -errno, "create a time namespace");
	if (l->has_monotonic)
		n = snprintf(text, sizeof(text), "monotonic %lld %u\n",
			     (long long)l->monotonic.seconds, l->monotonic.nanoseconds);
	if (l->has_boottime)
		snprintf(text + n, sizeof(text) - (size_t)n, "boottime %lld %u\n",
			 (long long)l->boottime.seconds, l->boottime.nanoseconds);
	if (text[0] != '\0' && (rc = file_put(AT_FDCWD, "/proc/self/timens_offsets", text)) < 0)
		return fail(err, rc, "linux.timeOffsets");
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWTIME) < 0)
		rc = fail(err, -errno, "enter the time namespace");
	fd_close(&fd);
	return rc;
}

static int loopback_up(struct error *err)
{
	own_fd int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &request) < 0)
		return fail(err, -errno, "bring up the loopback interface");
	return 0;
}

static int set_names(const struct config *c, struct error *err)
{
	if (!str_empty(c->hostname) && sethostname(c->hostname, strlen(c->hostname)) < 0)
		return fail(err, -errno, "hostname: set to \"%s\"", c->hostname);
	if (!str_empty(c->domainname) && setdomainname(c->domainname, strlen(c->domainname)) < 0)
		return fail(err, -errno, "domainname: set to \"%s\"", c->domainname);
	return 0;
}

static void join_keyring(const struct launch *l)
{
	enum { JOIN_SESSION_KEYRING = 1 };
	own_mem char *name = str_format("_ses.%s", l->id);

	/* Without keys in the kernel there is no keyring of the host to keep away from either. */
	if (!l->no_keyring && syscall(SYS_keyctl, JOIN_SESSION_KEYRING, name) < 0)
		return;
}

static int set_up_namespaces(struct launch *l, struct error *err)
{
	const struct config *c = l->config;
	int rc;

	/* After the cgroups are joined: they become the root of the view. */
	if (config_new_namespace(c, NAMESPACE_CGROUP) && unshare(CLONE_NEWCGROUP) < 0)
		return fail(err, -errno, "create a cgroup namespace");
	if (config_new_namespace(c, NAMESPACE_TIME) &&
	    (rc = enter_time_namespace(&c->linux_, err)) < 0)
		return rc;
	rc = become_root(l);
	if (rc < 0)
		return fail(err, rc, "become root of the user namespace");
	rc = set_names(c, err);
	if (rc == 0 && config_new_namespace(c, NAMESPACE_NETWORK))
		rc = loopback_up(err);
	join_keyring(l);
	return rc;
}

/* --- kernel settings ---------------------------------------------------------------------------- */

/* Opens the host's /proc/sys, before a mount namespace is joined in which somebody else decides about what
 * is there. The files show the settings of the namespaces of who opens them. -1 if there is nothing to
 * set. */
static int open_sysctls(const struct config_linux *l, int *ret, struct error *err)
{
	own_fd int dir = l->sysctl_count ? open("/proc/sys", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	struct statfs fs;

	if (l->sysctl_count == 0)
		return 0;
	if (dir < 0 || fstatfs(dir, &fs) < 0)
		return fail(err, -errno, "open /proc/sys");
	if (fs.f_type != PROC_SUPER_MAGIC)
		return refuse(err, -ENODEV, "/proc/sys is not a procfs");
	*ret = take(dir);
	return 0;
}

static int set_sysctls(const struct config_linux *l, int dir, struct error *err)
{
	for (size_t i = 0; i < l->sysctl_count; i++) {
		const struct config_sysctl *s = &l->sysctls[i];
		own_mem char *path = str_copy(s->name);
		own_fd int fd = -1;

		if (strchr(path, '.') != NULL &&
		    (strchr(path, '/') == NULL || strchr(path, '.') < strchr(path, '/')))
			for (char *p = path; *p != '\0'; p++)
				*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
		fd = beneath_open(dir, path, O_WRONLY | O_NOFOLLOW, 0);
		if (fd < 0)
			return fail(err, fd, "linux.sysctl.%s", s->name);
		if (write(fd, s->value, strlen(s->value)) < 0)
			return fail(err, -errno, "linux.sysctl.%s: set to \"%s\"", s->name,
				    s->value);
	}
	return 0;
}

/* --- files -------------------------------------------------------------------------------------- */

static bool has_hooks(const struct config *c, enum config_hook_kind kind)
{
	return c->hooks[kind].count > 0;
}

/* Our pid as the host sees it: the host's /proc says. */
static pid_t read_host_pid(void)
{
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	return (pid_t)strtol(text, NULL, 10);
}

static int run_hooks(const struct launch *l, enum config_hook_kind kind, enum oci_status status,
		     struct error *err)
{
	struct hook_state state = {
		.id = l->id,
		.bundle = l->bundle,
		.status = status,
		.pid = l->host_pid,
		.annotations = l->config->annotations,
	};

	return has_hooks(l->config, kind) ? hooks_run(l->config, kind, &state, err) : 0;
}

/* The runtime runs its hooks while we wait, then the container's own run here. */
static int hooks_before_pivot(struct launch *l, struct error *err)
{
	const struct config *c = l->config;
	int rc = 0;

	if (has_hooks(c, HOOK_PRESTART) || has_hooks(c, HOOK_CREATE_RUNTIME)) {
		rc = sync_send(l->child_sock, SYNC_HOOKS, -1);
		if (rc < 0)
			return fail(err, rc, "talk to the runtime");
		rc = sync_wait_go(l->child_sock, err);
		if (rc < 0)
			return rc;
	}
	if (!has_hooks(c, HOOK_CREATE_CONTAINER))
		return 0;
	/* Other runtimes have changed to the new root at this point, and hooks rely on it. */
	if (l->rootfs.root_fd >= 0 && fchdir(l->rootfs.root_fd) < 0)
		return fail(err, -errno, "change to the root directory");
	return run_hooks(l, HOOK_CREATE_CONTAINER, OCI_CREATING, err);
}

/* Nothing is to be mounted, and there is no mount namespace: only the root directory changes. */
static int enter_plain(struct launch *l, int sysctl_dir, struct error *err)
{
	const struct config *c = l->config;
	own_mem char *path = NULL;
	int rc;

	if (c->root_path == NULL || l->rootfs.given_fd >= 0)
		return refuse(err, -EINVAL, "root: needs a mount namespace");
	rc = hooks_before_pivot(l, err);
	if (rc == 0)
		rc = set_sysctls(&c->linux_, sysctl_dir, err);
	if (rc < 0)
		return rc;
	path = c->root_path[0] == '/' ? str_copy(c->root_path)
				      : str_format("%s/%s", l->bundle, c->root_path);
	if (chdir(path) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return fail(err, -errno, "root.path: change the root to %s", path);
	return 0;
}

/* True if the container has the mounts of a namespace that others are in as well. */
static bool is_plain(const struct config *c)
{
	return !config_has_namespace(c, NAMESPACE_MOUNT) && c->mount_count == 0 &&
	       !c->root_readonly;
}

/* The working directory may be missing in the image: other runtimes create it, as long as the root can
 * be written to. */
static void make_cwd(int root_fd, const struct config_process *p)
{
	own_fd int fd = -1;

	if (p->cwd != NULL && strcmp(p->cwd, "/") != 0)
		fd = beneath_make_dir(root_fd, p->cwd, 0755);
}

static int enter_mounts(struct launch *l, int sysctl_dir, int *ret_terminal, struct error *err)
{
	own_fd int terminal = -1;
	int rc;

	if (l->namespace_fds[NAMESPACE_MOUNT] >= 0 &&
	    setns(l->namespace_fds[NAMESPACE_MOUNT], CLONE_NEWNS) < 0)
		return fail(err, -errno, "join the mount namespace");
	if ((rc = rootfs_enter(&l->rootfs, err)) < 0 ||
	    (rc = rootfs_mount_all(&l->rootfs, err)) < 0 || (rc = hooks_before_pivot(l, err)) < 0 ||
	    (rc = set_sysctls(&l->config->linux_, sysctl_dir, err)) < 0)
		return rc;
	if (l->terminal) {
		terminal = launch_open_terminal(l, l->rootfs.root_fd, err);
		if (terminal < 0)
			return terminal;
		rc = rootfs_console(&l->rootfs, terminal, err);
		if (rc < 0)
			return rc;
	}
	make_cwd(l->rootfs.root_fd, l->process);
	rc = rootfs_finish(&l->rootfs, err);
	if (rc == 0)
		*ret_terminal = take(terminal);
	return rc;
}

static int enter_files(struct launch *l, struct error *err)
{
	own_fd int terminal = -1, sysctl_dir = -1;
	int rc = open_sysctls(&l->config->linux_, &sysctl_dir, err);

	if (rc < 0)
		return rc;
	rc = is_plain(l->config) ? enter_plain(l, sysctl_dir, err)
				 : enter_mounts(l, sysctl_dir, &terminal, err);
	if (rc < 0)
		return rc;
	if (l->terminal && terminal < 0) {
		own_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

		terminal = root < 0 ? -errno : launch_open_terminal(l, root, err);
		if (terminal < 0)
			return terminal;
	}
	return terminal >= 0 ? terminal_attach(terminal, err) : launch_place_stdio(l, err);
}

/* --- the whole ---------------------------------------------------------------------------------- */

static int set_up(struct launch *l, struct error *err)
{
	const bool new_user = config_new_namespace(l->config, NAMESPACE_USER);
	int rc;

	if ((rc = launch_begin(l, err)) < 0 || (rc = enter_user_namespace(l, err)) < 0)
		return rc;
	/* The runtime writes the mappings, and sets limits that need rights on the host. */
	if (new_user)
		rc = sync_wait_go(l->child_sock, err);
	else
		rc = process_set_limits(0, l->process, err);
	if (rc < 0)
		return rc;
	if (setsid() < 0)
		return fail(err, -errno, "create a session");
	if (has_hooks(l->config, HOOK_CREATE_CONTAINER) ||
	    has_hooks(l->config, HOOK_START_CONTAINER) || l->listener_sock >= 0)
		l->host_pid = read_host_pid();
	if ((rc = set_up_namespaces(l, err)) < 0 ||
	    (rc = process_set_scheduling(l->config, l->process, err)) < 0 ||
	    (rc = process_open_labels(l->process, &l->labels, err)) < 0 ||
	    (rc = enter_files(l, err)) < 0)
		return rc;
	return 0;
}

/* Waits for oci_start: one byte from whoever connects. Errors from here on go to it. */
static int wait_for_start(struct launch *l, struct error *err)
{
	for (;;) {
		own_fd int sock = accept4(l->start_sock, NULL, NULL, SOCK_CLOEXEC);

		if (sock < 0 && errno != EINTR && errno != ECONNABORTED)
			return fail(err, -errno, "wait for the start");
		if (sock >= 0 && sync_receive(sock, NULL, NULL) == SYNC_GO) {
			fd_close(&l->child_sock);
			l->child_sock = take(sock);
			fd_close(&l->start_sock);
			return 0;
		}
	}
}

/* Tells whoever waits for the execution that hooks run before it, and gives them the memory in which it will stand
 * that these are over. The container's filter may leave us no system call to say so. */
static int announce_hooks(struct launch *l, struct error *err)
{
	own_fd int fd = -1;
	void *page;

	if (!has_hooks(l->config, HOOK_START_CONTAINER))
		return 0;
	fd = memfd_create("hooks", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 1) < 0)
		return fail(err, -errno, "create a file in memory");
	page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return fail(err, -errno, "map a file in memory");
	l->hooks_over = page;
	if (sync_send(l->child_sock, SYNC_HOOKS, fd) < 0)
		log_debug("nobody waits for the start any more");
	return 0;
}

/* In the container and with no more rights than it has: its file system may have been tampered with. */
static int start_hooks(struct launch *l, struct error *err)
{
	int rc = run_hooks(l, HOOK_START_CONTAINER, OCI_CREATED, err);

	if (rc == 0 && l->hooks_over != NULL)
		*l->hooks_over = true;
	return rc;
}

void init_main(struct launch *l)
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
	if (rc == 0 && l->start_sock >= 0)
		rc = wait_for_start(l, &err);
	if (rc == 0)
		rc = announce_hooks(l, &err);
	l->last_step = start_hooks;
	if (rc == 0)
		rc = launch_execute(l, path, env, &err);
	if (rc < 0 && err.code == 0)
		fail(&err, rc, "start the container");
	sync_send_error(l->child_sock, &err);
	_exit(err.exit_status ? err.exit_status : 1);
}
