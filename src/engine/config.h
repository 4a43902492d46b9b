/*
 * config: everything that `run` and `create` can say about a workload, as one plain struct, its
 * defaults, its checks, and its form in the database (JSON).
 *
 * Whoever fills one starts with workload_config_init() and ends with workload_config_release(); all
 * pointers in it are heap memory that it owns. A list is a strv (base/str.h). "Not given" is NULL, or
 * a negative number, as stated: then the image's or the engine's default holds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"

/* A machine is a virtual machine with a system of its own, from a disk instead of an image. */
enum workload_isolation { WORKLOAD_CONTAINER, WORKLOAD_VM, WORKLOAD_MACHINE };

enum workload_network { WORKLOAD_NETWORK_NONE, WORKLOAD_NETWORK_HOST };

enum workload_restart {
	WORKLOAD_RESTART_NO,
	WORKLOAD_RESTART_ON_FAILURE,
	WORKLOAD_RESTART_ALWAYS,
	WORKLOAD_RESTART_UNLESS_STOPPED,
};

enum workload_log { WORKLOAD_LOG_JSON_FILE, WORKLOAD_LOG_NONE };

enum workload_flags {
	WORKLOAD_TTY = 1 << 0,
	WORKLOAD_STDIN_OPEN = 1 << 1, /* -i */
	WORKLOAD_AUTO_REMOVE = 1 << 2,
	WORKLOAD_READ_ONLY = 1 << 3,
	WORKLOAD_PRIVILEGED = 1 << 4,
	WORKLOAD_INIT = 1 << 5,     /* --init: a process 1 that reaps and forwards signals */
	WORKLOAD_PID_HOST = 1 << 6, /* --pid host */
	WORKLOAD_IPC_HOST = 1 << 7, /* --ipc host */
	WORKLOAD_UTS_HOST = 1 << 8, /* --uts host */
	WORKLOAD_NO_NEW_PRIVS = 1 << 9,
	WORKLOAD_STDIN_ONCE = 1 << 10, /* stdin ends when the first client that sent any leaves */
	WORKLOAD_OOM_KILL_DISABLE = 1 << 11,
	WORKLOAD_NO_TEMPLATE = 1 << 12, /* boot the machine instead of going on from a snapshot */
};

/* The types of mounts; volumes join when the engine has them. */
enum workload_mount_type { WORKLOAD_MOUNT_BIND, WORKLOAD_MOUNT_TMPFS };

struct workload_mount {
	enum workload_mount_type type;
	char *source;   /* bind: absolute path on the host */
	char *target;   /* absolute path in the workload */
	char **options; /* "ro", "rw", "rprivate", "rslave", "rshared", "nosuid", "exec", "size=64m",
			 * "mode=1777", ... */
	bool create_source; /* -v makes a missing source directory, --mount refuses */
};

struct workload_device {
	char *source;   /* on the host */
	char *target;   /* in the workload */
	char access[4]; /* of "rwm" */
};

struct workload_ulimit {
	char *name;          /* "nofile", without RLIMIT_ */
	uint64_t soft, hard; /* UINT64_MAX: unlimited */
};

enum {
	WORKLOAD_SWAP_UNLIMITED = -2,
	WORKLOAD_LIST_MAX = 32768, /* entries of any list */
};

struct workload_config {
	char *image;    /* as the user named it; NULL for a full machine */
	char *image_id; /* "sha256:..."; filled by workload_create */
	char *name;     /* NULL: one is made up */
	enum workload_isolation isolation;
	unsigned int flags; /* enum workload_flags */

	/* the process */
	char **command;    /* NULL: the image's */
	char **entrypoint; /* NULL: the image's; an empty strv (--entrypoint ""): none */
	char **env;        /* added to, and replacing, the image's */
	char *working_dir; /* NULL: the image's */
	char *user;        /* "name", "uid", "user:group"; NULL: the image's */
	char **groups_add; /* --group-add */
	char *hostname;    /* NULL: the first 12 digits of the id */
	char *domainname;
	char **labels;      /* "key=value" */
	char **annotations; /* "key=value", for the runtime's spec */
	char *stop_signal;  /* NULL: the image's, or SIGTERM */
	int stop_timeout_s; /* -1: 10 s, INT_MAX: for ever */
	struct workload_ulimit *ulimits;
	size_t ulimits_count;
	int oom_score_adj; /* valid if oom_score_set */
	bool oom_score_set;
	char **sysctls; /* "name=value" */

	/* limits; negative: none */
	int64_t memory_bytes, memory_reservation_bytes;
	int64_t memory_swap_bytes; /* memory and swap together; WORKLOAD_SWAP_UNLIMITED */
	int64_t nano_cpus;         /* --cpus 1.5 is 1500000000 */
	int64_t cpu_shares;        /* cgroup v1's scale, 1024 */
	char *cpuset_cpus, *cpuset_mems;
	int64_t pids_limit;
	int64_t shm_size_bytes; /* 64 MiB if negative */
	char *cgroup_parent;

	/* of a virtual machine */
	char *kernel;          /* the name of one that is kept; NULL: the best there is */
	char *accel;           /* "kvm", "soft", "auto"; NULL: auto */
	int64_t storage_bytes; /* of the disk for what it writes; negative: 10 GiB */

	/* of a full machine */
	char **disks;     /* "PATH[,ro][,format=raw|qcow2][,backing=any]", absolute */
	char *firmware;   /* "bios", "uefi", or a file; NULL: bios */
	char *cloud_init; /* absolute path of a file or directory; NULL: none */

	/* what it may do and see */
	char **caps_add, **caps_drop;  /* "NET_ADMIN", "ALL", with or without CAP_ */
	char *seccomp;                 /* NULL: the default profile; "unconfined"; a file's content
					* is in seccomp_profile */
	json_t *seccomp_profile;       /* or NULL */
	char *apparmor;                /* profile or NULL */
	char **masked_paths_off;       /* --security-opt unmask=...: paths, or "ALL" */
	struct workload_mount *mounts; /* in the order given */
	size_t mounts_count;
	struct workload_device *devices;
	size_t devices_count;

	/* names and networks */
	enum workload_network network;
	char **dns, **dns_search, **dns_options;
	char **extra_hosts; /* "name:address" */

	/* life */
	enum workload_restart restart;
	int restart_max; /* on-failure: 0 is without end */
	enum workload_log log;
	int64_t log_max_size_bytes; /* of one file; negative: the default, 0: unlimited */
	int log_max_files;          /* negative: the default */
};

void workload_config_init(struct workload_config *config);
void workload_config_release(struct workload_config *config);
#define own_workload_config __attribute__((cleanup(workload_config_release)))

/* Append to the arrays; take what the pointers in the argument point to. */
void workload_config_add_mount(struct workload_config *config, struct workload_mount mount);
void workload_config_add_device(struct workload_config *config, struct workload_device device);
void workload_config_add_ulimit(struct workload_config *config, struct workload_ulimit ulimit);

/* Texts as the command line (and docker's API) has them. -EINVAL with a reason and a hint. */
int workload_config_parse_network(struct workload_config *config, const char *text,
				  struct error *err) must_check;
/* "no", "on-failure", "on-failure:5", "always", "unless-stopped" */
int workload_config_parse_restart(struct workload_config *config, const char *text,
				  struct error *err) must_check;
/* "SOURCE:TARGET[:OPTIONS]" or "TARGET" (which needs volumes: refused). `-v` */
int workload_config_parse_volume(struct workload_config *config, const char *text,
				 struct error *err) must_check;
/* "type=bind,source=...,target=...,readonly,..." `--mount` */
int workload_config_parse_mount(struct workload_config *config, const char *text,
				struct error *err) must_check;
/* "TARGET[:OPTIONS]" `--tmpfs` */
int workload_config_parse_tmpfs(struct workload_config *config, const char *text,
				struct error *err) must_check;
/* "SOURCE[:TARGET][:rwm]" `--device` */
int workload_config_parse_device(struct workload_config *config, const char *text,
				 struct error *err) must_check;
/* "nofile=1024[:2048]" `--ulimit` */
int workload_config_parse_ulimit(struct workload_config *config, const char *text,
				 struct error *err) must_check;
/* "seccomp=unconfined", "seccomp=FILE", "no-new-privileges[:true|false]", "apparmor=NAME",
 * "unmask=...", "label=disable" `--security-opt` */
int workload_config_parse_security(struct workload_config *config, const char *text,
				   struct error *err) must_check;
/* "max-size=10m", "max-file=3" `--log-opt`, and `--log-driver` */
int workload_config_parse_log_option(struct workload_config *config, const char *text,
				     struct error *err) must_check;
int workload_config_parse_log_driver(struct workload_config *config, const char *text,
				     struct error *err) must_check;

/* Checks what can be checked without an image or a host: names, capabilities, combinations.
 * -EINVAL naming the flag. workload_create calls it. */
int workload_config_check(const struct workload_config *config, struct error *err) must_check;

/* The form in the database. Members that have their default are left out. */
json_t *workload_config_to_json(const struct workload_config *config);
int workload_config_from_json(json_t *value, struct workload_config *ret,
			      struct error *err) must_check;
