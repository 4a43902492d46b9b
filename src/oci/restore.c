/*
 * restore: making a container from an image. See checkpoint.h.
 *
 * As in create.c the record comes first and names the cgroup. CRIU runs in the new cgroup, where the
 * processes that it makes are to be, and in a mount namespace of its own, where the root is a mount
 * point: nothing is mounted on the host, also if we are killed.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "oci/checkpoint.h"
#include "oci/config_priv.h"
#include "oci/container.h"
#include "oci/image_priv.h"
#include "oci/protobuf.h"
#include "oci/record.h"
#include "oci/resctrl.h"
#include "oci/rootfs_priv.h"
#include "oci/terminal.h"
#include "oci/userns.h"

enum { SMALL_TEXT_MAX = 65536 };

struct restore {
	const struct oci_restore *options;
	struct container *container;
	const struct config *config;
	struct cgroup *cgroup;
	char *root;
	struct criu_request request;
	int namespace_fds[NAMESPACE_KINDS];
	struct oci_child child;
};

/* --- steps of CRIU's process -------------------------------------------------------------------- */

/* The same directories in the new mount namespace: CRIU mounts something in one of them. */
static int open_again(struct restore *x, struct error *err)
{
	const struct oci_image *image = &x->options->image;
	const char *work = image->work_path ? image->work_path : image->path;
	int *fds = x->request.fds;

	fds[IMAGE_FD_IMAGE] = open(image->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[IMAGE_FD_WORK] = open(work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fds[IMAGE_FD_IMAGE] < 0 || fds[IMAGE_FD_WORK] < 0
		       ? fail(err, -errno, "open the image")
		       : 0;
}

/* The mount of the container that the place is in, or NULL for the root; *ret_rest is the path there. */
static const struct config_mount *covering(const struct config *c, size_t mount,
					   const char **ret_rest)
{
	for (size_t i = mount; i-- > 0;) {
		const char *rest =
			str_after(c->mounts[mount].destination, c->mounts[i].destination);

		if (rest != NULL && rest[0] == '/') {
			*ret_rest = rest;
			return &c->mounts[i];
		}
	}
	return NULL;
}

static char *source_of(const struct restore *x, const struct config_mount *m)
{
	return m->source && m->source[0] != '/' ? str_format("%s/%s", x->options->bundle, m->source)
						: str_copy(m->source);
}

static int make_place(const struct restore *x, size_t i, struct error *err)
{
	const struct config_mount *m = &x->config->mounts[i];
	const char *path = m->destination;
	const struct config_mount *cover = covering(x->config, i, &path);
	own_mem char *source = source_of(x, m), *below = cover ? source_of(x, cover) : NULL;
	own_fd int root = -1, place = -1;
	struct rootfs files = {.config = x->config};
	struct stat st;

	/* What is in a file system of the container's own is in the image, or the kernel's. */
	if (cover != NULL && (!cover->bind || stat(below, &st) < 0 || !S_ISDIR(st.st_mode)))
		return 0;
	root = open(cover ? below : x->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fail(err, -errno, "open %s", cover ? below : x->root);
	files.root_fd = root;
	place = rootfs_target(&files, path,
			      !m->bind || stat(source, &st) < 0 || S_ISDIR(st.st_mode), err);
	return place < 0 ? place : 0;
}

/* The root, or a volume, may be a fresh one, in which nobody has made the places to mount on yet. */
static int make_places(const struct restore *x, struct error *err)
{
	for (size_t i = 0; i < x->config->mount_count; i++) {
		int rc = make_place(x, i, err);

		if (rc < 0)
			return fail(err, rc, "mounts[%zu]", i);
	}
	return 0;
}

/* CRIU wants the root to be a mount point, with nothing of it shared with the host. */
static int prepare_mounts(void *data, struct error *err)
{
	struct restore *x = data;
	int rc;

	if (unshare(CLONE_NEWNS) < 0)
		return fail(err, -errno, "create a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return fail(err, -errno, "make mounts private");
	if (mount(x->root, x->root, NULL, MS_BIND | MS_REC, NULL) < 0)
		return fail(err, -errno, "root.path: mount %s", x->root);
	rc = make_places(x, err);
	/* CRIU's bind mounts of it are like it: the version 3.17 does not make them read-only itself. */
	if (rc == 0 && x->config->root_readonly &&
	    mount(NULL, x->root, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) < 0)
		rc = fail(err, -errno, "root.readonly: mount %s", x->root);
	return rc < 0 ? rc : open_again(x, err);
}

/* --- the conversation --------------------------------------------------------------------------- */

/* CRIU replaces the path of a controller's group by the one that it is in itself. */
static void add_cgroup_root(struct criu_request *r, const char *controller, const char *path)
{
	own_buf struct buf root = {0};

	protobuf_add_string(&root, 1, controller);
	protobuf_add_string(&root, 2, path);
	protobuf_add_bytes(&r->options, CRIU_CGROUP_ROOT, root.data, root.len);
}

/* Each line of /proc/PID/cgroup: "4:cpu,cpuacct:/path". */
static int add_cgroup_roots(struct criu_request *r, pid_t pid, struct error *err)
{
	own_mem char *file = str_format("/proc/%d/cgroup", (int)pid), *text = NULL;
	own_strv char **lines = NULL;
	size_t len;
	int rc = file_read(AT_FDCWD, file, SMALL_TEXT_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	lines = strv_split(text, '\n');
	for (size_t i = 0; lines != NULL && lines[i] != NULL; i++) {
		char *controllers = strchr(lines[i], ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		own_strv char **names = NULL;

		if (path == NULL)
			continue;
		*path++ = '\0';
		names = strv_split(controllers + 1, ',');
		if (strv_len(names) == 0)
			add_cgroup_root(r, "", path);
		for (size_t n = 0; names != NULL && names[n] != NULL; n++)
			add_cgroup_root(r, names[n], path);
	}
	return 0;
}

static int on_started(struct criu_request *r, pid_t pid, void *data, struct error *err)
{
	struct restore *x = data;
	int rc;

	if (x->cgroup->manager == OCI_CGROUP_NONE)
		return 0;
	rc = cgroup_join_pid(x->cgroup, pid, err);
	return rc < 0 ? rc : add_cgroup_roots(r, pid, err);
}

static int on_reached(const char *point, pid_t pid, int fd, void *data, struct error *err)
{
	struct restore *x = data;
	const struct oci_restore *o = x->options;
	uint64_t start_ticks;
	int rc;

	if (str_eq(point, "setup-namespaces"))
		return record_runtime_hooks(x->container, x->config, o->bundle, pid, err);
	if (str_eq(point, "post-restore")) {
		/* From here on it exists whatever becomes of us: R1. */
		rc = proc_start_time(pid, &start_ticks);
		return rc < 0 ? fail(err, rc, "look at process %d", (int)pid)
			      : container_save_process(x->container, pid, start_ticks, true, err);
	}
	if (!str_eq(point, "orphan-pts-master") || fd < 0)
		return 0;
	if (o->console_socket != NULL)
		return terminal_send(o->console_socket, fd, err);
	x->child.console_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return x->child.console_fd < 0 ? fail(err, -errno, "keep the terminal") : 0;
}

/* --- the image ---------------------------------------------------------------------------------- */

#define ACL_NAME "system.posix_acl_access"

/* In a user namespace CRIU reads on as root of that one: it is let into the directory, and nobody else. */
static int let_in(int image_fd, uint32_t uid, struct error *err)
{
	const uint32_t none = htole32(ACL_UNDEFINED_ID);
	const struct {
		struct posix_acl_xattr_header header;
		struct posix_acl_xattr_entry entries[5];
	} acl = {
		.header = {htole32(POSIX_ACL_XATTR_VERSION)},
		.entries =
			{
				{htole16(ACL_USER_OBJ), htole16(7), none},
				{htole16(ACL_USER), htole16(ACL_EXECUTE), htole32(uid)},
				{htole16(ACL_GROUP_OBJ), 0, none},
				{htole16(ACL_MASK), htole16(ACL_EXECUTE), none},
				{htole16(ACL_OTHER), 0, none},
			},
	};

	return fsetxattr(image_fd, ACL_NAME, &acl, sizeof(acl), 0) < 0
		       ? fail(err, -errno, "let the user namespace's root into the image")
		       : 0;
}

/* CRIU turns its back on the host's root by putting it into a directory of the new one: /tmp, or one that
 * it makes, which it cannot in a root that is read-only. Then it has a /tmp meanwhile. */
static bool lend_tmp(const struct restore *x, int root_fd)
{
	return x->config->root_readonly && root_fd >= 0 && mkdirat(root_fd, "tmp", 0755) == 0;
}

static int perform(struct restore *x, const struct image_dirs *dirs, pid_t *ret_pid,
		   struct error *err)
{
	const struct config_linux *l = &x->config->linux_;
	const bool user = config_new_namespace(x->config, NAMESPACE_USER);
	own_fd int root = open(x->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	const bool lent = lend_tmp(x, root);
	int rc = user ? let_in(dirs->image_fd, userns_host_id(&l->uid_maps, 0), err) : 0;

	if (rc == 0)
		rc = criu_perform(&x->request, ret_pid, err);
	if (lent && unlinkat(root, "tmp", AT_REMOVEDIR) < 0)
		log_debug("the root keeps an empty directory tmp");
	if (user && fremovexattr(dirs->image_fd, ACL_NAME) < 0)
		log_debug("the image stays open to the user namespace's root");
	return rc;
}

/* --- the request -------------------------------------------------------------------------------- */

static void add_outside_mount(const char *destination, const char *source, void *data)
{
	struct restore *x = data;

	criu_external(&x->request, "mnt[%s]:%s", destination, source);
}

static int open_namespace(struct restore *x, enum config_namespace_kind kind, struct error *err)
{
	const char *path = x->config->linux_.namespaces[kind].path;

	x->namespace_fds[kind] = open(path, O_RDONLY | O_CLOEXEC);
	return x->namespace_fds[kind] < 0
		       ? fail(err, -errno, "linux.namespaces: open the %s namespace %s",
			      namespace_kinds[kind].name, path)
		       : 0;
}

/* Namespaces that are given by path are joined; the two of them that an image can leave out are there by
 * descriptor. */
static int add_namespaces(struct restore *x, struct error *err)
{
	for (size_t i = 0; i < NAMESPACE_KINDS; i++) {
		const struct config_namespace *n = &x->config->linux_.namespaces[i];
		own_buf struct buf joined = {0};
		int rc;

		if (!n->listed || n->path == NULL)
			continue;
		switch (i) {
		case NAMESPACE_NETWORK:
		case NAMESPACE_PID:
			rc = open_namespace(x, i, err);
			if (rc < 0)
				return rc;
			criu_inherit_fd(&x->request,
					i == NAMESPACE_PID ? IMAGE_PID_KEY : IMAGE_NETWORK_KEY,
					x->namespace_fds[i]);
			break;
		case NAMESPACE_IPC:
		case NAMESPACE_UTS:
		case NAMESPACE_TIME:
			protobuf_add_string(&joined, 1, namespace_kinds[i].proc_name);
			protobuf_add_string(&joined, 2, n->path);
			protobuf_add_bytes(&x->request.options, CRIU_JOIN_NS, joined.data,
					   joined.len);
			break;
		default:
			return refuse(err, -ENOTSUP,
				      "linux.namespaces: a container cannot be restored into the "
				      "%s namespace %s",
				      namespace_kinds[i].name, n->path);
		}
	}
	return 0;
}

/* What was outside as 0, 1 or 2, a file or the other end of a pipe, has ours in its place. */
static int add_descriptors(struct restore *x, int image_fd, struct error *err)
{
	own_json json_t *names = NULL;
	int rc = json_read_file(image_fd, IMAGE_DESCRIPTORS, SMALL_TEXT_MAX, &names, err);

	if (rc == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (rc < 0)
		return fail(err, rc, "read the image");
	for (size_t i = 0; i < 3; i++) {
		const char *name = json_string_value(json_array_get(names, i));

		if (str_after(name, "file[") != NULL &&
		    lseek(x->options->stdio[i], 0, SEEK_CUR) < 0)
			return refuse(
				err, -ESPIPE,
				"descriptor %zu was a file when the image was made, and has to "
				"be one again",
				i);
		if (name != NULL && (strstr(name, "pipe:") || str_after(name, "file[")))
			criu_inherit_fd(&x->request, name, x->options->stdio[i]);
	}
	return 0;
}

static int put_request(struct restore *x, struct image_dirs *dirs, struct error *err)
{
	const struct oci_restore *o = x->options;
	struct criu_request *r = &x->request;
	int rc;

	r->type = CRIU_RESTORE;
	memcpy(r->stdio, o->stdio, sizeof(r->stdio));
	r->prepare = prepare_mounts;
	r->started = on_started;
	r->reached = on_reached;
	r->data = x;
	rc = image_begin(&o->image, "restore.log", false, x->config, dirs, r, err);
	if (rc < 0)
		return rc;
	protobuf_add_string(&r->options, CRIU_ROOT, x->root);
	protobuf_add_number(&r->options, CRIU_EVASIVE_DEVICES, 1);
	protobuf_add_number(&r->options, CRIU_RESTORE_SIBLING, 1);
	protobuf_add_string(&r->options, CRIU_LSM_PROFILE, o->lsm_profile);
	protobuf_add_string(&r->options, CRIU_LSM_MOUNT_CONTEXT, o->lsm_mount_context);
	image_outside(x->config, o->bundle, x->cgroup, add_outside_mount, x);
	rc = add_namespaces(x, err);
	return rc < 0 ? rc : add_descriptors(x, dirs->image_fd, err);
}

/* --- the container ------------------------------------------------------------------------------ */

/* Ours are there when CRIU looks, which does as it is asked to with those of the container's own below them:
 * that there is none yet we see for ourselves. */
static int require_new_cgroup(const struct oci_restore *o, const struct cgroup *cg,
			      struct error *err)
{
	for (size_t i = 0; o->image.cgroups == OCI_IMAGE_CGROUPS_STRICT && i < cg->dir_count; i++)
		if (access(cg->dirs[i].path, F_OK) == 0)
			return refuse(err, -EEXIST,
				      "the cgroup %s is there already, and is to be made anew "
				      "(--manage-cgroups-mode strict)",
				      cg->dirs[i].path);
	return 0;
}

static int check_options(const struct oci_restore *o, const struct config *c, struct error *err)
{
	if (c->root_path == NULL)
		return refuse(err, -EINVAL, "root.path: is required but missing");
	if (!config_new_namespace(c, NAMESPACE_MOUNT))
		return refuse(err, -ENOTSUP,
			      "linux.namespaces: a container without a mount namespace of its own "
			      "cannot be restored");
	if (c->linux_.net_device_count > 0)
		return refuse(err, -ENOTSUP,
			      "linux.netDevices: a container that has some cannot be restored");
	if (c->process.terminal && o->console_socket == NULL && !o->keep_terminal)
		return refuse(err, -EINVAL,
			      "process.terminal: a terminal needs a console socket to send it to");
	return 0;
}

static int make(struct restore *x, struct error *err)
{
	const struct oci_restore *o = x->options;
	own_image_dirs struct image_dirs dirs = IMAGE_DIRS_EMPTY;
	pid_t pid;
	int rc;

	record_fill(x->container, x->config, o->bundle, x->cgroup);
	if ((rc = container_save(x->container, x->config->json, NULL, err)) < 0 ||
	    (rc = cgroup_make(x->cgroup, x->config, false, err)) < 0 ||
	    (rc = cgroup_apply(x->cgroup, &x->config->linux_.resources, err)) < 0 ||
	    (rc = put_request(x, &dirs, err)) < 0 || (rc = perform(x, &dirs, &pid, err)) < 0)
		return rc;
	x->child.pid = pid;
	x->child.pidfd = proc_open(pid);
	if (x->child.pidfd < 0)
		return fail(err, x->child.pidfd, "open the restored process %d", (int)pid);
	rc = resctrl_assign(&x->config->linux_.intel_rdt, x->container->id, pid, false, err);
	if (rc < 0 || (rc = record_pid_file(o->pid_file, pid, err)) < 0)
		return rc;
	return record_status(x->container, x->cgroup, o->stdio, err);
}

/* What could not be removed stays named by the record for oci_delete. */
static void undo(struct restore *x)
{
	/* By itself too: it may be in no cgroup of ours. */
	if (x->child.pidfd >= 0)
		(void)!proc_signal(x->child.pidfd, SIGKILL);
	resctrl_leave(json_object_get(x->container->record, "resctrl"));
	if (cgroup_remove(x->cgroup, NULL) == 0)
		(void)!container_remove(x->container, NULL);
	if (x->child.pidfd >= 0)
		(void)!proc_wait(x->child.pidfd, NULL);
}

int oci_restore(const struct oci_restore *o, struct oci_child *ret, struct error *err)
{
	own_container struct container *container = NULL;
	own_config struct config *c = NULL;
	own_cgroup struct cgroup *cg = NULL;
	own_json json_t *json = NULL;
	struct restore x = {.options = o, .child = OCI_CHILD_EMPTY};
	int rc;

	if ((rc = record_read_spec(NULL, o->bundle, &json, NULL, err)) < 0 ||
	    (rc = config_parse(json, &c, err)) < 0 || (rc = check_options(o, c, err)) < 0 ||
	    (rc = cgroup_plan(o->cgroup_manager, c->linux_.cgroups_path, o->id, &cg, err)) < 0 ||
	    (rc = cgroup_check_free(cg, err)) < 0 || (rc = require_new_cgroup(o, cg, err)) < 0 ||
	    (rc = container_create(o->state_root, o->id, CONTAINER_DIRECTORY, &container, err)) < 0)
		return rc;
	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		x.namespace_fds[i] = -1;
	x.container = container;
	x.config = c;
	x.cgroup = cg;
	x.root = record_root(c, o->bundle);
	rc = make(&x, err);
	if (rc < 0) {
		undo(&x);
		oci_child_release(&x.child);
		fail(err, rc, "restore container %s", o->id);
	} else {
		*ret = x.child;
	}
	criu_request_release(&x.request);
	for (size_t i = 0; i < NAMESPACE_KINDS; i++)
		fd_close(&x.namespace_fds[i]);
	free(x.root);
	return rc;
}
