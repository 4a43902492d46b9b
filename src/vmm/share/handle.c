/* handle: files and directories that the client has opened. */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "base/mem.h"

static void destroy(struct share *share, struct share_handle *handle)
{
	fd_close(&handle->fd);
	pthread_mutex_destroy(&handle->lock);
	if (handle->node)
		share_node_put(share, handle->node);
	free(handle);
}

int share_handle_add(struct share *share, struct share_node *node, int fd, uint32_t flags,
		     bool directory, uint64_t *ret)
{
	struct share_handle *handle = mem_new(sizeof(*handle));

	*handle = (struct share_handle){.fd = fd, .flags = flags, .directory = directory};
	pthread_mutex_init(&handle->lock, NULL);
	pthread_mutex_lock(&share->lock);
	handle->id = share_table_add(&share->handles, handle);
	if (handle->id) {
		handle->node = node;
		node->refs++;
	}
	pthread_mutex_unlock(&share->lock);
	if (!handle->id) {
		destroy(share, handle);
		return -ENFILE;
	}
	*ret = handle->id;
	return 0;
}

struct share_handle *share_handle_get(struct share *share, uint64_t id,
				      const struct share_node *node, bool directory)
{
	struct share_handle *handle;

	pthread_mutex_lock(&share->lock);
	handle = share_table_find(&share->handles, id);
	if (handle && (handle->node != node || handle->directory != directory))
		handle = NULL;
	if (handle)
		handle->refs++;
	pthread_mutex_unlock(&share->lock);
	return handle;
}

static void drop(struct share *share, struct share_handle *handle, bool close)
{
	bool last;

	pthread_mutex_lock(&share->lock);
	handle->refs--;
	if (close && !handle->closed) {
		handle->closed = true;
		share_table_remove(&share->handles, handle->id);
	}
	last = handle->closed && handle->refs == 0;
	pthread_mutex_unlock(&share->lock);
	if (last)
		destroy(share, handle);
}

void share_handle_put(struct share *share, struct share_handle *handle)
{
	if (handle)
		drop(share, handle, false);
}

void share_handle_close(struct share *share, struct share_handle *handle)
{
	if (handle)
		drop(share, handle, true);
}

void share_handles_close(struct share *share)
{
	struct share_handle *handle;
	uint64_t id = 0;

	do {
		pthread_mutex_lock(&share->lock);
		id = share_table_after(&share->handles, id);
		handle = share_table_find(&share->handles, id);
		if (handle)
			handle->refs++;
		pthread_mutex_unlock(&share->lock);
		share_handle_close(share, handle);
	} while (handle);
}

void share_handles_release(struct share *share)
{
	for (size_t i = 1; i < share->handles.capacity; i++) {
		struct share_handle *handle = share->handles.slots[i];

		if (!handle)
			continue;
		share_table_remove(&share->handles, handle->id);
		destroy(share, handle);
	}
	share_table_release(&share->handles);
}
