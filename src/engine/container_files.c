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
#include "tar/path.h"

const char *const container_stubs[] = {
	"dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", NULL,
};

int container_read_changes(struct engine *engine, const struct workload *workload,
			   unsigned int flags, workload_bytes_fn *out, void *context,
			   struct error *err)
{
	static const char nothing[1024]; /* the end of a tar */
	const struct pack_options options = {
		.kind = PACK_OVERLAY, .flags = flags, .stubs = container_stubs};
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

int container_check_mounts(const struct workload *w, const char *path, struct error *err)
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
	rc = container_check_mounts(w, path, err);
	if (rc == 0)
		rc = overlay_prepare(engine, w, &ret->plan, err);
	if (rc < 0)
		return rc;
	ret->fd = dup(ret->plan.root_fd);
	return ret->fd < 0 ? fail(err, -errno, "open the root directory") : 0;
}

int container_stat_path(struct engine *engine, const struct workload *workload, const char *path,
			struct workload_path *ret, struct error *err)
{
	own_root struct root root;
	struct tar_path found;
	int rc = root_open(engine, workload, path, &root, err);

	if (rc == 0)
		rc = tar_path_stat(root.fd, path, &found, err);
	if (rc < 0)
		return rc;
	*ret = (struct workload_path){.mode = found.mode,
				      .size_bytes = found.size_bytes,
				      .mtime_ns = found.mtime_ns,
				      .target = found.target};
	return 0;
}

int container_read_path(struct engine *engine, const struct workload *workload, const char *path,
			const char *as, workload_bytes_fn *out, void *context, struct error *err)
{
	own_root struct root root;
	int rc = root_open(engine, workload, path, &root, err);

	return rc < 0 ? rc : tar_path_pack(root.fd, path, as, out, context, err);
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
