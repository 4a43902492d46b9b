/*
 * dir: reading directories. The client's offset is the host's own for the entry before it, so that a
 * place in a directory stays one however much is made and removed around it.
 */
#include "vmm/share/share_priv.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { READ_MIN = 512, READ_MAX = 32 << 10 };

/* What the kernel gives. */
struct entry {
	uint64_t ino;
	int64_t offset;
	uint16_t size;
	uint8_t type;
	char name[];
};

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void pad(struct share_call *call, size_t size)
{
	static const uint8_t zeroes[FUSE_DIRENT_ALIGN(1)];

	/* There is room: the caller has looked. */
	if (share_reply(call, zeroes, FUSE_DIRENT_ALIGN(size) - size) < 0)
		return;
}

static int put_entry(struct share_call *call, const struct entry *entry, uint64_t limit)
{
	struct fuse_dirent out = {.ino = entry->ino,
				  .off = (uint64_t)entry->offset,
				  .namelen = (uint32_t)strlen(entry->name),
				  .type = entry->type};
	size_t size = FUSE_NAME_OFFSET + out.namelen;

	if (call->reply_size + FUSE_DIRENT_ALIGN(size) > limit ||
	    share_reply(call, &out, FUSE_NAME_OFFSET) < 0 ||
	    share_reply(call, entry->name, out.namelen) < 0)
		return -ENOSPC;
	pad(call, size);
	return 0;
}

/* With what a lookup of it would tell. An entry that has gone meanwhile is told without. */
static int put_entry_plus(struct share_call *call, const struct entry *entry, uint64_t limit)
{
	struct fuse_direntplus out = {
		.dirent = {.ino = entry->ino,
			   .off = (uint64_t)entry->offset,
			   .namelen = (uint32_t)strlen(entry->name),
			   .type = entry->type},
	};
	size_t size = FUSE_NAME_OFFSET_DIRENTPLUS + out.dirent.namelen;

	if (call->reply_size + FUSE_DIRENT_ALIGN(size) > limit ||
	    call->reply_size + FUSE_DIRENT_ALIGN(size) + sizeof(struct fuse_out_header) >
		    call->request->in_bytes)
		return -ENOSPC;
	if (!is_dot(entry->name) &&
	    share_lookup(call->share, call->node, entry->name, &out.entry_out) < 0)
		memset(&out.entry_out, 0, sizeof(out.entry_out));
	if (share_reply(call, &out, FUSE_NAME_OFFSET_DIRENTPLUS) < 0 ||
	    share_reply(call, entry->name, out.dirent.namelen) < 0)
		return -ENOSPC;
	pad(call, size);
	return 0;
}

/* How many bytes of the host's entries to ask for: hardly more than fit into the answer, where an entry is never
 * smaller, and with `plus` four times as large or more. */
static size_t worth_reading(const struct share_call *call, uint64_t limit, bool plus)
{
	uint64_t room = limit > call->reply_size ? limit - call->reply_size : 0;
	uint64_t size = plus ? room / 4 : room;

	return size < READ_MIN ? READ_MIN : size < READ_MAX ? size : READ_MAX;
}

/* Fills the answer with entries from the handle's position on; the handle is locked. */
static int fill(struct share_call *call, struct share_handle *handle, uint64_t limit, bool plus)
{
	uint8_t *buffer = call->thread->scratch;

	for (;;) {
		size_t size = worth_reading(call, limit, plus);
		ssize_t n = getdents64(handle->fd, buffer, size), at = 0;

		if (n <= 0)
			return n < 0 ? -errno : 0;
		while (at < n) {
			const struct entry *entry = (const void *)(buffer + at);

			if ((plus ? put_entry_plus : put_entry)(call, entry, limit) < 0) {
				/* What did not fit is read again. */
				(void)lseek(handle->fd, handle->position, SEEK_SET);
				return call->reply_size ? 0 : -EINVAL;
			}
			handle->position = entry->offset;
			at += entry->size;
		}
	}
}

static int read_directory(struct share_call *call, bool plus)
{
	const struct fuse_read_in *in = call->args;
	struct share_handle *handle = share_handle_get(call->share, in->fh, call->node, true);
	int rc = 0;

	if (!handle)
		return -EBADF;
	pthread_mutex_lock(&handle->lock);
	/* The beginning is always read anew: it may have been rewound. */
	if (in->offset == 0 || (int64_t)in->offset != handle->position) {
		handle->position = (int64_t)in->offset;
		if (lseek(handle->fd, handle->position, SEEK_SET) < 0)
			rc = -errno;
	}
	if (rc == 0)
		rc = fill(call, handle, in->size, plus);
	pthread_mutex_unlock(&handle->lock);
	share_handle_put(call->share, handle);
	return rc;
}

int share_do_readdir(struct share_call *call)
{
	return read_directory(call, false);
}

int share_do_readdirplus(struct share_call *call)
{
	return read_directory(call, true);
}
