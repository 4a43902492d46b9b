/*
 * self: the running program's own file, out of reach of the container. See runtime.h.
 *
 * A container's process can get at the file that it was created from: by executing /proc/self/exe, or
 * by opening /proc/PID/exe of a process that joins it. If that file can be written, so can the
 * runtime, once nobody executes it (CVE-2019-5736). So the runtime runs from a read-only mount of its
 * file that exists in no namespace; where mounting is not permitted, from a sealed copy in memory. It
 * gets there by mapping itself anew (self_map.h), or by executing itself where that is not possible.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/own.h"
#include "base/str.h"
#include "oci/mount.h"
#include "oci/runtime.h"
#include "oci/self_map.h"

enum { ARGUMENTS_MAX = 8 << 20 };
enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* True if nobody can write to it through the descriptor's mount. Seals are not told of an O_PATH
 * descriptor. */
static bool is_protected(int fd)
{
	struct statvfs fs;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals >= 0)
		return (seals & SEALS) == SEALS;
	return fstatvfs(fd, &fs) == 0 && fs.f_flag & ST_RDONLY;
}

static int read_only_mount(int exe)
{
	const struct mount_bind bind = {
		.source_fd = exe,
		.attr_set = MOUNT_ATTR_RDONLY,
		.idmap_fd = -1,
	};

	return mount_detach(&bind, NULL);
}

static int sealed_copy(struct error *err)
{
	own_fd int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	own_fd int to = memfd_create("berth", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int64_t n;

	if (from < 0 || to < 0)
		return fail(err, -errno, "copy the program");
	n = fd_copy(from, to, UINT64_MAX);
	if (n < 0)
		return fail(err, (int)n, "copy the program");
	if (fchmod(to, 0500) < 0 || fcntl(to, F_ADD_SEALS, SEALS) < 0)
		return fail(err, -errno, "seal the copy of the program");
	return take(to);
}

static int protect(int exe, struct error *err)
{
	int fd = read_only_mount(exe);

	return fd >= 0 ? fd : sealed_copy(err);
}

int oci_protected_exe_fd(struct error *err)
{
	own_fd int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return fail(err, -errno, "open the program's file");
	return is_protected(fd) ? take(fd) : protect(fd, err);
}

/* The arguments that this program was started with. */
static int read_arguments(char ***ret, struct error *err)
{
	own_mem char *text = NULL;
	size_t len;
	int rc = file_read(AT_FDCWD, "/proc/self/cmdline", ARGUMENTS_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	for (const char *p = text; p < text + len; p += strlen(p) + 1)
		strv_push(ret, p);
	return 0;
}

/* Closing a detached mount makes the kernel take it apart, and us wait until no processor looks at it any
 * more: as long as creating the container takes, on a busy host. So the descriptor stays open, out of the
 * way of those that are to be preserved, until the container's first process has taken the mount over
 * (rootfs_finish.c) or we end. */
static int kept_mount = -1;

static void keep_mount(int fd)
{
	enum { OUT_OF_THE_WAY = 64 };

	kept_mount = fcntl(fd, F_DUPFD_CLOEXEC, OUT_OF_THE_WAY);
}

int self_mount_fd(void)
{
	return kept_mount;
}

int oci_self_protect(char *const argv[], struct error *err)
{
	own_fd int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), fd = -1, opened = -1;
	own_strv char **own = NULL;
	int rc;

	if (exe < 0)
		return fail(err, -errno, "open the program's file");
	if (is_protected(exe))
		return 0;
	fd = protect(exe, err);
	if (fd < 0)
		return fd;
	/* What is not recognised now would not be recognised then: never an endless chain. */
	opened = open(fd_path(fd).text, O_RDONLY | O_CLOEXEC);
	if (opened < 0 || !is_protected(opened))
		return refuse(err, -EPERM, "the program's own file cannot be protected");
	/* On success that file is what /proc/self/exe names. */
	if (self_map(opened) == 0) {
		keep_mount(fd);
		return 0;
	}
	if (argv == NULL) {
		rc = read_arguments(&own, err);
		if (rc < 0)
			return rc;
		argv = own;
	}
	execveat(fd, "", argv, environ, AT_EMPTY_PATH);
	return fail(err, -errno, "execute the protected program");
}
