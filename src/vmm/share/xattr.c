/*
 * xattr: extended attributes, which the host's kernel keeps. A guest may have and change
 *
 *     user.*                      as on any file system
 *     security.capability         if the ids are the host's: it grants rights to an id
 *     system.posix_acl_*          likewise: it names ids
 *     trusted.*                   if this process may (CAP_SYS_ADMIN)
 *
 * and no other: labels of the host's security modules are the host's.
 */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "base/mem.h"
#include "base/str.h"

static bool is_permitted(const struct share *share, const char *name)
{
	bool host_ids =
		share_identity(&share->config.users) && share_identity(&share->config.groups);

	if (str_after(name, "user.") || str_after(name, "trusted."))
		return true;
	return host_ids && (str_eq(name, "security.capability") ||
			    str_after(name, "system.posix_acl_") != NULL);
}

/* An attribute's name; these may contain a slash. */
static const char *attribute(const struct share_call *call, size_t offset, size_t *ret_next)
{
	const char *name = (const char *)call->args + offset;
	size_t length = strnlen(name, call->args_size - offset);

	if (length == 0 || length > XATTR_NAME_MAX || length == call->args_size - offset)
		return NULL;
	if (ret_next)
		*ret_next = offset + length + 1;
	return name;
}

int share_do_setxattr(struct share_call *call)
{
	const struct fuse_setxattr_in *in = call->args;
	struct share_path path = share_path(call->node->fd);
	size_t at = 0;
	const char *name = attribute(call, sizeof(*in), &at);

	if (!name || in->size > call->args_size - at)
		return -EINVAL;
	if (!is_permitted(call->share, name))
		return -EOPNOTSUPP;
	if (S_ISLNK(call->node->type))
		return -EPERM; /* links have none of these but trusted.*, which is not worth a way */
	if (setxattr(path.text, name, (const uint8_t *)call->args + at, in->size,
		     (int)(in->flags & (XATTR_CREATE | XATTR_REPLACE))) < 0)
		return -errno;
	if (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID) {
		struct stat st;
		int rc = share_stat(call->node->fd, &st, NULL);

		if (rc < 0 || !(st.st_mode & S_ISGID))
			return rc;
		return fchmodat(AT_FDCWD, path.text, st.st_mode & 07777 & ~(mode_t)S_ISGID, 0) < 0
			       ? -errno
			       : 0;
	}
	return 0;
}

/* A size of 0 asks for the size. */
static int reply_value(struct share_call *call, uint32_t room, ssize_t n)
{
	struct fuse_getxattr_out out = {.size = (uint32_t)n};

	if (n < 0)
		return (int)n;
	if (room == 0)
		return share_reply(call, &out, sizeof(out));
	return n > room ? -ERANGE : share_reply(call, call->thread->scratch, (size_t)n);
}

int share_do_getxattr(struct share_call *call)
{
	const struct fuse_getxattr_in *in = call->args;
	const char *name = attribute(call, sizeof(*in), NULL);
	ssize_t n;

	if (!name)
		return -EINVAL;
	if (!is_permitted(call->share, name))
		return -EOPNOTSUPP;
	if (S_ISLNK(call->node->type))
		return -ENODATA;
	n = getxattr(share_path(call->node->fd).text, name, call->thread->scratch, SHARE_SCRATCH);
	return reply_value(call, in->size, n < 0 ? -errno : n);
}

/* Leaves the names that the client may use. */
static ssize_t filter(const struct share *share, char *names, ssize_t size)
{
	ssize_t kept = 0;

	for (ssize_t at = 0; at < size;) {
		size_t length = strlen(names + at) + 1;

		if (is_permitted(share, names + at)) {
			memmove(names + kept, names + at, length);
			kept += (ssize_t)length;
		}
		at += (ssize_t)length;
	}
	return kept;
}

int share_do_listxattr(struct share_call *call)
{
	const struct fuse_getxattr_in *in = call->args;
	char *names = (char *)call->thread->scratch;
	ssize_t n = 0;

	if (!S_ISLNK(call->node->type))
		n = listxattr(share_path(call->node->fd).text, names, SHARE_SCRATCH);
	if (n < 0)
		return -errno;
	return reply_value(call, in->size, filter(call->share, names, n));
}

int share_do_removexattr(struct share_call *call)
{
	const char *name = attribute(call, 0, NULL);

	if (!name)
		return -EINVAL;
	if (!is_permitted(call->share, name))
		return -EOPNOTSUPP;
	if (S_ISLNK(call->node->type))
		return -ENODATA;
	return removexattr(share_path(call->node->fd).text, name) < 0 ? -errno : 0;
}
