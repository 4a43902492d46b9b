/* snapshot_devices: the devices of a machine whose other side the host has to set up again, in
 * machine.json. */
#include "vmm/machine/snapshot.h"

#include "base/mem.h"
#include "base/str.h"
#include "vmm/machine/machine_priv.h"

static const char *const cache_names[] = {
	[SHARE_CACHE_AUTO] = "auto",
	[SHARE_CACHE_NONE] = "none",
	[SHARE_CACHE_ALWAYS] = "always",
};

static json_t *describe_map(const struct share_map *map)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < map->count; i++) {
		json_t *item = json_object();

		json_object_set_new(item, "guest", json_integer(map->ranges[i].guest));
		json_object_set_new(item, "host", json_integer(map->ranges[i].host));
		json_object_set_new(item, "count", json_integer(map->ranges[i].count));
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *describe_ports(const struct machine_config *config)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < config->port_count; i++) {
		json_t *item = json_object();

		json_set_string(item, "name", config->ports[i].name);
		json_object_set_new(item, "terminal", json_boolean(config->ports[i].is_terminal));
		json_array_append_new(list, item);
	}
	return list;
}

void snapshot_describe_devices(json_t *root, const struct machine_config *config)
{
	json_t *shares = json_array();

	if (config->vsock)
		json_object_set_new(root, "vsockCid", json_integer((json_int_t)config->vsock->cid));
	for (unsigned int i = 0; i < config->share_count; i++) {
		const struct machine_share *share = &config->shares[i];
		json_t *item = json_object();

		snapshot_set_path(item, "path", share->path);
		json_set_string(item, "tag", share->tag);
		json_set_string(item, "cache", cache_names[share->cache]);
		json_object_set_new(item, "readOnly", json_boolean(share->read_only));
		json_object_set_new(item, "users", describe_map(&share->users));
		json_object_set_new(item, "groups", describe_map(&share->groups));
		json_array_append_new(shares, item);
	}
	json_object_set_new(root, "shares", shares);
	json_object_set_new(root, "ports", describe_ports(config));
}

static int read_map(const struct json_at *share, const char *key, struct share_map *ret,
		    struct error *err)
{
	struct json_at list, item;
	int rc = json_array_at(share, key, JSON_REQUIRED, &list, err);

	if (rc < 0)
		return rc;
	for (unsigned int i = 0; i < SHARE_MAP_RANGES_MAX && json_element(&list, i, &item); i++) {
		int64_t guest = 0, host = 0, count = 0;

		rc = json_get_int(&item, "guest", JSON_REQUIRED, 0, UINT32_MAX, &guest, err);
		if (rc >= 0)
			rc = json_get_int(&item, "host", JSON_REQUIRED, 0, UINT32_MAX, &host, err);
		if (rc >= 0)
			rc = json_get_int(&item, "count", JSON_REQUIRED, 1, UINT32_MAX, &count,
					  err);
		if (rc < 0)
			return rc;
		ret->ranges[ret->count++] = (struct share_range){
			.guest = (uint32_t)guest, .host = (uint32_t)host, .count = (uint32_t)count};
	}
	return 0;
}

static int read_share(const struct json_at *item, struct machine_share *ret, struct error *err)
{
	const char *cache = NULL;
	int rc = json_get_string(item, "path", JSON_REQUIRED, &ret->path, err);

	ret->fd = -1;
	if (rc >= 0)
		rc = json_get_string(item, "tag", JSON_REQUIRED, &ret->tag, err);
	if (rc >= 0)
		rc = json_get_string(item, "cache", JSON_REQUIRED, &cache, err);
	if (rc >= 0)
		rc = json_get_bool(item, "readOnly", JSON_REQUIRED, &ret->read_only, err);
	if (rc >= 0)
		rc = read_map(item, "users", &ret->users, err);
	if (rc >= 0)
		rc = read_map(item, "groups", &ret->groups, err);
	for (unsigned int i = 0; rc >= 0 && i < array_size(cache_names); i++)
		if (str_eq(cache, cache_names[i]))
			ret->cache = (enum share_cache)i;
	return rc < 0 ? rc : 0;
}

static int read_shares(const struct json_at *root, struct snapshot *s,
		       struct machine_config *config, struct error *err)
{
	struct json_at list, item;
	unsigned int count = 0;
	int rc = json_array_at(root, "shares", JSON_OPTIONAL, &list, err);

	if (rc <= 0 || config->share_count > 0)
		return rc < 0 ? rc : 0;
	s->shares = mem_new_array(MACHINE_DEVICES_MAX, sizeof(*s->shares));
	for (; count < MACHINE_DEVICES_MAX && json_element(&list, count, &item); count++) {
		rc = read_share(&item, &s->shares[count], err);
		if (rc < 0)
			return rc;
	}
	config->shares = s->shares;
	config->share_count = count;
	return 0;
}

/* Nobody is at the other end of ports that are not given anew. */
static int read_ports(const struct json_at *root, struct snapshot *s, struct machine_config *config,
		      struct error *err)
{
	struct json_at list, item;
	unsigned int count = 0;
	int rc = json_array_at(root, "ports", JSON_OPTIONAL, &list, err);

	if (rc <= 0 || config->port_count > 0)
		return rc < 0 ? rc : 0;
	s->ports = mem_new_array(PORTS_MAX, sizeof(*s->ports));
	for (; count < PORTS_MAX && json_element(&list, count, &item); count++) {
		struct machine_port *port = &s->ports[count];

		port->listen_fd = port->fd = -1;
		rc = json_get_string(&item, "name", JSON_REQUIRED, &port->name, err);
		if (rc >= 0)
			rc = json_get_bool(&item, "terminal", JSON_REQUIRED, &port->is_terminal,
					   err);
		if (rc < 0)
			return rc;
	}
	config->ports = s->ports;
	config->port_count = count;
	return 0;
}

int snapshot_read_devices(const struct json_at *root, struct snapshot *s,
			  struct machine_config *config, struct error *err)
{
	int64_t cid = 0;
	int rc = json_get_int(root, "vsockCid", JSON_OPTIONAL, 3, UINT32_MAX, &cid, err);

	if (rc < 0)
		return rc;
	/* Without a path the device is there, and nobody at its other end. */
	s->vsock = (struct machine_vsock){.cid = (uint64_t)cid, .listen_fd = -1, .broker_fd = -1};
	if (cid && !config->vsock)
		config->vsock = &s->vsock;
	rc = read_shares(root, s, config, err);
	return rc < 0 ? rc : read_ports(root, s, config, err);
}
