/*
 * trace: looks into processes that join the container from outside, before they execute a program of it:
 * `trace SECONDS` tries the descriptors of each process that is about to come, by its number, and says
 * what it sees of one whose program is not the container's.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The highest process number in use. */
static int newest(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int most = 0;

	while (proc && (entry = readdir(proc)) != NULL)
		if (atoi(entry->d_name) > most)
			most = atoi(entry->d_name);
	closedir(proc);
	return most;
}

static int look(int pid)
{
	char path[64], target[512];
	ssize_t n;

	for (int fd = 3; fd < 40; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		n = readlink(path, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		printf("%s: %s\n", path, target);
		fflush(stdout);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	const time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 5);
	int next = newest() + 1;

	printf("ready\n");
	fflush(stdout);
	while (time(NULL) < end) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d", next);
		/* Descriptors above the three belong to none of the container's own programs here. */
		for (int i = 0; i < 400 && access(path, F_OK) == 0; i++)
			if (look(next))
				return 0;
		if (access(path, F_OK) < 0) {
			int most = newest();

			next = most >= next ? most : next;
			if (most >= next && kill(most, 0) == 0)
				next = most + 1;
		}
	}
	return 0;
}
