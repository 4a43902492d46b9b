/* container_files: see container_files.h. */
#include "engine/container_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/overlay.h"
#include "tar/extract.h"
#include "tar/pack.h"

/* Places where the runtime mounts something: it makes them if the image has none, and they are nothing
 * that the workload did. */
static const char *const stubs[] = {
	"dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", NULL,
};

int container_read_changes(struct engine *engine, const struct workload *workload,
			   unsigned int flags, workload_bytes_fn *out, void *context,
			   struct error *err)
{
	static const char nothing[1024]; /* the end of a tar */
	const struct pack_options options = {.kind = PACK_OVERLAY, .flags = flags, .stubs = stubs};
	own_fd int upper = overlay_open_upper(engine, workload, err);

	if (upper == -ENOENT)
		return out(nothing, sizeof(nothing), context, err);
	return upper < 0 ? upper : pack_tree(upper, &options, out, context, err);
}

int container_read_tree(struct engine *engine, const struct workload *workload,
			workload_bytes_fn *out, void *context, struct error *err)
{
	struct overlay_view view = OVERLAY_VIEW_NONE;
	int rc = overlay_view_open(engine, workload, OVERLAY_ALL, &view, err);

	if (rc < 0)
		return rc;
	rc = pack_tree(view.root_fd, &(struct pack_options){.kind = PACK_PLAIN}, out, context, err);
	overlay_view_close(engine, &view);
	return rc;
}

/* --- paths ----------------------------------------------------------------------------------------- */

/* A container's root directory, in use. */
struct root {
	struct engine *engine;
	int fd;
	struct plan plan; /* of one that does not run */
};

static void root_close(struct root *root)
{
	fd_close(&root->fd);
	fd_close(&root->plan.root_fd);
	if (overlay_unlock(root->engine, root->plan.locks, root->plan.lock_count, NULL) < 0)
		root->fd = -1;
	plan_release(&root->plan);
}
#define own_root __attribute__((cleanup(root_close)))

/* What is mounted in a container is only there while it runs. */
static int check_mounts(const struct workload *w, const char *path, struct error *err)
{
	for (size_t i = 0; i < w->config.mounts_count; i++) {
		const char *target = w->config.mounts[i].target;
		const char *rest = str_after(path, target);

		if (rest != NULL && (rest[0] == '/' || rest[0] == '\0'))
			return hint(err,
				    refuse(err, -ENOTSUP,
					   "%s is on a mount, and the container does not run",
					   path),
				    "start it first (berth start %s), or use the mount's source",
				    w->name);
	}
	return 0;
}

static int root_open(struct engine *engine, const struct workload *w, const char *path,
		     struct root *ret, struct error *err)
{
	int rc;

	*ret = (struct root){.engine = engine, .fd = -1, .plan = PLAN_EMPTY};
	if (path[0] != '/')
		return refuse(err, -EINVAL, "\"%s\" is not an absolute path", path);
	if (w->pid > 0) {
		ret->fd = isolation_of(w->config.isolation)->open_root(engine, w, err);
		return ret->fd < 0 ? ret->fd : 0;
	}
	rc = check_mounts(w, path, err);
	if (rc == 0)
		rc = overlay_prepare(engine, w, &ret->plan, err);
	if (rc < 0)
		return rc;
	ret->fd = dup(ret->plan.root_fd);
	return ret->fd < 0 ? fail(err, -errno, "open the root directory") : 0;
}

/* Without slashes at its end; "/" becomes "". */
static char *trimmed(const char *path)
{
	size_t len = strlen(path);

	while (len > 0 && path[len - 1] == '/')
		len--;
	return str_copy_n(path, len);
}

int container_stat_path(struct engine *engine, const struct workload *workload, const char *path,
			struct workload_path *ret, struct error *err)
{
	own_root struct root root;
	own_mem char *plain = trimmed(path);
	own_fd int fd = -1;
	char target[PATH_MAX];
	struct stat st;
	ssize_t len = 0;
	int rc = root_open(engine, workload, path, &root, err);

	if (rc < 0)
		return rc;
	fd = beneath_open(root.fd, plain, O_PATH | O_NOFOLLOW, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return refuse(err, -ENOENT, "there is no %s in the container", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(err, fd < 0 ? fd : -errno, "look at %s", path);
	if (S_ISLNK(st.st_mode))
		len = readlinkat(fd, "", target, sizeof(target) - 1);
	if (len < 0)
		return fail(err, -errno, "read the link %s", path);
	*ret = (struct workload_path){
		.mode = st.st_mode,
		.size_bytes = (uint64_t)st.st_size,
		.mtime_ns = st.st_mtim.tv_sec * INT64_C(1000000000) + st.st_mtim.tv_nsec,
		.target = S_ISLNK(st.st_mode) ? str_copy_n(target, (size_t)len) : NULL,
	};
	return 0;
}

int container_read_path(struct engine *engine, const struct workload *workload, const char *path,
			const char *as, workload_bytes_fn *out, void *context, struct error *err)
{
	const struct pack_options options = {.kind = PACK_PLAIN, .flags = PACK_MOUNTS};
	own_root struct root root;
	own_mem char *plain = trimmed(path);
	own_fd int fd = -1;
	const char *name = NULL;
	int rc = root_open(engine, workload, path, &root, err);

	if (rc < 0)
		return rc;
	if (str_eq(as, ".")) {
		fd = beneath_open(root.fd, plain, O_RDONLY | O_DIRECTORY, 0);
		return fd < 0 ? fail(err, fd, "open the directory %s", path)
			      : pack_tree(fd, &options, out, context, err);
	}
	/* The root has no name; "x/." and "x/.." have none of their own either. */
	fd = beneath_parent(root.fd, plain, false, 0, &name);
	if (fd == -EINVAL) {
		fd = beneath_open(root.fd, plain, O_PATH | O_DIRECTORY, 0);
		name = ".";
	}
	if (fd < 0)
		return fail(err, fd, "open %s", path);
	return pack_one(fd, name, as, &options, out, context, err);
}

static int extract_bytes_in(const void *data, size_t len, void *context, struct error *err)
{
	return extract_add(context, data, len, err);
}

int container_write_path(struct engine *engine, const struct workload *workload, const char *dir,
			 unsigned int flags, workload_produce_fn *produce, void *context,
			 struct error *err)
{
	own_extract struct extract *x = NULL;
	own_root struct root root;
	struct extract_options options = {.dir = dir, .flags = EXTRACT_FOLLOW};
	int rc = root_open(engine, workload, dir, &root, err);

	if (rc < 0)
		return rc;
	if ((workload->config.flags & WORKLOAD_READ_ONLY) != 0 && workload->pid <= 0)
		return refuse(err, -EROFS, "the container's root file system is read-only");
	options.root_fd = root.fd;
	if (flags & WORKLOAD_PUT_ARCHIVE)
		options.flags |= EXTRACT_OWNERS | EXTRACT_SPECIAL;
	rc = extract_begin(&options, &x, err);
	if (rc == 0)
		rc = produce(extract_bytes_in, x, context, err);
	return rc < 0 ? rc : extract_finish(x, err);
}
