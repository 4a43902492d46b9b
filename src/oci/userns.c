/* userns: see userns.h. */
#include "oci/userns.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/proc.h"
#include "base/str.h"

static char *format_maps(const struct config_id_maps *maps)
{
	struct buf text = {0};

	for (size_t i = 0; i < maps->count; i++)
		buf_format(&text, "%u %u %u\n", maps->items[i].container, maps->items[i].host,
			   maps->items[i].count);
	return buf_take(&text);
}

static int run_helper(const char *program, pid_t pid, const struct config_id_maps *maps,
		      struct error *err)
{
	own_strv char **argv = NULL;
	own_mem char *path = NULL;
	own_fd int pidfd = -1;
	struct proc_spawn spawn = {.stdio = {-1, -1, 2}};
	pid_t helper;
	int rc;

	strv_push(&argv, program);
	strv_push_format(&argv, "%d", (int)pid);
	for (size_t i = 0; i < maps->count; i++) {
		strv_push_format(&argv, "%u", maps->items[i].container);
		strv_push_format(&argv, "%u", maps->items[i].host);
		strv_push_format(&argv, "%u", maps->items[i].count);
	}
	path = str_format("/usr/bin/%s", program);
	spawn.path = path;
	spawn.argv = argv;
	rc = proc_spawn(&spawn, &helper, &pidfd, err);
	if (rc < 0)
		return hint(err, rc, "install the package uidmap");
	rc = proc_wait(pidfd, NULL);
	if (rc == 0)
		return 0;
	return hint(err,
		    refuse(err, rc < 0 ? rc : -EPERM, "%s did not accept the mapping", program),
		    "the ranges of /etc/subuid and /etc/subgid must contain the host's ids");
}

/* What an ordinary user may write without help: its own id, once. */
static bool is_own_id(const struct config_id_maps *maps, uint32_t id)
{
	return maps->count == 1 && maps->items[0].count == 1 && maps->items[0].host == id;
}

static int write_map(int proc_fd, const char *file, const struct config_id_maps *maps)
{
	own_mem char *text = format_maps(maps);

	return file_put(proc_fd, file, text);
}

int userns_write_maps(pid_t pid, const struct config_id_maps *uids,
		      const struct config_id_maps *gids, struct error *err)
{
	own_mem char *path = str_format("/proc/%d", (int)pid);
	own_fd int proc_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const bool root = geteuid() == 0;
	int rc;

	if (proc_fd < 0)
		return fail(err, -errno, "open %s", path);
	if (root || is_own_id(gids, getegid())) {
		/* Whoever may not map groups freely has to give up setgroups(2) first: else a group
		 * that takes rights away could be left. */
		if (!root && (rc = file_put(proc_fd, "setgroups", "deny")) < 0)
			return fail(err, rc, "deny setgroups");
		rc = write_map(proc_fd, "gid_map", gids);
	} else {
		rc = run_helper("newgidmap", pid, gids, err);
	}
	if (rc < 0)
		return fail(err, rc, "linux.gidMappings");
	if (root || is_own_id(uids, geteuid()))
		rc = write_map(proc_fd, "uid_map", uids);
	else
		rc = run_helper("newuidmap", pid, uids, err);
	return rc < 0 ? fail(err, rc, "linux.uidMappings") : 0;
}

int userns_open(const struct config_id_maps *uids, const struct config_id_maps *gids,
		struct error *err)
{
	/* The namespace lives in a process that does nothing until we have a descriptor of it. */
	pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	own_mem char *path = NULL;
	own_fd int fd = -1;
	int rc;

	if (pid < 0)
		return fail(err, -errno, "create a user namespace");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	rc = userns_write_maps(pid, uids, gids, err);
	if (rc == 0) {
		path = str_format("/proc/%d/ns/user", (int)pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			rc = fail(err, -errno, "open %s", path);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return rc < 0 ? rc : take(fd);
}

uint32_t userns_host_id(const struct config_id_maps *maps, uint32_t id)
{
	for (size_t i = 0; i < maps->count; i++)
		if (id >= maps->items[i].container &&
		    id - maps->items[i].container < maps->items[i].count)
			return maps->items[i].host + (id - maps->items[i].container);
	return UINT32_MAX;
}

bool userns_is_initial(void)
{
	own_mem char *text = NULL;
	unsigned int inside = 1, outside = 1, count = 0;
	size_t len;

	return file_read(AT_FDCWD, "/proc/self/uid_map", 4096, &text, &len, NULL) == 0 &&
	       sscanf(text, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 &&
	       outside == 0 && count == UINT32_MAX;
}
