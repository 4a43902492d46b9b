/* file: operations on open files. */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/own.h"

enum {
	PARTS_MAX = 260,     /* of a vector */
	COPY_MAX = 64 << 20, /* of one copy_file_range: the client asks for the rest */
};

int share_kill_privileges(int fd)
{
	struct stat st;
	mode_t mode;

	if (fstat(fd, &st) < 0)
		return -errno;
	mode = st.st_mode & 07777 & ~(mode_t)S_ISUID;
	/* Without the right to execute it marks a file for mandatory locks. */
	if (mode & S_IXGRP)
		mode &= ~(mode_t)S_ISGID;
	return mode == (st.st_mode & 07777) || fchmod(fd, mode) == 0 ? 0 : -errno;
}

/* `size` bytes of a vector from `offset` on. Less than `size` if it is shorter. */
static uint64_t slice(const struct iovec *from, unsigned int count, uint64_t offset, uint64_t size,
		      struct iovec *ret, int *ret_count)
{
	uint64_t done = 0;
	int n = 0;

	for (unsigned int i = 0; i < count && done < size && n < PARTS_MAX; i++) {
		uint64_t length = from[i].iov_len;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		length -= offset;
		if (length > size - done)
			length = size - done;
		ret[n++] = (struct iovec){(uint8_t *)from[i].iov_base + offset, length};
		done += length;
		offset = 0;
	}
	*ret_count = n;
	return done;
}

int share_do_read(struct share_call *call)
{
	const struct fuse_read_in *in = call->args;
	const struct share_request *request = call->request;
	struct share_handle *handle = share_handle_get(call->share, in->fh, call->node, false);
	struct iovec parts[PARTS_MAX];
	ssize_t n = 0;
	int count = 0;

	if (!handle)
		return -EBADF;
	if (slice(request->in, request->in_count, sizeof(struct fuse_out_header), in->size, parts,
		  &count) > 0)
		n = preadv(handle->fd, parts, count, (off_t)in->offset);
	n = n < 0 ? -errno : n;
	share_handle_put(call->share, handle);
	if (n < 0)
		return (int)n;
	call->reply_size = (size_t)n;
	return 0;
}

static ssize_t write_parts(const struct share_handle *handle, const struct fuse_write_in *in,
			   const struct iovec *parts, int count)
{
	/* What comes from the client's page cache has its place; only a program's own write with
	 * O_APPEND goes where the end is now, which other writers may have moved. */
	bool append = (handle->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE);
	ssize_t n = pwritev2(handle->fd, parts, count, (off_t)in->offset, append ? RWF_APPEND : 0);

	return n < 0 ? -errno : n;
}

int share_do_write(struct share_call *call)
{
	const struct fuse_write_in *in = call->args;
	const struct share_request *request = call->request;
	struct share_handle *handle;
	struct fuse_write_out out = {0};
	struct iovec parts[PARTS_MAX];
	ssize_t n = 0;
	int count = 0;

	if (in->size > SHARE_WRITE_MAX ||
	    slice(request->out, request->out_count, sizeof(call->header) + sizeof(*in), in->size,
		  parts, &count) < in->size)
		return -EINVAL;
	handle = share_handle_get(call->share, in->fh, call->node, false);
	if (!handle)
		return -EBADF;
	if (in->write_flags & FUSE_WRITE_KILL_SUIDGID)
		n = share_kill_privileges(handle->fd);
	if (n == 0)
		n = write_parts(handle, in, parts, count);
	share_handle_put(call->share, handle);
	if (n < 0)
		return (int)n;
	out.size = (uint32_t)n;
	return share_reply(call, &out, sizeof(out));
}

static int close_handle(struct share_call *call, bool directory)
{
	const struct fuse_release_in *in = call->args;
	struct share_handle *handle = share_handle_get(call->share, in->fh, call->node, directory);

	if (!handle)
		return -EBADF;
	if (!directory && (in->release_flags & FUSE_RELEASE_FLUSH))
		share_owner_drop(call->share, call->node, in->lock_owner);
	/* Locks of flock's kind go with the open file. */
	share_handle_close(call->share, handle);
	return 0;
}

int share_do_release(struct share_call *call)
{
	return close_handle(call, false);
}

int share_do_releasedir(struct share_call *call)
{
	return close_handle(call, true);
}

/* A program has closed one of its descriptors: its locks on the file go, and an error of a delayed write
 * is told. */
int share_do_flush(struct share_call *call)
{
	const struct fuse_flush_in *in = call->args;
	struct share_handle *handle = share_handle_get(call->share, in->fh, call->node, false);
	int fd, rc = 0;

	if (!handle)
		return -EBADF;
	share_owner_drop(call->share, call->node, in->lock_owner);
	fd = fcntl(handle->fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0 || close(fd) < 0)
		rc = -errno;
	share_handle_put(call->share, handle);
	return rc;
}

static int sync_handle(struct share_call *call, bool directory)
{
	const struct fuse_fsync_in *in = call->args;
	struct share_handle *handle = share_handle_get(call->share, in->fh, call->node, directory);
	int rc;

	if (!handle)
		return -EBADF;
	rc = (in->fsync_flags & FUSE_FSYNC_FDATASYNC) ? fdatasync(handle->fd) : fsync(handle->fd);
	rc = rc < 0 ? -errno : 0;
	share_handle_put(call->share, handle);
	return rc;
}

int share_do_fsync(struct share_call *call)
{
	return sync_handle(call, false);
}

int share_do_fsyncdir(struct share_call *call)
{
	return sync_handle(call, true);
}

int share_do_syncfs(struct share_call *call)
{
	return syncfs(call->share->directory_fd) < 0 ? -errno : 0;
}

int share_do_fallocate(struct share_call *call)
{
	const struct fuse_fallocate_in *in = call->args;
	struct share_handle *handle;
	int rc;

	if (in->mode &
	    ~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	handle = share_handle_get(call->share, in->fh, call->node, false);
	if (!handle)
		return -EBADF;
	rc = fallocate(handle->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? -errno
											    : 0;
	share_handle_put(call->share, handle);
	return rc;
}

int share_do_lseek(struct share_call *call)
{
	const struct fuse_lseek_in *in = call->args;
	struct share_handle *handle;
	struct fuse_lseek_out out;
	off_t at;

	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	handle = share_handle_get(call->share, in->fh, call->node, false);
	if (!handle)
		return -EBADF;
	at = lseek(handle->fd, (off_t)in->offset, (int)in->whence);
	at = at < 0 ? -errno : at;
	share_handle_put(call->share, handle);
	if (at < 0)
		return (int)at;
	out.offset = (uint64_t)at;
	return share_reply(call, &out, sizeof(out));
}

int share_do_copy_file_range(struct share_call *call)
{
	const struct fuse_copy_file_range_in *in = call->args;
	struct share_node *node = share_node_get(call->share, in->nodeid_out);
	struct share_handle *from = share_handle_get(call->share, in->fh_in, call->node, false);
	struct share_handle *to =
		node ? share_handle_get(call->share, in->fh_out, node, false) : NULL;
	loff_t from_at = (loff_t)in->off_in, to_at = (loff_t)in->off_out;
	struct fuse_write_out out = {0};
	ssize_t n = -EBADF;

	if (from && to && in->flags == 0) {
		n = copy_file_range(from->fd, &from_at, to->fd, &to_at,
				    in->len < COPY_MAX ? in->len : COPY_MAX, 0);
		n = n < 0 ? -errno : n;
	} else if (in->flags) {
		n = -EINVAL;
	}
	share_handle_put(call->share, from);
	share_handle_put(call->share, to);
	if (node)
		share_node_put(call->share, node);
	if (n < 0)
		return (int)n;
	out.size = (uint32_t)n;
	return share_reply(call, &out, sizeof(out));
}
