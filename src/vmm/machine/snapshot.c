/* snapshot: see snapshot.h. Here is what surrounds the state: files, configuration, host. */
#include "vmm/machine/snapshot.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hex.h"
#include "base/mem.h"
#include "vmm/machine/machine_priv.h"
#include "vmm/tsc.h"

enum {
	FORMAT = 1,
	JSON_MAX = 1 << 20,
	STATE_MAX = 64 << 20,
	/* A TSC that runs off by more than this is another host's: the guest's clocks would drift. */
	TSC_TOLERANCE = 2000, /* one part in */
};

const char *const snapshot_names[SNAPSHOT_FILES] = {"memory", "state", "machine.json"};

static uint64_t mix(uint64_t hash, uint64_t value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
	return hash ^ hash >> 29;
}

/* The leaves that say which instructions and registers there are, without what differs from CPU to CPU
 * or from moment to moment (APIC ids, OSXSAVE). */
static uint64_t hash_cpu(void)
{
	static const struct leaf {
		uint32_t leaf, subleaf, masks[4];
	} leaves[] = {
		{0, 0, {~0u, ~0u, ~0u, ~0u}},        {1, 0, {~0u, 0, ~(1u << 27), ~0u}},
		{7, 0, {~0u, ~0u, ~(1u << 4), ~0u}}, {7, 1, {~0u, ~0u, ~0u, ~0u}},
		{0xd, 0, {~0u, 0, ~0u, ~0u}},        {0xd, 1, {~0u, 0, 0, 0}},
		{0x80000001, 0, {0, 0, ~0u, ~0u}},   {0x80000008, 0, {~0u, ~0u, 0, 0}},
	};
	uint64_t hash = FORMAT;

	for (unsigned int i = 0; i < array_size(leaves); i++) {
		uint32_t regs[4] = {0};

		__get_cpuid_count(leaves[i].leaf, leaves[i].subleaf, &regs[0], &regs[1], &regs[2],
				  &regs[3]);
		for (unsigned int j = 0; j < 4; j++)
			hash = mix(hash, regs[j] & leaves[i].masks[j]);
	}
	return hash;
}

void snapshot_host_read(struct snapshot_host *ret)
{
	own_mem char *text = NULL;
	size_t length;

	*ret = (struct snapshot_host){.cpu = hash_cpu()};
	/* Without it the TSC is measured. */
	if (file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", sizeof(ret->boot) - 1, &text,
		      &length, NULL) == 0)
		memcpy(ret->boot, text, strcspn(text, "\n"));
}

static int check_host(const struct snapshot_host *host, const struct json_at *root,
		      struct snapshot *s, struct error *err)
{
	const char *boot = NULL, *cpu = NULL;
	char text[17];
	int64_t khz = 0;
	int rc = json_get_string(root, "cpu", JSON_REQUIRED, &cpu, err);

	if (rc >= 0)
		rc = json_get_string(root, "boot", JSON_REQUIRED, &boot, err);
	if (rc >= 0)
		rc = json_get_int(root, "tscKhz", JSON_REQUIRED, 1, UINT32_MAX, &khz, err);
	if (rc < 0)
		return rc;
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)host->cpu);
	if (!str_eq(text, cpu))
		return hint(err,
			    refuse(err, -ENOTSUP,
				   "the snapshot is from a CPU with other features than this one"),
			    "restore it where it was taken, or take a new one here");
	s->tsc_khz = (uint32_t)khz;
	if (!host->boot[0] || !str_eq(boot, host->boot)) {
		int64_t here = (int64_t)tsc_khz(), apart = here > khz ? here - khz : khz - here;

		if (apart > khz / TSC_TOLERANCE)
			return refuse(err, -ENOTSUP,
				      "the snapshot's clock runs at %lld kHz, this host's at %lld",
				      (long long)khz, (long long)here);
	}
	return 0;
}

static int read_disks(const struct json_at *root, struct snapshot *s, struct machine_config *config,
		      struct error *err)
{
	struct json_at list, item;
	unsigned int count = 0;
	int rc = json_array_at(root, "disks", JSON_REQUIRED, &list, err);

	if (rc < 0 || config->disk_count > 0)
		return rc < 0 ? rc : 0;
	s->disks = mem_new_array(MACHINE_DEVICES_MAX, sizeof(*s->disks));
	for (; count < MACHINE_DEVICES_MAX && json_element(&list, count, &item); count++) {
		const char *path = NULL, *format = NULL;
		bool read_only = false;

		rc = json_get_strv(&item, "layers", JSON_OPTIONAL, &s->disks[count].layers, err);
		if (rc == 0)
			rc = json_get_string(&item, "path", JSON_REQUIRED, &path, err);
		if (rc >= 0)
			rc = json_get_bool(&item, "readOnly", JSON_REQUIRED, &read_only, err);
		if (rc >= 0)
			rc = json_get_string(&item, "format", JSON_OPTIONAL, &format, err);
		if (rc < 0)
			return rc;
		if (format && disk_format_parse(format, &s->disks[count].format) < 0)
			return refuse(err, -EINVAL, "a disk of the unknown format \"%s\"", format);
		/* The user agreed to its backing files when the machine was first started. */
		s->disks[count].flags = (read_only ? DISK_READ_ONLY : 0) | DISK_BACKING_ANYWHERE;
		s->disks[count].path = (char *)(uintptr_t)path;
	}
	config->disks = s->disks;
	config->disk_count = count;
	return 0;
}

static int read_nets(const struct json_at *root, struct snapshot *s, struct machine_config *config,
		     struct error *err)
{
	struct json_at list, item;
	unsigned int count = 0;
	int rc = json_array_at(root, "nets", JSON_REQUIRED, &list, err);

	if (rc < 0 || config->net_count > 0)
		return rc < 0 ? rc : 0;
	s->nets = mem_new_array(MACHINE_DEVICES_MAX, sizeof(*s->nets));
	for (; count < MACHINE_DEVICES_MAX && json_element(&list, count, &item); count++) {
		const char *tap = NULL, *mac = NULL;
		int64_t queues = 1;

		rc = json_get_string(&item, "tap", JSON_REQUIRED, &tap, err);
		if (rc >= 0)
			rc = json_get_string(&item, "mac", JSON_REQUIRED, &mac, err);
		if (rc >= 0)
			rc = json_get_int(&item, "queues", JSON_REQUIRED, 1, NET_PAIRS_MAX, &queues,
					  err);
		if (rc < 0)
			return rc;
		if (hex_parse(mac, 6, s->nets[count].mac) < 0)
			return json_refuse(err, &item, "the mac is malformed");
		s->nets[count].tap = (char *)(uintptr_t)tap;
		s->nets[count].queues = (unsigned int)queues;
	}
	config->nets = s->nets;
	config->net_count = count;
	return 0;
}

/* A kernel is only needed if the guest resets: one that has gone meanwhile is no reason to refuse. */
static int read_kernel(const struct json_at *root, struct machine_config *config, struct error *err)
{
	const char *kernel = NULL, *initrd = NULL, *modules = NULL, *line = NULL;
	int rc = json_get_string(root, "kernel", JSON_OPTIONAL, &kernel, err);

	if (rc >= 0)
		rc = json_get_string(root, "initrd", JSON_OPTIONAL, &initrd, err);
	if (rc >= 0)
		rc = json_get_string(root, "modules", JSON_OPTIONAL, &modules, err);
	if (rc >= 0)
		rc = json_get_string(root, "commandLine", JSON_OPTIONAL, &line, err);
	if (rc < 0 || config->kernel)
		return rc < 0 ? rc : 0;
	if (kernel && access(kernel, R_OK) == 0 && (!initrd || access(initrd, R_OK) == 0) &&
	    (!modules || access(modules, R_OK) == 0)) {
		config->kernel = kernel;
		config->modules = modules;
		config->initrd = initrd;
		config->command_line = line;
	}
	return 0;
}

static int read_config(const struct json_at *root, struct snapshot *s,
		       struct machine_config *config, struct error *err)
{
	int64_t memory = 0, cpus = 0;
	const char *accel = NULL;
	bool bios = false;
	int rc = json_get_int(root, "memoryBytes", JSON_REQUIRED, 1, INT64_MAX, &memory, err);

	if (rc >= 0)
		rc = json_get_int(root, "cpus", JSON_REQUIRED, 1, CPU_VCPUS_MAX, &cpus, err);
	if (rc >= 0)
		rc = json_get_string(root, "accel", JSON_REQUIRED, &accel, err);
	if (rc >= 0)
		rc = json_get_bool(root, "debugExit", JSON_REQUIRED, &config->debug_exit, err);
	if (rc >= 0)
		rc = json_get_bool(root, "firmware", JSON_OPTIONAL, &bios, err);
	config->firmware = bios ? MACHINE_BIOS : MACHINE_NO_FIRMWARE;
	if (rc >= 0)
		rc = json_get_bool(root, "console", JSON_REQUIRED, &config->console, err);
	if (rc >= 0)
		rc = read_kernel(root, config, err);
	if (rc >= 0)
		rc = read_disks(root, s, config, err);
	if (rc >= 0)
		rc = read_nets(root, s, config, err);
	if (rc >= 0)
		rc = snapshot_read_devices(root, s, config, err);
	if (rc < 0)
		return rc;
	config->memory_bytes = (uint64_t)memory;
	config->cpus = (unsigned int)cpus;
	config->accel = str_eq(accel, "kvm") ? MACHINE_ACCEL_KVM : MACHINE_ACCEL_SOFT;
	return 0;
}

static int open_memory(int dir, uint64_t size, struct snapshot *s, struct error *err)
{
	struct stat st;

	s->memory_fd = openat(dir, snapshot_names[SNAPSHOT_MEMORY],
			      O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (s->memory_fd < 0 || fstat(s->memory_fd, &st) < 0)
		return fail(err, -errno, "open %s", snapshot_names[SNAPSHOT_MEMORY]);
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != size)
		return refuse(err, -EINVAL, "the file %s does not have the guest's %llu bytes",
			      snapshot_names[SNAPSHOT_MEMORY], (unsigned long long)size);
	return 0;
}

static int read_all(const struct snapshot_host *host, int dir, struct machine_config *config,
		    struct snapshot *s, struct error *err)
{
	struct json_at root;
	int64_t format;
	int rc = json_read_file(dir, snapshot_names[SNAPSHOT_MACHINE], JSON_MAX, &s->json, err);

	if (rc < 0)
		return rc;
	root = json_root(s->json);
	rc = json_get_int(&root, "format", JSON_REQUIRED, 0, INT32_MAX, &format, err);
	if (rc < 0)
		return rc;
	if (format != FORMAT)
		return refuse(err, -ENOTSUP, "the snapshot has format %lld; this program knows %d",
			      (long long)format, FORMAT);
	rc = check_host(host, &root, s, err);
	if (rc == 0)
		rc = read_config(&root, s, config, err);
	if (rc == 0)
		rc = file_read(dir, snapshot_names[SNAPSHOT_STATE], STATE_MAX, &s->state,
			       &s->state_size, err);
	return rc < 0 ? rc : open_memory(dir, config->memory_bytes, s, err);
}

int snapshot_open(const struct snapshot_host *host, struct machine_config *config,
		  struct snapshot **ret, struct error *err)
{
	own_fd int dir = open(config->restore, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct snapshot *s;
	int rc;

	if (dir < 0)
		return fail(err, -errno, "open the snapshot %s", config->restore);
	s = mem_new(sizeof(*s));
	s->memory_fd = -1;
	rc = read_all(host, dir, config, s, err);
	if (rc < 0) {
		snapshot_close(s);
		return fail(err, rc, "restore %s", config->restore);
	}
	*ret = s;
	return 0;
}

void snapshot_close(struct snapshot *s)
{
	if (!s)
		return;
	json_decref(s->json);
	own_mem_release(&s->state);
	for (unsigned int i = 0; s->disks && i < MACHINE_DEVICES_MAX; i++)
		strv_free(s->disks[i].layers);
	own_mem_release(&s->disks);
	own_mem_release(&s->nets);
	own_mem_release(&s->shares);
	own_mem_release(&s->ports);
	fd_close(&s->memory_fd);
	own_mem_release(&s);
}

static json_t *path_value(const char *path)
{
	own_mem char *absolute = realpath(path, NULL);

	return json_from_string(absolute ? absolute : path);
}

void snapshot_set_path(json_t *object, const char *key, const char *path)
{
	if (path)
		json_object_set_new(object, key, path_value(path));
}

static json_t *describe_disks(const struct machine_config *config)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < config->disk_count; i++) {
		const struct machine_disk *disk = &config->disks[i];
		json_t *item = json_object(), *layers = disk->layers ? json_array() : NULL;

		snapshot_set_path(item, "path", disk->layers ? NULL : disk->path);
		for (char **layer = disk->layers; layer && *layer; layer++)
			json_array_append_new(layers, path_value(*layer));
		if (layers)
			json_object_set_new(item, "layers", layers);
		json_object_set_new(item, "readOnly",
				    json_boolean((disk->flags & DISK_READ_ONLY) || disk->layers));
		if (!disk->layers && disk->format != DISK_FORMAT_AUTO)
			json_object_set_new(item, "format",
					    json_string(disk_format_name(disk->format)));
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *describe_nets(const struct machine_config *config)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < config->net_count; i++) {
		const struct machine_net *net = &config->nets[i];
		json_t *item = json_object();
		char mac[13];

		hex_format(net->mac, sizeof(net->mac), mac);
		json_set_string(item, "tap", net->tap);
		json_set_string(item, "mac", mac);
		json_object_set_new(item, "queues", json_integer(net->queues ? net->queues : 1));
		json_array_append_new(list, item);
	}
	return list;
}

json_t *snapshot_describe(const struct snapshot_host *host, const struct machine_config *config,
			  const char *accel)
{
	json_t *root = json_object();
	char cpu[17];

	snprintf(cpu, sizeof(cpu), "%016llx", (unsigned long long)host->cpu);
	json_object_set_new(root, "format", json_integer(FORMAT));
	json_object_set_new(root, "memoryBytes", json_integer((json_int_t)config->memory_bytes));
	json_object_set_new(root, "cpus", json_integer(config->cpus));
	json_set_string(root, "accel", accel);
	json_set_string(root, "boot", host->boot);
	json_set_string(root, "cpu", cpu);
	json_object_set_new(root, "debugExit", json_boolean(config->debug_exit));
	json_object_set_new(root, "firmware", json_boolean(config->firmware == MACHINE_BIOS));
	json_object_set_new(root, "console", json_boolean(machine_has_console(config)));
	snapshot_set_path(root, "kernel", config->kernel);
	snapshot_set_path(root, "modules", config->modules);
	snapshot_set_path(root, "initrd", config->initrd);
	json_set_string(root, "commandLine", config->command_line);
	json_object_set_new(root, "disks", describe_disks(config));
	json_object_set_new(root, "nets", describe_nets(config));
	snapshot_describe_devices(root, config);
	return root;
}
