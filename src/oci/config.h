/*
 * config: the OCI runtime configuration (specification 1.3, Linux) as plain structs.
 *
 * Parsing checks every field that the specification defines: its type, its range, and what it may be
 * combined with; an error names the field ("linux.resources.cpu.quota: ..."). A field that this
 * runtime cannot honour is refused, never ignored. Members that the specification does not define are
 * ignored, as it demands.
 *
 * The strings of a struct config belong to the JSON value it was parsed from, which it keeps a
 * reference to; its arrays belong to the struct. NULL and a count of 0 mean absent. Optional numbers
 * have a `has_` flag, or a value that says "absent" where one exists.
 */
#pragma once

#include <jansson.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"

enum {
	CONFIG_FILE_MAX = 16 << 20,
	CONFIG_LIST_MAX = 65536, /* elements of any list */
};

struct config_block; /* memory that is released with the configuration */

struct config_id_map {
	uint32_t container, host, count;
};

struct config_id_maps {
	struct config_id_map *items;
	size_t count;
};

struct config_rlimit {
	int resource;
	uint64_t soft, hard;
};

/* Bit N is capability N. */
struct config_caps {
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct config_scheduler {
	uint32_t policy;
	int32_t nice, priority;
	uint64_t flags;
	uint64_t runtime_ns, deadline_ns, period_ns;
};

struct config_process {
	bool terminal;
	uint16_t console_rows, console_columns;
	uid_t uid;
	gid_t gid;
	gid_t *groups;
	size_t group_count;
	bool keep_groups; /* the runtime's own: annotation run.oci.keep_original_groups */
	bool has_umask;
	mode_t umask;
	char **args; /* NULL-terminated; NULL: absent */
	char **env;  /* NULL-terminated; NULL: absent */
	const char *cwd;
	bool has_caps;
	struct config_caps caps;
	struct config_rlimit *rlimits;
	size_t rlimit_count;
	bool no_new_privileges;
	bool has_oom_score_adj;
	int oom_score_adj;
	const char *apparmor_profile;
	const char *selinux_label;
	bool has_io_priority;
	int io_priority; /* as ioprio_set takes it */
	bool has_scheduler;
	struct config_scheduler scheduler;
	const char *cpu_affinity_initial; /* execCPUAffinity, for exec alone: lists like "0-3,7" */
	const char *cpu_affinity_final;
};

/* One entry of mounts, its options sorted by what they mean. */
struct config_mount {
	const char *destination;
	const char *type;   /* never NULL; "bind" if a bind option is given without a type */
	const char *source; /* may be NULL */
	bool bind, recursive;
	uint64_t attr_set, attr_clear; /* MOUNT_ATTR_* of this mount */
	uint64_t attr_set_rec,
		attr_clear_rec;  /* the same for the whole tree below: rro, rnosuid ... */
	uint64_t propagation[4]; /* MS_SHARED ..., with MS_REC or not, in the given order */
	size_t propagation_count;
	bool copy_up;                             /* tmpcopyup */
	bool idmap, idmap_recursive;              /* the idmap and ridmap options */
	struct config_id_maps uid_maps, gid_maps; /* empty with idmap: the container's */
	char **data; /* NULL-terminated: options for the file system itself, "key" or "key=value" */
	unsigned int super_flags; /* MS_* that belong to the file system: ro, sync, dirsync ... */
	bool copy_symlink;        /* copy-symlink: the link itself is made, not followed */
};

enum config_hook_kind {
	HOOK_PRESTART,
	HOOK_CREATE_RUNTIME,
	HOOK_CREATE_CONTAINER,
	HOOK_START_CONTAINER,
	HOOK_POSTSTART,
	HOOK_POSTSTOP,
	HOOK_KINDS,
};
extern const char *const config_hook_names[HOOK_KINDS];

struct config_hook {
	const char *path;
	char **args;         /* never NULL */
	char **env;          /* NULL: the runtime's own */
	int timeout_seconds; /* 0: none */
};

struct config_hooks {
	struct config_hook *items;
	size_t count;
};

enum config_namespace_kind {
	NAMESPACE_USER, /* first: the others are owned by it */
	NAMESPACE_PID,
	NAMESPACE_NETWORK,
	NAMESPACE_MOUNT,
	NAMESPACE_IPC,
	NAMESPACE_UTS,
	NAMESPACE_CGROUP,
	NAMESPACE_TIME,
	NAMESPACE_KINDS,
};

struct namespace_kind {
	const char *name;      /* in the configuration */
	const char *proc_name; /* below /proc/PID/ns */
	uint64_t clone_flag;
};
extern const struct namespace_kind namespace_kinds[NAMESPACE_KINDS];

struct config_namespace {
	bool listed;
	const char *path; /* NULL: a new one */
};

struct config_device {
	const char *path;
	char type; /* 'c', 'b' or 'p' */
	unsigned int major, minor;
	mode_t mode;
	uid_t uid;
	gid_t gid;
};

struct config_sysctl {
	const char *name, *value;
};

struct config_device_rule {
	bool allow;
	char type;            /* 'a', 'b', 'c' */
	int64_t major, minor; /* -1: any */
	bool read, write, mknod;
};

struct config_device_value { /* blkio weights and throttles */
	unsigned int major, minor;
	uint64_t value;
	uint64_t leaf; /* leafWeight of weightDevice; 0: absent */
};

struct config_device_values {
	struct config_device_value *items;
	size_t count;
};

enum config_throttle {
	THROTTLE_READ_BPS,
	THROTTLE_WRITE_BPS,
	THROTTLE_READ_IOPS,
	THROTTLE_WRITE_IOPS,
	THROTTLE_KINDS,
};

struct config_number {
	bool given;
	int64_t value;
};

struct config_pair {
	const char *key;
	const char *text;
	int64_t value;
};

struct config_rdma {
	const char *device;
	struct config_number handles, objects;
};

struct config_resources {
	struct config_device_rule *devices;
	size_t device_count;
	struct {
		struct config_number limit, reservation, swap, kernel_tcp, swappiness;
		bool disable_oom_killer, check_before_update;
	} memory;
	struct {
		struct config_number shares, quota, burst, period, rt_runtime, rt_period, idle;
		const char *cpus, *mems;
	} cpu;
	struct config_number pids_limit;
	struct {
		struct config_number weight, leaf_weight;
		struct config_device_values weight_device;
		struct config_device_values throttle[THROTTLE_KINDS];
	} io;
	struct config_pair *hugepages; /* key: page size, value: limit */
	size_t hugepage_count;
	struct config_number network_class;
	struct config_pair *network_priorities;
	size_t network_priority_count;
	struct config_rdma *rdma;
	size_t rdma_count;
	struct config_pair *unified; /* key: file, text: what to write */
	size_t unified_count;
};

struct config_seccomp_arg {
	unsigned int index;
	uint64_t value, value_two;
	int op; /* enum scmp_compare */
};

struct config_seccomp_rule {
	char **names;
	uint32_t action; /* SCMP_ACT_*, the errno included */
	struct config_seccomp_arg *args;
	size_t arg_count;
};

struct config_seccomp {
	bool given;
	uint32_t default_action;
	uint32_t *architectures; /* SCMP_ARCH_* */
	size_t architecture_count;
	unsigned int flags; /* SECCOMP_FILTER_FLAG_* */
	const char *listener_path, *listener_metadata;
	struct config_seccomp_rule *rules;
	size_t rule_count;
	struct digest content; /* of all that decides about the filter */
};

struct config_intel_rdt {
	bool given;
	const char *clos_id, *l3_schema, *memory_schema;
	char **schemata; /* further lines; NULL: none */
	bool enable_cmt, enable_mbm, enable_monitoring;
};

/* Nodes of memory, for set_mempolicy(2). */
struct config_memory_policy {
	bool given;
	int mode; /* MPOL_*, with MPOL_F_* */
	const char *nodes;
};

/* A network interface of the host's that becomes the container's. */
struct config_net_device {
	const char *host_name, *name;
};

struct config_linux {
	struct config_namespace namespaces[NAMESPACE_KINDS];
	struct config_id_maps uid_maps, gid_maps;
	bool has_monotonic, has_boottime;
	struct {
		int64_t seconds;
		uint32_t nanoseconds;
	} monotonic, boottime;
	struct config_device *devices;
	size_t device_count;
	const char *cgroups_path;
	struct config_resources resources;
	struct config_sysctl *sysctls;
	size_t sysctl_count;
	struct config_seccomp seccomp;
	unsigned long rootfs_propagation; /* MS_*, 0: absent */
	char **masked_paths;
	char **readonly_paths;
	const char *mount_label;
	bool has_personality;
	unsigned long personality;
	struct config_intel_rdt intel_rdt;
	struct config_memory_policy memory_policy;
	struct config_net_device *net_devices;
	size_t net_device_count;
};

struct config {
	json_t *json;
	struct config_block *blocks;
	const char *oci_version;
	bool has_process;
	struct config_process process;
	const char *root_path; /* NULL: absent */
	bool root_readonly;
	const char *hostname, *domainname;
	struct config_mount *mounts;
	size_t mount_count;
	struct config_hooks hooks[HOOK_KINDS];
	json_t *annotations; /* borrowed from json; NULL: absent */
	struct config_linux linux_;
};

/* Parses and checks a configuration; a reference to `json` is taken. 0 or -EINVAL. */
int config_parse(json_t *json, struct config **ret, struct error *err) must_check;
void config_free(struct config *config);
OWN_DEFINE(own_config, struct config *, config_free);
#define own_config __attribute__((cleanup(own_config_release)))

/* Parses a process object alone, for exec. Arrays are owned by `owner`. */
int config_parse_process(struct config *owner, const struct json_at *at, struct config_process *ret,
			 struct error *err) must_check;
/* Parses an object of the form of linux.resources alone, for update. */
int config_parse_resources(struct config *owner, const struct json_at *at,
			   struct config_resources *ret, struct error *err) must_check;

/* True if the container gets a namespace of its own of that kind, new or joined. */
static inline bool config_has_namespace(const struct config *c, enum config_namespace_kind kind)
{
	return c->linux_.namespaces[kind].listed;
}
/* True if a namespace of that kind is created for the container. */
static inline bool config_new_namespace(const struct config *c, enum config_namespace_kind kind)
{
	return c->linux_.namespaces[kind].listed && c->linux_.namespaces[kind].path == NULL;
}
