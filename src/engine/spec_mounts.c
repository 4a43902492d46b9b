/*
 * spec_mounts: what is mounted in a container (declared in spec.h): the file systems of the kernel, the
 * three files that tell it its name and its name servers, then what the user asked for. A mount of the
 * user at the same place replaces a default one.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "engine/spec.h"

enum { SHM_DEFAULT = 64 << 20, HOST_FILE_MAX = 1 << 20 };

struct default_mount {
	const char *target, *type, *source, *options;
};

static const struct default_mount defaults[] = {
	{"/proc", "proc", "proc", "nosuid,noexec,nodev"},
	{"/dev", "tmpfs", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"},
	{"/dev/pts", "devpts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"},
	{"/sys", "sysfs", "sysfs", "nosuid,noexec,nodev,ro"},
	{"/sys/fs/cgroup", "cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"},
	{"/dev/mqueue", "mqueue", "mqueue", "nosuid,noexec,nodev"},
};

static json_t *mount_json(const char *target, const char *type, const char *source)
{
	json_t *o = json_object();

	json_set_string(o, "destination", target);
	json_set_string(o, "type", type);
	json_set_string(o, "source", source);
	return o;
}

static bool replaced(const struct workload_config *config, const char *target)
{
	for (size_t i = 0; i < config->mounts_count; i++)
		if (str_eq(config->mounts[i].target, target))
			return true;
	return false;
}

static void add_defaults(const struct workload_config *config, json_t *mounts)
{
	const bool no_tty_group = config->isolation == WORKLOAD_CONTAINER && !proc_has_group(5);

	for (size_t i = 0; i < array_size(defaults); i++) {
		const struct default_mount *d = &defaults[i];
		own_strv char **options = strv_split(d->options, ',');
		json_t *o;

		if (replaced(config, d->target))
			continue;
		/* An ordinary user may not have the group of the terminals. */
		for (size_t j = 0; no_tty_group && options[j] != NULL; j++)
			if (str_eq(options[j], "gid=5"))
				strcpy(options[j], "rw");
		/* A privileged workload may change what /sys and the cgroups hold. */
		if ((config->flags & WORKLOAD_PRIVILEGED) && str_after(d->target, "/sys") != NULL)
			for (size_t j = 0; options[j] != NULL; j++)
				if (str_eq(options[j], "ro"))
					strcpy(options[j], "rw");
		o = mount_json(d->target, d->type, d->source);
		json_set_strv(o, "options", options);
		json_array_append_new(mounts, o);
	}
}

static void add_shm(const struct workload_config *config, json_t *mounts)
{
	own_strv char **options = strv_split("nosuid,noexec,nodev,mode=1777", ',');
	json_t *o;

	if (replaced(config, "/dev/shm"))
		return;
	if (config->flags & WORKLOAD_IPC_HOST) {
		o = mount_json("/dev/shm", "bind", "/dev/shm");
		strv_free(options);
		options = strv_split("rbind,rprivate", ',');
	} else {
		o = mount_json("/dev/shm", "tmpfs", "shm");
		strv_push_format(&options, "size=%lld",
				 (long long)(config->shm_size_bytes >= 0 ? config->shm_size_bytes
									 : SHM_DEFAULT));
	}
	json_set_strv(o, "options", options);
	json_array_append_new(mounts, o);
}

void spec_mounts_kernel(const struct workload_config *config, json_t *mounts)
{
	add_defaults(config, mounts);
	add_shm(config, mounts);
}

/* --- hosts, hostname, resolv.conf -------------------------------------------------------------------- */

/* A file of the host as text, empty if it cannot be read. */
static void add_host_file(struct buf *b, const char *path)
{
	own_mem char *text = NULL;
	size_t len;

	if (file_read(AT_FDCWD, path, HOST_FILE_MAX, &text, &len, NULL) == 0)
		buf_add(b, text, len);
}

static void make_hosts(const struct workload_config *config, struct buf *b)
{
	if (config->network == WORKLOAD_NETWORK_HOST)
		add_host_file(b, "/etc/hosts");
	else
		buf_add_str(b, "127.0.0.1\tlocalhost\n"
			       "::1\tlocalhost ip6-localhost ip6-loopback\n"
			       "fe00::\tip6-localnet\nff00::\tip6-mcastprefix\n"
			       "ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
	for (size_t i = 0; config->extra_hosts != NULL && config->extra_hosts[i] != NULL; i++) {
		const char *entry = config->extra_hosts[i], *colon = strchr(entry, ':');

		if (colon != NULL)
			buf_format(b, "%s\t%.*s\n", colon + 1, (int)(colon - entry), entry);
	}
}

static void make_resolv_conf(const struct workload_config *config, struct buf *b)
{
	if (config->dns == NULL && config->dns_search == NULL && config->dns_options == NULL) {
		add_host_file(b, "/etc/resolv.conf");
		return;
	}
	if (config->dns_search != NULL) {
		own_mem char *words = strv_join(config->dns_search, " ");

		buf_format(b, "search %s\n", words);
	}
	for (size_t i = 0; config->dns != NULL && config->dns[i] != NULL; i++)
		buf_format(b, "nameserver %s\n", config->dns[i]);
	if (config->dns_options != NULL) {
		own_mem char *words = strv_join(config->dns_options, " ");

		buf_format(b, "options %s\n", words);
	}
}

void spec_mounts_file(const struct workload_config *config, const char *name, const char *source,
		      json_t *mounts)
{
	own_mem char *target = str_format("/etc/%s", name);
	own_strv char **options = strv_split("bind,rprivate", ',');
	json_t *o;

	if (replaced(config, target))
		return;
	o = mount_json(target, "bind", source);
	json_set_strv(o, "options", options);
	json_array_append_new(mounts, o);
}

/* Writes one of the files, unless a former start did, and binds it. A workload may change it. */
static int add_file(struct engine *engine, const struct workload *workload, const char *name,
		    const struct buf *content, json_t *mounts, struct error *err)
{
	own_mem char *path = str_format("%s/%s", workload_dir(workload->id).path, name);
	own_mem char *source = str_format("%s/%s", engine->root, path);
	own_mem char *target = str_format("/etc/%s", name);
	int rc;

	if (replaced(&workload->config, target))
		return 0;
	rc = file_write(engine->root_fd, path, content->data ? content->data : "", content->len,
			0644, FILE_WRITE_PLAIN, err);
	if (rc == 0)
		spec_mounts_file(&workload->config, name, source, mounts);
	return rc;
}

static int add_files(struct engine *engine, const struct workload *workload, json_t *mounts,
		     struct error *err)
{
	own_buf struct buf hosts = {0}, hostname = {0}, resolv = {0};
	int rc;

	make_hosts(&workload->config, &hosts);
	make_resolv_conf(&workload->config, &resolv);
	if (workload->config.hostname != NULL)
		buf_format(&hostname, "%s\n", workload->config.hostname);
	else
		add_host_file(&hostname, "/etc/hostname");
	rc = add_file(engine, workload, "resolv.conf", &resolv, mounts, err);
	if (rc == 0)
		rc = add_file(engine, workload, "hostname", &hostname, mounts, err);
	if (rc == 0)
		rc = add_file(engine, workload, "hosts", &hosts, mounts, err);
	return rc;
}

/* --- the user's ------------------------------------------------------------------------------------- */

static bool has_propagation(char *const *options)
{
	static const char *const words[] = {"private", "rprivate", "shared",
					    "rshared", "slave",    "rslave"};

	for (size_t i = 0; i < array_size(words); i++)
		if (strv_has(options, words[i]))
			return true;
	return false;
}

static int check_source(const struct workload_mount *m, struct error *err)
{
	struct stat st;

	if (stat(m->source, &st) == 0)
		return 0;
	if (errno == ENOENT && m->create_source)
		return dir_make(AT_FDCWD, m->source, 0755, err);
	return fail(err, -errno, "bind source \"%s\"", m->source);
}

static int add_bind(const struct workload_mount *m, json_t *mounts, struct error *err)
{
	own_strv char **options = strv_copy(m->options);
	json_t *o;
	int rc = check_source(m, err);

	if (rc < 0)
		return rc;
	if (!strv_has(options, "bind") && !strv_has(options, "rbind"))
		strv_push(&options, "rbind");
	if (!has_propagation(options))
		strv_push(&options, "rprivate");
	o = mount_json(m->target, "bind", m->source);
	json_set_strv(o, "options", options);
	json_array_append_new(mounts, o);
	return 0;
}

static void add_tmpfs(const struct workload_mount *m, json_t *mounts)
{
	own_strv char **options = strv_split("nosuid,nodev", ',');
	json_t *o = mount_json(m->target, "tmpfs", "tmpfs");

	/* docker's default, which "exec" among the user's options lifts. */
	if (!strv_has(m->options, "exec"))
		strv_push(&options, "noexec");
	for (size_t i = 0; m->options != NULL && m->options[i] != NULL; i++)
		strv_push(&options, m->options[i]);
	json_set_strv(o, "options", options);
	json_array_append_new(mounts, o);
}

int spec_mounts(struct engine *engine, const struct workload *workload, json_t **ret,
		struct error *err)
{
	const struct workload_config *config = &workload->config;
	own_json json_t *mounts = json_array();
	int rc;

	spec_mounts_kernel(config, mounts);
	rc = add_files(engine, workload, mounts, err);
	for (size_t i = 0; rc == 0 && i < config->mounts_count; i++) {
		if (config->mounts[i].type == WORKLOAD_MOUNT_TMPFS)
			add_tmpfs(&config->mounts[i], mounts);
		else
			rc = add_bind(&config->mounts[i], mounts, err);
	}
	if (rc < 0)
		return rc;
	*ret = take(mounts);
	return 0;
}
