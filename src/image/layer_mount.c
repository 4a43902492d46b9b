/*
 * layer_mount: an EROFS file as a detached mount.
 *
 * Linux 6.12 mounts EROFS from a file as it is. Before, or where that was not built in, a loop device is
 * put in between; it goes away by itself with the mount (autoclear). Neither leaves a trace when the
 * process dies halfway: the mount is nowhere but in its descriptor.
 */
#include "image/layer_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/own.h"

enum { LOOP_TRIES = 64 };

/* Mounts `source`. Returns the mount's descriptor or -errno. */
static int mount_source(const char *source)
{
	own_fd int fs = fsopen("erofs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0)
		return -errno;
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0 ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	/* Nothing on the host is to run from a layer, or to open a device in it. Workloads see the
	 * overlay's flags, not these. */
	fd = fsmount(fs, FSMOUNT_CLOEXEC,
		     MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Binds a free loop device to the file. Returns the device's descriptor and fills its path. */
static int bind_loop(int file, char path[static 32])
{
	own_fd int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	const struct loop_config config = {
		.fd = (uint32_t)file,
		.block_size = LAYER_BLOCK,
		.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
	};

	if (control < 0)
		return -errno;
	for (int i = 0; i < LOOP_TRIES; i++) {
		own_fd int loop = -1;
		int number = ioctl(control, LOOP_CTL_GET_FREE);

		if (number < 0)
			return -errno;
		snprintf(path, 32, "/dev/loop%d", number);
		loop = open(path, O_RDONLY | O_CLOEXEC);
		if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
			return take(loop);
		/* Somebody else was faster with this one. */
		if (errno != EBUSY)
			return -errno;
	}
	return -EBUSY;
}

static int mount_loop(int dirfd, const char *name)
{
	own_fd int file = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char path[32];
	own_fd int loop = -1;

	if (file < 0)
		return -errno;
	loop = bind_loop(file, path);
	return loop < 0 ? loop : mount_source(path);
}

int layer_mount_file(int dirfd, const char *name, struct error *err)
{
	struct fd_path dir = fd_path(dirfd);
	own_mem char *source = str_format("%s/%s", dir.text, name);
	int fd = mount_source(source);

	/* ENOTBLK: this kernel mounts EROFS from block devices only. */
	if (fd == -ENOTBLK)
		fd = mount_loop(dirfd, name);
	if (fd == -ENODEV)
		return refuse(err, -ENOTSUP, "this kernel has no EROFS");
	if (fd == -EUCLEAN || fd == -EINVAL)
		return refuse(err, fd, "the layer file %s is damaged", name);
	return fd < 0 ? fail(err, fd, "mount the layer file %s", name) : fd;
}
