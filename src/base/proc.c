/* proc: see proc.h. Starting programs is in spawn.c. */
#include "base/proc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"

enum { ID_MAP_MAX = 64 << 10 };

bool proc_is_root(void)
{
	/* The kernel's number for the initial one (PROC_USER_INIT_INO). */
	enum { INITIAL = 0xEFFFFFFDU };
	struct stat st;

	return geteuid() == 0 &&
	       (stat("/proc/self/ns/user", &st) < 0 || st.st_ino == (ino_t)INITIAL);
}

/* How many ids the namespace has; in *ret_found whether `wanted` is one of them. */
static uint64_t count_ids(const char *path, unsigned int wanted, bool *ret_found)
{
	own_mem char *text = NULL;
	unsigned int inside, outside, count;
	uint64_t all = 0;
	size_t len;
	int used;

	*ret_found = false;
	if (file_read(AT_FDCWD, path, ID_MAP_MAX, &text, &len, NULL) < 0)
		return UINT32_MAX;
	for (const char *p = text; sscanf(p, "%u %u %u%n", &inside, &outside, &count, &used) == 3;
	     p += used) {
		all += count;
		*ret_found = *ret_found || (wanted >= inside && wanted - inside < count);
	}
	return all;
}

bool proc_has_one_id(void)
{
	bool found;

	return !proc_is_root() && (count_ids("/proc/self/uid_map", 0, &found) == 1 ||
				   count_ids("/proc/self/gid_map", 0, &found) == 1);
}

bool proc_has_group(unsigned int gid)
{
	bool found;

	if (proc_is_root())
		return true;
	count_ids("/proc/self/gid_map", gid, &found);
	return found;
}

int proc_open(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}

int proc_signal(int pidfd, int signal)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

int proc_exit_code(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return 128 + WTERMSIG(wait_status);
	return WEXITSTATUS(wait_status);
}

int proc_wait(int pidfd, int *ret_status)
{
	siginfo_t info = {0};
	int status;

	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) < 0)
		if (errno != EINTR)
			return -errno;
	/* waitid splits what wait packs: CLD_EXITED has the code, the others the signal. */
	status = info.si_code == CLD_EXITED ? W_EXITCODE(info.si_status, 0)
					    : W_EXITCODE(0, info.si_status);
	if (ret_status != NULL)
		*ret_status = status;
	return proc_exit_code(status);
}

struct stat_fields {
	char state;
	uint64_t flags, start_ticks;
};

/* Reads fields 3, 9 and 22 of /proc/PID/stat. */
static int read_stat(pid_t pid, struct stat_fields *ret)
{
	enum { STATE = 3, FLAGS = 9, START_TIME = 22 };
	char path[32], text[1024], *p, *end;
	own_fd int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	/* The kernel gives all of it at once. */
	n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	/* The name in parentheses may contain anything: the last ")" ends it. */
	p = strrchr(text, ')');
	if (p == NULL || p[1] != ' ' || p[2] == '\0')
		return -EINVAL;
	p += 2;
	ret->state = *p;
	for (int field = STATE; p != NULL && field < START_TIME; field++) {
		if (field == FLAGS)
			ret->flags = strtoull(p, NULL, 10);
		p = strchr(p + 1, ' ');
	}
	if (p == NULL)
		return -EINVAL;
	ret->start_ticks = strtoull(p, &end, 10);
	return end == p ? -EINVAL : 0;
}

int proc_start_time(pid_t pid, uint64_t *ret_ticks)
{
	struct stat_fields fields;
	int rc = read_stat(pid, &fields);

	if (rc == 0)
		*ret_ticks = fields.start_ticks;
	return rc;
}

char proc_state(pid_t pid)
{
	struct stat_fields fields;

	return read_stat(pid, &fields) < 0 ? '\0' : fields.state;
}

static bool has_ended(const struct stat_fields *fields)
{
	return fields->state == 'Z' || fields->state == 'X';
}

bool proc_is(pid_t pid, uint64_t start_ticks)
{
	struct stat_fields fields;

	return pid > 0 && read_stat(pid, &fields) == 0 && fields.start_ticks == start_ticks &&
	       !has_ended(&fields);
}

/* Whether SIGKILL has been sent to a process and not been taken yet: by its first thread, which each gets it
 * for itself. */
static bool is_killed(pid_t pid)
{
	const uint64_t bit = 1ull << (SIGKILL - 1);
	own_mem char *text = NULL, *path = str_format("/proc/%d/status", (int)pid);
	const char *pending;
	size_t len;

	if (file_read(AT_FDCWD, path, 1 << 20, &text, &len, NULL) < 0)
		return false;
	pending = strstr(text, "\nSigPnd:");
	return pending != NULL && strtoull(pending + strlen("\nSigPnd:"), NULL, 16) & bit;
}

bool proc_is_ending(pid_t pid)
{
	enum { PF_EXITING = 4 }; /* the kernel's */
	struct stat_fields fields;

	if (pid <= 0 || read_stat(pid, &fields) < 0)
		return false;
	return has_ended(&fields) || fields.flags & PF_EXITING || is_killed(pid);
}

int proc_parse_signal(const char *s)
{
	/* Second names, which the C library does not list. */
	static const struct {
		const char *name;
		int signal;
	} aliases[] = {{"CLD", SIGCHLD}, {"IO", SIGIO}, {"IOT", SIGABRT}};
	int64_t number;
	const char *rest;

	if (str_to_int(s, 1, 64, &number) == 0)
		return (int)number;
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	for (int i = 1; i < 32; i++) {
		const char *name = sigabbrev_np(i);

		if (name != NULL && strcasecmp(name, s) == 0)
			return i;
	}
	for (size_t i = 0; i < array_size(aliases); i++)
		if (strcasecmp(aliases[i].name, s) == 0)
			return aliases[i].signal;
	if (strcasecmp(s, "RTMIN") == 0)
		return SIGRTMIN;
	if (strcasecmp(s, "RTMAX") == 0)
		return SIGRTMAX;
	if (strncasecmp(s, "RTMIN+", 6) == 0)
		rest = s + 6;
	else if (strncasecmp(s, "RTMAX-", 6) == 0)
		rest = s + 6;
	else
		return -EINVAL;
	if (str_to_int(rest, 0, SIGRTMAX - SIGRTMIN, &number) < 0)
		return -EINVAL;
	return toupper((unsigned char)s[3]) == 'I' ? SIGRTMIN + (int)number
						   : SIGRTMAX - (int)number;
}

int proc_cloexec_from(unsigned int first)
{
	return close_range(first, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}
