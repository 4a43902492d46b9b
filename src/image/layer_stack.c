/*
 * layer_stack: the layers of an image together; see layer.h.
 *
 * overlayfs takes the root directory from the topmost of its layers. A layer whose tar has no entry for
 * the root says nothing about it: such a root is marked with the attribute overlay.implied, of which
 * overlayfs knows nothing, and which it shows to nobody.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/beneath.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/layer_priv.h"

enum { NAMES_MAX = 64 << 10, VALUE_MAX = 64 << 10 };

/* Whether the directory has this attribute of overlayfs. */
static bool has_overlay_xattr(int fd, const char *name)
{
	static const char *const prefixes[] = {"trusted.overlay.", "user.overlay."};
	struct fd_path path = fd_path(fd);

	for (size_t i = 0; i < array_size(prefixes); i++) {
		own_mem char *full = str_format("%s%s", prefixes[i], name);

		if (getxattr(path.text, full, NULL, 0) >= 0)
			return true;
	}
	return false;
}

static bool comes_again(const struct digest *diffids, size_t count, size_t i)
{
	for (size_t j = i + 1; j < count; j++)
		if (digest_eq(&diffids[i], &diffids[j]))
			return true;
	return false;
}

int layer_stack_use(int layers_fd, int state_fd, const struct digest *diffids, size_t count,
		    struct layer_stack *ret, struct error *err)
{
	ret->uses = mem_new_array(count + 1, sizeof(*ret->uses));
	ret->diffids = mem_new_array(count + 1, sizeof(*ret->diffids));
	ret->bottom = ret->count = 0;
	for (size_t i = 0; i < count; i++) {
		struct layer_use use = LAYER_USE_NONE;
		int rc;

		if (comes_again(diffids, count, i))
			continue;
		rc = layer_use(layers_fd, state_fd, &diffids[i], &use, err);
		if (rc < 0)
			return rc;
		if (has_overlay_xattr(use.root_fd, "opaque"))
			ret->bottom = ret->count;
		ret->uses[ret->count] = use;
		ret->diffids[ret->count++] = diffids[i];
	}
	return 0;
}

void layer_stack_close(struct layer_stack *stack)
{
	for (size_t i = 0; i < stack->count; i++) {
		fd_close(&stack->uses[i].root_fd);
		fd_close(&stack->uses[i].lock_fd);
	}
	free(stack->uses);
	free(stack->diffids);
	*stack = (struct layer_stack){0};
}

void layer_stack_release(int state_fd, struct layer_stack *stack)
{
	for (size_t i = 0; i < stack->count; i++)
		if (layer_release(state_fd, &stack->diffids[i], &stack->uses[i], NULL) < 0)
			continue;
	layer_stack_close(stack);
}

/* Attributes that this process may not set, or this file system has no place for, are left out. */
static int copy_xattrs(int from, int to, struct error *err)
{
	own_mem char *names = mem_new(NAMES_MAX), *value = mem_new(VALUE_MAX);
	struct fd_path source = fd_path(from), target = fd_path(to);
	ssize_t len = listxattr(source.text, names, NAMES_MAX);

	if (len < 0 && errno != EOPNOTSUPP)
		return fail(err, -errno, "look at the image's root directory");
	for (const char *name = names; len > 0 && name < names + len; name += strlen(name) + 1) {
		ssize_t size;

		if (str_after(name, "trusted.overlay.") || str_after(name, "user.overlay."))
			continue;
		size = getxattr(source.text, name, value, VALUE_MAX);
		if (size >= 0 && setxattr(target.text, name, value, (size_t)size, 0) < 0 &&
		    errno != EOPNOTSUPP && errno != EPERM)
			return fail(err, -errno, "set the attribute %s of the root directory",
				    name);
	}
	return 0;
}

int layer_stack_copy_root(const struct layer_stack *stack, int fd, struct error *err)
{
	struct stat st;
	size_t i = stack->count;
	int rc;

	if (stack->count == 0)
		return fchmod(fd, 0755) < 0 ? fail(err, -errno, "set up the root directory") : 0;
	while (i > 1 && has_overlay_xattr(stack->uses[i - 1].root_fd, "implied"))
		i--;
	if (fstat(stack->uses[i - 1].root_fd, &st) < 0)
		return fail(err, -errno, "look at the image's root directory");
	if (fchown(fd, st.st_uid, st.st_gid) < 0 || fchmod(fd, st.st_mode & 07777) < 0)
		return fail(err, -errno, "set up the root directory");
	rc = copy_xattrs(stack->uses[i - 1].root_fd, fd, err);
	if (rc == 0 && futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim}) < 0)
		rc = fail(err, -errno, "set up the root directory");
	return rc;
}
