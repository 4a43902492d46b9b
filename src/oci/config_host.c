/* config_host: what a container is given of the host's memory nodes and network interfaces. */
#include <errno.h>
#include <linux/mempolicy.h>
#include <net/if.h>
#include <string.h>

#include "base/json.h"
#include "oci/config_priv.h"

#ifndef MPOL_PREFERRED_MANY
#define MPOL_PREFERRED_MANY 5
#endif
#ifndef MPOL_WEIGHTED_INTERLEAVE
#define MPOL_WEIGHTED_INTERLEAVE 6
#endif
#ifndef MPOL_F_NUMA_BALANCING
#define MPOL_F_NUMA_BALANCING (1 << 13)
#endif

const struct config_word config_memory_modes[] = {
	{"MPOL_DEFAULT", MPOL_DEFAULT},
	{"MPOL_PREFERRED", MPOL_PREFERRED},
	{"MPOL_BIND", MPOL_BIND},
	{"MPOL_INTERLEAVE", MPOL_INTERLEAVE},
	{"MPOL_LOCAL", MPOL_LOCAL},
	{"MPOL_PREFERRED_MANY", MPOL_PREFERRED_MANY},
	{"MPOL_WEIGHTED_INTERLEAVE", MPOL_WEIGHTED_INTERLEAVE},
	{NULL, 0},
};

const struct config_word config_memory_flags[] = {
	{"MPOL_F_NUMA_BALANCING", MPOL_F_NUMA_BALANCING},
	{"MPOL_F_RELATIVE_NODES", MPOL_F_RELATIVE_NODES},
	{"MPOL_F_STATIC_NODES", MPOL_F_STATIC_NODES},
	{NULL, 0},
};

static int parse_memory_policy(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct config_memory_policy *m = &c->linux_.memory_policy;
	struct json_at at;
	uint64_t mode = 0, flag;
	char **flags = NULL;
	int rc = json_object_at(linux_, "memoryPolicy", JSON_OPTIONAL, &at, err);

	if (rc <= 0)
		return rc;
	if ((rc = config_word(&at, "mode", JSON_REQUIRED, config_memory_modes, &mode, err)) < 0 ||
	    (rc = json_get_string(&at, "nodes", JSON_OPTIONAL, &m->nodes, err)) < 0 ||
	    (rc = config_strings(c, &at, "flags", &flags, err)) < 0)
		return rc;
	m->mode = (int)mode;
	for (size_t i = 0; flags != NULL && flags[i] != NULL; i++) {
		rc = config_find_word(&at, flags[i], config_memory_flags, &flag, err);
		if (rc < 0)
			return rc;
		m->mode |= (int)flag;
	}
	m->given = true;
	return 1;
}

static bool is_interface_name(const char *name)
{
	return name[0] != '\0' && strlen(name) < IFNAMSIZ && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 && name[strcspn(name, "/: \t\n\v\f\r%")] == '\0';
}

static int parse_net_devices(struct config *c, const struct json_at *linux_, struct error *err)
{
	struct config_linux *l = &c->linux_;
	struct json_at at, device;
	const char *host_name;
	json_t *value;
	int rc = json_object_at(linux_, "netDevices", JSON_OPTIONAL, &at, err);

	if (rc <= 0 || json_object_size(at.value) == 0)
		return rc;
	if (json_object_size(at.value) > CONFIG_LIST_MAX)
		return json_refuse(err, &at, "too many devices");
	l->net_devices = config_alloc(c, json_object_size(at.value), sizeof(*l->net_devices));
	json_object_foreach (at.value, host_name, value) {
		struct config_net_device *d = &l->net_devices[l->net_device_count];

		*d = (struct config_net_device){.host_name = host_name, .name = host_name};
		if ((rc = json_object_at(&at, host_name, JSON_REQUIRED, &device, err)) < 0 ||
		    (rc = json_get_string(&device, "name", JSON_OPTIONAL, &d->name, err)) < 0)
			return rc;
		if (d->name[0] == '\0')
			d->name = host_name;
		if (!is_interface_name(host_name) || !is_interface_name(d->name))
			return json_refuse(err, &device, "\"%s\" is not the name of an interface",
					   is_interface_name(host_name) ? d->name : host_name);
		for (size_t i = 0; i < l->net_device_count; i++)
			if (strcmp(l->net_devices[i].name, d->name) == 0)
				return json_refuse(err, &device,
						   "there would be two interfaces \"%s\"", d->name);
		l->net_device_count++;
	}
	return 1;
}

int config_parse_host(struct config *c, const struct json_at *linux_, struct error *err)
{
	int rc = parse_memory_policy(c, linux_, err);

	return rc < 0 ? rc : parse_net_devices(c, linux_, err);
}
