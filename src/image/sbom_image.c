/*
 * sbom_image: the bill of materials of an image that is here (declared in sbom.h).
 *
 * The image's layers are stacked by overlayfs into a read-only mount that is attached nowhere, and read
 * through its descriptor; nothing of the image is run.
 */
#include <errno.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/layer.h"
#include "image/sbom.h"
#include "image/store_priv.h"

static int configure(int fs, const char *key, const char *value)
{
	return syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, value, 0) < 0 ? -errno : 0;
}

/* Kernels before 6.5 take all lower directories as one value of at most 255 bytes. */
static int configure_joined(int fs, const struct layer_stack *stack)
{
	own_buf struct buf all = {0};

	for (size_t i = stack->count; i-- > stack->bottom;)
		buf_format(&all, "%s%s", all.len ? ":" : "", fd_path(stack->uses[i].root_fd).text);
	return configure(fs, "lowerdir", all.data);
}

/* The layers as one tree, the last above. Returns the mount. */
static int stack_mount(const struct layer_stack *stack, bool rootless, struct error *err)
{
	own_fd int fs = (int)syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC);
	int rc = fs < 0 ? -errno : 0, fd;

	if (rc == 0)
		rc = configure(fs, "lowerdir+",
			       fd_path(stack->uses[stack->count - 1].root_fd).text);
	if (rc == -EINVAL)
		rc = configure_joined(fs, stack);
	else
		for (size_t i = stack->count - 1; rc == 0 && i-- > stack->bottom;)
			rc = configure(fs, "lowerdir+", fd_path(stack->uses[i].root_fd).text);
	if (rc == 0 && rootless &&
	    syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0) < 0)
		rc = -errno;
	if (rc == 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		rc = -errno;
	if (rc < 0)
		return fail(err, rc, "stack the layers");
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
			  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID |
				  MOUNT_ATTR_NODEV);
	return fd < 0 ? fail(err, -errno, "stack the layers") : fd;
}

static int scan(const struct layer_stack *stack, bool rootless, struct packages *list,
		struct error *err)
{
	own_fd int mount_fd = -1;

	if (stack->count == 0)
		return 0;
	/* One layer is its own tree, and overlayfs does not stack a single one. */
	if (stack->count - stack->bottom == 1)
		return packages_scan(stack->uses[stack->bottom].root_fd, list, err);
	mount_fd = stack_mount(stack, rootless, err);
	return mount_fd < 0 ? mount_fd : packages_scan(mount_fd, list, err);
}

const char *sbom_media_type(enum sbom_format format)
{
	return format == SBOM_SPDX ? "application/spdx+json" : "application/vnd.cyclonedx+json";
}

/* As reproducible-builds.org has it. */
static int64_t made_ns(void)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	uint64_t seconds;

	if (epoch != NULL && str_to_uint(epoch, INT32_MAX * UINT64_C(4), &seconds) == 0)
		return (int64_t)seconds * 1000000000;
	return clock_now_ns();
}

int image_sbom(struct image_store *store, const char *name, enum sbom_format format, bool rootless,
	       json_t **ret, struct packages *ret_list, struct error *err)
{
	own_image struct image *image = NULL;
	struct sbom_subject subject;
	struct layer_stack stack = {0};
	int layers_fd, rc = image_find(store, name, &image, err);

	if (rc < 0)
		return rc;
	layers_fd = image_store_layers_fd(store, err);
	if (layers_fd < 0)
		return layers_fd;
	rc = layer_stack_use(layers_fd, store->state_fd, image->layers, image->layers_count, &stack,
			     err);
	if (rc == 0)
		rc = scan(&stack, rootless, ret_list, err);
	/* After the mount over them is gone. */
	layer_stack_release(store->state_fd, &stack);
	if (rc < 0)
		return rc;
	subject = (struct sbom_subject){
		.name = image->name ? image->name : image->id.text,
		.digest = image->manifest.text,
		.created_ns = made_ns(),
	};
	*ret = format == SBOM_SPDX ? sbom_spdx(&subject, ret_list)
				   : sbom_cyclonedx(&subject, ret_list);
	return 0;
}
