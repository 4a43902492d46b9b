/*
 * seccomp: see seccomp.h.
 *
 * The table groups calls by the condition under which they are allowed. Names that the running kernel
 * or the architecture does not have are dropped by the runtime.
 */
#include "engine/seccomp.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Always allowed. By subject, so that one can see what is there. */
static const char always[] =
	/* files */
	"access chdir chmod chown chown32 close close_range copy_file_range creat dup dup2 dup3 "
	"faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2 fchown "
	"fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr "
	"fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futimesat getcwd "
	"getdents getdents64 getxattr getxattrat ioctl lchown lchown32 lgetxattr link linkat listxattr "
	"listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 mkdir mkdirat mknod "
	"mknodat name_to_handle_at newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 "
	"pwritev pwritev2 read readahead readlink readlinkat readv removexattr removexattrat rename "
	"renameat renameat2 rmdir sendfile sendfile64 setxattr setxattrat splice stat stat64 statfs "
	"statfs64 statmount listmount statx symlink symlinkat sync sync_file_range syncfs tee truncate "
	"truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes vmsplice write writev "
	"inotify_add_watch inotify_init inotify_init1 inotify_rm_watch fanotify_mark "
	"io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit "
	"ioprio_get ioprio_set "
	/* waiting */
	"epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait "
	"epoll_wait_old eventfd eventfd2 _newselect poll ppoll ppoll_time64 pselect6 pselect6_time64 "
	"select signalfd signalfd4 pause nanosleep restart_syscall "
	/* memory */
	"brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock "
	"mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc "
	"pkey_free pkey_mprotect process_mrelease remap_file_pages "
	/* processes and signals */
	"capget capset execve execveat exit exit_group fork getcpu getegid getegid32 geteuid geteuid32 "
	"getgid getgid32 getgroups getgroups32 getpgid getpgrp getpid getppid getpriority getresgid "
	"getresgid32 getresuid getresuid32 getrlimit getrusage getsid gettid getuid getuid32 "
	"get_robust_list get_thread_area kill landlock_add_rule landlock_create_ruleset "
	"landlock_restrict_self pidfd_open pidfd_send_signal prctl prlimit64 process_vm_readv "
	"process_vm_writev ptrace rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo "
	"rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo "
	"sched_getaffinity sched_getattr sched_getparam sched_get_priority_max sched_get_priority_min "
	"sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity "
	"sched_setattr sched_setparam sched_setscheduler sched_yield seccomp setfsgid setfsgid32 "
	"setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setpgid setpriority setregid "
	"setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit "
	"set_robust_list setsid set_thread_area set_tid_address setuid setuid32 sigaltstack "
	"sigprocmask sigreturn tgkill tkill ugetrlimit uretprobe vfork wait4 waitid waitpid "
	"lsm_get_self_attr lsm_list_modules lsm_set_self_attr riscv_hwprobe riscv_flush_icache "
	/* time */
	"adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime "
	"clock_gettime64 clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday setitimer time "
	"timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime "
	"timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime "
	"timerfd_settime64 times "
	/* talking to each other */
	"accept accept4 bind connect getpeername getsockname getsockopt listen pipe pipe2 recv recvfrom "
	"recvmmsg recvmmsg_time64 recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall "
	"socketpair futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake ipc msgctl msgget "
	"msgrcv msgsnd mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 "
	"mq_timedsend mq_timedsend_time64 mq_unlink semctl semget semop semtimedop semtimedop_time64 "
	"shmat shmctl shmdt shmget "
	/* the system */
	"getrandom sysinfo uname "
	/* of one architecture only */
	"arch_prctl modify_ldt arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush "
	"set_tls swapcontext s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr";

struct by_capability {
	char capability[24];
	char calls[340];
};
static const struct by_capability by_capability[] = {
	{"CAP_DAC_READ_SEARCH", "open_by_handle_at"},
	{"CAP_SYS_ADMIN",
	 "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount "
	 "mount_setattr move_mount open_tree open_tree_attr perf_event_open quotactl quotactl_fd "
	 "setdomainname sethostname setns syslog umount umount2 unshare"},
	{"CAP_SYS_BOOT", "reboot"},
	{"CAP_SYS_CHROOT", "chroot"},
	{"CAP_SYS_MODULE", "delete_module init_module finit_module"},
	{"CAP_SYS_PACCT", "acct"},
	{"CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"},
	{"CAP_SYS_RAWIO", "iopl ioperm"},
	{"CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"},
	{"CAP_SYS_TTY_CONFIG", "vhangup"},
	{"CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"},
	{"CAP_SYSLOG", "syslog"},
	{"CAP_BPF", "bpf"},
	{"CAP_PERFMON", "perf_event_open"},
};

/* Appends the words of `text` to `names`. */
static void add_words(json_t *names, const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (n > 0)
			json_array_append_new(names, json_stringn(text, n));
		text += n + strspn(text + n, " ");
	}
}

static json_t *rule(const char *names_text, const char *action)
{
	json_t *rule = json_object(), *names = json_array();

	add_words(names, names_text);
	json_object_set_new(rule, "names", names);
	json_object_set_new(rule, "action", json_string(action));
	return rule;
}

/* An allowed call with a condition on one argument. */
static json_t *rule_if(const char *name, int64_t index, const char *op, int64_t value,
		       int64_t value_two)
{
	json_t *r = rule(name, "SCMP_ACT_ALLOW"), *args = json_array(), *arg = json_object();

	json_object_set_new(arg, "index", json_integer(index));
	json_object_set_new(arg, "value", json_integer(value));
	if (value_two != 0 || str_eq(op, "SCMP_CMP_MASKED_EQ"))
		json_object_set_new(arg, "valueTwo", json_integer(value_two));
	json_object_set_new(arg, "op", json_string(op));
	json_array_append_new(args, arg);
	json_object_set_new(r, "args", args);
	return r;
}

static bool has(const json_t *capabilities, const char *name)
{
	for (size_t i = 0; i < json_array_size(capabilities); i++)
		if (str_eq(json_string_value(json_array_get(capabilities, i)), name))
			return true;
	return false;
}

static json_t *architectures(void)
{
	json_t *array = json_array();

#if defined(__x86_64__)
	json_array_append_new(array, json_string("SCMP_ARCH_X86_64"));
	json_array_append_new(array, json_string("SCMP_ARCH_X86"));
	json_array_append_new(array, json_string("SCMP_ARCH_X32"));
#elif defined(__aarch64__)
	json_array_append_new(array, json_string("SCMP_ARCH_AARCH64"));
	json_array_append_new(array, json_string("SCMP_ARCH_ARM"));
#endif
	return array;
}

/* What depends on arguments. */
static void add_conditional(json_t *rules, const json_t *capabilities)
{
	/* PER_LINUX, PER_LINUX32, both with UNAME26, and the query. */
	static const int64_t personalities[] = {0x0, 0x8, 0x20000, 0x20008, 0xffffffff};
	enum { FAMILY_VSOCK = 40 };
	/* Every CLONE_NEW* but time: a namespace of its own would give all capabilities in it. */
	const int64_t namespaces = CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
				   CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;

	/* vsock reaches the hypervisor past every network namespace. */
	json_array_append_new(rules, rule_if("socket", 0, "SCMP_CMP_NE", FAMILY_VSOCK, 0));
	for (size_t i = 0; i < array_size(personalities); i++)
		json_array_append_new(
			rules, rule_if("personality", 0, "SCMP_CMP_EQ", personalities[i], 0));
	if (!has(capabilities, "CAP_SYS_ADMIN")) {
		json_t *clone3 = rule("clone3", "SCMP_ACT_ERRNO");

		json_object_set_new(clone3, "errnoRet", json_integer(ENOSYS));
		json_array_append_new(rules, clone3);
		json_array_append_new(rules,
				      rule_if("clone", 0, "SCMP_CMP_MASKED_EQ", namespaces, 0));
	}
}

json_t *seccomp_default(const json_t *capabilities)
{
	json_t *profile = json_object(), *rules = json_array();
	json_t *allowed = rule(always, "SCMP_ACT_ALLOW");

	for (size_t i = 0; i < array_size(by_capability); i++)
		if (has(capabilities, by_capability[i].capability))
			add_words(json_object_get(allowed, "names"), by_capability[i].calls);
	json_array_append_new(rules, allowed);
	add_conditional(rules, capabilities);
	json_object_set_new(profile, "defaultAction", json_string("SCMP_ACT_ERRNO"));
	json_object_set_new(profile, "defaultErrnoRet", json_integer(EPERM));
	json_object_set_new(profile, "architectures", architectures());
	json_object_set_new(profile, "syscalls", rules);
	return profile;
}

/* --- docker's profile files ------------------------------------------------------------------------ */

/* True if every (or, with `any`, one) word of `list` is a capability of ours. */
static bool caps_match(const json_t *list, const json_t *capabilities, bool any)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (has(capabilities, json_string_value(json_array_get(list, i))) == any)
			return any;
	return !any;
}

static bool has_arch(const json_t *list)
{
#if defined(__x86_64__)
	const char *names[] = {"amd64", "x86", "x32"};
#else
	const char *names[] = {"arm64", "arm", "aarch64"};
#endif
	for (size_t i = 0; i < json_array_size(list); i++)
		for (size_t j = 0; j < array_size(names); j++)
			if (str_eq(json_string_value(json_array_get(list, i)), names[j]))
				return true;
	return false;
}

/* Whether a rule of docker's form holds for these capabilities here. minKernel asks for at most 5.x,
 * which berth needs anyhow. */
static bool applies(const json_t *entry, const json_t *capabilities)
{
	const json_t *includes = json_object_get(entry, "includes");
	const json_t *excludes = json_object_get(entry, "excludes");
	const json_t *arches = json_object_get(includes, "arches");

	if (json_array_size(arches) > 0 && !has_arch(arches))
		return false;
	if (has_arch(json_object_get(excludes, "arches")))
		return false;
	return caps_match(json_object_get(includes, "caps"), capabilities, false) &&
	       !caps_match(json_object_get(excludes, "caps"), capabilities, true);
}

static json_t *convert_rules(json_t *rules, const json_t *capabilities)
{
	json_t *converted = json_array();
	json_t *entry;
	size_t i;

	json_array_foreach (rules, i, entry) {
		json_t *copy, *name;

		if (!applies(entry, capabilities))
			continue;
		copy = json_copy(entry);
		/* The oldest form has one name. */
		name = json_object_get(copy, "name");
		if (name != NULL && json_object_get(copy, "names") == NULL) {
			json_t *names = json_array();

			json_array_append(names, name);
			json_object_set_new(copy, "names", names);
		}
		json_object_del(copy, "name");
		json_object_del(copy, "includes");
		json_object_del(copy, "excludes");
		json_object_del(copy, "comment");
		json_array_append_new(converted, copy);
	}
	return converted;
}

int seccomp_from_profile(json_t *profile, const json_t *capabilities, json_t **ret,
			 struct error *err)
{
	struct json_at root = json_root(profile), rules;
	own_json json_t *result = NULL;
	int rc = json_as_object(&root, err);

	if (rc == 0)
		rc = json_array_at(&root, "syscalls", JSON_OPTIONAL, &rules, err);
	if (rc < 0)
		return fail(err, rc, "seccomp profile");
	result = json_copy(profile);
	if (rc > 0)
		json_object_set_new(result, "syscalls", convert_rules(rules.value, capabilities));
	if (json_object_get(result, "archMap") != NULL) {
		json_object_del(result, "archMap");
		json_object_set_new(result, "architectures", architectures());
	}
	*ret = take(result);
	return 0;
}
