/* scratch: see scratch.h. */
#include "scratch.h"

#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char directory[64];
static int directory_fd = -1;

/* Set-up that fails leaves nothing to test. */
#define require(condition)                                                                         \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			perror(#condition);                                                        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int scratch_open(void)
{
	/* In memory where there is such a place: a disk takes seconds for some thousand entries. */
	snprintf(directory, sizeof(directory), "%s/berth-base-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	require(mkdtemp(directory) != NULL);
	directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	require(directory_fd >= 0);
	return directory_fd;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void scratch_close(void)
{
	close(directory_fd);
	directory_fd = -1;
	require(nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

const char *scratch_path(const char *name)
{
	static char paths[4][512];
	static unsigned int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

void scratch_file(const char *name, const char *content)
{
	int fd = openat(directory_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	require(fd >= 0);
	if (content != NULL)
		require(write(fd, content, strlen(content)) == (ssize_t)strlen(content));
	close(fd);
}

bool scratch_has(const char *name)
{
	struct stat st;

	return fstatat(directory_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

pid_t child_start(child_fn *fn, void *data)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	require(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(data);
		_exit(0);
	}
	return pid;
}

int child_wait(pid_t pid)
{
	int status;

	require(waitpid(pid, &status, 0) == pid);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	child_wait(pid);
}

void child_tiny_tmpfs(const char *size)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%s", size);
	child_check(unshare(CLONE_NEWNS) == 0);
	child_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	child_check(mount("tmpfs", directory, "tmpfs", 0, options) == 0);
	child_check(chdir(directory) == 0);
}

bool root_or_skip(const char *why)
{
	if (geteuid() == 0)
		return true;
	fprintf(stderr, "SKIPPED: needs root: %s\n", why);
	return false;
}
