/* name: operations on the entries of directories. */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/own.h"

int share_do_lookup(struct share_call *call)
{
	struct fuse_entry_out out;
	int rc;
	const char *name = share_name(call, 0, NULL, &rc);

	if (!name)
		return rc;
	rc = share_lookup(call->share, call->node, name, &out);
	/* The client may remember for a while that there is nothing. */
	if (rc == -ENOENT && call->share->config.cache == SHARE_CACHE_ALWAYS) {
		memset(&out, 0, sizeof(out));
		out.entry_valid = share_timeout(call->share);
		rc = 0;
	}
	if (rc < 0)
		return rc;
	rc = share_reply(call, &out, sizeof(out));
	if (rc < 0 && out.nodeid)
		share_node_forget(call->share, out.nodeid, 1);
	return rc;
}

int share_do_forget(struct share_call *call)
{
	const struct fuse_forget_in *in = call->args;

	share_node_forget(call->share, call->header.nodeid, in->nlookup);
	return 0;
}

int share_do_batch_forget(struct share_call *call)
{
	const struct fuse_batch_forget_in *in = call->args;
	const struct fuse_forget_one *one = (const void *)(in + 1);
	size_t count = (call->args_size - sizeof(*in)) / sizeof(*one);

	for (size_t i = 0; i < count && i < in->count; i++)
		share_node_forget(call->share, one[i].nodeid, one[i].nlookup);
	return 0;
}

/* Tells the client of what has just been made. */
static int reply_made(struct share_call *call, const char *name)
{
	struct fuse_entry_out out;
	int rc = share_lookup(call->share, call->node, name, &out);

	if (rc < 0)
		return rc;
	rc = share_reply(call, &out, sizeof(out));
	if (rc < 0)
		share_node_forget(call->share, out.nodeid, 1);
	return rc;
}

int share_do_symlink(struct share_call *call)
{
	size_t at = 0;
	int rc;
	const char *name = share_name(call, 0, &at, &rc), *target;
	size_t length;

	if (!name)
		return rc;
	target = (const char *)call->args + at;
	length = strnlen(target, call->args_size - at);
	if (length == call->args_size - at || length == 0)
		return -EINVAL;
	if (length >= PATH_MAX)
		return -ENAMETOOLONG;
	rc = share_become(call, 0);
	if (rc < 0)
		return rc;
	rc = symlinkat(target, call->node->fd, name) < 0 ? -errno : 0;
	share_become_self(call);
	return rc < 0 ? rc : reply_made(call, name);
}

/* Makes an empty file that was not there: the descriptor or -errno. */
static int create_file(struct share_call *call, const char *name, int flags, mode_t mode,
		       uint32_t mask)
{
	int rc = share_become(call, mask);

	if (rc < 0)
		return rc;
	rc = openat(call->node->fd, name,
		    flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, mode & 07777);
	rc = rc < 0 ? -errno : rc;
	share_become_self(call);
	return rc;
}

int share_do_mknod(struct share_call *call)
{
	const struct fuse_mknod_in *in = call->args;
	int rc;
	const char *name = share_name(call, sizeof(*in), NULL, &rc);

	if (!name)
		return rc;
	if (S_ISREG(in->mode)) {
		int fd = create_file(call, name, O_RDONLY, in->mode, in->umask);

		if (fd < 0)
			return fd;
		fd_close(&fd);
		return reply_made(call, name);
	}
	/* F4 */
	if (!S_ISFIFO(in->mode) && !S_ISSOCK(in->mode) && !(S_ISCHR(in->mode) && in->rdev == 0))
		return -EPERM;
	rc = share_become(call, in->umask);
	if (rc < 0)
		return rc;
	rc = mknodat(call->node->fd, name, in->mode & (S_IFMT | 07777), 0) < 0 ? -errno : 0;
	share_become_self(call);
	return rc < 0 ? rc : reply_made(call, name);
}

int share_do_mkdir(struct share_call *call)
{
	const struct fuse_mkdir_in *in = call->args;
	int rc;
	const char *name = share_name(call, sizeof(*in), NULL, &rc);

	if (!name)
		return rc;
	rc = share_become(call, in->umask);
	if (rc < 0)
		return rc;
	rc = mkdirat(call->node->fd, name, in->mode & 07777) < 0 ? -errno : 0;
	share_become_self(call);
	return rc < 0 ? rc : reply_made(call, name);
}

static int remove_name(struct share_call *call, int flags)
{
	int rc;
	const char *name = share_name(call, 0, NULL, &rc);

	if (!name)
		return rc;
	return unlinkat(call->node->fd, name, flags) < 0 ? -errno : 0;
}

int share_do_unlink(struct share_call *call)
{
	return remove_name(call, 0);
}

int share_do_rmdir(struct share_call *call)
{
	return remove_name(call, AT_REMOVEDIR);
}

static int move(struct share_call *call, uint64_t target_id, size_t names_at, unsigned int flags)
{
	size_t at = 0;
	int rc;
	const char *from = share_name(call, names_at, &at, &rc), *to;
	struct share_node *target;

	to = from ? share_name(call, at, NULL, &rc) : NULL;
	if (!to)
		return rc;
	if (flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	target = share_node_get(call->share, target_id);
	if (!target)
		return -ESTALE;
	rc = target->fd < 0 ? -ESTALE : 0;
	if (rc == 0 && renameat2(call->node->fd, from, target->fd, to, flags) < 0)
		rc = -errno;
	if (rc == 0) {
		share_node_moved(call->share, target, to);
		if (flags & RENAME_EXCHANGE)
			share_node_moved(call->share, call->node, from);
	}
	share_node_put(call->share, target);
	return rc;
}

int share_do_rename(struct share_call *call)
{
	const struct fuse_rename_in *in = call->args;

	return move(call, in->newdir, sizeof(*in), 0);
}

int share_do_rename2(struct share_call *call)
{
	const struct fuse_rename2_in *in = call->args;

	return move(call, in->newdir, sizeof(*in), in->flags);
}

int share_do_link(struct share_call *call)
{
	const struct fuse_link_in *in = call->args;
	int rc;
	const char *name = share_name(call, sizeof(*in), NULL, &rc);
	struct share_node *source;

	if (!name)
		return rc;
	source = share_node_get(call->share, in->oldnodeid);
	if (!source)
		return -ESTALE;
	rc = source->fd < 0 ? -ESTALE : 0;
	if (rc == 0 && linkat(AT_FDCWD, share_path(source->fd).text, call->node->fd, name,
			      AT_SYMLINK_FOLLOW) < 0)
		rc = -errno;
	share_node_put(call->share, source);
	return rc < 0 ? rc : reply_made(call, name);
}

int share_do_readlink(struct share_call *call)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(call->node->fd, "", target, sizeof(target));

	if (n < 0)
		return errno == ENOENT ? -EINVAL : -errno; /* what readlinkat says of a file */
	return share_reply(call, target, (size_t)n);
}

/* Access for the client as it asked; what would make the host's side behave otherwise is left out. */
static int open_flags(const struct share_call *call, uint32_t flags)
{
	int wanted = (int)(flags & (O_ACCMODE | O_TRUNC | O_DSYNC | O_SYNC));

	if ((wanted & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (call->share->config.read_only &&
	    ((wanted & O_ACCMODE) != O_RDONLY || (wanted & O_TRUNC)))
		return -EROFS;
	return wanted;
}

static uint32_t reply_flags(const struct share *share)
{
	return share->config.cache == SHARE_CACHE_ALWAYS ? FOPEN_KEEP_CACHE : 0;
}

/* Answers a CREATE or TMPFILE with the open file `fd`, which it takes. */
static int reply_created(struct share_call *call, int taken_fd, const char *name, uint32_t flags)
{
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out = {0};
	own_fd int fd = taken_fd;
	struct share_node *node;
	int rc = open(share_path(fd).text, O_PATH | O_CLOEXEC);

	rc = rc < 0 ? -errno : share_enter(call->share, rc, call->node, name, &out.entry);
	if (rc < 0)
		return rc;
	node = share_node_get(call->share, out.entry.nodeid);
	if (!node)
		return -ESTALE;
	rc = share_handle_add(call->share, node, take(fd), flags, false, &out.open.fh);
	out.open.open_flags = reply_flags(call->share);
	if (rc == 0) {
		rc = share_reply(call, &out, sizeof(out));
		if (rc < 0)
			share_handle_close(call->share,
					   share_handle_get(call->share, out.open.fh, node, false));
	}
	if (rc < 0)
		share_node_forget(call->share, out.entry.nodeid, 1);
	share_node_put(call->share, node);
	return rc;
}

/* The file is there already: it is opened as it is. */
static int open_existing(struct share_call *call, const char *name, int flags)
{
	struct fuse_entry_out entry;
	struct share_node *node;
	int rc = share_lookup(call->share, call->node, name, &entry);

	if (rc < 0)
		return rc;
	node = share_node_get(call->share, entry.nodeid);
	rc = node ? (S_ISDIR(node->type) ? -EISDIR : share_node_open(call->share, node, flags))
		  : -ESTALE;
	if (node)
		share_node_put(call->share, node);
	share_node_forget(call->share, entry.nodeid, 1);
	return rc;
}

int share_do_create(struct share_call *call)
{
	const struct fuse_create_in *in = call->args;
	int rc;
	const char *name = share_name(call, sizeof(*in), NULL, &rc);
	int flags = open_flags(call, in->flags), fd;

	if (!name)
		return rc;
	if (flags < 0)
		return flags;
	fd = create_file(call, name, flags, in->mode, in->umask);
	if (fd == -EEXIST && !(in->flags & O_EXCL)) {
		fd = open_existing(call, name, flags);
		if (fd >= 0 && (in->open_flags & FUSE_OPEN_KILL_SUIDGID) &&
		    share_kill_privileges(fd) < 0)
			fd_close(&fd);
	}
	return fd < 0 ? fd : reply_created(call, fd, name, in->flags);
}

int share_do_tmpfile(struct share_call *call)
{
	const struct fuse_create_in *in = call->args;
	int flags = open_flags(call, in->flags), rc;

	if (flags < 0)
		return flags;
	rc = share_become(call, in->umask);
	if (rc < 0)
		return rc;
	rc = openat(call->node->fd, ".",
		    (flags & ~O_TRUNC) | O_TMPFILE | (int)(in->flags & O_EXCL) | O_CLOEXEC,
		    in->mode & 07777);
	rc = rc < 0 ? -errno : rc;
	share_become_self(call);
	return rc < 0 ? rc : reply_created(call, rc, "", in->flags);
}

static int open_node(struct share_call *call, bool directory)
{
	const struct fuse_open_in *in = call->args;
	int flags = directory ? O_RDONLY | O_DIRECTORY : open_flags(call, in->flags);
	struct fuse_open_out out = {0};
	int rc, fd;

	if (flags < 0)
		return flags;
	if (S_ISDIR(call->node->type) != directory)
		return directory ? -ENOTDIR : -EISDIR;
	fd = share_node_open(call->share, call->node, flags);
	if (fd < 0)
		return fd;
	if (!directory && (in->open_flags & FUSE_OPEN_KILL_SUIDGID)) {
		rc = share_kill_privileges(fd);
		if (rc < 0) {
			fd_close(&fd);
			return rc;
		}
	}
	rc = share_handle_add(call->share, call->node, fd, in->flags, directory, &out.fh);
	if (rc < 0)
		return rc;
	out.open_flags = reply_flags(call->share);
	rc = share_reply(call, &out, sizeof(out));
	if (rc < 0)
		share_handle_close(call->share,
				   share_handle_get(call->share, out.fh, call->node, directory));
	return rc;
}

int share_do_open(struct share_call *call)
{
	return open_node(call, false);
}

int share_do_opendir(struct share_call *call)
{
	return open_node(call, true);
}
