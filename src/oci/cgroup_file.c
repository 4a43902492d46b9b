/* cgroup_file: which directories a container's group has, and reading and writing their files. */
#include "oci/cgroup_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

bool cgroup_has_word(const char *controllers, const char *name)
{
	const size_t len = strlen(name);

	for (const char *p = controllers; p != NULL; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL)
		if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == '\0'))
			return true;
	return false;
}

const struct cgroup_dir *cgroup_unified(const struct cgroup *cg)
{
	for (size_t i = 0; i < cg->dir_count; i++)
		if (cg->dirs[i].controllers[0] == '\0')
			return &cg->dirs[i];
	return NULL;
}

const char *cgroup_path(const struct cgroup *cg, const char *controller)
{
	if (cg->v2) {
		const struct cgroup_dir *unified = cgroup_unified(cg);

		return unified ? unified->path : NULL;
	}
	for (size_t i = 0; i < cg->dir_count; i++)
		if (cgroup_has_word(cg->dirs[i].controllers, controller))
			return cg->dirs[i].path;
	return NULL;
}

int cgroup_at(const struct cgroup_dir *dir, const char **ret_path)
{
	const char *below = dir->path + strlen(dir->mount);

	*ret_path = dir->mount_fd < 0 ? dir->path : below + strspn(below, "/");
	return dir->mount_fd < 0 ? AT_FDCWD : dir->mount_fd;
}

char *cgroup_own_path(const char *proc_cgroup, const char *controllers)
{
	for (const char *line = proc_cgroup; line != NULL && *line != '\0';) {
		const char *end = strchrnul(line, '\n');
		const char *first = strchr(line, ':');
		const char *second = first ? strchr(first + 1, ':') : NULL;

		if (second != NULL && second < end) {
			own_mem char *names = str_copy_n(first + 1, (size_t)(second - first - 1));

			if (str_eq(names, controllers))
				return str_copy_n(second + 1, (size_t)(end - second - 1));
		}
		line = *end ? end + 1 : end;
	}
	return str_copy("/");
}

bool cgroup_is_clean(const char *path)
{
	for (const char *p = path; *p != '\0'; p += strcspn(p, "/")) {
		p += strspn(p, "/");
		if ((p[0] == '.' && p[strspn(p, ".")] == '/') ||
		    (p[0] == '.' && p[strspn(p, ".")] == '\0'))
			return false;
	}
	return true;
}

void cgroup_close_join(struct cgroup *cg)
{
	for (size_t i = 0; i < cg->dir_count; i++)
		fd_close(&cg->dirs[i].join_fd);
}

int cgroup_put(const struct cgroup *cg, const char *controller, const char *file, const char *text,
	       const char *field, struct error *err)
{
	const struct cgroup_dir *unified = cgroup_unified(cg);
	const char *dir =
		controller[0] ? cgroup_path(cg, controller) : (unified ? unified->path : NULL);
	own_mem char *path = NULL;
	int rc;

	if (dir == NULL)
		return refuse(err, -ENOTSUP, "%s: this host has no %s cgroup controller", field,
			      controller[0] ? controller : "unified");
	path = str_format("%s/%s", dir, file);
	rc = file_put(AT_FDCWD, path, text);
	if (rc == -ENOENT)
		return fail(err, rc, "%s: this kernel has no %s", field, path);
	return rc < 0 ? fail(err, rc, "%s: write \"%s\" to %s", field, text, path) : 0;
}

int cgroup_read(const struct cgroup *cg, const char *controller, const char *file, char **ret_text)
{
	const struct cgroup_dir *unified = cgroup_unified(cg);
	const char *dir =
		controller[0] ? cgroup_path(cg, controller) : (unified ? unified->path : NULL);
	own_mem char *path = dir ? str_format("%s/%s", dir, file) : NULL;
	size_t len;

	return dir ? file_read(AT_FDCWD, path, 1 << 20, ret_text, &len, NULL) : -ENOENT;
}

int cgroup_read_number(const struct cgroup *cg, const char *controller, const char *file,
		       const char *key, uint64_t *ret)
{
	own_mem char *text = NULL;
	const char *p;
	char *end;
	int rc = cgroup_read(cg, controller, file, &text);

	if (rc < 0)
		return rc;
	p = text;
	if (key != NULL) {
		const size_t len = strlen(key);

		while (p != NULL && (strncmp(p, key, len) != 0 || p[len] != ' '))
			p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL;
		if (p == NULL)
			return -ENOENT;
		p += len + 1;
	}
	if (strncmp(p, "max", 3) == 0) {
		*ret = UINT64_MAX;
		return 0;
	}
	errno = 0;
	*ret = strtoull(p, &end, 10);
	return end == p || errno != 0 ? -EINVAL : 0;
}

int cgroup_put_number(const struct cgroup *cg, const char *controller, const char *file,
		      int64_t value, const char *field, struct error *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, value);
	return cgroup_put(cg, controller, file, text, field, err);
}

bool cgroup_is_frozen(const struct cgroup *cg)
{
	own_mem char *text = NULL;
	uint64_t frozen = 0;

	if (cgroup_path(cg, "freezer") != NULL && !cg->v2)
		return cgroup_read(cg, "freezer", "freezer.state", &text) == 0 &&
		       strncmp(text, "THAWED", 6) != 0;
	return cgroup_read_number(cg, "", "cgroup.events", "frozen", &frozen) == 0 && frozen != 0;
}
