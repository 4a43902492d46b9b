/*
 * checkpoint: writing a container's processes to files, and making a container from such files.
 *
 * CRIU does it (criu.h); here is what a container adds: its cgroups, the namespaces and mounts that are
 * not its own, its terminal, and its place among the runtime's containers. An image is a directory of
 * CRIU's files with `descriptors.json`, the names of the process's standard descriptors, as other
 * runtimes have it: images can be exchanged with them.
 *
 * Both need root. Errors as in runtime.h; -ENOENT if there is no CRIU.
 */
#pragma once

#include "oci/runtime.h"

enum oci_image_flags {
	OCI_IMAGE_TCP_ESTABLISHED = 1,
	OCI_IMAGE_TCP_CLOSE = 1 << 1, /* connections come back closed */
	OCI_IMAGE_TCP_SKIP_IN_FLIGHT = 1 << 2,
	OCI_IMAGE_EXT_UNIX = 1 << 3,
	OCI_IMAGE_SHELL_JOB = 1 << 4,
	OCI_IMAGE_FILE_LOCKS = 1 << 5,
	OCI_IMAGE_LAZY_PAGES = 1 << 6,
	OCI_IMAGE_AUTO_DEDUP = 1 << 7,
	OCI_IMAGE_LINK_REMAP = 1 << 8,
	OCI_IMAGE_EMPTY_NETWORK = 1 << 9, /* the network namespace is left out */
	OCI_IMAGE_LEAVE_RUNNING = 1 << 10,
	OCI_IMAGE_PRE_DUMP = 1 << 11, /* memory only; the container goes on */
};

/* The values are CRIU's. */
enum oci_image_cgroups {
	OCI_IMAGE_CGROUPS_IGNORE = 0,
	OCI_IMAGE_CGROUPS_SOFT = 3,
	OCI_IMAGE_CGROUPS_FULL = 4,
	OCI_IMAGE_CGROUPS_STRICT = 5,
};

/* What both directions take. */
struct oci_image {
	const char *path;      /* the directory of the image */
	const char *work_path; /* of logs; NULL: the image's */
	enum oci_image_flags flags;
	enum oci_image_cgroups cgroups;
	int network_lock; /* CRIU's number of a method; 0: its own choice */
	const char *criu; /* the program; NULL: the one on PATH */
};

struct oci_checkpoint {
	const char *state_root;
	const char *id;
	struct oci_image image;
	const char *parent_path; /* an earlier image, relative to this one; or NULL */
	const char *page_server; /* its address; NULL: memory goes to files */
	uint16_t page_server_port;
	int status_fd; /* a byte is written here when lazy pages can be asked for; -1: none */
};

/* The container is deleted unless it is to go on (LEAVE_RUNNING, PRE_DUMP). */
int oci_checkpoint(const struct oci_checkpoint *options, struct error *err) must_check;

struct oci_restore {
	const char *state_root;
	const char *id;
	const char *bundle; /* absolute */
	struct oci_image image;
	int stdio[3];               /* take the place of pipes that the process had as 0, 1, 2 */
	const char *console_socket; /* as for create */
	const char *pid_file;
	const char *lsm_profile, *lsm_mount_context; /* or NULL */
	enum oci_cgroup_manager cgroup_manager;
	bool keep_terminal; /* the pty's master is returned in ret->console_fd */
};

int oci_restore(const struct oci_restore *options, struct oci_child *ret,
		struct error *err) must_check;
