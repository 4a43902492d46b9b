/*
 * vm_devices: what --device means for a machine. A block device of the host becomes a disk of it, after
 * the two that every machine has; the node that the workload finds is the machine's. Other devices are the
 * host's kernel's.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "engine/vm.h"

enum { OTHER_DISKS = 2, DEVICES_MAX = 20 };

static bool is_block_device(const char *path)
{
	struct stat st;

	/* One that is not there is told of at the start. */
	return stat(path, &st) < 0 || S_ISBLK(st.st_mode);
}

int vm_devices_check(const struct workload_config *c, struct error *err)
{
	for (size_t i = 0; i < c->devices_count; i++) {
		const char *source = c->devices[i].source;

		if (!is_block_device(source))
			return hint(err,
				    refuse(err, -ENOTSUP,
					   "--device %s: a virtual machine has no devices of the "
					   "host but for block devices, as disks",
					   source),
				    "run it as a container");
		if (strchr(source, ',') != NULL)
			return refuse(err, -ENOTSUP,
				      "--device %s: there is a comma in its path, which a virtual "
				      "machine's disk cannot have",
				      source);
	}
	if (c->devices_count > DEVICES_MAX)
		return refuse(err, -ENOTSUP, "a virtual machine has at most %d more disks",
			      DEVICES_MAX);
	return 0;
}

void vm_devices_add(const struct workload_config *c, json_t *command)
{
	for (size_t i = 0; i < c->devices_count; i++) {
		const struct workload_device *d = &c->devices[i];
		own_mem char *disk = str_format("%s,format=raw%s", d->source,
						strchr(d->access, 'w') ? "" : ",ro");

		json_array_append_new(command, json_string("--disk"));
		json_array_append_new(command, json_from_string(disk));
	}
}

void vm_devices_take(const struct workload_config *c, json_t *spec, json_t *run)
{
	json_t *part = json_object_get(spec, "linux"), *disks = json_array();
	json_t *rules = json_object_get(json_object_get(part, "resources"), "devices");

	/* The nodes are the host's; so are the rules for what was asked for, which are the last. */
	json_array_clear(json_object_get(part, "devices"));
	for (size_t i = 0; i < c->devices_count && json_array_size(rules) > 0; i++)
		json_array_remove(rules, json_array_size(rules) - 1);
	for (size_t i = 0; i < c->devices_count; i++) {
		const struct workload_device *d = &c->devices[i];
		json_t *disk = json_object();

		json_set_string(disk, "path", d->target);
		json_set_string(disk, "access", d->access);
		json_object_set_new(disk, "index", json_integer((json_int_t)i + OTHER_DISKS));
		json_array_append_new(disks, disk);
	}
	json_object_set_new(run, "disks", disks);
	json_object_set_new(run, "allDevices", json_boolean(c->flags & WORKLOAD_PRIVILEGED));
}
