/*
 * lock: locks on files that hold between guests and with programs of the host.
 *
 * A lock of fcntl's kind belongs to a process of the guest (the owner) and a file: each such pair gets an
 * open file description here, whose own locks (F_OFD_*) are then the owner's. It goes when the owner
 * closes the file. A lock of flock's kind belongs to an open file, as it does here.
 */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/mem.h"

static void free_owner(struct share_owner *owner)
{
	fd_close(&owner->fd);
	free(owner);
}

void share_owner_drop(struct share *share, struct share_node *node, uint64_t id)
{
	struct share_owner **at, *found = NULL;

	pthread_mutex_lock(&share->lock);
	for (at = &node->owners; *at && (*at)->owner != id; at = &(*at)->next)
		;
	if (*at) {
		found = *at;
		*at = found->next;
		share->owner_count--;
	}
	pthread_mutex_unlock(&share->lock);
	if (found)
		free_owner(found);
}

void share_owners_release(struct share *share, struct share_node *node)
{
	while (node->owners) {
		struct share_owner *owner = node->owners;

		node->owners = owner->next;
		share->owner_count--;
		free_owner(owner);
	}
}

static struct share_owner *find(const struct share_node *node, uint64_t id)
{
	struct share_owner *owner = node->owners;

	while (owner && owner->owner != id)
		owner = owner->next;
	return owner;
}

/* A duplicate of the owner's descriptor (which another thread may close meanwhile), made if it is not
 * there. -errno. */
static int open_owner(struct share *share, struct share_node *node, uint64_t id)
{
	own_fd int opened = -1;
	struct share_owner *owner;
	int fd;

	/* A lock for writing needs a descriptor for it, which the share or the file may not allow. */
	opened = share_node_open(share, node, share->config.read_only ? O_RDONLY : O_RDWR);
	if (opened < 0)
		opened = share_node_open(share, node, O_RDONLY);
	if (opened < 0)
		return opened;
	pthread_mutex_lock(&share->lock);
	owner = find(node, id);
	if (!owner && share->owner_count < SHARE_LOCK_OWNERS_MAX) {
		owner = mem_new(sizeof(*owner));
		*owner =
			(struct share_owner){.next = node->owners, .owner = id, .fd = take(opened)};
		node->owners = owner;
		share->owner_count++;
	}
	fd = owner ? fcntl(owner->fd, F_DUPFD_CLOEXEC, 0) : -1;
	fd = fd < 0 ? (owner ? -errno : -ENOLCK) : fd;
	pthread_mutex_unlock(&share->lock);
	return fd;
}

/* The client's form: the last byte is included, and the end of all files is a number. */
static int to_flock(const struct fuse_file_lock *in, struct flock *ret)
{
	if (in->start > INT64_MAX || in->end < in->start)
		return -EINVAL;
	*ret = (struct flock){.l_type = (short)in->type,
			      .l_whence = SEEK_SET,
			      .l_start = (off_t)in->start,
			      .l_len = in->end >= INT64_MAX ? 0 : (off_t)(in->end - in->start + 1)};
	return in->type == F_RDLCK || in->type == F_WRLCK || in->type == F_UNLCK ? 0 : -EINVAL;
}

int share_do_getlk(struct share_call *call)
{
	const struct fuse_lk_in *in = call->args;
	struct fuse_lk_out out = {0};
	struct flock lock;
	own_fd int fd = -1;
	int rc = to_flock(&in->lk, &lock);

	if (rc < 0)
		return rc;
	fd = open_owner(call->share, call->node, in->owner);
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	out.lk = (struct fuse_file_lock){
		.start = (uint64_t)lock.l_start,
		.end = lock.l_len ? (uint64_t)(lock.l_start + lock.l_len - 1) : INT64_MAX,
		.type = (uint32_t)lock.l_type,
	};
	return share_reply(call, &out, sizeof(out));
}

static int set_flock(struct share_call *call, const struct fuse_lk_in *in)
{
	struct share_handle *handle =
		share_handle_get(call->share, in->fh, call->node, S_ISDIR(call->node->type));
	int operation = in->lk.type == F_RDLCK   ? LOCK_SH
			: in->lk.type == F_WRLCK ? LOCK_EX
						 : LOCK_UN;
	int rc;

	if (!handle)
		return -EBADF;
	rc = flock(handle->fd, operation | LOCK_NB) < 0 ? -errno : 0;
	share_handle_put(call->share, handle);
	return rc;
}

static int set_lock(struct share_call *call)
{
	const struct fuse_lk_in *in = call->args;
	struct flock lock;
	own_fd int fd = -1;
	int rc;

	if (in->lk_flags & FUSE_LK_FLOCK)
		return set_flock(call, in);
	rc = to_flock(&in->lk, &lock);
	if (rc < 0)
		return rc;
	fd = open_owner(call->share, call->node, in->owner);
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int share_do_setlk(struct share_call *call)
{
	return set_lock(call);
}

int share_do_setlkw(struct share_call *call)
{
	return set_lock(call); /* -EAGAIN: it is served again later */
}
