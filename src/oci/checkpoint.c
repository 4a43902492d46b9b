/* checkpoint: writing an image of a container. See checkpoint.h. */
#include "oci/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/config_priv.h"
#include "oci/container.h"
#include "oci/image_priv.h"
#include "oci/protobuf.h"

enum { PROC_TEXT_MAX = 16 << 20, MOUNT_POINT_FIELD = 4 };

struct dump {
	const struct oci_checkpoint *options;
	const struct container *container;
	const struct config *config;
	const struct cgroup *cgroup;
	pid_t pid;
	struct criu_request request;
	/* While mounts are looked at: the container's root, and its mount points. */
	int root_fd;
	char **mount_points;
	size_t *mount_ids;
	size_t mount_id_count;
};

/* --- what is outside ---------------------------------------------------------------------------- */

/* "\040" and the like stand for characters that would end the field. */
static void unescape(char *text)
{
	char *to = text;

	for (const char *p = text; *p != '\0';) {
		if (p[0] == '\\' && strspn(p + 1, "01234567") >= 3) {
			*to++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*to++ = *p++;
		}
	}
	*to = '\0';
}

/* The mounts of the container's namespace: "36 35 98:0 /root /mount/point ...". */
static int read_mounts(struct dump *d, struct error *err)
{
	own_mem char *path = str_format("/proc/%d/mountinfo", (int)d->pid), *text = NULL;
	char *save = NULL;
	size_t len, capacity = 0;
	int rc = file_read(AT_FDCWD, path, PROC_TEXT_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *field = line;

		for (int i = 0; i < MOUNT_POINT_FIELD && field != NULL; i++)
			field = strchr(field, ' ') ? strchr(field, ' ') + 1 : NULL;
		if (field == NULL)
			continue;
		field[strcspn(field, " ")] = '\0';
		unescape(field);
		strv_push(&d->mount_points, field);
		d->mount_ids = mem_grow(d->mount_ids, d->mount_id_count, &capacity, sizeof(size_t));
		d->mount_ids[d->mount_id_count++] = strtoul(line, NULL, 10);
	}
	return 0;
}

/* The configuration's path may lead over links: the mount is where they end. */
static void add_outside_mount(const char *destination, const char *source, void *data)
{
	struct dump *d = data;
	own_fd int fd = beneath_open(d->root_fd, destination, O_PATH, 0);
	char place[PATH_MAX];
	struct stat st;
	ssize_t n;

	/* A directory that is hidden has an empty one of the container's own in its place. */
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) && str_eq(source, "/dev/null"))
		return;
	n = fd < 0 ? -1 : readlink(fd_path(fd).text, place, sizeof(place) - 1);
	if (n <= 0)
		return;
	place[n] = '\0';
	if (strv_has(d->mount_points, place))
		criu_external(&d->request, "mnt[%s]:%s", place, destination);
}

static int add_mounts(struct dump *d, struct error *err)
{
	own_mem char *root = str_format("/proc/%d/root", (int)d->pid);
	own_fd int root_fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc = root_fd < 0 ? fail(err, -errno, "open %s", root) : read_mounts(d, err);

	if (rc < 0)
		return rc;
	d->root_fd = root_fd;
	image_outside(d->config, "", d->cgroup, add_outside_mount, d);
	return 0;
}

/* A namespace that the container was given is its owner's to keep. */
static int add_namespace(struct dump *d, enum config_namespace_kind kind, const char *key,
			 struct error *err)
{
	const char *name = namespace_kinds[kind].proc_name;
	own_mem char *path = str_format("/proc/%d/ns/%s", (int)d->pid, name);
	struct stat st;

	if (d->config->linux_.namespaces[kind].path == NULL)
		return 0;
	if (stat(path, &st) < 0)
		return fail(err, -errno, "look at %s", path);
	criu_external(&d->request, "%s[%llu]:%s", name, (unsigned long long)st.st_ino, key);
	return 0;
}

/* A file of a mount that the container does not have: "file[MOUNT:INODE]" in hexadecimal digits, as CRIU
 * names it; else NULL. */
static char *outside_file(const struct dump *d, int number)
{
	own_mem char *info = str_format("/proc/%d/fdinfo/%d", (int)d->pid, number);
	own_mem char *file = str_format("/proc/%d/fd/%d", (int)d->pid, number);
	own_mem char *text = NULL;
	const char *mount;
	struct stat st;
	size_t len;

	if (stat(file, &st) < 0 || !S_ISREG(st.st_mode) ||
	    file_read(AT_FDCWD, info, PROC_TEXT_MAX, &text, &len, NULL) < 0)
		return NULL;
	mount = strstr(text, "mnt_id:");
	mount = mount ? mount + strcspn(mount, "\t ") : NULL;
	if (mount == NULL)
		return NULL;
	len = strtoul(mount, NULL, 10);
	for (size_t i = 0; i < d->mount_id_count; i++)
		if (d->mount_ids[i] == len)
			return NULL;
	return str_format("file[%zx:%llx]", len, (unsigned long long)st.st_ino);
}

/* What 0, 1 and 2 are. Pipes, and files of the host's, are replaced when the container is restored. */
static int save_descriptors(struct dump *d, int image_fd, struct error *err)
{
	own_json json_t *names = json_array();

	for (int i = 0; i < 3; i++) {
		own_mem char *path = str_format("/proc/%d/fd/%d", (int)d->pid, i);
		own_mem char *outside = outside_file(d, i);
		char name[PATH_MAX];
		ssize_t n = readlink(path, name, sizeof(name) - 1);

		name[n > 0 ? n : 0] = '\0';
		if (outside != NULL)
			criu_external(&d->request, "%s", outside);
		json_array_append_new(names, json_from_string(outside ? outside : name));
	}
	return json_write_file(image_fd, IMAGE_DESCRIPTORS, names, 0600, err);
}

/* --- the request -------------------------------------------------------------------------------- */

static int check_features(const struct oci_image *image, struct error *err)
{
	int rc;

	if (image->flags & OCI_IMAGE_PRE_DUMP) {
		rc = criu_can(image->criu, CRIU_MEMORY_TRACKING, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return refuse(err, -ENOTSUP,
				      "a pre-dump needs the kernel to track changes of memory "
				      "(CONFIG_MEM_SOFT_DIRTY), and this one or CRIU does not");
	}
	if (image->flags & OCI_IMAGE_LAZY_PAGES) {
		rc = criu_can(image->criu, CRIU_LAZY, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			return refuse(err, -ENOTSUP,
				      "lazy pages need userfaultfd, and this kernel or CRIU does "
				      "not support them");
	}
	return 0;
}

static void add_page_server(struct dump *d)
{
	own_buf struct buf server = {0};

	if (d->options->page_server == NULL)
		return;
	protobuf_add_string(&server, 1, d->options->page_server);
	protobuf_add_number(&server, 2, d->options->page_server_port);
	protobuf_add_bytes(&d->request.options, CRIU_PAGE_SERVER, server.data, server.len);
}

static void add_freezer(struct dump *d)
{
	const char *path = cgroup_path(d->cgroup, d->cgroup->v2 ? "" : "freezer");

	protobuf_add_string(&d->request.options, CRIU_FREEZE_CGROUP, path);
}

static void add_options(struct dump *d)
{
	const struct oci_checkpoint *o = d->options;
	struct buf *b = &d->request.options;

	protobuf_add_number(b, CRIU_PID, d->pid);
	protobuf_add_string(b, CRIU_ROOT,
			    json_string_value(json_object_get(d->container->record, "rootfs")));
	if (o->image.flags & OCI_IMAGE_LEAVE_RUNNING)
		protobuf_add_number(b, CRIU_LEAVE_RUNNING, 1);
	if (o->parent_path != NULL) {
		protobuf_add_string(b, CRIU_PARENT_IMAGE, o->parent_path);
		protobuf_add_number(b, CRIU_TRACK_MEMORY, 1);
	}
	add_page_server(d);
	add_freezer(d);
	if (o->status_fd >= 0)
		protobuf_add_number(b, CRIU_STATUS_FD, criu_pass_fd(&d->request, o->status_fd));
}

/* The image that one builds on is a directory, named relative to the new one, which is there by now. */
static int check_parent(const char *parent, int image_fd, struct error *err)
{
	struct stat st;

	if (parent == NULL)
		return 0;
	if (fstatat(image_fd, parent, &st, 0) < 0)
		return fail(err, -errno, "invalid --parent-path %s", parent);
	return S_ISDIR(st.st_mode)
		       ? 0
		       : refuse(err, -ENOTDIR, "invalid --parent-path: %s is no directory", parent);
}

static int write_image(struct dump *d, struct error *err)
{
	const struct oci_image *image = &d->options->image;
	const bool whole = !(image->flags & OCI_IMAGE_PRE_DUMP);
	own_image_dirs struct image_dirs dirs = IMAGE_DIRS_EMPTY;
	int rc = check_features(image, err);

	d->request.type = whole ? CRIU_DUMP : CRIU_PRE_DUMP;
	for (int i = 0; i < 3; i++)
		d->request.stdio[i] = i;
	if (rc < 0 ||
	    (rc = image_begin(image, "dump.log", true, d->config, &dirs, &d->request, err)) < 0 ||
	    (rc = check_parent(d->options->parent_path, dirs.image_fd, err)) < 0)
		return rc;
	add_options(d);
	if ((rc = add_namespace(d, NAMESPACE_NETWORK, IMAGE_NETWORK_KEY, err)) < 0 ||
	    (rc = add_namespace(d, NAMESPACE_PID, IMAGE_PID_KEY, err)) < 0)
		return rc;
	if (whole &&
	    ((rc = add_mounts(d, err)) < 0 || (rc = save_descriptors(d, dirs.image_fd, err)) < 0))
		return rc;
	return criu_perform(&d->request, NULL, err);
}

/* In a pid namespace that others are in as well, its number is free for a restore only when whoever is its
 * parent by now has collected it. */
static void await_number(const struct dump *d)
{
	enum { PATIENCE_MS = 3000 };

	if (config_new_namespace(d->config, NAMESPACE_PID))
		return;
	for (int ms = 0; ms < PATIENCE_MS && kill(d->pid, 0) == 0; ms += 10)
		(void)!poll(NULL, 0, 10);
}

static int checkpoint_locked(const struct oci_checkpoint *o, struct error *err)
{
	own_container struct container *container = NULL;
	own_config struct config *config = NULL;
	own_cgroup struct cgroup *cg = NULL;
	struct dump d = {.options = o};
	enum oci_status status;
	int rc = container_open(o->state_root, o->id, CONTAINER_LOCK, &container, err);

	if (rc < 0)
		return rc;
	status = container_status(container);
	if (status != OCI_RUNNING && status != OCI_PAUSED)
		return refuse(err, -EINVAL,
			      "container %s is %s: only a running one has a state to keep", o->id,
			      oci_status_name(status));
	if ((rc = container_config(container, &config, err)) < 0 ||
	    (rc = container_cgroup(container, &cg, err)) < 0)
		return rc;
	d.container = container;
	d.config = config;
	d.cgroup = cg;
	d.pid = container_pid(container);
	rc = write_image(&d, err);
	if (rc == 0 && !(o->image.flags & (OCI_IMAGE_LEAVE_RUNNING | OCI_IMAGE_PRE_DUMP)))
		await_number(&d);
	criu_request_release(&d.request);
	strv_free(d.mount_points);
	free(d.mount_ids);
	return rc;
}

int oci_checkpoint(const struct oci_checkpoint *o, struct error *err)
{
	int rc = checkpoint_locked(o, err);

	if (rc < 0)
		return fail(err, rc, "checkpoint container %s", o->id);
	if (o->image.flags & (OCI_IMAGE_LEAVE_RUNNING | OCI_IMAGE_PRE_DUMP))
		return 0;
	/* Its processes are gone with the image. */
	return oci_delete(o->state_root, o->id, OCI_DELETE_FORCE, err);
}
