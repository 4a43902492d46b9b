/* process: see process.h. */
#include "oci/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/caps.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum { EXIT_NOT_FOUND = 127, EXIT_NOT_EXECUTABLE = 126, PASSWD_MAX = 4 << 20 };

/* --- limits ------------------------------------------------------------------------------------- */

static int set_oom_score(pid_t pid, int score)
{
	own_mem char *path = pid ? str_format("/proc/%d/oom_score_adj", (int)pid)
				 : str_copy("/proc/self/oom_score_adj");
	own_fd int fd = open(path, O_WRONLY | O_CLOEXEC);
	struct statfs fs;
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", score);

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != PROC_SUPER_MAGIC)
		return -ENODEV;
	return write(fd, text, (size_t)n) < 0 ? -errno : 0;
}

int process_set_limits(pid_t pid, const struct config_process *p, struct error *err)
{
	int rc;

	for (size_t i = 0; i < p->rlimit_count; i++) {
		struct rlimit limit = {p->rlimits[i].soft, p->rlimits[i].hard};

		if (prlimit(pid, (enum __rlimit_resource)p->rlimits[i].resource, &limit, NULL) < 0)
			return hint(err,
				    fail(err, -errno, "process.rlimits[%zu]: set limit %d to %llu",
					 i, p->rlimits[i].resource,
					 (unsigned long long)p->rlimits[i].hard),
				    "raising a limit needs CAP_SYS_RESOURCE");
	}
	if (p->has_oom_score_adj) {
		rc = set_oom_score(pid, p->oom_score_adj);
		if (rc < 0)
			return fail(err, rc, "process.oomScoreAdj: set to %d", p->oom_score_adj);
	}
	return 0;
}

struct sched_attr_v1 {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
	uint32_t util_min, util_max;
};

/* "0-3,7" as bits, of which there are `count`. */
static int parse_numbers(const char *list, unsigned long *bits, unsigned long count)
{
	enum { WORD = 8 * sizeof(long) };

	for (const char *p = list; *p != '\0';) {
		char *end;
		unsigned long first = strtoul(p, &end, 10), last = first;

		if (end == p || *p < '0' || *p > '9')
			return -EINVAL;
		if (*end == '-') {
			p = end + 1;
			last = strtoul(p, &end, 10);
			if (end == p)
				return -EINVAL;
		}
		if (last < first || last >= count || (*end != ',' && *end != '\0'))
			return -EINVAL;
		for (unsigned long n = first; n <= last; n++)
			bits[n / WORD] |= 1UL << n % WORD;
		p = *end ? end + 1 : end;
	}
	return 0;
}

int process_set_affinity(const char *cpus, const char *field, struct error *err)
{
	union {
		cpu_set_t set;
		unsigned long bits[CPU_SETSIZE / (8 * sizeof(long))];
	} wanted = {0};

	if (cpus == NULL)
		return 0;
	if (parse_numbers(cpus, wanted.bits, CPU_SETSIZE) < 0)
		return refuse(err, -EINVAL,
			      "process.execCPUAffinity.%s: \"%s\" is not a list like 0-3,7", field,
			      cpus);
	return sched_setaffinity(0, sizeof(wanted), &wanted.set) < 0
		       ? fail(err, -errno, "process.execCPUAffinity.%s", field)
		       : 0;
}

static int set_memory_policy(const struct config_memory_policy *m, struct error *err)
{
	enum { NODES_MAX = 1024 };
	unsigned long nodes[NODES_MAX / (8 * sizeof(long))] = {0};
	const bool some = !str_empty(m->nodes);

	if (!m->given)
		return 0;
	if (some && parse_numbers(m->nodes, nodes, NODES_MAX) < 0)
		return refuse(err, -EINVAL,
			      "linux.memoryPolicy.nodes: \"%s\" is not a list like 0-3,7",
			      m->nodes);
	/* The kernel takes the count for one more than it is. */
	return syscall(SYS_set_mempolicy, m->mode, some ? nodes : NULL, some ? NODES_MAX + 1 : 0) <
			       0
		       ? fail(err, -errno, "linux.memoryPolicy")
		       : 0;
}

int process_set_scheduling(const struct config *c, const struct config_process *p,
			   struct error *err)
{
	const struct config_scheduler *s = &p->scheduler;
	enum { IOPRIO_WHO_PROCESS_ = 1 };

	if (p->has_scheduler) {
		struct sched_attr_v1 attr = {
			.size = sizeof(attr),
			.policy = s->policy,
			.flags = s->flags,
			.nice = s->nice,
			.priority = (uint32_t)s->priority,
			.runtime = s->runtime_ns,
			.deadline = s->deadline_ns,
			.period = s->period_ns,
		};

		if (syscall(SYS_sched_setattr, 0, &attr, 0) < 0)
			return fail(err, -errno, "process.scheduler");
	}
	if (p->has_io_priority &&
	    syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS_, 0, p->io_priority) < 0)
		return fail(err, -errno, "process.ioPriority");
	if (c->linux_.has_personality && personality(c->linux_.personality) < 0)
		return fail(err, -errno, "linux.personality");
	return set_memory_policy(&c->linux_.memory_policy, err);
}

/* --- labels ------------------------------------------------------------------------------------- */

/* Opens an attribute of our own in the real procfs. */
static int open_attr(const char *name)
{
	own_mem char *path = str_format("/proc/thread-self/attr/%s", name);
	own_fd int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return -errno;
	return fs.f_type == PROC_SUPER_MAGIC ? take(fd) : -ENODEV;
}

static bool apparmor_is_on(void)
{
	own_mem char *text = NULL;
	size_t len;

	/* sysfs says of each file that it is a page long. */
	return file_read(AT_FDCWD, "/sys/module/apparmor/parameters/enabled", 65536, &text, &len,
			 NULL) == 0 &&
	       text[0] == 'Y';
}

int process_open_labels(const struct config_process *p, struct process_labels *ret,
			struct error *err)
{
	const bool apparmor = !str_empty(p->apparmor_profile),
		   selinux = !str_empty(p->selinux_label);

	if (apparmor) {
		if (!apparmor_is_on())
			return refuse(
				err, -ENOTSUP,
				"process.apparmorProfile: AppArmor is not enabled on this host");
		ret->apparmor = true;
		ret->text = p->apparmor_profile;
		ret->exec_fd = open_attr("apparmor/exec");
		if (ret->exec_fd < 0)
			ret->exec_fd = open_attr("exec");
		if (ret->exec_fd < 0)
			return fail(err, ret->exec_fd, "process.apparmorProfile");
	}
	if (selinux) {
		if (access("/sys/fs/selinux/enforce", F_OK) < 0)
			return refuse(err, -ENOTSUP,
				      "process.selinuxLabel: SELinux is not enabled on this host");
		ret->text = p->selinux_label;
		ret->exec_fd = open_attr("exec");
		ret->key_fd = open_attr("keycreate");
		if (ret->exec_fd < 0)
			return fail(err, ret->exec_fd, "process.selinuxLabel");
	}
	return 0;
}

static int write_labels(const struct process_labels *labels, struct error *err)
{
	own_mem char *text = NULL;

	if (labels->exec_fd < 0)
		return 0;
	text = labels->apparmor ? str_format("exec %s", labels->text) : str_copy(labels->text);
	if (write(labels->exec_fd, text, strlen(text)) < 0)
		return fail(err, -errno, "%s \"%s\"",
			    labels->apparmor ? "process.apparmorProfile" : "process.selinuxLabel",
			    labels->text);
	return 0;
}

/* --- user --------------------------------------------------------------------------------------- */

static bool is_null_device(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(1, 3);
}

/* The container's /dev/null. Anything may be at its place: opening it must not block. */
static int open_null(void)
{
	own_fd int fd = open("/dev/null", O_RDWR | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !is_null_device(&st) || fcntl(fd, F_SETFL, O_RDWR) < 0)
		return -ENODEV;
	return take(fd);
}

void process_own_stdio(const struct config_process *p)
{
	own_fd int null = -1;

	for (int fd = 0; fd < 3; fd++) {
		struct stat st;

		if (fstat(fd, &st) < 0)
			continue;
		if (is_null_device(&st)) {
			null = null < 0 ? open_null() : null;
			/* Without one of its own the host's has to do. */
			if (null < 0 || dup2(null, fd) < 0)
				continue;
		}
		if (st.st_uid == p->uid || is_null_device(&st) || S_ISREG(st.st_mode))
			continue;
		/* Some kinds of file cannot change hands; they can still be used. */
		if (fchown(fd, p->uid, (gid_t)-1) < 0)
			continue;
	}
}

static bool setgroups_is_denied(void)
{
	own_mem char *text = NULL;
	size_t len;

	return file_read(AT_FDCWD, "/proc/self/setgroups", 16, &text, &len, NULL) == 0 &&
	       strncmp(text, "deny", 4) == 0;
}

/* The kernel's word for it is that the argument is bad. */
static int no_such_id(int rc, struct error *err)
{
	return rc == -EINVAL ? hint(err, rc,
				    "the user namespace has no such id: more of them come from "
				    "/etc/subuid and /etc/subgid")
			     : rc;
}

int process_become_user(const struct config_process *p, struct error *err)
{
	int rc;

	if (!p->keep_groups && setgroups(p->group_count, p->groups) < 0 &&
	    (errno != EPERM || p->group_count > 0 || !setgroups_is_denied()))
		return fail(err, -errno, "process.user.additionalGids");
	rc = caps_before_user(&p->caps, err);
	if (rc < 0)
		return rc;
	if (setresgid(p->gid, p->gid, p->gid) < 0)
		return no_such_id(fail(err, -errno, "process.user.gid: become group %u", p->gid),
				  err);
	if (setresuid(p->uid, p->uid, p->uid) < 0)
		return no_such_id(fail(err, -errno, "process.user.uid: become user %u", p->uid),
				  err);
	if (p->has_umask)
		umask(p->umask);
	return 0;
}

int process_enter_cwd(const struct config_process *p, struct error *err)
{
	const char *cwd = p->cwd ? p->cwd : "/";
	own_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	char path[PATH_MAX];
	long n;

	if (root < 0)
		return fail(err, -errno, "open /");
	/* Magic links (/proc/self/fd/N) are not followed: one could lead to a directory of the host. */
	fd = beneath_open(root, cwd, O_PATH | O_DIRECTORY, 0);
	if (fd == -ELOOP)
		return refuse(err, fd,
			      "process.cwd: \"%s\" leads through a link that is not allowed", cwd);
	if (fd < 0)
		return fail(err, fd, "process.cwd: change to \"%s\"", cwd);
	if (fchdir(fd) < 0)
		return fail(err, -errno, "process.cwd: change to \"%s\"", cwd);
	/* What is not below our root has a path that does not begin with "/". */
	n = syscall(SYS_getcwd, path, sizeof(path));
	if (n < 0 || path[0] != '/')
		return refuse(err, -EPERM, "process.cwd: \"%s\" is outside of the container", cwd);
	return 0;
}

/* --- the program -------------------------------------------------------------------------------- */

/* The home directory of the uid, from the container's own /etc/passwd: bounded, and never a device or
 * FIFO that could hold us up. */
static char *find_home(uid_t uid)
{
	own_fd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	own_mem char *text = NULL;
	char *save = NULL;
	struct stat st;
	size_t len;

	fd = root < 0 ? -1 : beneath_open(root, "etc/passwd", O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    fd_read_all(fd, PASSWD_MAX, &text, &len) < 0)
		return str_copy(uid == 0 ? "/root" : "/");
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		own_strv char **field = strv_split(line, ':');
		uint64_t id;

		if (strv_len(field) >= 6 && str_to_uint(field[2], UINT32_MAX, &id) == 0 &&
		    id == uid)
			return str_copy(field[5][0] ? field[5] : "/");
	}
	return str_copy(uid == 0 ? "/root" : "/");
}

static int not_found(const char *name, struct error *err)
{
	return exit_with(
		err, refuse(err, -ENOENT, "exec: \"%s\": executable file not found in $PATH", name),
		EXIT_NOT_FOUND);
}

static int not_executable(const char *name, int rc, struct error *err)
{
	if (rc == -ENOENT || rc == -ENOTDIR)
		return exit_with(err,
				 refuse(err, rc, "exec: \"%s\": stat %s: no such file or directory",
					name, name),
				 EXIT_NOT_FOUND);
	return exit_with(err, refuse(err, rc, "exec: \"%s\": permission denied", name),
			 EXIT_NOT_EXECUTABLE);
}

/* 0, -ENOENT, or -EACCES for what is there but cannot be executed. The capabilities of the process are
 * not in effect yet: one of them lets it execute what anybody may. */
static int check_program(const struct config_process *p, const char *path)
{
	const bool override = p->caps.effective & UINT64_C(1) << CAP_DAC_OVERRIDE;
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EACCES;
	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0 || (override && st.st_mode & 0111))
		return 0;
	return -errno;
}

int process_find_program(const struct config_process *p, char **ret_path, char ***ret_env,
			 struct error *err)
{
	own_strv char **env = strv_copy(p->env), **dirs = NULL;
	const char *name = p->args ? p->args[0] : NULL, *search;
	int found = -ENOENT;

	if (str_empty(name))
		return exit_with(err, refuse(err, -EINVAL, "process.args: names no program"),
				 EXIT_NOT_FOUND);
	if (env_get(env, "HOME") == NULL || env_get(env, "HOME")[0] == '\0') {
		own_mem char *home = find_home(p->uid);

		env_set(&env, "HOME", home);
	}
	search = env_get(env, "PATH");
	if (strchr(name, '/') != NULL) {
		int rc = check_program(p, name);

		if (rc < 0)
			return not_executable(name, rc, err);
		*ret_path = str_copy(name);
		*ret_env = take(env);
		return 0;
	}
	dirs = strv_split(search ? search : DEFAULT_PATH, ':');
	for (size_t i = 0; dirs != NULL && dirs[i] != NULL; i++) {
		own_mem char *path = str_format("%s%s%s", dirs[i], dirs[i][0] ? "/" : "./", name);
		int rc = check_program(p, path);

		if (rc == 0) {
			*ret_path = take(path);
			*ret_env = take(env);
			return 0;
		}
		if (rc == -EACCES)
			found = rc;
	}
	return found == -EACCES ? not_executable(name, found, err) : not_found(name, err);
}

int process_confine(const struct config_process *p, const struct process_labels *labels,
		    const struct seccomp_program *program, const struct config_seccomp *seccomp,
		    int (*on_listener)(int listener_fd, void *data, struct error *err), void *data,
		    struct error *err)
{
	const bool filter = program->code != NULL;
	own_fd int listener = -1;
	int rc = write_labels(labels, err);

	if (rc < 0)
		return rc;
	if (p->no_new_privileges && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return fail(err, -errno, "process.noNewPrivileges");
	/* Without no_new_privs a filter needs CAP_SYS_ADMIN, which goes with the next step; with it the
	 * filter comes last, so that it need not allow what that step does. */
	if (filter && !p->no_new_privileges) {
		struct config_caps all = {.effective = ~UINT64_C(0), .permitted = ~UINT64_C(0)};

		rc = caps_after_user(&all, err);
		if (rc == 0)
			rc = seccomp_install(program, seccomp, err);
		if (rc < 0)
			return rc;
	}
	if (filter && !p->no_new_privileges && !str_empty(seccomp->listener_path))
		listener = rc;
	rc = caps_after_user(&p->caps, err);
	if (rc < 0)
		return rc;
	if (filter && p->no_new_privileges) {
		rc = seccomp_install(program, seccomp, err);
		if (rc < 0)
			return rc;
		if (!str_empty(seccomp->listener_path))
			listener = rc;
	}
	return listener >= 0 ? on_listener(listener, data, err) : 0;
}

int process_execute(const char *path, const struct config_process *p, char *const *env,
		    struct error *err)
{
	int rc;

	execve(path, p->args, env);
	rc = -errno;
	if (rc == -ENOENT)
		return exit_with(err,
				 refuse(err, rc,
					"exec %s: no such file or directory (its interpreter or "
					"loader is missing)",
					path),
				 EXIT_NOT_FOUND);
	if (rc == -ENOEXEC)
		return exit_with(err, refuse(err, rc, "exec %s: exec format error", path),
				 EXIT_NOT_EXECUTABLE);
	return exit_with(err,
			 rc == -EACCES ? refuse(err, rc, "exec %s: permission denied", path)
				       : fail(err, rc, "exec %s", path),
			 EXIT_NOT_EXECUTABLE);
}
