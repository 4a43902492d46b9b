/*
 * root: the workload's root file system. The image's layers come as parts of one read-only disk, whose
 * bounds the engine tells: the kernel is told of them as partitions, there is no table on the disk.
 * They are stacked by overlayfs below what the workload writes, which is on a disk of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/str.h"
#include "guest/agent.h"

enum {
	LAYERS_MAX = 200, /* partitions of a disk */
	DEVICE_WAIT_MS = 5000,
};

#define LAYER_DISK "/dev/vda"
#define UPPER_DISK "/dev/vdb"

/* --- layers ------------------------------------------------------------------------------------------ */

int device_open(const char *path, int flags, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + DEVICE_WAIT_MS * INT64_C(1000000);

	for (;;) {
		int fd = open(path, flags | O_CLOEXEC);

		if (fd >= 0 || (errno != ENOENT && errno != ENXIO) ||
		    clock_monotonic_ns() > deadline)
			return fd < 0 ? fail(err, -errno, "open %s", path) : fd;
		usleep(1000);
	}
}

/* A machine that goes on from a snapshot has other disks now, and may not have noticed yet. */
static int await_size(int fd, const char *path, int64_t size, struct error *err)
{
	const int64_t deadline = clock_monotonic_ns() + DEVICE_WAIT_MS * INT64_C(1000000);
	uint64_t is = 0;

	for (;;) {
		if (ioctl(fd, BLKGETSIZE64, &is) < 0)
			return fail(err, -errno, "ask %s for its size", path);
		if ((int64_t)is == size)
			return 0;
		if (clock_monotonic_ns() > deadline)
			return refuse(err, -EIO, "%s has %llu bytes instead of %lld", path,
				      (unsigned long long)is, (long long)size);
		usleep(500);
	}
}

static int add_partition(int disk, int number, int64_t offset, int64_t size)
{
	struct blkpg_partition part = {.start = offset, .length = size, .pno = number};
	struct blkpg_ioctl_arg arg = {
		.op = BLKPG_ADD_PARTITION, .datalen = sizeof(part), .data = &part};

	return ioctl(disk, BLKPG, &arg) < 0 ? -errno : 0;
}

static int read_bounds(const struct json_at *layer, int64_t *offset, int64_t *size,
		       struct error *err)
{
	struct json_at item;
	int rc = -EINVAL;

	if (json_element(layer, 0, &item))
		rc = json_as_int(&item, 0, INT64_MAX, offset, err);
	if (rc == 0 && json_element(layer, 1, &item))
		rc = json_as_int(&item, 1, INT64_MAX, size, err);
	return rc < 0 ? json_refuse(err, layer, "expected [offset, size]") : 0;
}

static int mount_layer(struct agent *agent, int disk, size_t i, const struct json_at *layer,
		       struct error *err)
{
	own_mem char *device = str_format(LAYER_DISK "%zu", i + 1);
	own_mem char *place = str_format("%s/layers/%zu", agent->directory, i);
	int64_t offset = 0, size = 0;
	int rc = read_bounds(layer, &offset, &size, err);

	if (rc < 0)
		return rc;
	rc = add_partition(disk, (int)i + 1, offset, size);
	if (rc < 0)
		return fail(err, rc, "add layer %zu", i);
	rc = dir_make(AT_FDCWD, place, 0755, err);
	if (rc == 0 && mount(device, place, "erofs", MS_RDONLY, NULL) < 0)
		rc = fail(err, -errno, "mount layer %zu", i);
	return rc;
}

static int mount_layers(struct agent *agent, const struct json_at *layers, int64_t bytes,
			size_t *ret_count, struct error *err)
{
	own_fd int disk = -1;
	struct json_at layer;
	size_t i;
	int rc = 0;

	if (json_array_size(layers->value) > 0)
		disk = rc = device_open(LAYER_DISK, O_RDONLY, err);
	if (rc >= 0 && disk >= 0)
		rc = await_size(disk, LAYER_DISK, bytes, err);
	for (i = 0; rc >= 0 && json_element(layers, i, &layer); i++) {
		if (i >= LAYERS_MAX)
			return refuse(err, -E2BIG, "the image has more than %d layers", LAYERS_MAX);
		rc = mount_layer(agent, disk, i, &layer, err);
	}
	*ret_count = i;
	return rc < 0 ? rc : 0;
}

/* --- what is written --------------------------------------------------------------------------------- */

struct upper {
	const char *kind; /* "disk", "memory" */
	int64_t bytes;
	const char *options;
	bool usual; /* the disk is as root_mount_usual has left it */
};

static int read_upper(const struct json_at *at, struct upper *ret, struct error *err)
{
	int rc = json_get_int(at, "upperBytes", JSON_OPTIONAL, 0, INT64_MAX, &ret->bytes, err);

	if (rc >= 0)
		rc = json_get_string(at, "upper", JSON_OPTIONAL, &ret->kind, err);
	if (rc >= 0)
		rc = json_get_string(at, "options", JSON_OPTIONAL, &ret->options, err);
	if (rc >= 0)
		rc = json_get_bool(at, "usual", JSON_OPTIONAL, &ret->usual, err);
	return rc < 0 ? rc : 0;
}

/* The usual disk, which is mounted, is there to be written now, or it is not there any more. It has been
 * read-only, so nothing of it is written to the disk that there is instead. */
static int take_usual(struct agent *agent, const char *place, const struct upper *upper,
		      struct error *err)
{
	if (upper->usual && !agent->has_usual_disk)
		return refuse(err, -EINVAL, "there is no usual disk");
	if (upper->usual && mount(NULL, place, NULL, MS_REMOUNT | MS_NOATIME, upper->options) < 0)
		return fail(err, -errno, "make the writable layer's disk writable");
	if (!upper->usual && agent->has_usual_disk && umount2(place, 0) < 0)
		return fail(err, -errno, "unmount the usual disk");
	agent->has_usual_disk = false;
	return upper->usual ? 1 : 0;
}

/* Mounts the writable layer; its directories are made on the first start. */
static int mount_upper(struct agent *agent, const struct upper *upper, struct error *err)
{
	own_mem char *place = str_format("%s/disk", agent->directory);
	const int64_t bytes = upper->bytes;
	own_fd int device = -1;
	int rc = dir_make(AT_FDCWD, place, 0755, err);

	if (rc == 0)
		rc = take_usual(agent, place, upper, err);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	if (!str_eq(upper->kind, "disk"))
		return mount("tmpfs", place, "tmpfs", 0, "mode=0755,size=75%") < 0
			       ? fail(err, -errno, "mount memory for what is written")
			       : 0;
	device = device_open(UPPER_DISK, O_RDWR, err);
	rc = device < 0 ? device : await_size(device, UPPER_DISK, bytes, err);
	fd_close(&device);
	if (rc < 0)
		return rc;
	if (mount(UPPER_DISK, place, "ext4", MS_NOATIME, upper->options) < 0)
		return fail(err, -errno, "mount the writable layer's disk");
	return 0;
}

/* What the image's root directory is: as the topmost layer says whose tar has an entry for it (the others
 * have a mark that the layer's writer made). */
static int stat_image_root(struct agent *agent, size_t layers, struct stat *ret, struct error *err)
{
	struct stat st = {.st_mode = 0755};

	while (layers > 0) {
		own_mem char *path = str_format("%s/layers/%zu", agent->directory, --layers);

		if (stat(path, &st) < 0)
			return fail(err, -errno, "look at the image's root directory");
		if (getxattr(path, "trusted.overlay.implied", NULL, 0) < 0)
			break;
	}
	*ret = st;
	return 0;
}

/* The upper directory is the root directory as the workload sees it: when it is new, it gets the owner,
 * mode and time that the image's has. */
static int set_up_upper(struct agent *agent, const char *upper, size_t layers, struct error *err)
{
	struct stat st = {.st_mode = 0755};
	int rc = stat_image_root(agent, layers, &st, err);

	if (rc < 0)
		return rc;
	if (chown(upper, st.st_uid, st.st_gid) < 0 || chmod(upper, st.st_mode & 07777) < 0 ||
	    (layers > 0 &&
	     utimensat(AT_FDCWD, upper, (struct timespec[]){st.st_atim, st.st_mtim}, 0) < 0))
		return fail(err, -errno, "set up the writable layer");
	return 0;
}

/* A volatile mount that was cut off leaves a mark that would forbid the next one. */
static int make_work(const char *work, struct error *err)
{
	int rc;

	if (mkdir(work, 0700) == 0)
		return 0;
	rc = errno == EEXIST ? tree_remove(AT_FDCWD, work, err)
			     : fail(err, -errno, "create %s", work);
	if (rc == 0 && mkdir(work, 0700) < 0)
		rc = fail(err, -errno, "create %s", work);
	return rc;
}

static int make_directories(struct agent *agent, bool usual, size_t layers, struct error *err)
{
	own_mem char *upper = str_format("%s/disk/upper", agent->directory);
	own_mem char *work = str_format("%s/disk/work", agent->directory);
	own_mem char *root = str_format("%s/root", agent->directory);
	const bool is_new = usual || mkdir(upper, 0755) == 0;
	int rc = is_new || errno == EEXIST ? 0 : fail(err, -errno, "create the writable layer");

	if (rc == 0 && is_new)
		rc = set_up_upper(agent, upper, layers, err);
	if (rc == 0 && !usual)
		rc = make_work(work, err);
	return rc < 0 ? rc : dir_make(AT_FDCWD, root, 0755, err);
}

int root_mount_usual(struct agent *agent, const struct json_at *root, struct error *err)
{
	own_mem char *place = str_format("%s/disk", agent->directory);
	own_mem char *above = str_format("%s/upper", place), *work = str_format("%s/work", place);
	struct upper upper = {.kind = "disk"};
	int rc = read_upper(root, &upper, err);

	if (rc == 0)
		rc = mount_upper(agent, &upper, err);
	if (rc < 0)
		return rc;
	if (mkdir(above, 0755) < 0 || mkdir(work, 0700) < 0 ||
	    mount(NULL, place, NULL, MS_REMOUNT | MS_RDONLY | MS_NOATIME, upper.options) < 0)
		return fail(err, -errno, "set up the usual disk");
	agent->has_usual_disk = true;
	return 0;
}

/* --- together ---------------------------------------------------------------------------------------- */

static int stack(struct agent *agent, size_t layers, bool is_volatile, struct error *err)
{
	own_mem char *root = str_format("%s/root", agent->directory);
	own_buf struct buf options = {0};

	/* Names relative to our directory keep the options short: they must fit in a page. */
	if (chdir(agent->directory) < 0)
		return fail(err, -errno, "enter %s", agent->directory);
	buf_add_str(&options, "upperdir=disk/upper,workdir=disk/work,lowerdir=");
	if (layers == 0)
		buf_add_str(&options, "empty");
	for (size_t i = layers; i-- > 0;)
		buf_format(&options, "layers/%zu%s", i, i > 0 ? ":" : "");
	if (is_volatile)
		buf_add_str(&options, ",volatile");
	if (mount("overlay", root, "overlay", 0, options.data) < 0)
		return fail(err, -errno, "stack the layers");
	agent->root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return agent->root_fd < 0 ? fail(err, -errno, "open the root file system") : 0;
}

/* In a test: a directory that is there. */
static int use_directory(struct agent *agent, const char *path, struct error *err)
{
	agent->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return agent->root_fd < 0 ? fail(err, -errno, "open %s", path) : 0;
}

int root_prepare(struct agent *agent, const struct json_at *root, struct error *err)
{
	own_mem char *empty = str_format("%s/empty", agent->directory);
	const char *directory = NULL;
	struct upper upper = {.kind = "disk"};
	struct json_at layers;
	bool is_volatile = false;
	int64_t bytes = 0;
	size_t count = 0;
	int rc = json_get_string(root, "directory", JSON_OPTIONAL, &directory, err);

	if (rc > 0 && !agent->is_machine)
		return use_directory(agent, directory, err);
	if (rc >= 0)
		rc = json_array_at(root, "layers", JSON_REQUIRED, &layers, err);
	if (rc >= 0)
		rc = json_get_int(root, "bytes", JSON_OPTIONAL, 0, INT64_MAX, &bytes, err);
	if (rc >= 0)
		rc = read_upper(root, &upper, err);
	if (rc >= 0)
		rc = json_get_bool(root, "volatile", JSON_OPTIONAL, &is_volatile, err);
	agent->is_volatile = is_volatile;
	if (rc >= 0)
		rc = dir_make(AT_FDCWD, empty, 0755, err);
	if (rc >= 0)
		rc = mount_layers(agent, &layers, bytes, &count, err);
	if (rc >= 0)
		rc = mount_upper(agent, &upper, err);
	if (rc >= 0)
		rc = make_directories(agent, upper.usual, count, err);
	return rc < 0 ? rc : stack(agent, count, is_volatile, err);
}

void root_release(struct agent *agent)
{
	own_mem char *root = str_format("%s/root", agent->directory);
	own_mem char *disk = str_format("%s/disk", agent->directory);

	fd_close(&agent->root_fd);
	/* Nobody will look at what is on the disk. */
	if (!agent->is_machine || agent->is_volatile)
		return;
	/* Still in use by something: then at least everything is written. */
	if ((umount2(root, 0) < 0 && umount2(root, MNT_DETACH) < 0) || umount2(disk, 0) < 0)
		sync();
}
