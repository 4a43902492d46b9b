/* rootfs_priv: what the files of rootfs share. */
#pragma once

#include <sys/types.h>

#include "oci/mount.h"
#include "oci/rootfs.h"

/* Opens (O_PATH) the place to mount on, creating a directory or an empty file as needed. */
int rootfs_target(const struct rootfs *r, const char *path, bool directory,
		  struct error *err) must_check;
/* Devices of the configuration, the standard ones, and the links of /dev. */
int rootfs_devices(const struct rootfs *r, struct error *err) must_check;
/* The cgroup mount, which is put together from the container's directories. */
int rootfs_mount_cgroup(const struct rootfs *r, const struct config_mount *m, int target_fd,
			struct error *err) must_check;

/* Makes the devices that a user namespace may not make, unless the host has them at the same place. */
int rootfs_prepare_devices(struct rootfs *r, struct error *err) must_check;
/* The name that a v1 hierarchy's directory has there: "cpu,cpuacct", "systemd". */
const char *rootfs_cgroup_name(const struct cgroup_dir *dir);
/* True for a tmpfs on /dev, which is to be filled before it is made read-only. */
bool rootfs_is_dev(const struct config_mount *m);
/* The path of the i'th device that every container has; NULL at the end. */
const char *rootfs_standard_device(size_t i);
