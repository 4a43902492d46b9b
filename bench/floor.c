/*
 * floor: the least work that a container of one process can be: the namespaces, mounts and cgroups that
 * `oci spec` describes, and one exec, and nothing else - no configuration, no state, no devices, no limits,
 * no capabilities, no network interface. What a runtime takes beyond this is its own.
 *
 *     floor ROOTFS COMMAND [ARGUMENT...]
 *
 * On cgroup v1 it makes a group in each hierarchy that a runtime uses and joins it through `tasks`.
 * bench/oci compares the mounts that a program sees inside with those of the runtime, so that neither
 * does less than the other.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const hierarchies[] = {"cpu",     "cpuacct", "cpuset", "memory",  "devices",
					  "freezer", "blkio",   "pids",   "systemd", "unified"};
static const char *const hidden_files[] = {"proc/kcore",         "proc/keys",
					   "proc/latency_stats", "proc/timer_list",
					   "proc/timer_stats",   "proc/sched_debug"};
static const char *const hidden_dirs[] = {"proc/acpi", "proc/asound", "sys/firmware", "proc/scsi"};
static const char *const read_only[] = {"proc/bus", "proc/fs", "proc/irq", "proc/sys",
					"proc/sysrq-trigger"};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
enum { HIERARCHIES = COUNT(hierarchies) };
static const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

static void check(int failed, const char *what)
{
	if (!failed)
		return;
	perror(what);
	exit(1);
}

static void group_path(char out[static 128], size_t i, const char *file)
{
	snprintf(out, 128, "/sys/fs/cgroup/%s/floor-%d%s", hierarchies[i], (int)getpid(), file);
}

/* A new cpuset is empty and lets nobody in: it gets what its parent has. */
static void fill_cpuset(size_t i)
{
	static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};

	for (size_t f = 0; f < 2; f++) {
		char from[128], to[128], file[32], text[256];
		ssize_t n;
		int fd;

		snprintf(from, sizeof(from), "/sys/fs/cgroup/%s/%s", hierarchies[i], files[f]);
		snprintf(file, sizeof(file), "/%s", files[f]);
		group_path(to, i, file);
		fd = open(from, O_RDONLY | O_CLOEXEC);
		n = read(fd, text, sizeof(text));
		close(fd);
		fd = open(to, O_WRONLY | O_CLOEXEC);
		check(n <= 0 || write(fd, text, (size_t)n) < 0, to);
		close(fd);
	}
}

static void mount_at(const char *type, const char *target, unsigned long flags, const char *data)
{
	mkdir(target, 0755);
	check(mount(type, target, type, flags, data) < 0, target);
}

static void mount_groups(const char groups[static HIERARCHIES][128])
{
	char target[64];

	mount_at("tmpfs", "sys/fs/cgroup", safe, "mode=755");
	for (size_t i = 0; i < HIERARCHIES; i++) {
		if (access(groups[i], F_OK) < 0)
			continue;
		snprintf(target, sizeof(target), "sys/fs/cgroup/%s", hierarchies[i]);
		mkdir(target, 0755);
		check(mount(groups[i], target, NULL, MS_BIND, NULL) < 0, target);
		check(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | safe, NULL) < 0,
		      target);
	}
	check(mount(NULL, "sys/fs/cgroup", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | safe, NULL) < 0,
	      "sys/fs/cgroup");
}

static void protect(void)
{
	for (size_t i = 0; i < COUNT(hidden_files); i++)
		check(mount("/dev/null", hidden_files[i], NULL, MS_BIND, NULL) < 0 &&
			      errno != ENOENT,
		      hidden_files[i]);
	for (size_t i = 0; i < COUNT(hidden_dirs); i++)
		check(mount("tmpfs", hidden_dirs[i], "tmpfs", MS_RDONLY, NULL) < 0 &&
			      errno != ENOENT,
		      hidden_dirs[i]);
	for (size_t i = 0; i < COUNT(read_only); i++)
		if (mount(read_only[i], read_only[i], NULL, MS_BIND, NULL) == 0)
			check(mount(NULL, read_only[i], NULL,
				    MS_REMOUNT | MS_BIND | MS_RDONLY | MS_RELATIME, NULL) < 0,
			      read_only[i]);
	check(mount(NULL, ".", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0, "read-only root");
}

static void child(const char *root, char **command, const int tasks[static HIERARCHIES],
		  const char groups[static HIERARCHIES][128])
{
	for (size_t i = 0; i < HIERARCHIES; i++)
		if (tasks[i] >= 0)
			check(write(tasks[i], "0", 1) < 0, "join cgroup");
	/* As `oci spec` has it: with version 2 alone. */
	if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0)
		check(unshare(CLONE_NEWCGROUP) < 0, "cgroup namespace");
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0, "private /");
	check(mount(root, root, NULL, MS_BIND | MS_REC, NULL) < 0, "bind root");
	check(chdir(root) < 0, root);
	mount_at("proc", "proc", 0, NULL);
	mount_at("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	mount_at("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC,
		 "newinstance,ptmxmode=0666,mode=0620,gid=5");
	mount_at("tmpfs", "dev/shm", safe, "mode=1777,size=65536k");
	mount_at("mqueue", "dev/mqueue", safe, NULL);
	mount_at("sysfs", "sys", safe | MS_RDONLY, NULL);
	mount_groups(groups);
	protect();
	check(syscall(SYS_pivot_root, ".", ".") < 0, "pivot_root");
	check(umount2(".", MNT_DETACH) < 0, "umount");
	check(chdir("/") < 0, "chdir");
	check(sethostname("floor", 5) < 0, "sethostname");
	execv(command[0], command);
	perror(command[0]);
	_exit(127);
}

int main(int argc, char **argv)
{
	char path[128], groups[HIERARCHIES][128];
	int tasks[HIERARCHIES], status, unified = -1;
	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET,
		.exit_signal = SIGCHLD,
	};
	pid_t pid;

	if (argc < 3) {
		fputs("usage: floor ROOTFS COMMAND [ARGUMENT...]\n", stderr);
		return 1;
	}
	for (size_t i = 0; i < HIERARCHIES; i++) {
		group_path(path, i, "");
		mkdir(path, 0755);
		if (strcmp(hierarchies[i], "cpuset") == 0)
			fill_cpuset(i);
		group_path(groups[i], i, "");
		group_path(path, i, "/tasks");
		tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
	}
	unified = open(groups[HIERARCHIES - 1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (unified >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)unified;
	}
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	check(pid < 0, "clone");
	if (pid == 0)
		child(argv[1], argv + 2, tasks, groups);
	check(waitpid(pid, &status, 0) < 0, "wait");
	for (size_t i = 0; i < HIERARCHIES; i++) {
		group_path(path, i, "");
		rmdir(path);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
