/* attr: what stat and its companions tell and change. */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/own.h"

static int reply_attr(struct share_call *call, int fd)
{
	struct fuse_attr_out out = {.attr_valid = share_timeout(call->share)};
	struct stat st;
	int rc = share_stat(fd, &st, NULL);

	if (rc < 0)
		return rc;
	/* The directory that is made up around a file. */
	if (S_ISDIR(call->node->type) && !S_ISDIR(st.st_mode)) {
		st.st_mode = S_IFDIR | 0555;
		st.st_nlink = 2;
		st.st_size = 0;
	}
	share_fill_attr(call->share, &st, &out.attr);
	return share_reply(call, &out, sizeof(out));
}

int share_do_getattr(struct share_call *call)
{
	return reply_attr(call, call->node->fd);
}

static int set_mode(const struct share_call *call, mode_t mode)
{
	return fchmodat(AT_FDCWD, share_path(call->node->fd).text, mode & 07777, 0) < 0 ? -errno
											: 0;
}

static int set_owner(const struct share_call *call, const struct fuse_setattr_in *in)
{
	const struct share_config *config = &call->share->config;
	uint32_t user = UINT32_MAX, group = UINT32_MAX; /* stays */

	if ((in->valid & FATTR_UID) && !share_to_host(&config->users, in->uid, &user))
		return -EOVERFLOW;
	if ((in->valid & FATTR_GID) && !share_to_host(&config->groups, in->gid, &group))
		return -EOVERFLOW;
	return fchownat(call->node->fd, "", user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0
		       ? -errno
		       : 0;
}

static int set_size(const struct share_call *call, const struct fuse_setattr_in *in)
{
	struct share_handle *handle = NULL;
	own_fd int opened = -1;
	int fd, rc;

	if (!S_ISREG(call->node->type))
		return S_ISDIR(call->node->type) ? -EISDIR : -EINVAL;
	if (in->valid & FATTR_FH) {
		handle = share_handle_get(call->share, in->fh, call->node, false);
		if (!handle)
			return -EBADF;
		fd = handle->fd;
	} else {
		fd = opened = share_node_open(call->share, call->node, O_WRONLY);
		if (fd < 0)
			return fd;
	}
	rc = in->size > INT64_MAX ? -EFBIG : ftruncate(fd, (off_t)in->size) < 0 ? -errno : 0;
	if (rc == 0 && (in->valid & FATTR_KILL_SUIDGID))
		rc = share_kill_privileges(fd);
	share_handle_put(call->share, handle);
	return rc;
}

static int set_times(const struct share_call *call, const struct fuse_setattr_in *in)
{
	struct timespec times[2] = {
		{.tv_sec = (time_t)in->atime, .tv_nsec = in->atimensec},
		{.tv_sec = (time_t)in->mtime, .tv_nsec = in->mtimensec},
	};

	if (!(in->valid & FATTR_ATIME))
		times[0].tv_nsec = UTIME_OMIT;
	else if (in->valid & FATTR_ATIME_NOW)
		times[0].tv_nsec = UTIME_NOW;
	if (!(in->valid & FATTR_MTIME))
		times[1].tv_nsec = UTIME_OMIT;
	else if (in->valid & FATTR_MTIME_NOW)
		times[1].tv_nsec = UTIME_NOW;
	return utimensat(AT_FDCWD, share_path(call->node->fd).text, times, 0) < 0 ? -errno : 0;
}

int share_do_setattr(struct share_call *call)
{
	const struct fuse_setattr_in *in = call->args;
	int rc = 0;

	/* The owner first: to change it takes the set-id bits away, which the mode may then give. */
	if (in->valid & (FATTR_UID | FATTR_GID))
		rc = set_owner(call, in);
	if (rc == 0 && (in->valid & FATTR_MODE))
		rc = set_mode(call, in->mode);
	if (rc == 0 && (in->valid & FATTR_SIZE))
		rc = set_size(call, in);
	if (rc == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME)))
		rc = set_times(call, in);
	return rc < 0 ? rc : reply_attr(call, call->node->fd);
}

int share_do_statfs(struct share_call *call)
{
	struct fuse_statfs_out out = {0};
	struct statfs st;

	if (fstatfs(call->node->fd, &st) < 0)
		return -errno;
	out.st = (struct fuse_kstatfs){
		.blocks = st.f_blocks,
		.bfree = st.f_bfree,
		.bavail = st.f_bavail,
		.files = st.f_files,
		.ffree = st.f_ffree,
		.bsize = (uint32_t)st.f_bsize,
		.namelen = (uint32_t)st.f_namelen,
		.frsize = (uint32_t)st.f_frsize,
	};
	return share_reply(call, &out, sizeof(out));
}

int share_do_access(struct share_call *call)
{
	const struct fuse_access_in *in = call->args;

	if (in->mask & ~(uint32_t)(R_OK | W_OK | X_OK))
		return -EINVAL;
	if ((in->mask & W_OK) && call->share->config.read_only)
		return -EROFS;
	if (S_ISLNK(call->node->type))
		return 0; /* a link itself can always be read */
	return faccessat(AT_FDCWD, share_path(call->node->fd).text, (int)in->mask, 0) < 0 ? -errno
											  : 0;
}
