/*
 * floor: the least work that a container of one process can be: the same namespaces, mounts, cgroups
 * and one exec as a runtime makes for `/bin/true`, and nothing else - no configuration, no filter, no
 * state. What a runtime takes beyond this is its own.
 *
 *     floor ROOTFS COMMAND [ARGUMENT...]
 *
 * On cgroup v1 it makes a group in each hierarchy that a runtime uses and joins it through `tasks`.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const hierarchies[] = {"cpu",     "cpuacct", "cpuset", "memory", "devices",
					  "freezer", "blkio",   "pids",   "systemd"};
enum { HIERARCHIES = sizeof(hierarchies) / sizeof(hierarchies[0]) };

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

static void child(const char *root, char **command, const int tasks[static HIERARCHIES])
{
	const unsigned long safe = MS_NOSUID | MS_NODEV | MS_NOEXEC;

	for (size_t i = 0; i < HIERARCHIES; i++)
		if (tasks[i] >= 0)
			check(write(tasks[i], "0", 1) < 0, "join cgroup");
	check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0, "private /");
	check(mount(root, root, NULL, MS_BIND | MS_REC, NULL) < 0, "bind root");
	check(chdir(root) < 0, root);
	mount_at("proc", "proc", safe, NULL);
	mount_at("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
	mount_at("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620");
	mount_at("tmpfs", "dev/shm", safe, "mode=1777,size=65536k");
	mount_at("mqueue", "dev/mqueue", safe, NULL);
	mount_at("sysfs", "sys", safe | MS_RDONLY, NULL);
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
	int tasks[HIERARCHIES], status;
	char path[128];
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
		group_path(path, i, "/tasks");
		tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
	}
	pid = (pid_t)syscall(SYS_clone,
			     CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC |
				     CLONE_NEWNET | SIGCHLD,
			     NULL, NULL, NULL, NULL);
	check(pid < 0, "clone");
	if (pid == 0)
		child(argv[1], argv + 2, tasks);
	check(waitpid(pid, &status, 0) < 0, "wait");
	for (size_t i = 0; i < HIERARCHIES; i++) {
		group_path(path, i, "");
		rmdir(path);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
