/*
 * mount: mounting at a directory or file that is given as a descriptor.
 *
 * The kernel's new interface makes a mount detached, sets all its attributes, and only then attaches
 * it: at no moment does a mount exist that can do more than was asked for. Where that interface is
 * missing (ENOSYS, or an outer filter that says EPERM) the classic mount(2) is used through
 * /proc/self/fd; the attributes are then set in a second step.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "oci/mount_attr.h"

/* Where to mount: a descriptor (O_PATH), and the way to it, which the classic interface needs to find
 * the new mount again. */
struct mount_target {
	int fd;
	int root_fd;
	const char *path;
};

/* A new file system. */
struct mount_fs {
	const char *type;
	const char *source;       /* NULL: the type's name */
	char *const *data;        /* "key" or "key=value", NULL-terminated; may be NULL */
	unsigned int super_flags; /* MS_RDONLY, MS_SYNCHRONOUS ...: of the file system */
	uint64_t attr;            /* MOUNT_ATTR_* */
	const char *label;        /* SELinux context or NULL */
};

/* Mounts it. Returns a descriptor of the new mount's root. */
int mount_new(const struct mount_fs *fs, const struct mount_target *target,
	      struct error *err) must_check;

/* Part of an existing tree, shown again. */
struct mount_bind {
	int source_fd;           /* O_PATH of what to show; or a detached mount if `detached` */
	const char *source_path; /* NULL, or (with AT_FDCWD) a path that nobody else can change */
	bool detached;
	bool recursive;
	uint64_t attr_set, attr_clear;         /* of the mount itself */
	uint64_t attr_set_rec, attr_clear_rec; /* of all mounts below it as well */
	int idmap_fd;                          /* a user namespace, or -1 */
	bool idmap_recursive;
};

/* Makes the detached copy with its attributes. -ENOSYS/-EPERM where only the classic way exists. */
int mount_detach(const struct mount_bind *bind, struct error *err) must_check;
/* Mounts it. Returns a descriptor of the new mount's root. */
int mount_show(const struct mount_bind *bind, const struct mount_target *target,
	       struct error *err) must_check;

/* Attaches a detached mount at `target_fd`. 0 or -errno. */
int mount_attach(int mount_fd, int target_fd) must_check;
/* The same at `name` in the directory `dir_fd`; -ELOOP... where that is a link. */
int mount_attach_at(int mount_fd, int dir_fd, const char *name) must_check;
/* Sets and clears attributes of an attached mount; `recursive` for the whole tree. 0 or -errno. */
int mount_set_attr(int mount_fd, bool recursive, uint64_t set, uint64_t clear) must_check;
/* Sets the propagation (MS_SHARED, MS_PRIVATE ..., with MS_REC or not). 0 or -errno. */
int mount_propagation(int mount_fd, unsigned long kind) must_check;
