/* program: runs the distribution's programs, and says what they said when they fail. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "vmm/kernel/kernel_priv.h"

enum { LOG_SIZE_MAX = 64 << 20, OUTPUT_SIZE_MAX = 8 << 20, LINE_MAX_SHOWN = 200 };

/* The last line that looks like the reason, else the last one. */
static char *last_line(const char *path)
{
	own_mem char *text = NULL, *found = NULL;
	own_strv char **lines = NULL;
	size_t len;

	if (file_read(AT_FDCWD, path, LOG_SIZE_MAX, &text, &len, NULL) < 0)
		return str_copy("");
	lines = strv_split(text, '\n');
	for (size_t i = strv_len(lines); i-- > 0;) {
		bool reason = str_after(lines[i], "E: ") || strstr(lines[i], "rror:");

		if (!*lines[i] || (found && !reason))
			continue;
		own_mem_release(&found);
		found = str_copy_n(lines[i], LINE_MAX_SHOWN);
		if (reason)
			break;
	}
	return found ? take(found) : str_copy("");
}

static int finish(char *const *argv, const char *log, int pidfd, struct error *err)
{
	int code = proc_wait(pidfd, NULL);
	own_mem char *line = NULL;

	if (code < 0)
		return fail(err, code, "wait for %s", argv[0]);
	if (code == 0)
		return 0;
	line = last_line(log);
	return refuse(err, -EIO, "%s failed with exit code %d%s%s", argv[0], code,
		      *line ? ": " : "", line);
}

int kernel_run(const struct kernel_work *work, const char *dir, char *const *argv,
	       const char *package, char **ret_out, struct error *err)
{
	own_mem char *log = str_format("%s/log", work->path);
	own_fd int log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	own_fd int read_fd = -1, write_fd = -1, pidfd = -1;
	own_strv char **command = NULL;
	int fds[2], rc;
	size_t len;
	pid_t pid;

	if (log_fd < 0)
		return fail(err, -errno, "create %s", log);
	if (access(argv[0], X_OK) < 0)
		return hint(err, fail(err, -errno, "run %s", argv[0]), "apt-get install %s",
			    package);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return fail(err, -errno, "run %s", argv[0]);
	read_fd = fds[0];
	write_fd = fds[1];
	strv_push(&command, "/usr/bin/env");
	strv_push(&command, "-C");
	strv_push(&command, dir);
	/* What we look for in the messages must not depend on the user's language. */
	strv_push(&command, "LC_ALL=C");
	for (char *const *word = argv; *word; word++)
		strv_push(&command, *word);
	rc = proc_spawn(&(struct proc_spawn){.path = command[0],
					     .exe_fd = -1,
					     .argv = command,
					     .stdio = {-1, ret_out ? write_fd : log_fd, log_fd},
					     .die_with_parent = true},
			&pid, &pidfd, err);
	fd_close(&write_fd);
	if (rc < 0)
		return rc;
	if (ret_out) {
		rc = fd_read_all(read_fd, OUTPUT_SIZE_MAX, ret_out, &len);
		if (rc < 0)
			fail(err, rc, "read from %s", argv[0]);
	}
	fd_close(&read_fd);
	if (rc < 0) {
		(void)!proc_wait(pidfd, NULL);
		return rc;
	}
	rc = finish(argv, log, pidfd, err);
	if (rc < 0 && ret_out) {
		own_mem_release(ret_out);
		*ret_out = NULL;
	}
	return rc;
}
