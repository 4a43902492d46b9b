/* The jail, from inside: a child shuts itself in and tries what it must not be able to do. Once as the
 * user that runs the tests, and, if that is root, once as another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kvm.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/jail/jail.h"

#include <cmocka.h>

enum { OTHER_USER = 23456, CANNOT_SWITCH = 99 };

/* In the child a failed check ends it with its line as exit code. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition,        \
				strerror(errno));                                                  \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

/* A sanitizer's runtime makes system calls of its own, which the filters are right to refuse. */
static void needs_no_sanitizer(void)
{
#ifdef __SANITIZE_ADDRESS__
	print_message("built with a sanitizer: what the filters let through is NOT tested\n");
	skip();
#endif
}

typedef void probe_fn(void);

/* Runs a probe in a jail and returns the wait status of the jailed process. */
static int jailed(uid_t uid, probe_fn *probe)
{
	struct error err = {0};
	pid_t pid = -1;
	int status = 0, rc;
	pid_t outer = fork();

	assert_true(outer >= 0);
	if (outer == 0) {
		if (uid && (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
			_exit(CANNOT_SWITCH);
		/* After a change of user its own files in /proc are root's. */
		prctl(PR_SET_DUMPABLE, 1);
		rc = jail_fork(&pid, &err);
		if (rc == 0) {
			rc = jail_enter(-1, &err);
			if (rc < 0)
				fprintf(stderr, "%s\n", err.text);
			CHECK(rc == 0);
			probe();
			_exit(0);
		}
		if (rc < 0)
			fprintf(stderr, "%s\n", err.text);
		CHECK(rc == 1);
		CHECK(waitpid(pid, &status, 0) == pid);
		if (WIFSIGNALED(status))
			kill(getpid(), WTERMSIG(status));
		_exit(WEXITSTATUS(status));
	}
	assert_int_equal(waitpid(outer, &status, 0), outer);
	return status;
}

static void check_jailed(probe_fn *probe)
{
	assert_int_equal(jailed(0, probe), 0);
	if (geteuid() == 0)
		assert_int_equal(jailed(OTHER_USER, probe), 0);
	else
		print_message("not root: the jail of root is NOT tested\n");
}

static void find_no_file(void)
{
	static const char *const paths[] = {"/etc/passwd", "/proc/self/status", "/dev/null", "/tmp",
					    "../etc/passwd"};
	const unsigned long forbid = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC;
	struct statvfs mounted;
	DIR *root = opendir("/");
	struct dirent *entry;

	CHECK(root);
	while ((entry = readdir(root)))
		CHECK(entry->d_name[0] == '.');
	for (unsigned int i = 0; i < array_size(paths); i++)
		CHECK(open(paths[i], O_RDONLY) < 0 && errno == ENOENT);
	CHECK(statvfs("/", &mounted) == 0 && (mounted.f_flag & forbid) == forbid);
	CHECK(open("/file", O_RDWR | O_CREAT, 0600) < 0);
	CHECK(mkdir("/directory", 0700) < 0);
	CHECK(mount("none", "/", "tmpfs", 0, NULL) < 0 && errno == EPERM);
	CHECK(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL) < 0);
}

static void finds_no_file(void **state)
{
	(void)state;
	check_jailed(find_no_file);
}

static void find_no_process(void)
{
	CHECK(getpid() == 1);
	CHECK(getppid() == 0);
	for (pid_t pid = 2; pid < 70000; pid++)
		CHECK(kill(pid, 0) < 0 && errno == ESRCH);
	/* all that are there: none but ourselves */
	CHECK(kill(-1, 0) < 0 && errno == ESRCH);
}

static void finds_no_process(void **state)
{
	(void)state;
	check_jailed(find_no_process);
}

static void find_no_network(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons(53), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct if_nameindex *names = if_nameindex();
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	CHECK(names && names[0].if_name && strcmp(names[0].if_name, "lo") == 0);
	CHECK(!names[1].if_name);
	CHECK(fd >= 0);
	CHECK(connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
	      errno == ENETUNREACH);
}

static void finds_no_network(void **state)
{
	(void)state;
	check_jailed(find_no_network);
}

static void have_no_rights(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];
	struct rlimit limit;

	CHECK(getuid() != 0 && geteuid() != 0 && getgid() != 0);
	CHECK(syscall(SYS_capget, &header, data) == 0);
	for (unsigned int i = 0; i < 2; i++)
		CHECK(!data[i].effective && !data[i].permitted && !data[i].inheritable);
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; capability++)
		CHECK(prctl(PR_CAPBSET_READ, capability) == 0);
	CHECK(setuid(0) < 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	CHECK(prctl(PR_GET_DUMPABLE) == 0);
	CHECK(getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0);
	CHECK(sethostname("x", 1) < 0);
}

static void has_no_rights(void **state)
{
	(void)state;
	check_jailed(have_no_rights);
}

/* The rest looks at the filter alone: what is allowed works, each of the others ends the process. */

static int filtered(enum jail_thread kind, void (*probe)(int), int argument)
{
	struct error err = {0};
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
		CHECK(jail_filter(kind, &err) == 0);
		probe(argument);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void work(int fd)
{
	uint64_t one = 1;
	void *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *heap = mem_new(1 << 18);

	CHECK(write(fd, &one, sizeof(one)) == sizeof(one));
	CHECK(read(fd, &one, sizeof(one)) == sizeof(one) && one == 1);
	CHECK(p != MAP_FAILED && munmap(p, 1 << 20) == 0);
	heap[0] = 1;
	own_mem_release(&heap);
	sched_yield();
}

static void lets_threads_work(void **state)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)state;
	needs_no_sanitizer();
	for (int kind = JAIL_VCPU; kind <= JAIL_FILES; kind++)
		assert_int_equal(filtered((enum jail_thread)kind, work, fd), 0);
	close(fd);
}

static void forbidden(int which)
{
	int fds[2];

	switch (which) {
	case 0:
		close(open("/", O_RDONLY));
		break;
	case 1:
		(void)socket(AF_UNIX, SOCK_STREAM, 0);
		break;
	case 2:
		(void)fork();
		break;
	case 3:
		(void)execl("/bin/true", "true", NULL);
		break;
	case 4:
		(void)kill(getppid(), 0);
		break;
	case 5:
		(void)mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		break;
	case 6:
		(void)mprotect((void *)((uintptr_t)&forbidden & ~0xfffull), 4096,
			       PROT_READ | PROT_WRITE | PROT_EXEC);
		break;
	case 7:
		(void)ioctl(0, TIOCSTI, "x");
		break;
	case 8:
		(void)memfd_create("code", 0);
		break;
	case 9:
		(void)syscall(SYS_tgkill, getppid(), getppid(), 0);
		break;
	case 10:
		(void)syscall(SYS_pipe2, fds, 0);
		break;
	case 11:
		(void)fcntl(0, F_SETOWN, 1);
		break;
	case 12:
		(void)syscall(SYS_getpid | 0x40000000); /* the same by another ABI */
		break;
	case 13:
		(void)prctl(PR_SET_DUMPABLE, 1);
		break;
	default:
		(void)unshare(CLONE_NEWUSER);
	}
}

enum { FORBIDDEN = 15 };

static void ends_with_what_is_not_allowed(void **state)
{
	(void)state;
	for (int kind = JAIL_VCPU; kind <= JAIL_FILES; kind++) {
		/* Those that serve a directory may open. */
		for (int which = kind == JAIL_FILES; which < FORBIDDEN; which++) {
			int status = filtered((enum jail_thread)kind, forbidden, which);

			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
				fail_msg("thread kind %d may do %d", kind, which);
		}
	}
}

static void ask_kvm(int fd)
{
	CHECK(ioctl(fd, KVM_GET_API_VERSION, 0) < 0);
}

static void send_message(int fd)
{
	CHECK(ioctl(fd, KVM_SIGNAL_MSI, NULL) < 0);
}

static void make_eventfd(int unused)
{
	(void)unused;
	CHECK(eventfd(0, EFD_CLOEXEC) >= 0);
}

/* Threads that serve what a guest asks of disks and directories send its interrupts, and no more. */
static void serving_threads_only_send_interrupts(void **state)
{
	static const enum jail_thread kinds[] = {JAIL_DISKS, JAIL_FILES};

	(void)state;
	needs_no_sanitizer();
	for (unsigned int i = 0; i < array_size(kinds); i++) {
		assert_int_equal(filtered(kinds[i], send_message, 0), 0);
		assert_int_equal(WTERMSIG(filtered(kinds[i], ask_kvm, 0)), SIGSYS);
		assert_int_equal(WTERMSIG(filtered(kinds[i], make_eventfd, 0)), SIGSYS);
	}
	assert_int_equal(filtered(JAIL_VCPU_KVM, make_eventfd, 0), 0);
}

static void only_kvm_threads_speak_to_kvm(void **state)
{
	(void)state;
	needs_no_sanitizer();
	assert_int_equal(filtered(JAIL_VCPU_KVM, ask_kvm, 0), 0);
	assert_int_equal(filtered(JAIL_DEVICES, ask_kvm, 0), 0);
	assert_int_equal(WTERMSIG(filtered(JAIL_VCPU, ask_kvm, 0)), SIGSYS);
}

/* A directory of root's, with a file of root's and one of another user's, as a machine's file threads
 * see it, and as it is. */
static void use_directory(int tree, int plain)
{
	const unsigned long forbid = ST_NOSUID | ST_NODEV | ST_NOEXEC;
	struct error err = {0};
	struct statvfs mounted;
	struct stat st;
	int fd = openat(tree, "secret", O_RDWR | O_CLOEXEC);

	CHECK(fstatvfs(tree, &mounted) == 0 && (mounted.f_flag & forbid) == forbid);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	CHECK(fstatat(tree, "others", &st, 0) == 0 && st.st_uid == OTHER_USER);
	CHECK(fchownat(tree, "others", 1, 2, 0) == 0);
	/* Root of the jail's users is not the host's. */
	CHECK(openat(plain, "secret", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	setfsgid(5);
	setfsuid(4);
	CHECK(mkdirat(tree, "open/made", 0700) == 0);
	CHECK(openat(plain, "secret", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	CHECK(fchownat(plain, "others", 1, 2, 0) < 0 && errno == EPERM);
	CHECK(mkdirat(plain, "not", 0700) < 0 && errno == EACCES);
	CHECK(mount("none", "/", "tmpfs", 0, NULL) < 0 && errno == EPERM);
	CHECK(unshare(CLONE_NEWNET) < 0 && errno == EPERM);
	/* Threads of other kinds have no part in it. */
	CHECK(jail_filter(JAIL_DEVICES, &err) == 0);
	CHECK(write(fd, "x", 1) == 1);
}

static void check_directory(const char *path)
{
	struct error err = {0};
	int plain = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), users, tree, status = 0, rc;
	pid_t pid = -1;

	rc = jail_fork(&pid, &err);
	if (rc == 1) {
		CHECK(waitpid(pid, &status, 0) == pid);
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
	}
	CHECK(rc == 0);
	users = jail_users(&err);
	CHECK(users >= 0);
	tree = jail_tree(plain, users);
	if (tree < 0)
		_exit(CANNOT_SWITCH);
	CHECK(jail_enter(users, &err) == 0);
	setfsgid(0);
	setfsuid(0);
	use_directory(tree, plain);
	_exit(0);
}

static void has_rights_over_a_directory_and_nothing_else(void **state)
{
	char path[] = "/tmp/test-jail-XXXXXX";
	struct stat st;
	int dir, status;
	pid_t pid;

	(void)state;
	needs_no_sanitizer();
	if (geteuid() != 0) {
		print_message("not root: shared directories in the jail are NOT tested\n");
		skip();
	}
	assert_non_null(mkdtemp(path));
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(fchmod(dir, 0755), 0);
	assert_int_equal(file_write(dir, "secret", "s", 1, 0600, FILE_WRITE_PLAIN, NULL), 0);
	assert_int_equal(file_write(dir, "others", "o", 1, 0600, FILE_WRITE_PLAIN, NULL), 0);
	assert_int_equal(fchownat(dir, "others", OTHER_USER, OTHER_USER, 0), 0);
	assert_int_equal(mkdirat(dir, "open", 0777), 0);
	assert_int_equal(fchmodat(dir, "open", 0777, 0), 0);
	pid = fork();
	if (pid == 0)
		check_directory(path);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_SWITCH) {
		print_message("no id-mapped mounts in /tmp: shared directories are NOT tested\n");
	} else {
		assert_int_equal(status, 0);
		assert_int_equal(fstatat(dir, "open/made", &st, 0), 0);
		assert_int_equal(st.st_uid, 4);
		assert_int_equal(st.st_gid, 5);
		assert_int_equal(fstatat(dir, "others", &st, 0), 0);
		assert_int_equal(st.st_uid, 1);
	}
	close(dir);
	assert_int_equal(tree_remove(AT_FDCWD, path, NULL), 0);
}

static void keep_rights(int unused)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	(void)unused;
	CHECK(syscall(SYS_capget, &header, data) == 0);
	CHECK(data[0].permitted != 0);
}

static void only_file_threads_keep_rights(void **state)
{
	(void)state;
	needs_no_sanitizer();
	if (geteuid() != 0)
		skip();
	assert_int_equal(filtered(JAIL_FILES, keep_rights, 0), 0);
	/* The others may not even ask. */
	assert_int_equal(WTERMSIG(filtered(JAIL_DEVICES, keep_rights, 0)), SIGSYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_no_file),
		cmocka_unit_test(finds_no_process),
		cmocka_unit_test(finds_no_network),
		cmocka_unit_test(has_no_rights),
		cmocka_unit_test(lets_threads_work),
		cmocka_unit_test(ends_with_what_is_not_allowed),
		cmocka_unit_test(only_kvm_threads_speak_to_kvm),
		cmocka_unit_test(serving_threads_only_send_interrupts),
		cmocka_unit_test(has_rights_over_a_directory_and_nothing_else),
		cmocka_unit_test(only_file_threads_keep_rights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
