/* proc_info: see proc_info.h. */
#include "base/proc_info.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { COMMAND_MAX = 64 << 10, ROLLUP_MAX = 64 << 10 };

/* When the machine was started, on the wall clock. */
static int64_t boot_time_ns(void)
{
	struct timespec since;

	clock_gettime(CLOCK_BOOTTIME, &since);
	return clock_now_ns() - (since.tv_sec * INT64_C(1000000000) + since.tv_nsec);
}

static void format_terminal(unsigned int number, char *out, size_t size)
{
	if (number == 0)
		snprintf(out, size, "?");
	else if (major(number) >= 136 && major(number) <= 143)
		snprintf(out, size, "pts/%u", minor(number));
	else
		snprintf(out, size, "%u:%u", major(number), minor(number));
}

/* The command line with spaces, or the name in brackets for a process without one. */
static char *read_command(pid_t pid, const char *name)
{
	own_mem char *text = NULL;
	char path[32];
	size_t len;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	if (file_read(AT_FDCWD, path, COMMAND_MAX, &text, &len, NULL) < 0 || len == 0)
		return str_format("[%s]", name);
	for (size_t i = 0; i + 1 < len; i++)
		if (text[i] == '\0' || text[i] == '\n')
			text[i] = ' ';
	return take(text);
}

int proc_info_read(pid_t pid, struct proc_info *ret)
{
	const int64_t tick_ns = INT64_C(1000000000) / sysconf(_SC_CLK_TCK);
	struct proc_info p = {.pid = pid};
	own_mem char *text = NULL;
	unsigned long long user, system, start, size;
	long long resident;
	int terminal;
	struct stat st;
	char path[32], *open, *close;
	size_t len;
	int rc;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	rc = file_read(AT_FDCWD, path, 4096, &text, &len, NULL);
	if (rc < 0 || stat(path, &st) < 0)
		return -ESRCH;
	open = strchr(text, '(');
	close = strrchr(text, ')');
	if (open == NULL || close == NULL ||
	    sscanf(close + 1,
		   " %c %d %d %d %d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %d %u %*d %llu "
		   "%llu %lld",
		   &p.state, &p.parent, &p.pgid, &p.sid, &terminal, &user, &system, &p.nice,
		   &p.threads, &start, &size, &resident) != 12)
		return -EINVAL;
	snprintf(p.name, sizeof(p.name), "%.*s", (int)(close - open - 1), open + 1);
	p.virtual_bytes = size;
	p.resident_bytes = (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
	p.uid = st.st_uid;
	p.cpu_ns = (int64_t)(user + system) * tick_ns;
	p.started_ns = boot_time_ns() + (int64_t)start * tick_ns;
	format_terminal((unsigned int)terminal, p.terminal, sizeof(p.terminal));
	p.command = read_command(pid, p.name);
	*ret = p;
	return 0;
}

size_t proc_children(pid_t pid, pid_t **ret)
{
	own_mem char *path = str_format("/proc/%d/task/%d/children", (int)pid, (int)pid);
	own_mem char *text = NULL;
	own_strv char **words = NULL;
	size_t len, count = 0;

	*ret = NULL;
	if (file_read(AT_FDCWD, path, 4096, &text, &len, NULL) < 0)
		return 0;
	words = strv_split(text, ' ');
	*ret = mem_new_array(strv_len(words) + 1, sizeof(**ret));
	for (size_t i = 0; words != NULL && words[i] != NULL; i++) {
		int64_t number;

		if (str_to_int(words[i], 1, INT32_MAX, &number) == 0)
			(*ret)[count++] = (pid_t)number;
	}
	return count;
}

uint64_t proc_own_bytes(pid_t pid)
{
	static const char *const parts[] = {"\nPss_Anon:", "\nPss_Shmem:"};
	own_mem char *path = str_format("/proc/%d/smaps_rollup", (int)pid);
	own_mem char *text = NULL;
	uint64_t kib = 0;
	size_t len;

	if (file_read(AT_FDCWD, path, ROLLUP_MAX, &text, &len, NULL) < 0)
		return 0;
	/* Not Private_Dirty: a file's page that has not been written back yet is dirty, too. */
	for (size_t i = 0; i < array_size(parts); i++) {
		const char *at = strstr(text, parts[i]);

		if (at != NULL)
			kib += strtoull(at + strlen(parts[i]), NULL, 10);
	}
	return kib << 10;
}

static bool same_namespace(pid_t pid, const struct stat *wanted)
{
	char path[48];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	return stat(path, &st) == 0 && st.st_ino == wanted->st_ino && st.st_dev == wanted->st_dev;
}

size_t proc_beside(pid_t pid, pid_t **ret)
{
	own_dir DIR *dir = opendir("/proc");
	const struct dirent *entry;
	size_t count = 0, capacity = 0;
	struct stat wanted;
	char path[48];

	*ret = NULL;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	if (dir == NULL || stat(path, &wanted) < 0 || same_namespace(getpid(), &wanted))
		return 0;
	while ((entry = readdir(dir)) != NULL) {
		uint64_t number;

		if (str_to_uint(entry->d_name, INT32_MAX, &number) < 0 ||
		    !same_namespace((pid_t)number, &wanted))
			continue;
		*ret = mem_grow(*ret, count, &capacity, sizeof(**ret));
		(*ret)[count++] = (pid_t)number;
	}
	return count;
}
