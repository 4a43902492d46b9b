/* config_resources: linux.resources; also the argument of an update. */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "oci/config_priv.h"

static int parse_device_rule(const struct json_at *at, struct config_device_rule *r,
			     struct error *err)
{
	static const struct config_word types[] = {
		{"a", 'a'}, {"", 'a'}, {"c", 'c'}, {"b", 'b'}, {NULL, 0},
	};
	const char *access = "rwm";
	uint64_t type = 'a';
	int rc;

	r->major = r->minor = -1;
	if ((rc = json_get_bool(at, "allow", JSON_REQUIRED, &r->allow, err)) < 0 ||
	    (rc = config_word(at, "type", JSON_OPTIONAL, types, &type, err)) < 0 ||
	    (rc = json_get_int(at, "major", JSON_OPTIONAL, -1, UINT32_MAX, &r->major, err)) < 0 ||
	    (rc = json_get_int(at, "minor", JSON_OPTIONAL, -1, UINT32_MAX, &r->minor, err)) < 0 ||
	    (rc = json_get_string(at, "access", JSON_OPTIONAL, &access, err)) < 0)
		return rc;
	r->type = (char)type;
	for (const char *p = access; *p != '\0'; p++) {
		/* "a" for all is the word of the controller for the type; here it says nothing. */
		if (strchr("rwma", *p) == NULL)
			return json_refuse(err, at, "access: \"%s\" has other letters than r, w, m",
					   access);
		r->read |= *p == 'r';
		r->write |= *p == 'w';
		r->mknod |= *p == 'm';
	}
	return 0;
}

/* Devices that every container has, whatever the configuration forbids before: making any device
 * file, and using the standard ones and terminals. They come after its own rules. */
static const struct config_device_rule always[] = {
	{true, 'c', -1, -1, false, false, true}, {true, 'b', -1, -1, false, false, true},
	{true, 'c', 1, 3, true, true, true},     {true, 'c', 1, 5, true, true, true},
	{true, 'c', 1, 7, true, true, true},     {true, 'c', 1, 8, true, true, true},
	{true, 'c', 1, 9, true, true, true},     {true, 'c', 5, 0, true, true, true},
	{true, 'c', 5, 1, true, true, true},     {true, 'c', 5, 2, true, true, true},
	{true, 'c', 136, -1, true, true, true},
};

static void add_always(struct config *c, struct config_resources *r)
{
	struct config_device_rule *all;

	if (r->device_count == 0)
		return;
	all = config_alloc(c, r->device_count + array_size(always), sizeof(*all));
	memcpy(all, r->devices, r->device_count * sizeof(*all));
	memcpy(all + r->device_count, always, sizeof(always));
	r->devices = all;
	r->device_count += array_size(always);
}

static int parse_devices(struct config *c, const struct json_at *resources,
			 struct config_resources *r, struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, resources, "devices", sizeof(*r->devices), &array, &r->devices,
			     &r->device_count, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++)
		if (parse_device_rule(&item, &r->devices[i], err) < 0)
			return -EINVAL;
	add_always(c, r);
	return rc;
}

static int parse_memory(const struct json_at *resources, struct config_resources *r,
			struct error *err)
{
	struct config_number kernel = {0};
	struct json_at at;
	bool hierarchy = true;
	int rc = json_object_at(resources, "memory", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	/* memory.kernel: the specification says it is not recommended, the kernel ignores it since
	 * 5.16; useHierarchy: the kernel always does. Both are checked and have no effect. */
	if ((rc = config_number(&at, "limit", INT64_MIN, INT64_MAX, &r->memory.limit, err)) < 0 ||
	    (rc = config_number(&at, "reservation", INT64_MIN, INT64_MAX, &r->memory.reservation,
				err)) < 0 ||
	    (rc = config_number(&at, "swap", INT64_MIN, INT64_MAX, &r->memory.swap, err)) < 0 ||
	    (rc = config_number(&at, "kernel", INT64_MIN, INT64_MAX, &kernel, err)) < 0 ||
	    (rc = config_number(&at, "kernelTCP", INT64_MIN, INT64_MAX, &r->memory.kernel_tcp,
				err)) < 0 ||
	    (rc = config_number(&at, "swappiness", -1, 200, &r->memory.swappiness, err)) < 0 ||
	    (rc = json_get_bool(&at, "disableOOMKiller", JSON_OPTIONAL,
				&r->memory.disable_oom_killer, err)) < 0 ||
	    (rc = json_get_bool(&at, "useHierarchy", JSON_OPTIONAL, &hierarchy, err)) < 0 ||
	    (rc = json_get_bool(&at, "checkBeforeUpdate", JSON_OPTIONAL,
				&r->memory.check_before_update, err)) < 0)
		return rc;
	return 1;
}

/* "0-3,7": digits, commas and dashes only, so that nothing else reaches the kernel. */
static int check_cpu_list(const struct json_at *at, const char *key, const char *list,
			  struct error *err)
{
	if (list != NULL && list[strspn(list, "0123456789,- \n")] != '\0')
		return json_refuse(err, at, "%s: \"%s\" is not a list like 0-3,7", key, list);
	return 0;
}

static int parse_cpu(const struct json_at *resources, struct config_resources *r, struct error *err)
{
	struct json_at at;
	int rc = json_object_at(resources, "cpu", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = config_number(&at, "shares", 0, INT64_MAX, &r->cpu.shares, err)) < 0 ||
	    (rc = config_number(&at, "quota", INT64_MIN, INT64_MAX, &r->cpu.quota, err)) < 0 ||
	    (rc = config_number(&at, "burst", 0, INT64_MAX, &r->cpu.burst, err)) < 0 ||
	    (rc = config_number(&at, "period", 0, INT64_MAX, &r->cpu.period, err)) < 0 ||
	    (rc = config_number(&at, "realtimeRuntime", INT64_MIN, INT64_MAX, &r->cpu.rt_runtime,
				err)) < 0 ||
	    (rc = config_number(&at, "realtimePeriod", 0, INT64_MAX, &r->cpu.rt_period, err)) < 0 ||
	    (rc = config_number(&at, "idle", 0, 1, &r->cpu.idle, err)) < 0 ||
	    (rc = json_get_string(&at, "cpus", JSON_OPTIONAL, &r->cpu.cpus, err)) < 0 ||
	    (rc = json_get_string(&at, "mems", JSON_OPTIONAL, &r->cpu.mems, err)) < 0 ||
	    (rc = check_cpu_list(&at, "cpus", r->cpu.cpus, err)) < 0 ||
	    (rc = check_cpu_list(&at, "mems", r->cpu.mems, err)) < 0)
		return rc;
	return 1;
}

static int parse_device_values(struct config *c, const struct json_at *io, const char *key,
			       bool weights, struct config_device_values *ret, struct error *err)
{
	struct json_at array, item;
	int rc =
		config_list(c, io, key, sizeof(*ret->items), &array, &ret->items, &ret->count, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		struct config_device_value *v = &ret->items[i];
		int64_t major, minor, value = 0, leaf = 0;

		if (json_get_int(&item, "major", JSON_REQUIRED, 0, UINT32_MAX, &major, err) < 0 ||
		    json_get_int(&item, "minor", JSON_REQUIRED, 0, UINT32_MAX, &minor, err) < 0 ||
		    json_get_int(&item, weights ? "weight" : "rate",
				 weights ? JSON_OPTIONAL : JSON_REQUIRED, 0, INT64_MAX, &value,
				 err) < 0 ||
		    (weights && json_get_int(&item, "leafWeight", JSON_OPTIONAL, 0, UINT16_MAX,
					     &leaf, err) < 0))
			return -EINVAL;
		v->major = (unsigned int)major;
		v->minor = (unsigned int)minor;
		v->value = (uint64_t)value;
		v->leaf = (uint64_t)leaf;
	}
	return rc;
}

static int parse_io(struct config *c, const struct json_at *resources, struct config_resources *r,
		    struct error *err)
{
	static const char *const throttles[THROTTLE_KINDS] = {
		[THROTTLE_READ_BPS] = "throttleReadBpsDevice",
		[THROTTLE_WRITE_BPS] = "throttleWriteBpsDevice",
		[THROTTLE_READ_IOPS] = "throttleReadIOPSDevice",
		[THROTTLE_WRITE_IOPS] = "throttleWriteIOPSDevice",
	};
	struct json_at at;
	int rc = json_object_at(resources, "blockIO", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = config_number(&at, "weight", 0, UINT16_MAX, &r->io.weight, err)) < 0 ||
	    (rc = config_number(&at, "leafWeight", 0, UINT16_MAX, &r->io.leaf_weight, err)) < 0 ||
	    (rc = parse_device_values(c, &at, "weightDevice", true, &r->io.weight_device, err)) < 0)
		return rc;
	for (size_t i = 0; i < THROTTLE_KINDS; i++) {
		rc = parse_device_values(c, &at, throttles[i], false, &r->io.throttle[i], err);
		if (rc < 0)
			return rc;
	}
	return 1;
}

/* A member of a map that becomes part of a file name in the cgroup. */
static int check_name(const struct json_at *at, const char *name, struct error *err)
{
	if (name[0] == '\0' || strchr(name, '/') != NULL || name[0] == '.')
		return json_refuse(err, at, "\"%s\" is not a name", name);
	return 0;
}

static int parse_hugepages(struct config *c, const struct json_at *resources,
			   struct config_resources *r, struct error *err)
{
	struct json_at array, item;
	int rc = config_list(c, resources, "hugepageLimits", sizeof(*r->hugepages), &array,
			     &r->hugepages, &r->hugepage_count, err);

	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		struct config_pair *p = &r->hugepages[i];

		if (json_get_string(&item, "pageSize", JSON_REQUIRED, &p->key, err) < 0 ||
		    check_name(&item, p->key, err) < 0 ||
		    json_get_int(&item, "limit", JSON_REQUIRED, INT64_MIN, INT64_MAX, &p->value,
				 err) < 0)
			return -EINVAL;
	}
	return rc;
}

static int parse_network(struct config *c, const struct json_at *resources,
			 struct config_resources *r, struct error *err)
{
	struct json_at at, array, item;
	int rc = json_object_at(resources, "network", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	rc = config_number(&at, "classID", 0, UINT32_MAX, &r->network_class, err);
	if (rc < 0)
		return rc;
	rc = config_list(c, &at, "priorities", sizeof(*r->network_priorities), &array,
			 &r->network_priorities, &r->network_priority_count, err);
	for (size_t i = 0; rc > 0 && json_element(&array, i, &item); i++) {
		struct config_pair *p = &r->network_priorities[i];

		if (json_get_string(&item, "name", JSON_REQUIRED, &p->key, err) < 0 ||
		    check_name(&item, p->key, err) < 0 ||
		    json_get_int(&item, "priority", JSON_REQUIRED, 0, UINT32_MAX, &p->value, err) <
			    0)
			return -EINVAL;
	}
	return rc;
}

static int parse_rdma(struct config *c, const struct json_at *resources, struct config_resources *r,
		      struct error *err)
{
	struct json_at map;
	const char *key;
	json_t *value;
	int rc = json_object_at(resources, "rdma", JSON_OPTIONAL, &map, err);

	if (rc <= 0)
		return rc;
	r->rdma = config_alloc(c, json_object_size(map.value), sizeof(*r->rdma));
	json_object_foreach (map.value, key, value) {
		struct json_at at = {.value = value, .up = &map, .key = key};
		struct config_rdma *d = &r->rdma[r->rdma_count++];

		d->device = key;
		if (json_as_object(&at, err) < 0 || check_name(&at, key, err) < 0 ||
		    config_number(&at, "hcaHandles", 0, UINT32_MAX, &d->handles, err) < 0 ||
		    config_number(&at, "hcaObjects", 0, UINT32_MAX, &d->objects, err) < 0)
			return -EINVAL;
		if (!d->handles.given && !d->objects.given)
			return json_refuse(err, &at, "sets neither hcaHandles nor hcaObjects");
	}
	return 1;
}

static int parse_unified(struct config *c, const struct json_at *resources,
			 struct config_resources *r, struct error *err)
{
	struct json_at map;
	const char *key;
	json_t *value;
	int rc = json_object_at(resources, "unified", JSON_OPTIONAL, &map, err);

	if (rc <= 0)
		return rc;
	r->unified = config_alloc(c, json_object_size(map.value), sizeof(*r->unified));
	json_object_foreach (map.value, key, value) {
		struct json_at at = {.value = value, .up = &map, .key = key};
		struct config_pair *p = &r->unified[r->unified_count++];

		p->key = key;
		/* "memory.high", never "cgroup.procs" or a path. */
		if (json_as_string(&at, &p->text, err) < 0 || check_name(&at, key, err) < 0)
			return -EINVAL;
		if (strchr(key, '.') == NULL)
			return json_refuse(err, &at,
					   "the specified key has not the form CONTROLLER.VALUE "
					   "`%s`",
					   key);
		if (str_after(key, "cgroup.") != NULL)
			return json_refuse(err, &at, "is not a controller's file");
	}
	return 1;
}

int config_parse_resources(struct config *c, const struct json_at *at, struct config_resources *r,
			   struct error *err)
{
	struct json_at pids;
	int rc;

	if ((rc = json_as_object(at, err)) < 0 || (rc = parse_devices(c, at, r, err)) < 0 ||
	    (rc = parse_memory(at, r, err)) < 0 || (rc = parse_cpu(at, r, err)) < 0 ||
	    (rc = parse_io(c, at, r, err)) < 0 || (rc = parse_hugepages(c, at, r, err)) < 0 ||
	    (rc = parse_network(c, at, r, err)) < 0 || (rc = parse_rdma(c, at, r, err)) < 0 ||
	    (rc = parse_unified(c, at, r, err)) < 0 ||
	    (rc = json_object_at(at, "pids", JSON_OPTIONAL, &pids, err)) < 0)
		return rc;
	if (rc > 0 &&
	    (rc = config_number(&pids, "limit", INT64_MIN, INT64_MAX, &r->pids_limit, err)) < 0)
		return rc;
	return 0;
}
