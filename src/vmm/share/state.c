/*
 * state: what the client knows, for a snapshot: nodes as paths beneath the directory, handles as nodes.
 *
 *     u32 count of nodes    { u64 id, parent, lookups; u16 length; name }
 *     u32 count of handles  { u64 id, node; u32 flags; u8 directory; u64 position }
 */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

static void save_node(const struct share_node *node, struct state_writer *out)
{
	size_t length = node->name ? strlen(node->name) : 0;

	state_put_u64(out, node->id);
	state_put_u64(out, node->parent);
	state_put_u64(out, node->lookups);
	state_put_u16(out, (uint16_t)length);
	if (length)
		state_put(out, node->name, length);
}

void share_save(struct share *share, struct state_writer *out)
{
	state_put_u32(out, share->nodes.count ? share->nodes.count - 1 : 0);
	for (size_t i = 1; i < share->nodes.capacity; i++) {
		const struct share_node *node = share->nodes.slots[i];

		if (node && node->id != FUSE_ROOT_ID)
			save_node(node, out);
	}
	state_put_u32(out, share->handles.count);
	for (size_t i = 1; i < share->handles.capacity; i++) {
		const struct share_handle *handle = share->handles.slots[i];

		if (!handle)
			continue;
		state_put_u64(out, handle->id);
		state_put_u64(out, handle->node->id);
		state_put_u32(out, handle->flags);
		state_put_u8(out, handle->directory);
		state_put_u64(out, (uint64_t)handle->position);
	}
}

static int load_node(struct share *share, struct state_reader *in)
{
	struct share_node *node = mem_new(sizeof(*node));
	uint16_t length;
	char name[SHARE_NAME_MAX + 1] = "";

	node->fd = -1;
	node->id = state_get_u64(in);
	node->parent = state_get_u64(in);
	node->lookups = state_get_u64(in);
	length = state_get_u16(in);
	if (length > SHARE_NAME_MAX || in->bad ||
	    share_table_put(&share->nodes, node->id, node) < 0) {
		free(node);
		return -EINVAL;
	}
	state_get(in, name, length);
	/* F2 holds for a snapshot, too. */
	if (strchr(name, '/') || str_eq(name, ".") || str_eq(name, ".."))
		name[0] = '\0';
	node->name = str_copy(name);
	return 0;
}

/* Opens a node beneath its parent, which is opened first. The depth bounds a chain of parents that goes
 * in circles. */
static void open_node(struct share *share, struct share_node *node, unsigned int depth)
{
	struct share_node *parent = share_table_find(&share->nodes, node->parent);
	struct stat st;

	if (node->fd >= 0 || !parent || !node->name[0] || depth == 0)
		return;
	if (parent->fd < 0)
		open_node(share, parent, depth - 1);
	if (parent->fd < 0)
		return;
	node->fd = share_open_child(share, parent, node->name);
	if (node->fd < 0 || share_stat(node->fd, &st, &node->mount) < 0) {
		fd_close(&node->fd);
		return;
	}
	node->dev = st.st_dev;
	node->ino = st.st_ino;
	node->type = st.st_mode & S_IFMT;
}

static int load_handle(struct share *share, struct state_reader *in)
{
	struct share_handle *handle = mem_new(sizeof(*handle));
	struct share_node *node;
	int flags;

	handle->fd = -1;
	handle->id = state_get_u64(in);
	node = share_table_find(&share->nodes, state_get_u64(in));
	handle->flags = state_get_u32(in);
	handle->directory = state_get_u8(in);
	handle->position = (int64_t)state_get_u64(in);
	if (in->bad || !node || share_table_put(&share->handles, handle->id, handle) < 0) {
		free(handle);
		return -EINVAL;
	}
	pthread_mutex_init(&handle->lock, NULL);
	handle->node = node;
	node->refs++;
	flags = handle->directory ? O_RDONLY | O_DIRECTORY
				  : (int)(handle->flags & (O_ACCMODE | O_DSYNC | O_SYNC));
	if (share->config.read_only)
		flags = (flags & ~O_ACCMODE) | O_RDONLY;
	/* Without a file every use of it fails with EBADF. */
	if (node->fd >= 0 && S_ISDIR(node->type) == handle->directory)
		handle->fd = share_node_open(share, node, flags);
	if (handle->fd >= 0 && handle->directory)
		(void)lseek(handle->fd, handle->position, SEEK_SET);
	return 0;
}

void share_load(struct share *share, struct state_reader *in)
{
	uint32_t count;

	share_reset(share);
	count = state_get_u32(in);
	for (uint32_t i = 0; i < count && !in->bad; i++)
		if (load_node(share, in) < 0)
			in->bad = true;
	for (size_t i = 1; i < share->nodes.capacity; i++) {
		struct share_node *node = share->nodes.slots[i];

		if (node && node->id != FUSE_ROOT_ID)
			open_node(share, node, PATH_MAX / 2);
	}
	for (size_t i = 1; i < share->nodes.capacity; i++) {
		struct share_node *node = share->nodes.slots[i];

		if (node && node->id != FUSE_ROOT_ID && node->fd >= 0)
			share_node_enter_bucket(share, node);
	}
	count = state_get_u32(in);
	for (uint32_t i = 0; i < count && !in->bad; i++)
		if (load_handle(share, in) < 0)
			in->bad = true;
}
