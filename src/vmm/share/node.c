/* node: the files that the client knows. */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

enum { BUCKETS_FIRST = 256 };
#define TIMEOUT_ALWAYS 86400u

struct share_path share_path(int fd)
{
	struct share_path path;

	snprintf(path.text, sizeof(path.text), "%d", fd);
	return path;
}

uint64_t share_timeout(const struct share *share)
{
	switch (share->config.cache) {
	case SHARE_CACHE_NONE:
		return 0;
	case SHARE_CACHE_ALWAYS:
		return TIMEOUT_ALWAYS;
	case SHARE_CACHE_AUTO:
		break;
	}
	return 1;
}

static struct timespec time_of(const struct statx_timestamp *t)
{
	return (struct timespec){.tv_sec = t->tv_sec, .tv_nsec = t->tv_nsec};
}

int share_stat(int fd, struct stat *ret, uint64_t *ret_mount)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_MNT_ID, &st) < 0)
		return -errno;
	*ret = (struct stat){
		.st_dev = makedev(st.stx_dev_major, st.stx_dev_minor),
		.st_ino = st.stx_ino,
		.st_mode = st.stx_mode,
		.st_nlink = st.stx_nlink,
		.st_uid = st.stx_uid,
		.st_gid = st.stx_gid,
		.st_rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor),
		.st_size = (off_t)st.stx_size,
		.st_blksize = st.stx_blksize,
		.st_blocks = (blkcnt_t)st.stx_blocks,
		.st_atim = time_of(&st.stx_atime),
		.st_mtim = time_of(&st.stx_mtime),
		.st_ctim = time_of(&st.stx_ctime),
	};
	if (ret_mount)
		*ret_mount = st.stx_mnt_id;
	return 0;
}

void share_fill_attr(const struct share *share, const struct stat *st, struct fuse_attr *ret)
{
	*ret = (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = share_to_guest(&share->config.users, st->st_uid),
		.gid = share_to_guest(&share->config.groups, st->st_gid),
		/* Linux's own 32-bit form of device numbers. */
		.rdev = (uint32_t)((minor(st->st_rdev) & 0xff) | major(st->st_rdev) << 8 |
				   (minor(st->st_rdev) & ~0xffu) << 12),
		.blksize = (uint32_t)st->st_blksize,
	};
}

static struct share_node **bucket_of(struct share *share, dev_t dev, ino_t ino)
{
	uint64_t hash = (ino ^ dev << 32) * 0x9e3779b97f4a7c15ull;

	return &share->buckets[(hash >> 32) & (share->bucket_count - 1)];
}

static void rehash(struct share *share)
{
	struct share_node **old = share->buckets;
	size_t old_count = share->bucket_count;

	share->bucket_count = old_count ? 2 * old_count : BUCKETS_FIRST;
	share->buckets = mem_new_array(share->bucket_count, sizeof(struct share_node *));
	for (size_t i = 0; i < old_count; i++) {
		for (struct share_node *node = old[i], *next; node; node = next) {
			struct share_node **bucket = bucket_of(share, node->dev, node->ino);

			next = node->next_in_bucket;
			node->next_in_bucket = *bucket;
			*bucket = node;
		}
	}
	free(old);
}

void share_node_enter_bucket(struct share *share, struct share_node *node)
{
	struct share_node **bucket;

	if (share->nodes.count >= share->bucket_count)
		rehash(share);
	bucket = bucket_of(share, node->dev, node->ino);
	node->next_in_bucket = *bucket;
	*bucket = node;
}

static void leave_bucket(struct share *share, struct share_node *node)
{
	struct share_node **at = bucket_of(share, node->dev, node->ino);

	while (*at && *at != node)
		at = &(*at)->next_in_bucket;
	if (*at)
		*at = node->next_in_bucket;
}

static void destroy(struct share *share, struct share_node *node)
{
	share_owners_release(share, node);
	fd_close(&node->fd);
	free(node->name);
	free(node);
}

/* Under the lock: takes a node that nobody needs out of the tables. The caller destroys it. */
static bool unlink_unused(struct share *share, struct share_node *node)
{
	if (node->refs || node->lookups || node->id == FUSE_ROOT_ID)
		return false;
	share_table_remove(&share->nodes, node->id);
	leave_bucket(share, node);
	return true;
}

struct share_node *share_node_get(struct share *share, uint64_t id)
{
	struct share_node *node;

	pthread_mutex_lock(&share->lock);
	node = share_table_find(&share->nodes, id);
	if (node)
		node->refs++;
	pthread_mutex_unlock(&share->lock);
	return node;
}

void share_node_put(struct share *share, struct share_node *node)
{
	bool gone;

	pthread_mutex_lock(&share->lock);
	node->refs--;
	gone = unlink_unused(share, node);
	pthread_mutex_unlock(&share->lock);
	if (gone)
		destroy(share, node);
}

void share_node_forget(struct share *share, uint64_t id, uint64_t count)
{
	struct share_node *node;
	bool gone = false;

	pthread_mutex_lock(&share->lock);
	node = share_table_find(&share->nodes, id);
	if (node) {
		node->lookups -= count < node->lookups ? count : node->lookups;
		gone = unlink_unused(share, node);
	}
	pthread_mutex_unlock(&share->lock);
	if (gone)
		destroy(share, node);
}

void share_nodes_forget(struct share *share)
{
	uint64_t id = 0;

	do {
		pthread_mutex_lock(&share->lock);
		id = share_table_after(&share->nodes, id);
		pthread_mutex_unlock(&share->lock);
		share_node_forget(share, id, UINT64_MAX);
	} while (id);
}

int share_node_open(const struct share *share, const struct share_node *node, int flags)
{
	int fd;

	if (!S_ISREG(node->type) && !S_ISDIR(node->type))
		return S_ISLNK(node->type) ? -ELOOP : -ENXIO;
	if (node->fd < 0)
		return -ESTALE;
	fd = openat(share->proc_fd, share_path(node->fd).text,
		    flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static struct share_node *find(struct share *share, const struct stat *st, uint64_t mount)
{
	struct share_node *node = *bucket_of(share, st->st_dev, st->st_ino);

	while (node && (node->dev != st->st_dev || node->ino != st->st_ino || node->mount != mount))
		node = node->next_in_bucket;
	return node;
}

static void set_place(struct share_node *node, const struct share_node *parent, const char *name)
{
	if (node->parent == parent->id && node->name && strcmp(node->name, name) == 0)
		return;
	node->parent = parent->id;
	free(node->name);
	node->name = str_copy(name);
}

static struct share_node *add(struct share *share, int fd, const struct stat *st, uint64_t mount)
{
	struct share_node *node = mem_new(sizeof(*node));

	node->id = share_table_add(&share->nodes, node);
	if (!node->id) {
		free(node);
		return NULL;
	}
	node->fd = fd;
	node->dev = st->st_dev;
	node->ino = st->st_ino;
	node->mount = mount;
	node->type = st->st_mode & S_IFMT;
	share_node_enter_bucket(share, node);
	return node;
}

int share_enter(struct share *share, int taken_fd, struct share_node *parent, const char *name,
		struct fuse_entry_out *ret)
{
	own_fd int fd = taken_fd;
	struct share_node *node;
	uint64_t mount = 0, generation;
	struct stat st;
	int rc = share_stat(fd, &st, &mount);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&share->lock);
	node = find(share, &st, mount);
	if (!node) {
		node = add(share, fd, &st, mount);
		if (node)
			(void)take(fd);
	}
	if (node) {
		node->lookups++;
		set_place(node, parent, name);
	}
	generation = node ? node->id : 0;
	pthread_mutex_unlock(&share->lock);
	if (!generation)
		return -ENFILE;
	*ret = (struct fuse_entry_out){.nodeid = generation,
				       .entry_valid = share_timeout(share),
				       .attr_valid = share_timeout(share)};
	share_fill_attr(share, &st, &ret->attr);
	/* The client makes a mount of its own of it: the inode numbers are another file system's. */
	if (S_ISDIR(st.st_mode) && mount != parent->mount)
		ret->attr.flags |= FUSE_ATTR_SUBMOUNT;
	return 0;
}

int share_open_child(const struct share *share, const struct share_node *parent, const char *name)
{
	struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	int fd;

	if (!S_ISDIR(parent->type))
		return -ENOTDIR;
	if (parent->fd < 0)
		return -ESTALE;
	if (!share->is_file)
		fd = (int)syscall(SYS_openat2, parent->fd, name, &how, sizeof(how));
	else if (strcmp(name, SHARE_FILE_NAME) == 0)
		fd = fcntl(parent->fd, F_DUPFD_CLOEXEC, 0);
	else
		return -ENOENT;
	return fd < 0 ? -errno : fd;
}

int share_lookup(struct share *share, struct share_node *parent, const char *name,
		 struct fuse_entry_out *ret)
{
	int fd = share_open_child(share, parent, name);

	return fd < 0 ? fd : share_enter(share, fd, parent, name, ret);
}

void share_node_moved(struct share *share, const struct share_node *parent, const char *name)
{
	struct stat st;
	struct share_node *node;

	if (fstatat(parent->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	pthread_mutex_lock(&share->lock);
	node = find(share, &st, parent->mount);
	if (node && node->id != FUSE_ROOT_ID)
		set_place(node, parent, name);
	pthread_mutex_unlock(&share->lock);
}

int share_root_init(struct share *share)
{
	struct share_node *root = mem_new(sizeof(*root));
	struct stat st;
	int rc;

	root->fd = fcntl(share->config.directory_fd, F_DUPFD_CLOEXEC, 0);
	rc = root->fd < 0 ? -errno : share_stat(root->fd, &st, &root->mount);
	if (rc == 0 && !S_ISDIR(st.st_mode) && !share->is_file)
		rc = -ENOTDIR;
	if (rc == 0)
		rc = share_table_put(&share->nodes, FUSE_ROOT_ID, root);
	if (rc < 0) {
		fd_close(&root->fd);
		free(root);
		return rc;
	}
	root->id = FUSE_ROOT_ID;
	root->dev = st.st_dev;
	root->ino = st.st_ino;
	root->type = S_IFDIR;
	root->lookups = 1;
	/* The file itself must not be taken for it. */
	if (share->is_file)
		rehash(share);
	else
		share_node_enter_bucket(share, root);
	return 0;
}

void share_nodes_release(struct share *share)
{
	for (size_t i = 1; i < share->nodes.capacity; i++) {
		struct share_node *node = share->nodes.slots[i];

		if (node)
			destroy(share, node);
	}
	share_table_release(&share->nodes);
	free(share->buckets);
	share->buckets = NULL;
	share->bucket_count = 0;
}
