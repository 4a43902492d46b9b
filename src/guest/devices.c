/*
 * devices: nodes for the workload whose numbers only this machine's kernel knows: disks that it was
 * given, and for a privileged one every device there is.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "guest/agent.h"

enum { DEPTH_MAX = 8, DISKS_FIRST_NAME = 26 };

static json_t *node_json(const struct stat *st)
{
	json_t *o = json_object();

	json_set_string(o, "type", S_ISBLK(st->st_mode) ? "b" : "c");
	json_object_set_new(o, "major", json_integer(major(st->st_rdev)));
	json_object_set_new(o, "minor", json_integer(minor(st->st_rdev)));
	return o;
}

static void add_node(json_t *nodes, const char *path, const struct stat *st)
{
	json_t *o = node_json(st);

	json_set_string(o, "path", path);
	json_object_set_new(o, "fileMode", json_integer(st->st_mode & 0777));
	json_object_set_new(o, "uid", json_integer(st->st_uid));
	json_object_set_new(o, "gid", json_integer(st->st_gid));
	json_array_append_new(nodes, o);
}

/* A container has these of its own. */
static bool is_own(const char *path)
{
	static const char *const own[] = {"/dev/pts", "/dev/shm",     "/dev/mqueue",
					  "/dev/fd",  "/dev/console", "/dev/ptmx"};

	for (size_t i = 0; i < array_size(own); i++)
		if (str_eq(own[i], path))
			return true;
	return false;
}

static void add_all_below(const char *place, json_t *nodes, unsigned int depth)
{
	own_dir DIR *dir = depth < DEPTH_MAX ? opendir(place) : NULL;
	const struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		own_mem char *path = str_format("%s/%s", place, entry->d_name);
		struct stat st;

		if (entry->d_name[0] == '.' || is_own(path) || lstat(path, &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			add_all_below(path, nodes, depth + 1);
		else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
			add_node(nodes, path, &st);
	}
}

static int add_disk(const struct json_at *disk, json_t *nodes, json_t *rules, struct error *err)
{
	const char *path = NULL, *access = NULL;
	own_mem char *name = NULL;
	own_fd int fd = -1;
	struct stat st;
	json_t *rule;
	int64_t index = 0;
	int rc = json_get_string(disk, "path", JSON_REQUIRED, &path, err);

	if (rc >= 0)
		rc = json_get_string(disk, "access", JSON_REQUIRED, &access, err);
	if (rc >= 0)
		rc = json_get_int(disk, "index", JSON_REQUIRED, 0, DISKS_FIRST_NAME - 1, &index,
				  err);
	if (rc < 0)
		return rc;
	name = str_format("/dev/vd%c", (char)('a' + index));
	fd = rc = device_open(name, O_RDONLY, err);
	if (rc >= 0 && fstat(fd, &st) < 0)
		rc = fail(err, -errno, "look at %s", name);
	if (rc < 0)
		return rc;
	add_node(nodes, path, &st);
	rule = node_json(&st);
	json_object_set_new(rule, "allow", json_true());
	json_set_string(rule, "access", access);
	json_array_append_new(rules, rule);
	return 0;
}

int devices_add(const struct json_at *request, json_t *spec, struct error *err)
{
	json_t *part = json_object_get(spec, "linux"), *nodes = json_object_get(part, "devices");
	json_t *rules = json_object_get(json_object_get(part, "resources"), "devices");
	struct json_at disks, disk;
	bool all = false;
	int rc = json_get_bool(request, "allDevices", JSON_OPTIONAL, &all, err);

	if (rc >= 0 && all)
		add_all_below("/dev", nodes, 0);
	if (rc >= 0)
		rc = json_array_at(request, "disks", JSON_OPTIONAL, &disks, err);
	if (rc <= 0)
		return rc;
	rc = 0;
	for (size_t i = 0; rc == 0 && json_element(&disks, i, &disk); i++)
		rc = add_disk(&disk, nodes, rules, err);
	return rc;
}
