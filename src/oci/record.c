/* record: see record.h. */
#include "oci/record.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/config_file.h"
#include "oci/config_priv.h"
#include "oci/hooks.h"
#include "oci/resctrl.h"

int record_read_spec(json_t *spec, const char *bundle, json_t **ret, char **ret_text,
		     struct error *err)
{
	own_mem char *path = NULL;

	if (spec != NULL) {
		*ret = json_incref(spec);
		return 0;
	}
	path = str_format("%s/config.json", bundle);
	return config_read_file(AT_FDCWD, path, ret, ret_text, err);
}

char *record_root(const struct config *c, const char *bundle)
{
	if (c->root_path == NULL)
		return str_copy("");
	return c->root_path[0] == '/' ? str_copy(c->root_path)
				      : str_format("%s/%s", bundle, c->root_path);
}

static json_t *namespace_list(const struct config *c)
{
	json_t *list = json_array();

	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		if (c->linux_.namespaces[i].listed)
			json_array_append_new(list, json_string(namespace_kinds[i].name));
	return list;
}

void record_fill(struct container *container, const struct config *c, const char *bundle,
		 const struct cgroup *cg)
{
	own_mem char *rootfs = record_root(c, bundle);
	char now[CLOCK_TEXT_MAX];
	json_t *record = container->record;

	clock_format(clock_now_ns(), now);
	json_object_set_new(record, "ociVersion", json_string(OCI_VERSION));
	json_object_set_new(record, "id", json_string(container->id));
	json_object_set_new(record, "bundle", json_string(bundle));
	json_object_set_new(record, "rootfs", json_string(rootfs));
	json_object_set_new(record, "created", json_string(now));
	json_object_set_new(record, "owner", json_integer(geteuid()));
	json_object_set_new(record, "namespaces", namespace_list(c));
	if (c->annotations != NULL)
		json_object_set(record, "annotations", c->annotations);
	if (c->hooks[HOOK_POSTSTART].count > 0)
		json_object_set_new(record, "poststart", json_true());
	/* Mounts in the host's own mount namespace do not go with the container's processes. */
	if (!config_has_namespace(c, NAMESPACE_MOUNT) && c->mount_count > 0)
		json_object_set_new(record, "hostMounts", json_true());
	if (c->hooks[HOOK_POSTSTOP].count > 0)
		json_object_set_new(record, "poststop", json_true());
	if (c->linux_.intel_rdt.given)
		json_object_set_new(record, "resctrl",
				    resctrl_save(&c->linux_.intel_rdt, container->id));
	json_object_set_new(record, "cgroup", cgroup_save(cg));
}

int record_pid_file(const char *path, pid_t pid, struct error *err)
{
	own_mem char *text = NULL;

	if (path == NULL)
		return 0;
	text = str_format("%d", (int)pid);
	return file_write(AT_FDCWD, path, text, strlen(text), 0644, FILE_WRITE_ATOMIC, err);
}

int record_runtime_hooks(const struct container *container, const struct config *c,
			 const char *bundle, pid_t pid, struct error *err)
{
	struct hook_state state = {
		.id = container->id,
		.bundle = bundle,
		/* The prestart hooks are from a time when they ran on start. */
		.status = OCI_CREATED,
		.pid = pid,
		.annotations = c->annotations,
		.container = container,
	};
	int rc = hooks_run(c, HOOK_PRESTART, &state, err);

	state.status = OCI_CREATING;
	return rc == 0 ? hooks_run(c, HOOK_CREATE_RUNTIME, &state, err) : rc;
}

/* What the descriptors are, as the kernel names it. */
static char *descriptor_names(const int stdio[3])
{
	own_json json_t *names = json_array();

	for (int i = 0; i < 3; i++) {
		char name[PATH_MAX];
		const ssize_t n = readlink(fd_path(stdio[i]).text, name, sizeof(name) - 1);

		name[n > 0 ? n : 0] = '\0';
		json_array_append_new(names, json_from_string(name));
	}
	return json_text(names);
}

int record_status(const struct container *container, const struct cgroup *cg, const int stdio[3],
		  struct error *err)
{
	own_mem char *names = descriptor_names(stdio), *text = NULL;
	const json_t *record = container->record;
	own_json json_t *status = json_pack(
		"{s:O?, s:O?, s:O?, s:O?, s:O?, s:s*, s:s}", "pid", json_object_get(record, "pid"),
		"process-start-time", json_object_get(record, "startTime"), "bundle",
		json_object_get(record, "bundle"), "rootfs", json_object_get(record, "rootfs"),
		"created", json_object_get(record, "created"), "cgroup-path", cg->relative,
		"external_descriptors", names);

	text = json_text(status);
	return file_write(container->dir_fd, CONTAINER_STATUS, text, strlen(text), 0600,
			  FILE_WRITE_PLAIN, err);
}
