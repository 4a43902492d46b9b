/*
 * rootfs: the container's view of files, built by the container's first process in its own mount
 * namespace: root, mounts, devices, hidden and read-only paths, and the change of root.
 *
 * Every path that the configuration names inside the container is resolved beneath the new root
 * (openat2 RESOLVE_IN_ROOT, no magic links); what is then mounted or made is addressed by descriptor.
 */
#pragma once

#include "base/error.h"
#include "oci/cgroup.h"
#include "oci/config.h"

/* What the parent prepares before the process exists, with its own rights on the host. */
struct rootfs {
	const struct config *config;
	const struct cgroup *cgroup; /* may be NULL */
	const char *bundle;
	int given_fd;    /* a detached mount that is the root, or -1; borrowed */
	int *source_fds; /* per mount: a detached tree for a bind, or -1 */
	int *device_fds; /* per linux.devices: a detached mount of the device, or -1 */
	int null_fd;     /* set by rootfs_enter: the host's /dev/null, O_PATH and verified */
	int root_fd;     /* set by rootfs_enter: the root directory */
	bool no_pivot;
	bool shared;         /* the mounts are in a namespace that others are in as well */
	bool user_namespace; /* the process will not be root on the host */
};

/* Opens what a process in another user namespace could not reach: with such a namespace the
 * sources of bind mounts, and always those that are to be id-mapped. */
int rootfs_prepare(struct rootfs *r, struct error *err) must_check;
/* Closes what rootfs_prepare opened; all members keep their place. */
void rootfs_release(struct rootfs *r);

/* In the new mount namespace: puts the root in place and opens it. */
int rootfs_enter(struct rootfs *r, struct error *err) must_check;
/* The mounts, in order, then devices and the usual links in /dev. */
int rootfs_mount_all(struct rootfs *r, struct error *err) must_check;
/* Bind-mounts the terminal on /dev/console. */
int rootfs_console(struct rootfs *r, int terminal_fd, struct error *err) must_check;
/* Hides and write-protects paths, makes the root read-only if asked for, and changes into it. */
int rootfs_finish(struct rootfs *r, struct error *err) must_check;
