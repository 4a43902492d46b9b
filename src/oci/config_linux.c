/* config_linux: the linux section, without resources and seccomp; and what may not be combined. */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>

#include "base/mem.h"
#include "oci/config_priv.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

const struct namespace_kind namespace_kinds[NAMESPACE_KINDS] = {
	[NAMESPACE_USER] = {"user", "user", CLONE_NEWUSER},
	[NAMESPACE_PID] = {"pid", "pid", CLONE_NEWPID},
	[NAMESPACE_NETWORK] = {"network", "net", CLONE_NEWNET},
	[NAMESPACE_MOUNT] = {"mount", "mnt", CLONE_NEWNS},
	[NAMESPACE_IPC] = {"ipc", "ipc", CLONE_NEWIPC},
	[NAMESPACE_UTS] = {"uts", "uts", CLONE_NEWUTS},
	[NAMESPACE_CGROUP] = {"cgroup", "cgroup", CLONE_NEWCGROUP},
	[NAMESPACE_TIME] = {"time", "time", CLONE_NEWTIME},
};

static int parse_namespaces(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct json_at array, item;
	int rc = json_array_at(linux_, "namespaces", JSON_OPTIONAL, &array, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		const char *type, *path = NULL;
		size_t kind = 0;

		if (json_get_string(&item, "type", JSON_REQUIRED, &type, err) < 0 ||
		    json_get_string(&item, "path", JSON_OPTIONAL, &path, err) < 0)
			return -EINVAL;
		/* An empty path is what some engines write for "a new one". */
		if (!str_empty(path) && path[0] != '/')
			return json_refuse(err, &item, "the path is not absolute");
		while (kind < NAMESPACE_KINDS && strcmp(namespace_kinds[kind].name, type) != 0)
			kind++;
		if (kind == NAMESPACE_KINDS)
			return json_refuse(err, &item, "\"%s\" is not a kind of namespace", type);
		if (c->linux_.namespaces[kind].listed)
			return json_refuse(err, &item, "the %s namespace is listed twice", type);
		c->linux_.namespaces[kind].listed = true;
		c->linux_.namespaces[kind].path = str_empty(path) ? NULL : path;
	}
	return rc;
}

static int parse_one_offset(const struct json_at *offsets, const char *key, bool *ret_given,
			    int64_t *ret_seconds, uint32_t *ret_nanoseconds, struct error *err)
{
	int64_t seconds = 0, nanoseconds = 0;
	struct json_at at;
	int rc = json_object_at(offsets, key, JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = json_get_int(&at, "secs", JSON_OPTIONAL, INT64_MIN, INT64_MAX, &seconds, err)) <
		    0 ||
	    (rc = json_get_int(&at, "nanosecs", JSON_OPTIONAL, 0, 999999999, &nanoseconds, err)) <
		    0)
		return rc;
	*ret_given = true;
	*ret_seconds = seconds;
	*ret_nanoseconds = (uint32_t)nanoseconds;
	return 1;
}

static int parse_time_offsets(struct config_linux *l, const struct json_at *linux_,
			      struct error *err)
{
	struct json_at offsets;
	const char *key;
	json_t *value;
	int rc = json_object_at(linux_, "timeOffsets", JSON_OPTIONAL, &offsets, err);

	if (rc <= 0)
		return rc;
	json_object_foreach (offsets.value, key, value)
		if (strcmp(key, "monotonic") != 0 && strcmp(key, "boottime") != 0)
			return json_refuse(err, &offsets, "there is no offset for the clock \"%s\"",
					   key);
	rc = parse_one_offset(&offsets, "monotonic", &l->has_monotonic, &l->monotonic.seconds,
			      &l->monotonic.nanoseconds, err);
	if (rc < 0)
		return rc;
	return parse_one_offset(&offsets, "boottime", &l->has_boottime, &l->boottime.seconds,
				&l->boottime.nanoseconds, err);
}

/* Without slashes at its end: what is made there is no directory. */
static const char *plain_path(struct config *c, const char *path)
{
	size_t len = strlen(path);
	char *copy;

	if (len < 2 || path[len - 1] != '/')
		return path;
	while (len > 1 && path[len - 1] == '/')
		len--;
	copy = config_alloc(c, len + 1, 1);
	memcpy(copy, path, len);
	return copy;
}

static int parse_device(struct config *c, const struct json_at *at, struct config_device *d,
			struct error *err)
{
	static const struct config_word types[] = {
		{"c", 'c'}, {"u", 'c'}, {"b", 'b'}, {"p", 'p'}, {NULL, 0},
	};
	int64_t major = 0, minor = 0, mode = 0666, uid = 0, gid = 0;
	uint64_t type;
	int rc;

	if ((rc = config_word(at, "type", JSON_REQUIRED, types, &type, err)) < 0 ||
	    (rc = config_absolute_path(at, "path", JSON_REQUIRED, &d->path, err)) < 0 ||
	    (rc = json_get_int(at, "major", type == 'p' ? JSON_OPTIONAL : JSON_REQUIRED, 0,
			       (1 << 12) - 1, &major, err)) < 0 ||
	    (rc = json_get_int(at, "minor", type == 'p' ? JSON_OPTIONAL : JSON_REQUIRED, 0,
			       (1 << 20) - 1, &minor, err)) < 0 ||
	    (rc = json_get_int(at, "fileMode", JSON_OPTIONAL, 0, 0177777, &mode, err)) < 0 ||
	    (rc = json_get_int(at, "uid", JSON_OPTIONAL, 0, UINT32_MAX - 1, &uid, err)) < 0 ||
	    (rc = json_get_int(at, "gid", JSON_OPTIONAL, 0, UINT32_MAX - 1, &gid, err)) < 0)
		return rc;
	d->path = plain_path(c, d->path);
	d->type = (char)type;
	d->major = (unsigned int)major;
	d->minor = (unsigned int)minor;
	d->mode = (mode_t)mode & 07777;
	d->uid = (uid_t)uid;
	d->gid = (gid_t)gid;
	return 0;
}

static int parse_devices(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct config_linux *l = &c->linux_;
	struct json_at array, item;
	int rc = config_list(c, linux_, "devices", sizeof(*l->devices), &array, &l->devices,
			     &l->device_count, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++)
		if (parse_device(c, &item, &l->devices[i], err) < 0)
			return -EINVAL;
	return rc;
}

static int parse_sysctls(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct config_linux *l = &c->linux_;
	struct json_at map;
	const char *key;
	json_t *value;
	int rc = json_object_at(linux_, "sysctl", JSON_OPTIONAL, &map, err);

	if (rc <= 0)
		return rc;
	l->sysctls = config_alloc(c, json_object_size(map.value), sizeof(*l->sysctls));
	json_object_foreach (map.value, key, value) {
		struct json_at at = {.value = value, .up = &map, .key = key};
		struct config_sysctl *s = &l->sysctls[l->sysctl_count++];

		s->name = key;
		if (json_as_string(&at, &s->value, err) < 0)
			return -EINVAL;
		if (key[0] == '\0' || strstr(key, "..") != NULL || key[0] == '/')
			return json_refuse(err, &at, "is not the name of a kernel setting");
	}
	return 1;
}

static int parse_personality(struct config_linux *l, const struct json_at *linux_,
			     struct error *err)
{
	static const struct config_word domains[] = {
		{"LINUX", PER_LINUX},
		{"LINUX32", PER_LINUX32},
		{NULL, 0},
	};
	struct json_at at, flags;
	uint64_t domain;
	int rc = json_object_at(linux_, "personality", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = config_word(&at, "domain", JSON_REQUIRED, domains, &domain, err)) < 0 ||
	    (rc = json_array_at(&at, "flags", JSON_OPTIONAL, &flags, err)) < 0)
		return rc;
	if (rc > 0 && json_array_size(flags.value) > 0)
		return json_refuse(err, &flags, "the specification defines no flag");
	l->has_personality = true;
	l->personality = (unsigned long)domain;
	return 1;
}

/* Each is a line of its own for the kernel. */
static bool is_line(const char *text)
{
	return text == NULL || strchr(text, '\n') == NULL;
}

static int check_schemata(const struct json_at *at, const struct config_intel_rdt *r,
			  struct error *err)
{
	if (!str_empty(r->memory_schema) &&
	    (!is_line(r->memory_schema) || str_after(r->memory_schema, "MB:") == NULL))
		return json_refuse(err, at, "memBwSchema is not a line that begins with \"MB:\"");
	for (size_t i = 0; r->schemata != NULL && r->schemata[i] != NULL; i++)
		if (!is_line(r->schemata[i]) || strchr(r->schemata[i], ':') == NULL)
			return json_refuse(err, at, "schemata[%zu] is not a line like \"L3:0=f\"",
					   i);
	return 0;
}

static int parse_intel_rdt(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct config_linux *l = &c->linux_;
	struct config_intel_rdt *r = &l->intel_rdt;
	struct json_at at;
	int rc = json_object_at(linux_, "intelRdt", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = json_get_string(&at, "closID", JSON_OPTIONAL, &r->clos_id, err)) < 0 ||
	    (rc = json_get_string(&at, "l3CacheSchema", JSON_OPTIONAL, &r->l3_schema, err)) < 0 ||
	    (rc = json_get_string(&at, "memBwSchema", JSON_OPTIONAL, &r->memory_schema, err)) < 0 ||
	    (rc = json_get_bool(&at, "enableCMT", JSON_OPTIONAL, &r->enable_cmt, err)) < 0 ||
	    (rc = json_get_bool(&at, "enableMBM", JSON_OPTIONAL, &r->enable_mbm, err)) < 0 ||
	    (rc = json_get_bool(&at, "enableMonitoring", JSON_OPTIONAL, &r->enable_monitoring,
				err)) < 0 ||
	    (rc = config_strings(c, &at, "schemata", &r->schemata, err)) < 0 ||
	    (rc = check_schemata(&at, r, err)) < 0)
		return rc;
	if (r->clos_id != NULL && (strchr(r->clos_id, '/') != NULL || r->clos_id[0] == '\0' ||
				   strcmp(r->clos_id, ".") == 0 || strcmp(r->clos_id, "..") == 0))
		return json_refuse(err, &at, "closID is not the name of a directory");
	r->given = true;
	return 1;
}

static int parse_propagation(struct config_linux *l, const struct json_at *linux_,
			     struct error *err)
{
	static const struct config_word kinds[] = {
		{"shared", MS_SHARED},
		{"slave", MS_SLAVE},
		{"private", MS_PRIVATE},
		{"unbindable", MS_UNBINDABLE},
		{"rshared", MS_SHARED | MS_REC},
		{"rslave", MS_SLAVE | MS_REC},
		{"rprivate", MS_PRIVATE | MS_REC},
		{"runbindable", MS_UNBINDABLE | MS_REC},
		{"", 0},
		{NULL, 0},
	};
	uint64_t value = 0;
	int rc = config_word(linux_, "rootfsPropagation", JSON_OPTIONAL, kinds, &value, err);

	l->rootfs_propagation = (unsigned long)value;
	return rc;
}

static int check_paths(const struct json_at *linux_, const char *key, char **paths,
		       struct error *err)
{
	for (size_t i = 0; paths != NULL && paths[i] != NULL; i++)
		if (paths[i][0] != '/')
			return json_refuse(err, linux_, "%s[%zu]: \"%s\" is not an absolute path",
					   key, i, paths[i]);
	return 0;
}

int config_parse_linux(struct config *c, const struct json_at *root, struct error *err)
{
	struct config_linux *l = &c->linux_;
	struct json_at at, resources;
	int rc = json_object_at(root, "linux", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = parse_namespaces(c, &at, err)) < 0 ||
	    (rc = config_parse_id_maps(c, &at, "uidMappings", &l->uid_maps, err)) < 0 ||
	    (rc = config_parse_id_maps(c, &at, "gidMappings", &l->gid_maps, err)) < 0 ||
	    (rc = parse_time_offsets(l, &at, err)) < 0 || (rc = parse_devices(c, &at, err)) < 0 ||
	    (rc = json_get_string(&at, "cgroupsPath", JSON_OPTIONAL, &l->cgroups_path, err)) < 0 ||
	    (rc = parse_sysctls(c, &at, err)) < 0 || (rc = config_parse_seccomp(c, &at, err)) < 0 ||
	    (rc = parse_propagation(l, &at, err)) < 0 ||
	    (rc = config_strings(c, &at, "maskedPaths", &l->masked_paths, err)) < 0 ||
	    (rc = config_strings(c, &at, "readonlyPaths", &l->readonly_paths, err)) < 0 ||
	    (rc = check_paths(&at, "maskedPaths", l->masked_paths, err)) < 0 ||
	    (rc = check_paths(&at, "readonlyPaths", l->readonly_paths, err)) < 0 ||
	    (rc = json_get_string(&at, "mountLabel", JSON_OPTIONAL, &l->mount_label, err)) < 0 ||
	    (rc = parse_personality(l, &at, err)) < 0 || (rc = parse_intel_rdt(c, &at, err)) < 0 ||
	    (rc = json_object_at(&at, "resources", JSON_OPTIONAL, &resources, err)) < 0)
		return rc;
	if (rc > 0 && (rc = config_parse_resources(c, &resources, &l->resources, err)) < 0)
		return rc;
	return config_parse_host(c, &at, err);
}

/* --- what goes together ------------------------------------------------------------------------- */

static int check_namespaces(const struct config *c, struct error *err)
{
	const struct config_linux *l = &c->linux_;

	if (config_new_namespace(c, NAMESPACE_USER) && l->uid_maps.count == 0)
		return refuse(err, -EINVAL,
			      "linux.uidMappings: a new user namespace needs a mapping");
	if (config_new_namespace(c, NAMESPACE_USER) && l->gid_maps.count == 0)
		return refuse(err, -EINVAL,
			      "linux.gidMappings: a new user namespace needs a mapping");
	if (!config_new_namespace(c, NAMESPACE_USER) &&
	    (l->uid_maps.count > 0 || l->gid_maps.count > 0) &&
	    !config_has_namespace(c, NAMESPACE_USER))
		return refuse(err, -EINVAL,
			      "linux.uidMappings: there is no user namespace to map ids for");
	if (l->net_device_count > 0 && !config_has_namespace(c, NAMESPACE_NETWORK))
		return refuse(err, -EINVAL, "linux.netDevices: need a network namespace");
	if (c->hostname != NULL && c->hostname[0] != '\0' &&
	    !config_has_namespace(c, NAMESPACE_UTS))
		return refuse(err, -EINVAL, "hostname: needs a uts namespace");
	if (c->domainname != NULL && c->domainname[0] != '\0' &&
	    !config_has_namespace(c, NAMESPACE_UTS))
		return refuse(err, -EINVAL, "domainname: needs a uts namespace");
	if ((l->has_monotonic || l->has_boottime) && !config_new_namespace(c, NAMESPACE_TIME))
		return refuse(err, -EINVAL, "linux.timeOffsets: needs a new time namespace");
	return 0;
}

/* Kernel settings that are not per namespace would change the host. */
static int check_sysctls(const struct config *c, struct error *err)
{
	static const char *const ipc[] = {
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
		"kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced",
	};

	for (size_t i = 0; i < c->linux_.sysctl_count; i++) {
		own_mem char *name = str_copy(c->linux_.sysctls[i].name);
		enum config_namespace_kind kind = NAMESPACE_KINDS;

		/* Both separators are in use; a name in which dots are part of a component (a network
		 * interface) is written with slashes. */
		if (strchr(name, '.') == NULL || strchr(name, '/') < strchr(name, '.'))
			for (char *p = name; strchr(name, '/') != NULL && *p != '\0'; p++)
				*p = *p == '/' ? '.' : *p == '.' ? '/' : *p;
		if (str_after(name, "net.") != NULL)
			kind = NAMESPACE_NETWORK;
		else if (str_after(name, "fs.mqueue.") != NULL)
			kind = NAMESPACE_IPC;
		else if (strcmp(name, "kernel.domainname") == 0 ||
			 strcmp(name, "kernel.hostname") == 0)
			kind = NAMESPACE_UTS;
		else if (str_after(name, "user.") != NULL)
			kind = NAMESPACE_USER;
		for (size_t k = 0; k < array_size(ipc); k++)
			if (strcmp(name, ipc[k]) == 0)
				kind = NAMESPACE_IPC;
		if (kind == NAMESPACE_KINDS)
			return refuse(err, -EINVAL,
				      "linux.sysctl.%s: is not separate for a container; it would "
				      "change the host",
				      c->linux_.sysctls[i].name);
		if (!config_has_namespace(c, kind))
			return refuse(err, -EINVAL,
				      "linux.sysctl.%s: needs a %s namespace, else it would change "
				      "the host",
				      c->linux_.sysctls[i].name, namespace_kinds[kind].name);
		if (strcmp(name, "kernel.hostname") == 0)
			return refuse(err, -EINVAL,
				      "linux.sysctl.kernel.hostname: conflicts with the field "
				      "hostname, which sets it");
	}
	return 0;
}

int config_check(const struct config *c, const struct json_at *root, struct error *err)
{
	int rc = check_namespaces(c, err);

	(void)root;
	if (rc < 0)
		return rc;
	rc = check_sysctls(c, err);
	if (rc < 0)
		return rc;
	if ((c->linux_.masked_paths != NULL && c->linux_.masked_paths[0] != NULL) &&
	    !config_has_namespace(c, NAMESPACE_MOUNT))
		return refuse(err, -EINVAL, "linux.maskedPaths: needs a mount namespace");
	if ((c->linux_.readonly_paths != NULL && c->linux_.readonly_paths[0] != NULL) &&
	    !config_has_namespace(c, NAMESPACE_MOUNT))
		return refuse(err, -EINVAL, "linux.readonlyPaths: needs a mount namespace");
	return 0;
}
