/* image: see image_priv.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/cgroup_priv.h"
#include "oci/image_priv.h"
#include "oci/protobuf.h"
#include "oci/rootfs_priv.h"

enum { LOG_LEVEL_DEBUG = 4 };

void image_dirs_release(struct image_dirs *d)
{
	fd_close(&d->image_fd);
	fd_close(&d->work_fd);
	own_mem_release(&d->log_path);
}

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFLNK:
		return "a link";
	case S_IFIFO:
		return "a FIFO";
	case S_IFCHR:
	case S_IFBLK:
		return "a device";
	default:
		return NULL;
	}
}

/* An image may have come in an archive of somebody's, and CRIU follows links when it reads and when it writes its
 * log. The only one that belongs to an image leads to that which it builds on, and is relative. */
static int check_files(int image_fd, const char *path, struct error *err)
{
	int copy = openat(image_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	own_dir DIR *dir = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *entry;

	if (dir == NULL)
		return fail(err, -errno, "open the image %s", path);
	while ((errno = 0, entry = readdir(dir)) != NULL) {
		char first = '/';
		struct stat st;

		if (fstatat(image_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return fail(err, -errno, "look at %s/%s", path, entry->d_name);
		if (kind_of(st.st_mode) == NULL ||
		    (str_eq(entry->d_name, "parent") &&
		     readlinkat(image_fd, "parent", &first, 1) == 1 && first != '/'))
			continue;
		return refuse(err, -EINVAL, "%s/%s is %s, which no image has", path, entry->d_name,
			      kind_of(st.st_mode));
	}
	return errno != 0 ? fail(err, -errno, "read the image %s", path) : 0;
}

static int open_dirs(const struct oci_image *image, const char *log, bool make,
		     struct image_dirs *ret, struct error *err)
{
	const char *work = image->work_path ? image->work_path : image->path;
	int rc;

	if (make)
		ret->image_fd = dir_open(AT_FDCWD, image->path, 0700, err);
	else
		ret->image_fd = open(image->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ret->image_fd < 0)
		return make ? ret->image_fd : fail(err, -errno, "open the image %s", image->path);
	rc = make ? 0 : check_files(ret->image_fd, image->path, err);
	if (rc < 0)
		return rc;
	ret->work_fd = dir_open(AT_FDCWD, work, 0700, err);
	if (ret->work_fd < 0)
		return ret->work_fd;
	ret->log_path = str_format("%s/%s", work, log);
	return 0;
}

/* A file with further options for CRIU: one of the container's, or of the host for all. */
static const char *config_file(const struct config *c)
{
	static const char *const usual[] = {
		"/etc/criu/berth.conf",
		"/etc/criu/crun.conf",
		"/etc/criu/runc.conf",
	};
	const char *given = json_string_value(json_object_get(c->annotations, "org.criu.config"));

	if (given != NULL)
		return str_empty(given) ? NULL : given;
	for (size_t i = 0; i < array_size(usual); i++)
		if (access(usual[i], R_OK) == 0)
			return usual[i];
	return NULL;
}

int image_begin(const struct oci_image *image, const char *log, bool make, const struct config *c,
		struct image_dirs *ret, struct criu_request *r, struct error *err)
{
	static const struct {
		enum oci_image_flags flag;
		enum criu_option option;
	} flags[] = {
		{OCI_IMAGE_TCP_ESTABLISHED, CRIU_TCP_ESTABLISHED},
		{OCI_IMAGE_TCP_CLOSE, CRIU_TCP_CLOSE},
		{OCI_IMAGE_TCP_SKIP_IN_FLIGHT, CRIU_TCP_SKIP_IN_FLIGHT},
		{OCI_IMAGE_EXT_UNIX, CRIU_EXT_UNIX_SK},
		{OCI_IMAGE_SHELL_JOB, CRIU_SHELL_JOB},
		{OCI_IMAGE_FILE_LOCKS, CRIU_FILE_LOCKS},
		{OCI_IMAGE_LAZY_PAGES, CRIU_LAZY_PAGES},
		{OCI_IMAGE_AUTO_DEDUP, CRIU_AUTO_DEDUP},
		{OCI_IMAGE_LINK_REMAP, CRIU_LINK_REMAP},
	};
	int rc;

	if (geteuid() != 0)
		return refuse(err, -EPERM, "checkpoint and restore need root");
	rc = open_dirs(image, log, make, ret, err);
	if (rc < 0)
		return rc;
	r->log_path = ret->log_path;
	r->program = image->criu;
	protobuf_add_number(&r->options, CRIU_IMAGES_DIR_FD, criu_pass_fd(r, ret->image_fd));
	protobuf_add_number(&r->options, CRIU_WORK_DIR_FD, criu_pass_fd(r, ret->work_fd));
	protobuf_add_number(&r->options, CRIU_LOG_LEVEL, LOG_LEVEL_DEBUG);
	protobuf_add_string(&r->options, CRIU_LOG_FILE, log);
	protobuf_add_number(&r->options, CRIU_NOTIFY_SCRIPTS, 1);
	protobuf_add_number(&r->options, CRIU_MANAGE_CGROUPS, 1);
	protobuf_add_number(&r->options, CRIU_CGROUPS_MODE,
			    image->cgroups == OCI_IMAGE_CGROUPS_STRICT && !make
				    ? OCI_IMAGE_CGROUPS_FULL
				    : image->cgroups);
	/* The terminal that we have made is sent to its user; one of the caller's is the caller's again. */
	if (c->process.terminal)
		protobuf_add_number(&r->options, CRIU_ORPHAN_PTS_MASTER, 1);
	for (size_t i = 0; i < array_size(flags); i++)
		if (image->flags & flags[i].flag)
			protobuf_add_number(&r->options, flags[i].option, 1);
	if (image->flags & OCI_IMAGE_EMPTY_NETWORK)
		protobuf_add_number(&r->options, CRIU_EMPTY_NS, CLONE_NEWNET);
	if (image->network_lock != 0)
		protobuf_add_number(&r->options, CRIU_NETWORK_LOCK, image->network_lock);
	protobuf_add_string(&r->options, CRIU_CONFIG_FILE, config_file(c));
	return 0;
}

/* --- mounts of the host's ----------------------------------------------------------------------- */

static void visit_cgroup(const struct config_mount *m, const struct cgroup *cg,
			 image_outside_fn *visit, void *data)
{
	const struct cgroup_dir *unified = cgroup_unified(cg);

	if (cg->v2 || (str_eq(m->type, "cgroup2") && unified != NULL)) {
		if (unified != NULL)
			visit(m->destination, unified->path, data);
		return;
	}
	for (size_t i = 0; i < cg->dir_count; i++) {
		own_mem char *place =
			str_format("%s/%s", m->destination, rootfs_cgroup_name(&cg->dirs[i]));

		visit(place, cg->dirs[i].path, data);
	}
}

void image_outside(const struct config *c, const char *bundle, const struct cgroup *cg,
		   image_outside_fn *visit, void *data)
{
	for (size_t i = 0; i < c->mount_count; i++) {
		const struct config_mount *m = &c->mounts[i];

		if (m->bind && m->source != NULL) {
			own_mem char *source = m->source[0] == '/'
						       ? str_copy(m->source)
						       : str_format("%s/%s", bundle, m->source);

			visit(m->destination, source, data);
		} else if (str_after(m->type, "cgroup") != NULL) {
			visit_cgroup(m, cg, visit, data);
		}
	}
	for (size_t i = 0; c->linux_.masked_paths != NULL && c->linux_.masked_paths[i] != NULL; i++)
		visit(c->linux_.masked_paths[i], "/dev/null", data);
	/* Devices are mounts only where they could not be made. */
	if (!config_has_namespace(c, NAMESPACE_USER))
		return;
	for (size_t i = 0; rootfs_standard_device(i) != NULL; i++)
		visit(rootfs_standard_device(i), rootfs_standard_device(i), data);
	for (size_t i = 0; i < c->linux_.device_count; i++)
		visit(c->linux_.devices[i].path, c->linux_.devices[i].path, data);
}
