/* cgroup_join: how processes get into the directories of a container. See cgroup.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/cgroup_systemd.h"

int cgroup_open_join(struct cgroup *cg, struct error *err)
{
	for (size_t i = 0; i < cg->dir_count; i++) {
		struct cgroup_dir *dir = &cg->dirs[i];
		const char *path;
		const int at = cgroup_at(dir, &path);
		own_mem char *tasks = str_format("%s/tasks", path);

		if (dir->controllers[0] == '\0')
			dir->join_fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		else
			dir->join_fd = openat(at, tasks, O_WRONLY | O_CLOEXEC);
		if (dir->join_fd < 0)
			return fail(err, -errno, "open cgroup %s", dir->path);
	}
	return 0;
}

void cgroup_follow(struct cgroup *cg, pid_t pid)
{
	const struct cgroup_dir *unified = cg->v2 ? cgroup_unified(cg) : NULL;
	own_mem char *proc = str_format("/proc/%d/cgroup", (int)pid), *text = NULL, *where = NULL;
	own_mem char *enabled = NULL, *path = NULL;
	const char *below;
	size_t len;

	if (unified == NULL || cgroup_read(cg, "", "cgroup.subtree_control", &enabled) < 0 ||
	    enabled[strspn(enabled, " \n")] == '\0' ||
	    file_read(AT_FDCWD, proc, CGROUP_TEXT_MAX, &text, &len, NULL) < 0)
		return;
	where = cgroup_own_path(text, "");
	path = str_format("%s%s", unified->mount, where);
	below = str_after(path, unified->path);
	if (below == NULL || below[0] != '/' || !cgroup_is_clean(where))
		return;
	for (size_t i = 0; i < cg->dir_count; i++)
		if (&cg->dirs[i] == unified) {
			free(cg->dirs[i].path);
			cg->dirs[i].path = take(path);
		}
}

int cgroup_clone_fd(const struct cgroup *cg)
{
	const struct cgroup_dir *unified = cgroup_unified(cg);

	return unified ? unified->join_fd : -1;
}

/* The length of the directories that two paths have in common. */
static size_t common_length(const char *a, const char *b)
{
	size_t common = 0;

	for (size_t i = 0;; i++) {
		if ((a[i] == '/' || a[i] == '\0') && (b[i] == '/' || b[i] == '\0'))
			common = i;
		if (a[i] != b[i] || a[i] == '\0')
			return common;
	}
}

bool cgroup_is_systemds_to_join(const struct cgroup *cg)
{
	const struct cgroup_dir *unified = cg->v2 && cg->unit ? cgroup_unified(cg) : NULL;
	own_mem char *text = NULL, *where = NULL, *ours = NULL, *procs = NULL;
	size_t len;

	/* Whoever moves processes must be allowed to write there where both ways meet. */
	if (unified == NULL ||
	    file_read(AT_FDCWD, "/proc/self/cgroup", CGROUP_TEXT_MAX, &text, &len, NULL) < 0)
		return false;
	where = cgroup_own_path(text, "");
	ours = str_format("%s%s", unified->mount, where);
	procs = str_format("%.*s/cgroup.procs", (int)common_length(ours, unified->path), ours);
	return faccessat(AT_FDCWD, procs, W_OK, AT_EACCESS) < 0 && errno == EACCES;
}

int cgroup_attach(const struct cgroup *cg, pid_t pid, struct error *err)
{
	const struct cgroup_dir *unified = cgroup_unified(cg);
	const char *below = unified ? str_after(unified->path, unified->mount) : NULL;

	below = below ? str_after(below, cg->relative) : NULL;
	return cgroup_systemd_attach(cg, below ? below : "", pid, err);
}

int cgroup_join_self(const struct cgroup *cg, struct error *err)
{
	for (size_t i = 0; i < cg->dir_count; i++) {
		const struct cgroup_dir *dir = &cg->dirs[i];

		if (dir->controllers[0] != '\0' && write(dir->join_fd, "0", 1) < 0)
			return fail(err, -errno, "join cgroup %s", dir->path);
	}
	return 0;
}

int cgroup_join_pid(const struct cgroup *cg, pid_t pid, struct error *err)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < cg->dir_count; i++) {
		own_mem char *procs = str_format("%s/cgroup.procs", cg->dirs[i].path);
		int rc = file_put(AT_FDCWD, procs, text);

		if (rc < 0)
			return fail(err, rc, "move process %s to cgroup %s", text,
				    cg->dirs[i].path);
	}
	return 0;
}
