/* overlay: see overlay.h. Stacking itself is in overlay_stack.c. */
#include "engine/overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/layer.h"
#include "image/store.h"

static int find_image(struct engine *engine, const struct workload *workload,
		      struct image_store **ret_store, struct image **ret, struct error *err)
{
	int rc = engine_images(engine, ret_store, err);

	if (rc == 0)
		rc = image_find(*ret_store, workload->config.image_id, ret, err);
	return rc;
}

static int use_layers(struct engine *engine, struct image_store *store, const struct image *image,
		      struct layer_stack *ret, struct error *err)
{
	int layers_fd = image->layers_count ? image_store_layers_fd(store, err) : 0;

	if (layers_fd < 0)
		return layers_fd;
	if (image->layers_count > PLAN_LAYERS_MAX)
		return refuse(err, -E2BIG, "the image has %zu layers, more than %d",
			      image->layers_count, PLAN_LAYERS_MAX);
	return layer_stack_use(layers_fd, engine->state_fd, image->layers, image->layers_count, ret,
			       err);
}

/* A directory that is new, or empty again after a crash (overlayfs marks the work directory of a
 * volatile mount so that it cannot be used twice). */
static int fresh_directory(int dirfd, const char *name, struct error *err)
{
	if (mkdirat(dirfd, name, 0700) < 0) {
		int rc = errno == EEXIST ? tree_remove(dirfd, name, err)
					 : fail(err, -errno, "create directory %s", name);

		if (rc < 0)
			return rc;
		if (mkdirat(dirfd, name, 0700) < 0)
			return fail(err, -errno, "create directory %s", name);
	}
	return openat(dirfd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The upper directory is the root directory as the workload sees it: when it is made, it becomes
 * what the image's is. */
static int open_upper(int dirfd, const struct layer_stack *layers, struct error *err)
{
	const bool fresh = mkdirat(dirfd, "upper", 0700) == 0;
	own_fd int fd = -1;
	int rc;

	if (!fresh && errno != EEXIST)
		return fail(err, -errno, "create directory upper");
	fd = openat(dirfd, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return fail(err, -errno, "open directory upper");
	if (!fresh)
		return take(fd);
	rc = layer_stack_copy_root(layers, fd, err);
	return rc < 0 ? rc : take(fd);
}

static int stack_either(const struct overlay_stack *stack, struct error *err)
{
	int rc = overlay_stack_direct(stack, err);

	if (rc == -EINVAL || rc == -ENOSYS) {
		error_clear(err);
		rc = overlay_stack_classic(stack, err);
	}
	return rc;
}

static int stack_layers(struct engine *engine, const struct workload *workload,
			const struct layer_stack *layers, struct error *err)
{
	own_fd int dir = openat(engine->root_fd, workload_dir(workload->id).path,
				O_PATH | O_DIRECTORY | O_CLOEXEC);
	own_fd int upper = -1, work = -1, empty = -1;
	own_mem int *lower = mem_new_array(layers->count + 1, sizeof(int));
	struct overlay_stack stack = {
		.lower = lower,
		.is_volatile = (workload->config.flags & WORKLOAD_AUTO_REMOVE) != 0,
		.user_xattrs = engine->rootless,
	};

	if (dir < 0)
		return fail(err, -errno, "open the workload's directory");
	upper = stack.upper = open_upper(dir, layers, err);
	if (upper < 0)
		return upper;
	work = stack.work = fresh_directory(dir, "work", err);
	if (work < 0)
		return work;
	for (size_t i = layers->count; i-- > layers->bottom;)
		lower[stack.lower_count++] = layers->uses[i].root_fd;
	if (stack.lower_count == 0) {
		/* An image without layers: overlayfs wants at least one directory below. */
		empty = fresh_directory(dir, "empty", err);
		if (empty < 0)
			return empty;
		lower[stack.lower_count++] = empty;
	}
	return stack_either(&stack, err);
}

static struct plan_lock *take_locks(struct layer_stack *layers)
{
	struct plan_lock *locks = mem_new_array(layers->count + 1, sizeof(*locks));

	for (size_t i = 0; i < layers->count; i++) {
		locks[i].fd = take(layers->uses[i].lock_fd);
		memcpy(locks[i].name, layers->diffids[i].text, DIGEST_TEXT_MAX);
	}
	return locks;
}

int overlay_prepare(struct engine *engine, const struct workload *workload, struct plan *plan,
		    struct error *err)
{
	own_image struct image *image = NULL;
	own_layer_stack struct layer_stack layers = {0};
	struct image_store *store;
	int rc = find_image(engine, workload, &store, &image, err);

	if (rc == 0)
		rc = use_layers(engine, store, image, &layers, err);
	if (rc < 0)
		return rc;
	rc = stack_layers(engine, workload, &layers, err);
	if (rc < 0)
		return rc;
	plan->root_fd = rc;
	plan->lock_count = layers.count;
	plan->locks = take_locks(&layers);
	return 0;
}

int overlay_open_upper(struct engine *engine, const struct workload *workload, struct error *err)
{
	own_mem char *path = str_format("%s/upper", workload_dir(workload->id).path);
	int fd = openat(engine->root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? -ENOENT : fail(err, -errno, "open %s", path);
	return fd;
}

/* What the workload wrote, an empty directory if that is nothing, or is not wanted: overlayfs does not
 * stack a single layer, and what a lone one says about the layers below it must not be seen. */
static int open_top(struct engine *engine, const struct workload *workload,
		    const struct layer_stack *layers, enum overlay_what what, struct error *err)
{
	own_mem char *path = str_format("%s/empty", workload_dir(workload->id).path);
	own_fd int fd = what == OVERLAY_ALL ? overlay_open_upper(engine, workload, err) : -ENOENT;
	int rc;

	if (fd != -ENOENT)
		return take(fd);
	fd = dir_open(engine->root_fd, path, 0700, err);
	if (fd < 0 || layers->count == 0)
		return take(fd);
	/* The top's root directory is the whole's. */
	rc = layer_stack_copy_root(layers, fd, err);
	return rc < 0 ? rc : take(fd);
}

int overlay_view_open(struct engine *engine, const struct workload *workload,
		      enum overlay_what what, struct overlay_view *ret, struct error *err)
{
	own_image struct image *image = NULL;
	own_layer_stack struct layer_stack layers = {0};
	own_fd int top = -1;
	own_mem int *lower = NULL;
	struct overlay_stack stack = {.upper = -1, .work = -1, .user_xattrs = engine->rootless};
	struct image_store *store;
	int rc = find_image(engine, workload, &store, &image, err);

	if (rc == 0)
		rc = use_layers(engine, store, image, &layers, err);
	if (rc == 0)
		rc = top = open_top(engine, workload, &layers, what, err);
	if (rc < 0)
		return rc;
	lower = mem_new_array(layers.count + 1, sizeof(int));
	lower[stack.lower_count++] = top;
	for (size_t i = layers.count; i-- > layers.bottom;)
		lower[stack.lower_count++] = layers.uses[i].root_fd;
	stack.lower = lower;
	/* An image without layers. */
	ret->root_fd = stack.lower_count == 1 ? dup(top) : stack_either(&stack, err);
	if (ret->root_fd < 0)
		return ret->root_fd;
	ret->lock_count = layers.count;
	ret->locks = take_locks(&layers);
	return 0;
}

void overlay_view_close(struct engine *engine, struct overlay_view *view)
{
	fd_close(&view->root_fd);
	if (overlay_unlock(engine, view->locks, view->lock_count, NULL) < 0)
		for (size_t i = 0; i < view->lock_count; i++)
			fd_close(&view->locks[i].fd);
	free(view->locks);
	*view = OVERLAY_VIEW_NONE;
}

int overlay_unlock(struct engine *engine, struct plan_lock *locks, size_t count, struct error *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		struct digest diffid;

		rc = digest_parse(locks[i].name, &diffid, err);
		if (rc == 0)
			rc = layer_release_lock(engine->state_fd, &diffid, &locks[i].fd, err);
	}
	return rc;
}
