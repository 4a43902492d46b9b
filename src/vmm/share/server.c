/*
 * server: requests come in, are checked, and go to what serves them.
 *
 *     request   struct fuse_in_header, the operation's arguments, names with a zero byte behind each
 *     answer    struct fuse_out_header, the operation's answer
 *
 * Arguments are copied out once and the copy is checked; only what is written to a file or read from it
 * goes between the file and the client's buffers directly.
 */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

enum operation_flags {
	WRITES = 1,    /* refused on a read-only share */
	NO_NODE = 2,   /* it is about no file */
	NO_ANSWER = 4, /* the client expects none */
	DATA = 8,      /* only the arguments' fixed part is copied: the rest is a file's */
	MADE_UP = 16,  /* also of a directory that is made up (F6) */
};

struct operation {
	share_operation *serve;
	size_t args_min;
	unsigned int flags;
};

static size_t copy_out(const struct share_request *request, uint64_t offset, void *data,
		       size_t size)
{
	size_t done = 0;

	for (unsigned int i = 0; i < request->out_count && done < size; i++) {
		size_t length = request->out[i].iov_len, part;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		part = length - offset < size - done ? length - offset : size - done;
		memcpy((uint8_t *)data + done, (const uint8_t *)request->out[i].iov_base + offset,
		       part);
		done += part;
		offset = 0;
	}
	return done;
}

static size_t copy_in(const struct share_request *request, uint64_t offset, const void *data,
		      size_t size)
{
	size_t done = 0;

	for (unsigned int i = 0; i < request->in_count && done < size; i++) {
		size_t length = request->in[i].iov_len, part;

		if (offset >= length) {
			offset -= length;
			continue;
		}
		part = length - offset < size - done ? length - offset : size - done;
		memcpy((uint8_t *)request->in[i].iov_base + offset, (const uint8_t *)data + done,
		       part);
		done += part;
		offset = 0;
	}
	return done;
}

int share_reply(struct share_call *call, const void *data, size_t size)
{
	uint64_t at = sizeof(struct fuse_out_header) + call->reply_size;

	if (at > call->request->in_bytes || size > call->request->in_bytes - at)
		return -ERANGE;
	copy_in(call->request, at, data, size);
	call->reply_size += size;
	return 0;
}

const char *share_name(const struct share_call *call, size_t offset, size_t *ret_next,
		       int *ret_error)
{
	const char *name = (const char *)call->args + offset;
	size_t length;

	*ret_error = -EINVAL;
	if (offset >= call->args_size)
		return NULL;
	length = strnlen(name, call->args_size - offset);
	if (length == call->args_size - offset || length == 0)
		return NULL;
	if (strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return NULL;
	if (length > SHARE_NAME_MAX) {
		*ret_error = -ENAMETOOLONG;
		return NULL;
	}
	if (ret_next)
		*ret_next = offset + length + 1;
	return name;
}

/* The client has unmounted, and knows nothing any more: it does not tell so of each file. */
static int do_destroy(struct share_call *call)
{
	share_handles_close(call->share);
	share_nodes_forget(call->share);
	return 0;
}

static int do_init(struct share_call *call)
{
	const struct fuse_init_in *in = call->args;
	uint64_t flags = FUSE_ASYNC_READ | FUSE_POSIX_LOCKS | FUSE_ATOMIC_O_TRUNC |
			 FUSE_BIG_WRITES | FUSE_DONT_MASK | FUSE_FLOCK_LOCKS | FUSE_ASYNC_DIO |
			 FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2 | FUSE_MAX_PAGES |
			 FUSE_SUBMOUNTS | FUSE_SETXATTR_EXT | FUSE_DO_READDIRPLUS |
			 FUSE_READDIRPLUS_AUTO;
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = SHARE_WRITE_MAX,
		.time_gran = 1,
		.max_pages = SHARE_WRITE_MAX / 4096,
	};

	if (in->major != FUSE_KERNEL_VERSION || in->minor < 31)
		return -EPROTO;
	if (call->share->config.cache != SHARE_CACHE_ALWAYS)
		flags |= FUSE_AUTO_INVAL_DATA;
	/* A cached link is only looked at again when its directory entry is. */
	if (call->share->config.cache != SHARE_CACHE_NONE)
		flags |= FUSE_CACHE_SYMLINKS;
	/* Lists of access rights name users by number, which only fit if they are the host's. */
	if (share_identity(&call->share->config.users) &&
	    share_identity(&call->share->config.groups))
		flags |= FUSE_POSIX_ACL;
	out.flags = (uint32_t)flags & in->flags;
	return share_reply(call, &out, sizeof(out));
}

/* The device interrupts waiting requests itself; here nothing waits. */
static int do_interrupt(struct share_call *call)
{
	(void)call;
	return 0;
}

static int refuse_ioctl(struct share_call *call)
{
	(void)call;
	return -ENOTTY;
}

static const struct operation operations[] = {
	[FUSE_LOOKUP] = {share_do_lookup, 1, MADE_UP},
	[FUSE_FORGET] = {share_do_forget, sizeof(struct fuse_forget_in), NO_NODE | NO_ANSWER},
	[FUSE_GETATTR] = {share_do_getattr, sizeof(struct fuse_getattr_in), MADE_UP},
	[FUSE_SETATTR] = {share_do_setattr, sizeof(struct fuse_setattr_in), WRITES},
	[FUSE_READLINK] = {share_do_readlink, 0, 0},
	[FUSE_SYMLINK] = {share_do_symlink, 2, WRITES},
	[FUSE_MKNOD] = {share_do_mknod, sizeof(struct fuse_mknod_in) + 1, WRITES},
	[FUSE_MKDIR] = {share_do_mkdir, sizeof(struct fuse_mkdir_in) + 1, WRITES},
	[FUSE_UNLINK] = {share_do_unlink, 1, WRITES},
	[FUSE_RMDIR] = {share_do_rmdir, 1, WRITES},
	[FUSE_RENAME] = {share_do_rename, sizeof(struct fuse_rename_in) + 2, WRITES},
	[FUSE_LINK] = {share_do_link, sizeof(struct fuse_link_in) + 1, WRITES},
	[FUSE_OPEN] = {share_do_open, sizeof(struct fuse_open_in), 0},
	[FUSE_READ] = {share_do_read, sizeof(struct fuse_read_in), 0},
	[FUSE_WRITE] = {share_do_write, sizeof(struct fuse_write_in), WRITES | DATA},
	[FUSE_STATFS] = {share_do_statfs, 0, MADE_UP},
	[FUSE_RELEASE] = {share_do_release, sizeof(struct fuse_release_in), 0},
	[FUSE_FSYNC] = {share_do_fsync, sizeof(struct fuse_fsync_in), 0},
	[FUSE_SETXATTR] = {share_do_setxattr, sizeof(struct fuse_setxattr_in) + 1, WRITES},
	[FUSE_GETXATTR] = {share_do_getxattr, sizeof(struct fuse_getxattr_in) + 1, 0},
	[FUSE_LISTXATTR] = {share_do_listxattr, sizeof(struct fuse_getxattr_in), 0},
	[FUSE_REMOVEXATTR] = {share_do_removexattr, 1, WRITES},
	[FUSE_FLUSH] = {share_do_flush, sizeof(struct fuse_flush_in), 0},
	[FUSE_INIT] = {do_init, 16, NO_NODE},
	[FUSE_OPENDIR] = {share_do_opendir, sizeof(struct fuse_open_in), 0},
	[FUSE_READDIR] = {share_do_readdir, sizeof(struct fuse_read_in), 0},
	[FUSE_RELEASEDIR] = {share_do_releasedir, sizeof(struct fuse_release_in), 0},
	[FUSE_FSYNCDIR] = {share_do_fsyncdir, sizeof(struct fuse_fsync_in), 0},
	[FUSE_GETLK] = {share_do_getlk, sizeof(struct fuse_lk_in), 0},
	[FUSE_SETLK] = {share_do_setlk, sizeof(struct fuse_lk_in), 0},
	[FUSE_SETLKW] = {share_do_setlkw, sizeof(struct fuse_lk_in), 0},
	[FUSE_ACCESS] = {share_do_access, sizeof(struct fuse_access_in), MADE_UP},
	[FUSE_CREATE] = {share_do_create, sizeof(struct fuse_create_in) + 1, WRITES},
	[FUSE_INTERRUPT] = {do_interrupt, sizeof(struct fuse_interrupt_in), NO_NODE | NO_ANSWER},
	[FUSE_DESTROY] = {do_destroy, 0, NO_NODE},
	[FUSE_IOCTL] = {refuse_ioctl, 0, NO_NODE},
	[FUSE_BATCH_FORGET] = {share_do_batch_forget, sizeof(struct fuse_batch_forget_in),
			       NO_NODE | NO_ANSWER},
	[FUSE_FALLOCATE] = {share_do_fallocate, sizeof(struct fuse_fallocate_in), WRITES},
	[FUSE_READDIRPLUS] = {share_do_readdirplus, sizeof(struct fuse_read_in), 0},
	[FUSE_RENAME2] = {share_do_rename2, sizeof(struct fuse_rename2_in) + 2, WRITES},
	[FUSE_LSEEK] = {share_do_lseek, sizeof(struct fuse_lseek_in), 0},
	[FUSE_COPY_FILE_RANGE] = {share_do_copy_file_range, sizeof(struct fuse_copy_file_range_in),
				  WRITES},
	[FUSE_SYNCFS] = {share_do_syncfs, 0, MADE_UP},
	[FUSE_TMPFILE] = {share_do_tmpfile, sizeof(struct fuse_create_in), WRITES},
};

/* Copies the arguments out. -EPROTO if there are not enough, -E2BIG. */
static int take_args(struct share_call *call, const struct operation *operation)
{
	uint64_t size = call->request->out_bytes - sizeof(call->header);

	if (call->header.len < sizeof(call->header) || call->header.len > call->request->out_bytes)
		return -EPROTO;
	if (call->header.len - sizeof(call->header) < size)
		size = call->header.len - sizeof(call->header);
	if (size < operation->args_min)
		return -EPROTO;
	if (operation->flags & DATA)
		size = operation->args_min;
	if (size > SHARE_ARGS_MAX)
		return -E2BIG;
	call->args_size = copy_out(call->request, sizeof(call->header), call->thread->args, size);
	call->thread->args[call->args_size] = 0;
	call->args = call->thread->args;
	return 0;
}

static int perform(struct share_call *call, const struct operation *operation)
{
	int rc = take_args(call, operation);

	if (rc < 0)
		return rc;
	if ((operation->flags & WRITES) && call->share->config.read_only)
		return -EROFS;
	if (operation->flags & NO_NODE)
		return operation->serve(call);
	call->node = share_node_get(call->share, call->header.nodeid);
	if (!call->node || call->node->fd < 0)
		rc = -ESTALE;
	else if (call->share->is_file && call->header.nodeid == FUSE_ROOT_ID &&
		 !(operation->flags & MADE_UP))
		rc = -EPERM;
	else
		rc = operation->serve(call);
	if (call->node)
		share_node_put(call->share, call->node);
	return rc;
}

int64_t share_serve(struct share_thread *thread, const struct share_request *request)
{
	static const struct operation none;
	const struct operation *operation = &none;
	struct share_call call = {.share = thread->share, .thread = thread, .request = request};
	struct fuse_out_header out;
	int rc;

	if (copy_out(request, 0, &call.header, sizeof(call.header)) < sizeof(call.header))
		return -EPROTO;
	if (call.header.opcode < sizeof(operations) / sizeof(operations[0]))
		operation = &operations[call.header.opcode];
	rc = operation->serve ? perform(&call, operation) : -ENOSYS;
	if (rc == -EAGAIN && call.header.opcode == FUSE_SETLKW)
		return -EAGAIN;
	if (operation->flags & NO_ANSWER)
		return 0;
	if (request->in_bytes < sizeof(out))
		return -EPROTO;
	if (rc < 0)
		call.reply_size = 0;
	out = (struct fuse_out_header){.len = (uint32_t)(sizeof(out) + call.reply_size),
				       .error = rc < 0 ? rc : 0,
				       .unique = call.header.unique};
	copy_in(request, 0, &out, sizeof(out));
	return out.len;
}

/* /proc/self/fd as a mount of its own, if this process may make one: from the directory itself ".." would
 * lead to all of the host's /proc, for whoever has taken a serving thread over. */
static int open_descriptors(void)
{
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, "/proc/self/fd",
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	return fd >= 0 ? fd : open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

int share_create(const struct share_config *config, struct share **ret, struct error *err)
{
	struct share *share = mem_new(sizeof(*share));
	struct stat st;
	int rc;

	share->config = *config;
	share->nodes.max = SHARE_NODES_MAX;
	share->handles.max = SHARE_HANDLES_MAX;
	pthread_mutex_init(&share->lock, NULL);
	share->proc_fd = open_descriptors();
	share->is_file = fstat(config->directory_fd, &st) == 0 && S_ISREG(st.st_mode);
	share->directory_fd =
		share->is_file
			? openat(share->proc_fd, share_path(config->directory_fd).text,
				 O_RDONLY | O_CLOEXEC)
			: openat(config->directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = share->proc_fd < 0 || share->directory_fd < 0 ? -errno : share_root_init(share);
	if (rc < 0) {
		share->config.directory_fd = -1; /* the caller's */
		share_destroy(share);
		return fail(err, rc, "open what is to be shared");
	}
	*ret = share;
	return 0;
}

void share_destroy(struct share *share)
{
	share_handles_release(share);
	share_nodes_release(share);
	fd_close(&share->proc_fd);
	fd_close(&share->directory_fd);
	fd_close(&share->config.directory_fd);
	pthread_mutex_destroy(&share->lock);
	free(share);
}

void share_reset(struct share *share)
{
	share_handles_release(share);
	share_nodes_release(share);
	if (share_root_init(share) < 0)
		return; /* every request is answered with ESTALE */
}

int share_thread_create(struct share *share, struct share_thread **ret)
{
	struct share_thread *thread;

	if (unshare(CLONE_FS) < 0 || fchdir(share->proc_fd) < 0)
		return -errno;
	umask(0);
	thread = mem_new(sizeof(*thread));
	thread->share = share;
	share_find_self(thread);
	*ret = thread;
	return 0;
}

void share_thread_destroy(struct share_thread *thread)
{
	free(thread);
}
