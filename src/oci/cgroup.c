/* cgroup: where the directories are, making them, joining. See cgroup.h. */
#include "oci/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/cgroup_systemd.h"

static void clear_dir(struct cgroup_dir *dir)
{
	free(dir->controllers);
	free(dir->mount);
	free(dir->path);
	fd_close(&dir->mount_fd);
}

static void clear_dirs(struct cgroup *cg)
{
	for (size_t i = 0; i < cg->dir_count; i++)
		clear_dir(&cg->dirs[i]);
	cg->dir_count = 0;
}

void cgroup_free(struct cgroup *cg)
{
	if (cg == NULL)
		return;
	cgroup_systemd_let_go(cg);
	cgroup_close_join(cg);
	clear_dirs(cg);
	free(cg->relative);
	free(cg->unit);
	free(cg->slice);
	free(cg);
}

static struct cgroup_dir *add_dir(struct cgroup *cg, char *controllers, char *mount, char *path)
{
	struct cgroup_dir *dir = &cg->dirs[cg->dir_count++];

	*dir = (struct cgroup_dir){
		.controllers = controllers,
		.mount = mount,
		.path = path,
		.mount_fd = -1,
		.join_fd = -1,
	};
	return dir;
}

/* --- planning ----------------------------------------------------------------------------------- */

/* Where the container's directory is in one hierarchy. `mount_root` is the directory of the hierarchy
 * that the mount shows: within a container it is not "/". */
static char *place(const struct cgroup *cg, const char *mount, const char *mount_root,
		   const char *own)
{
	const char *below = str_eq(mount_root, "/") ? own : str_after(own, mount_root);

	if (cg->relative[0] == '/')
		return str_format("%s%s", mount, cg->relative);
	if (below == NULL || strstr(below, "/..") != NULL)
		below = "";
	return str_format("%s%s%s%s", mount, below, str_ends_with(below, "/") ? "" : "/",
			  cg->relative);
}

/* The names in the super options of a v1 mount that are controllers, as /proc/self/cgroup has them. */
static char *v1_controllers(const char *proc_cgroup, const char *super_options)
{
	for (const char *line = proc_cgroup; line != NULL && *line != '\0';) {
		const char *end = strchrnul(line, '\n');
		const char *first = strchr(line, ':');
		const char *second = first ? strchr(first + 1, ':') : NULL;

		if (second != NULL && second < end && second > first + 1) {
			own_mem char *names = str_copy_n(first + 1, (size_t)(second - first - 1));
			own_mem char *one = str_copy_n(names, strcspn(names, ","));

			if (cgroup_has_word(super_options, one))
				return str_copy(names);
		}
		line = *end ? end + 1 : end;
	}
	return NULL;
}

/* One line of /proc/self/mountinfo: "36 35 98:0 /root /mount opts - type source super". */
static void plan_line(struct cgroup *cg, char *line, const char *proc_cgroup)
{
	char *save = NULL, *field[5] = {0}, *rest, *type, *super;
	own_mem char *own = NULL;
	char *controllers;

	rest = strstr(line, " - ");
	if (rest == NULL || cg->dir_count == CGROUP_DIRS_MAX)
		return;
	*rest = '\0';
	type = strtok_r(rest + 3, " ", &save);
	super = type && strtok_r(NULL, " ", &save) ? strtok_r(NULL, " ", &save) : NULL;
	if (super == NULL || strncmp(type, "cgroup", 6) != 0)
		return;
	save = NULL;
	for (int i = 0; i < 5; i++)
		if ((field[i] = strtok_r(i ? NULL : line, " ", &save)) == NULL)
			return;
	controllers =
		strcmp(type, "cgroup2") == 0 ? str_copy("") : v1_controllers(proc_cgroup, super);
	if (controllers == NULL)
		return;
	for (size_t i = 0; i < cg->dir_count; i++)
		if (str_eq(cg->dirs[i].controllers, controllers)) {
			free(controllers);
			return;
		}
	own = cgroup_own_path(proc_cgroup, controllers);
	add_dir(cg, controllers, str_copy(field[4]), place(cg, field[4], field[3], own));
}

/* True if the directory is the root of a whole hierarchy of that kind: the first inode that such a file
 * system has. Within a container a mount may show a part only. */
static bool is_hierarchy(int fd, long magic)
{
	enum { ROOT_INODE = 1 };
	struct statfs fs;
	struct stat st;

	return fstatfs(fd, &fs) == 0 && fs.f_type == magic && fstat(fd, &st) == 0 &&
	       st.st_ino == ROOT_INODE;
}

/* The hierarchy of one line of /proc/self/cgroup, "4:memory:/own/path", if it is mounted where every
 * distribution mounts it: below CGROUP_ROOT, which root_fd is. */
static bool plan_usual(struct cgroup *cg, int root_fd, const char *line, const char *end)
{
	const char *first = strchr(line, ':');
	const char *second = first ? strchr(first + 1, ':') : NULL;
	own_mem char *controllers = NULL, *own = NULL, *mount = NULL, *path = NULL;
	own_fd int fd = -1;
	const char *name;

	if (second == NULL || second > end || cg->dir_count == CGROUP_DIRS_MAX)
		return false;
	controllers = str_copy_n(first + 1, (size_t)(second - first - 1));
	own = str_copy_n(second + 1, (size_t)(end - second - 1));
	name = str_after(controllers, "name=");
	name = name ? name : controllers[0] ? controllers : "unified";
	fd = openat(root_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* The unified hierarchy has a line whether it is mounted or not. */
	if (fd < 0 && controllers[0] == '\0')
		return true;
	if (fd < 0 || !is_hierarchy(fd, controllers[0] ? CGROUP_SUPER_MAGIC : CGROUP2_SUPER_MAGIC))
		return false;
	mount = str_format(CGROUP_ROOT "/%s", name);
	path = place(cg, mount, "/", own);
	add_dir(cg, take(controllers), take(mount), take(path))->mount_fd = take(fd);
	return true;
}

/* Without the table of mounts, which is long on a host with many containers. */
static bool plan_all_usual(struct cgroup *cg, int root_fd, const char *proc_cgroup)
{
	for (const char *line = proc_cgroup; *line != '\0';) {
		const char *end = strchrnul(line, '\n');

		if (!plan_usual(cg, root_fd, line, end))
			return false;
		line = *end ? end + 1 : end;
	}
	return true;
}

static int plan_v1(struct cgroup *cg, int root_fd, const char *proc_cgroup, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	char *save = NULL;
	int rc;

	if (plan_all_usual(cg, root_fd, proc_cgroup))
		return 0;
	clear_dirs(cg);
	rc = file_read(AT_FDCWD, "/proc/self/mountinfo", CGROUP_TEXT_MAX, &text, &len, err);
	if (rc < 0)
		return rc;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		plan_line(cg, line, proc_cgroup);
	return 0;
}

static void plan_v2(struct cgroup *cg, const char *proc_cgroup)
{
	own_mem char *own = cgroup_own_path(proc_cgroup, "");
	char *slash;

	/* Our own directory has processes, so controllers cannot be enabled below it: the container
	 * becomes its neighbour. */
	if (cg->relative[0] != '/' && (slash = strrchr(own, '/')) != NULL)
		slash[slash == own] = '\0';
	add_dir(cg, str_copy(""), str_copy(CGROUP_ROOT), place(cg, CGROUP_ROOT, "/", own));
}

int cgroup_plan(enum oci_cgroup_manager manager, const char *cgroups_path, const char *id,
		struct cgroup **ret, struct error *err)
{
	own_cgroup struct cgroup *cg = mem_new(sizeof(*cg));
	own_mem char *proc_cgroup = NULL;
	own_fd int root_fd = -1;
	struct statfs fs;
	size_t len;
	int rc;

	cg->manager = manager;
	cg->relative = str_copy(str_empty(cgroups_path) ? id : cgroups_path);
	if (manager == OCI_CGROUP_NONE) {
		*ret = take(cg);
		return 0;
	}
	if (manager == OCI_CGROUP_SYSTEMD) {
		rc = cgroup_systemd_names(cg, cgroups_path, id, err);
		if (rc < 0)
			return rc;
	}
	if (!cgroup_is_clean(cg->relative))
		return refuse(err, -EINVAL, "linux.cgroupsPath: \"%s\" is not a plain path",
			      cg->relative);
	rc = file_read(AT_FDCWD, "/proc/self/cgroup", CGROUP_TEXT_MAX, &proc_cgroup, &len, err);
	if (rc < 0)
		return rc;
	root_fd = open(CGROUP_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root_fd >= 0 && fstatfs(root_fd, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC) {
		cg->v2 = true;
		plan_v2(cg, proc_cgroup);
	} else {
		rc = plan_v1(cg, root_fd, proc_cgroup, err);
		if (rc < 0)
			return rc;
		/* Only a unified hierarchy somewhere else: it has the controllers. */
		cg->v2 = cg->dir_count == 1 && cg->dirs[0].controllers[0] == '\0';
	}
	*ret = take(cg);
	return 0;
}

json_t *cgroup_save(const struct cgroup *cg)
{
	json_t *saved = json_pack("{s:i, s:b, s:b, s:s}", "manager", (int)cg->manager, "v2", cg->v2,
				  "shared", cg->shared, "relative", cg->relative);
	json_t *dirs = json_array();

	json_set_string(saved, "unit", cg->unit);
	json_set_string(saved, "slice", cg->slice);
	for (size_t i = 0; i < cg->dir_count; i++)
		json_array_append_new(dirs, json_pack("[s, s, s]", cg->dirs[i].controllers,
						      cg->dirs[i].mount, cg->dirs[i].path));
	json_object_set_new(saved, "dirs", dirs);
	return saved;
}

int cgroup_load(const json_t *saved, struct cgroup **ret, struct error *err)
{
	own_cgroup struct cgroup *cg = mem_new(sizeof(*cg));
	const char *relative, *unit = NULL, *slice = NULL;
	json_t *dirs, *item;
	int manager, v2, shared = 0;
	size_t i;

	if (json_unpack((json_t *)(uintptr_t)saved, "{s:i, s:b, s?b, s:s, s:o, s?s, s?s}",
			"manager", &manager, "v2", &v2, "shared", &shared, "relative", &relative,
			"dirs", &dirs, "unit", &unit, "slice", &slice) < 0)
		return refuse(err, -EINVAL, "the state file has no valid cgroup");
	cg->manager = (enum oci_cgroup_manager)manager;
	cg->v2 = v2;
	cg->shared = shared;
	cg->relative = str_copy(relative);
	cg->unit = str_copy(unit);
	cg->slice = str_copy(slice);
	json_array_foreach (dirs, i, item) {
		const char *controllers = json_string_value(json_array_get(item, 0));
		const char *mount = json_string_value(json_array_get(item, 1));
		const char *path = json_string_value(json_array_get(item, 2));

		if (i >= CGROUP_DIRS_MAX || controllers == NULL || mount == NULL || path == NULL)
			return refuse(err, -EINVAL, "the state file has no valid cgroup");
		add_dir(cg, str_copy(controllers), str_copy(mount), str_copy(path));
	}
	*ret = take(cg);
	return 0;
}

int cgroup_check_free(struct cgroup *cg, struct error *err)
{
	bool fresh = true;

	if (cg->dir_count > 0 && cg->relative[strspn(cg->relative, "/")] == '\0')
		return refuse(err, -EINVAL,
			      "linux.cgroupsPath: \"%s\" is the root, not a container's",
			      cg->relative);
	for (size_t i = 0; i < cg->dir_count; i++) {
		const char *path;
		const int at = cgroup_at(&cg->dirs[i], &path);
		own_mem char *procs = NULL, *text = NULL;
		size_t len = 0;

		if (faccessat(at, path, F_OK, 0) < 0 && errno == ENOENT)
			continue;
		fresh = false;
		procs = str_format("%s/cgroup.procs", path);
		if (file_read(at, procs, CGROUP_TEXT_MAX, &text, &len, NULL) == 0 && len > 0)
			cg->shared = true;
	}
	if (!fresh && cgroup_is_frozen(cg))
		return refuse(err, -EBUSY,
			      "linux.cgroupsPath: container's cgroup unexpectedly frozen");
	if (cg->shared)
		log_warn(
			"linux.cgroupsPath: container's cgroup is not empty: %s; what else is in it "
			"shares its limits",
			cg->relative);
	return 0;
}

/* --- making ------------------------------------------------------------------------------------- */

/* A new v1 cpuset is empty and takes no process: what the parent has is copied. One that was there
 * (not `fresh`) may have its own. 1: the parent has nothing either. */
static int inherit_cpuset(int at, const char *dir, bool fresh)
{
	static const char *const files[] = {"cpuset.cpus", "cpuset.mems"};

	for (size_t i = 0; i < array_size(files); i++) {
		own_mem char *own = str_format("%s/%s", dir, files[i]);
		own_mem char *above = str_format("%s/../%s", dir, files[i]);
		own_mem char *text = NULL;
		size_t len;
		int rc = fresh ? 0 : file_read(at, own, 65536, &text, &len, NULL);

		if (rc < 0)
			return rc;
		if (!fresh && len > 1)
			continue;
		free(take(text));
		rc = file_read(at, above, 65536, &text, &len, NULL);
		if (rc == 0 && len <= 1)
			return 1;
		if (rc == 0)
			rc = file_put(at, own, text);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Enables in the directory `dir` all controllers that it has, for its children. */
static void enable_controllers(const char *dir)
{
	own_mem char *have_path = str_format("%s/cgroup.controllers", dir);
	own_mem char *enabled_path = str_format("%s/cgroup.subtree_control", dir);
	own_mem char *have = NULL, *enabled = NULL;
	size_t len;
	char *save = NULL;

	if (file_read(AT_FDCWD, have_path, 4096, &have, &len, NULL) < 0 ||
	    file_read(AT_FDCWD, enabled_path, 4096, &enabled, &len, NULL) < 0)
		return;
	for (char *p = enabled; *p != '\0'; p++)
		*p = *p == ' ' || *p == '\n' ? ',' : *p;
	/* One by one: one that cannot be enabled must not keep the others out. What is missing in the
	 * end is noticed by whoever sets a limit that needs it. */
	for (char *name = strtok_r(have, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
		own_mem char *text = str_format("+%s", name);

		if (!cgroup_has_word(enabled, name) && file_put(AT_FDCWD, enabled_path, text) < 0)
			continue;
	}
}

/* Creates the directory with its parents. The mount point itself is the first that exists. */
static int make_one(const struct cgroup *cg, const struct cgroup_dir *dir)
{
	const bool cpuset = cgroup_has_word(dir->controllers, "cpuset");
	own_mem char *partial = str_copy(dir->path);
	size_t from = strlen(dir->mount);
	const char *path;
	const int at = cgroup_at(dir, &path);

	/* The common case: only the last component is missing. */
	if (!cg->v2 && mkdirat(at, path, 0755) == 0) {
		int rc = cpuset ? inherit_cpuset(at, path, true) : 0;

		if (rc <= 0)
			return rc;
	} else if (!cg->v2 && errno != ENOENT) {
		return errno == EEXIST ? 0 : -errno;
	}
	if (cg->v2)
		enable_controllers(dir->mount);
	while (partial[from] != '\0') {
		size_t next = from + 1 + strcspn(partial + from + 1, "/");
		char c = partial[next];
		int rc = 0;

		partial[next] = '\0';
		if (mkdir(partial, 0755) < 0 && errno != EEXIST)
			rc = -errno;
		else if (cpuset)
			rc = inherit_cpuset(AT_FDCWD, partial, false);
		if (rc < 0)
			return rc;
		if (cg->v2 && c != '\0')
			enable_controllers(partial);
		partial[next] = c;
		from = next;
	}
	return 0;
}

static void drop_dir(struct cgroup *cg, size_t i)
{
	clear_dir(&cg->dirs[i]);
	memmove(&cg->dirs[i], &cg->dirs[i + 1], (--cg->dir_count - i) * sizeof(cg->dirs[0]));
}

int cgroup_make(struct cgroup *cg, const struct config *c, bool optional, struct error *err)
{
	if (cg->manager == OCI_CGROUP_SYSTEMD) {
		int rc = cgroup_systemd_start(cg, c, err);

		if (rc < 0)
			return rc;
	}
	for (size_t i = 0; i < cg->dir_count;) {
		int rc = make_one(cg, &cg->dirs[i]);

		if (rc < 0 && optional && (rc == -EACCES || rc == -EPERM || rc == -EROFS)) {
			drop_dir(cg, i);
			continue;
		}
		if (rc < 0)
			return fail(err, rc, "create cgroup %s", cg->dirs[i].path);
		i++;
	}
	return 0;
}
