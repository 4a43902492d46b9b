/* share_priv: what the files of the server share. */
#pragma once

#include <limits.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "vmm/share/share.h"

enum {
	SHARE_ARGS_MAX = 128 << 10, /* of a request, but for what is written to a file */
	SHARE_SCRATCH = 64 << 10,
	SHARE_WRITE_MAX = 1 << 20,
	SHARE_NODES_MAX = 1 << 20,
	SHARE_HANDLES_MAX = 1 << 16,
	SHARE_LOCK_OWNERS_MAX = 4096,
	SHARE_NAME_MAX = NAME_MAX,
};

/* The lock owners of a file: each has an open file description of its own, which holds its locks. */
struct share_owner {
	struct share_owner *next;
	uint64_t owner;
	int fd;
};

struct share_node {
	uint64_t id;
	struct share_node *next_in_bucket;
	int fd; /* O_PATH; -1: it was not there any more after a restore */
	dev_t dev;
	ino_t ino;
	uint64_t mount;
	mode_t type;       /* S_IFMT */
	uint64_t lookups;  /* that the client has not forgotten */
	unsigned int refs; /* of calls that use it now */
	uint64_t parent;   /* where it was found last, for share_save */
	char *name;
	struct share_owner *owners; /* guarded by lock */
};

struct share_handle {
	uint64_t id;
	unsigned int refs;
	bool closed;             /* by the client: it goes with the last call that uses it */
	struct share_node *node; /* a reference */
	int fd;
	uint32_t flags; /* as the client opened it */
	bool directory;
	pthread_mutex_t lock; /* a directory's position */
	int64_t position;
};

/* Numbers for the client: a slot, and how often it has been used (F5). */
struct share_table {
	void **slots; /* NULL: free; slot 0 is never used */
	uint32_t *generations;
	size_t capacity;
	uint32_t count, max, hint;
};

struct share {
	struct share_config config;
	bool is_file;     /* the root is made up (F6); its descriptor is the file's */
	int directory_fd; /* a real one: syncfs; of a file the file's */
	int proc_fd;      /* /proc/self/fd */
	uint64_t root_mount;
	pthread_mutex_t lock; /* the tables, and refs, lookups and owners of what is in them */
	struct share_table nodes, handles;
	struct share_node **buckets;
	size_t bucket_count;
	unsigned int owner_count;
};

struct share_thread {
	struct share *share;
	bool may_switch; /* ids */
	bool may_override;
	uint32_t own_user, own_group; /* for access to files */
	/* They are looked at as structures. */
	_Alignas(uint64_t) uint8_t args[SHARE_ARGS_MAX + 1];
	_Alignas(uint64_t) uint8_t scratch[SHARE_SCRATCH];
};

/* One request while it is served. */
struct share_call {
	struct share *share;
	struct share_thread *thread;
	const struct share_request *request;
	struct fuse_in_header header;
	const void *args; /* behind the header, a copy; a zero byte follows */
	size_t args_size;
	struct share_node *node; /* header.nodeid's */
	size_t reply_size;       /* of the answer, without header */
};

/* "N", relative to /proc/self/fd, which is every serving thread's working directory. */
struct share_path {
	char text[16];
};
struct share_path share_path(int fd);

/* table.c: under the lock. share_table_add gives a number for `value`, 0 if the table is full. */
uint64_t share_table_add(struct share_table *table, void *value);
/* The same with a given number: 0, -EINVAL if it cannot be. */
int share_table_put(struct share_table *table, uint64_t id, void *value) must_check;
void *share_table_find(const struct share_table *table, uint64_t id);
/* The next number in use, in the order of slots; 0 is before the first, and behind the last. */
uint64_t share_table_after(const struct share_table *table, uint64_t id);
void share_table_remove(struct share_table *table, uint64_t id);
void share_table_release(struct share_table *table);

/* node.c */
int share_root_init(struct share *share) must_check;
void share_nodes_release(struct share *share);
/* A reference; NULL for a number that is none. */
struct share_node *share_node_get(struct share *share, uint64_t id);
void share_node_put(struct share *share, struct share_node *node);
void share_node_forget(struct share *share, uint64_t id, uint64_t count);
/* Forgets all; what other calls use now stays until they are done. */
void share_nodes_forget(struct share *share);
/* Opens the node again with real access (F3); `flags` as for open. The descriptor or -errno. */
int share_node_open(const struct share *share, const struct share_node *node, int flags) must_check;
/* Under the lock: it can be found by what it is from now on. */
void share_node_enter_bucket(struct share *share, struct share_node *node);
/* What stat says of a descriptor; *ret_mount is its mount's number. */
int share_stat(int fd, struct stat *ret, uint64_t *ret_mount) must_check;
void share_fill_attr(const struct share *share, const struct stat *st, struct fuse_attr *ret);
/* Opens what `name` is in `parent` (O_PATH). The descriptor or -errno. */
int share_open_child(const struct share *share, const struct share_node *parent,
		     const char *name) must_check;
/* Looks `name` up in `parent`, counts the lookup, and describes it to the client. */
int share_lookup(struct share *share, struct share_node *parent, const char *name,
		 struct fuse_entry_out *ret) must_check;
/* The same for a descriptor (O_PATH, which it takes) that has just been made. */
int share_enter(struct share *share, int fd, struct share_node *parent, const char *name,
		struct fuse_entry_out *ret) must_check;
/* The node is now elsewhere. */
void share_node_moved(struct share *share, const struct share_node *parent, const char *name);
uint64_t share_timeout(const struct share *share);

/* handle.c */
int share_handle_add(struct share *share, struct share_node *node, int fd, uint32_t flags,
		     bool directory, uint64_t *ret) must_check;
/* A reference, if it belongs to that node and kind; else NULL. */
struct share_handle *share_handle_get(struct share *share, uint64_t id,
				      const struct share_node *node, bool directory);
void share_handle_put(struct share *share, struct share_handle *handle);
void share_handle_close(struct share *share, struct share_handle *handle);
/* Closes all; what other calls use now stays until they are done. */
void share_handles_close(struct share *share);
void share_handles_release(struct share *share);

/* identity.c */
bool share_identity(const struct share_map *map);
/* false: the id is in no range. */
bool share_to_host(const struct share_map *map, uint32_t guest, uint32_t *ret);
uint32_t share_to_guest(const struct share_map *map, uint32_t host);
/* Learns who the calling thread is, and what it may. */
void share_find_self(struct share_thread *thread);
/* Takes on the caller's ids and mask, to make something, and gives them back. -EOVERFLOW. */
int share_become(const struct share_call *call, uint32_t mask) must_check;
void share_become_self(const struct share_call *call);

/* server.c: for the calls. Puts a part of the answer at its end: 0, or -ERANGE. */
int share_reply(struct share_call *call, const void *data, size_t size) must_check;
/* The name at `offset` of the arguments: one component (F2). NULL: there is none. `*ret_next` is where
 * the arguments go on. */
const char *share_name(const struct share_call *call, size_t offset, size_t *ret_next,
		       int *ret_error);

/* What each operation does: 0 or -errno. */
typedef int share_operation(struct share_call *call);
share_operation share_do_lookup, share_do_forget, share_do_batch_forget, share_do_getattr,
	share_do_setattr, share_do_readlink, share_do_symlink, share_do_mknod, share_do_mkdir,
	share_do_unlink, share_do_rmdir, share_do_rename, share_do_rename2, share_do_link,
	share_do_open, share_do_read, share_do_write, share_do_statfs, share_do_release,
	share_do_fsync, share_do_setxattr, share_do_getxattr, share_do_listxattr,
	share_do_removexattr, share_do_flush, share_do_opendir, share_do_readdir,
	share_do_readdirplus, share_do_releasedir, share_do_fsyncdir, share_do_getlk,
	share_do_setlk, share_do_setlkw, share_do_access, share_do_create, share_do_tmpfile,
	share_do_fallocate, share_do_lseek, share_do_copy_file_range, share_do_syncfs;

/* lock.c: an owner of locks has closed the file; under no lock. */
void share_owner_drop(struct share *share, struct share_node *node, uint64_t owner);
void share_owners_release(struct share *share, struct share_node *node);
/* file.c: takes the set-id bits away as a write does. */
int share_kill_privileges(int fd) must_check;
