/* The file server, asked as a guest's kernel would ask it, and as a hostile one would. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/share/share_priv.h"

#include <cmocka.h>

enum { ROOM = 64 << 10 };

struct fixture {
	char directory[32]; /* holds "outside" and "shared" */
	int shared;         /* a descriptor of the test's own */
	struct share_config config;
	struct share *share;
	struct share_thread *thread;
	uint32_t user, group; /* the caller in the guest */
	uint8_t answer[ROOM];
	size_t answer_size;
};

static void open_share(struct fixture *f)
{
	f->config.directory_fd = openat(f->shared, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(share_create(&f->config, &f->share, NULL), 0);
	assert_int_equal(share_thread_create(f->share, &f->thread), 0);
}

static void close_share(struct fixture *f)
{
	share_thread_destroy(f->thread);
	share_destroy(f->share);
}

static void put_file(int dir, const char *name, const char *text)
{
	assert_int_equal(file_write(dir, name, text, strlen(text), 0644, FILE_WRITE_PLAIN, NULL),
			 0);
}

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));
	int dir;

	strcpy(f->directory, "/tmp/test-share-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	dir = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(dir, "outside", "secret");
	assert_int_equal(mkdirat(dir, "shared", 0755), 0);
	f->shared = openat(dir, "shared", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(f->shared, "file", "hello");
	assert_int_equal(mkdirat(f->shared, "dir", 0755), 0);
	assert_int_equal(symlinkat("../outside", f->shared, "link"), 0);
	fd_close(&dir);
	open_share(f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close_share(f);
	fd_close(&f->shared);
	assert_int_equal(tree_remove(AT_FDCWD, f->directory, NULL), 0);
	own_mem_release(&f);
	return 0;
}

/* One request with up to two parts of arguments. The error of the answer, or of there being none. */
static int ask(struct fixture *f, uint32_t opcode, uint64_t node, const void *args, size_t size,
	       const void *more, size_t more_size)
{
	struct fuse_in_header header = {.len = (uint32_t)(sizeof(header) + size + more_size),
					.opcode = opcode,
					.unique = 7,
					.nodeid = node,
					.uid = f->user,
					.gid = f->group};
	own_mem uint8_t *copy = mem_new(size + more_size + 1);
	struct iovec out[2] = {{&header, sizeof(header)}, {copy, size + more_size}},
		     in = {f->answer, sizeof(f->answer)};
	struct share_request request = {.out = out,
					.out_count = 2,
					.out_bytes = header.len,
					.in = &in,
					.in_count = 1,
					.in_bytes = sizeof(f->answer)};
	struct fuse_out_header answer;
	int64_t n;

	if (size)
		memcpy(copy, args, size);
	if (more_size)
		memcpy(copy + size, more, more_size);
	n = share_serve(f->thread, &request);
	if (n <= 0)
		return (int)n;
	memcpy(&answer, f->answer, sizeof(answer));
	assert_int_equal(answer.len, n);
	assert_int_equal(answer.unique, 7);
	f->answer_size = (size_t)n - sizeof(answer);
	memmove(f->answer, f->answer + sizeof(answer), f->answer_size);
	return answer.error;
}

static int ask_name(struct fixture *f, uint32_t opcode, uint64_t node, const void *args,
		    size_t size, const char *name)
{
	return ask(f, opcode, node, args, size, name, strlen(name) + 1);
}

/* 0 with the number, or the error. */
static int look_up(struct fixture *f, uint64_t parent, const char *name, uint64_t *ret)
{
	int rc = ask_name(f, FUSE_LOOKUP, parent, NULL, 0, name);
	struct fuse_entry_out out;

	if (rc < 0)
		return rc;
	memcpy(&out, f->answer, sizeof(out));
	*ret = out.nodeid;
	return 0;
}

static uint64_t node_of(struct fixture *f, uint64_t parent, const char *name)
{
	uint64_t node = 0;

	assert_int_equal(look_up(f, parent, name, &node), 0);
	return node;
}

static int open_node(struct fixture *f, uint32_t opcode, uint64_t node, uint32_t flags,
		     uint64_t *ret)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out out;
	int rc = ask(f, opcode, node, &in, sizeof(in), NULL, 0);

	if (rc < 0)
		return rc;
	memcpy(&out, f->answer, sizeof(out));
	*ret = out.fh;
	return 0;
}

static int read_file(struct fixture *f, uint64_t node, uint64_t handle)
{
	struct fuse_read_in in = {.fh = handle, .size = 100};

	return ask(f, FUSE_READ, node, &in, sizeof(in), NULL, 0);
}

static int write_file(struct fixture *f, uint64_t node, uint64_t handle, const char *text)
{
	struct fuse_write_in in = {.fh = handle, .size = (uint32_t)strlen(text)};

	return ask(f, FUSE_WRITE, node, &in, sizeof(in), text, strlen(text));
}

static int create(struct fixture *f, uint64_t parent, const char *name, uint32_t flags,
		  uint64_t *ret_node, uint64_t *ret_handle)
{
	struct fuse_create_in in = {.flags = flags | O_CREAT, .mode = S_IFREG | 0644};
	struct fuse_entry_out entry;
	struct fuse_open_out open;
	int rc = ask_name(f, FUSE_CREATE, parent, &in, sizeof(in), name);

	if (rc < 0)
		return rc;
	memcpy(&entry, f->answer, sizeof(entry));
	memcpy(&open, f->answer + sizeof(entry), sizeof(open));
	*ret_node = entry.nodeid;
	*ret_handle = open.fh;
	return 0;
}

static void a_file_is_found_opened_and_read(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file"), handle = 0;

	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDONLY, &handle), 0);
	assert_int_equal(read_file(f, node, handle), 0);
	assert_int_equal(f->answer_size, 5);
	assert_memory_equal(f->answer, "hello", 5);
	assert_int_equal(write_file(f, node, handle, "x"), -EBADF);
	assert_int_equal(node_of(f, FUSE_ROOT_ID, "file"), node);
}

static void names_that_lead_elsewhere_are_refused(void **state)
{
	static const char *const names[] = {"..",   ".",         "",      "../outside", "dir/..",
					    "/etc", "dir/../..", "file/", "/",          "./file"};
	struct fixture *f = *state;
	struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0644};
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_create_in create_in = {.flags = O_RDWR, .mode = 0644};
	struct fuse_link_in link_in = {.oldnodeid = node_of(f, FUSE_ROOT_ID, "file")};
	struct fuse_rename2_in rename_in = {.newdir = FUSE_ROOT_ID};

	for (unsigned int i = 0; i < array_size(names); i++) {
		const char *name = names[i];
		char pair[64] = "file";

		strcpy(pair + 5, name);
		if (ask_name(f, FUSE_LOOKUP, 1, NULL, 0, name) != -EINVAL ||
		    ask_name(f, FUSE_MKNOD, 1, &mknod_in, sizeof(mknod_in), name) != -EINVAL ||
		    ask_name(f, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), name) != -EINVAL ||
		    ask_name(f, FUSE_CREATE, 1, &create_in, sizeof(create_in), name) != -EINVAL ||
		    ask_name(f, FUSE_LINK, 1, &link_in, sizeof(link_in), name) != -EINVAL ||
		    ask(f, FUSE_RENAME2, 1, &rename_in, sizeof(rename_in), pair,
			6 + strlen(name)) != -EINVAL)
			fail_msg("\"%s\" was taken for a name", name);
		if (*name && (ask_name(f, FUSE_UNLINK, 1, NULL, 0, name) != -EINVAL ||
			      ask_name(f, FUSE_RMDIR, 1, NULL, 0, name) != -EINVAL))
			fail_msg("\"%s\" was removed", name);
	}
	/* Without an end it is none either. */
	assert_int_equal(ask(f, FUSE_LOOKUP, 1, "file", 4, NULL, 0), -EINVAL);
}

static void a_link_is_shown_and_not_followed(void **state)
{
	struct fixture *f = *state;
	uint64_t link = node_of(f, FUSE_ROOT_ID, "link"), handle = 0, found = 0;
	struct fuse_setattr_in in = {.valid = FATTR_SIZE};

	assert_int_equal(ask(f, FUSE_READLINK, link, NULL, 0, NULL, 0), 0);
	assert_int_equal(f->answer_size, strlen("../outside"));
	assert_memory_equal(f->answer, "../outside", f->answer_size);
	assert_int_equal(open_node(f, FUSE_OPEN, link, O_RDONLY, &handle), -ELOOP);
	assert_int_equal(open_node(f, FUSE_OPENDIR, link, O_RDONLY, &handle), -ENOTDIR);
	assert_int_equal(look_up(f, link, "x", &found), -ENOTDIR);
	assert_int_equal(ask(f, FUSE_SETATTR, link, &in, sizeof(in), NULL, 0), -EINVAL);
	assert_int_equal(create(f, FUSE_ROOT_ID, "link", O_RDWR, &found, &handle), -ELOOP);
	/* Not even if the host puts it where the guest has seen a directory. */
	found = node_of(f, FUSE_ROOT_ID, "dir");
	assert_int_equal(renameat(f->shared, "dir", f->shared, "was"), 0);
	assert_int_equal(symlinkat("..", f->shared, "dir"), 0);
	assert_int_equal(look_up(f, found, "outside", &handle), -ENOENT);
	assert_int_equal(create(f, found, "made", O_RDWR, &link, &handle), 0);
	assert_int_equal(faccessat(f->shared, "was/made", F_OK, 0), 0);
}

static void devices_and_fifos_of_the_host_are_not_opened(void **state)
{
	struct fixture *f = *state;
	uint64_t node, handle = 0;

	assert_int_equal(mkfifoat(f->shared, "fifo", 0666), 0);
	node = node_of(f, FUSE_ROOT_ID, "fifo");
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &handle), -ENXIO);
	assert_int_equal(create(f, FUSE_ROOT_ID, "fifo", O_RDWR, &node, &handle), -ENXIO);
	if (mknodat(f->shared, "zero", S_IFCHR | 0666, makedev(1, 5)) < 0)
		return;
	node = node_of(f, FUSE_ROOT_ID, "zero");
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDONLY, &handle), -ENXIO);
	assert_int_equal(create(f, FUSE_ROOT_ID, "zero", O_RDWR, &node, &handle), -ENXIO);
}

static void a_single_file_is_in_a_directory_that_is_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct fuse_getattr_in in = {0};
	struct fuse_setattr_in change = {.valid = FATTR_MODE, .mode = 0};
	struct fuse_create_in create_in = {.flags = O_RDWR, .mode = 0644};
	struct fuse_rename2_in rename_in = {.newdir = FUSE_ROOT_ID};
	struct fuse_link_in link_in = {0};
	struct fuse_attr_out out;
	struct stat before, after;
	uint64_t node, handle = 0, none = 0;

	close_share(f);
	f->config.directory_fd = openat(f->shared, "file", O_PATH | O_CLOEXEC);
	assert_int_equal(fstat(f->config.directory_fd, &before), 0);
	assert_int_equal(share_create(&f->config, &f->share, NULL), 0);
	assert_int_equal(share_thread_create(f->share, &f->thread), 0);
	assert_int_equal(ask(f, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0), 0);
	memcpy(&out, f->answer, sizeof(out));
	assert_int_equal(out.attr.mode, S_IFDIR | 0555);
	/* Its name on the host says nothing. */
	node = node_of(f, FUSE_ROOT_ID, SHARE_FILE_NAME);
	assert_int_not_equal(node, FUSE_ROOT_ID);
	assert_int_equal(look_up(f, FUSE_ROOT_ID, "dir", &none), -ENOENT);
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &handle), 0);
	assert_int_equal(write_file(f, node, handle, "hallo"), 0);
	assert_int_equal(read_file(f, node, handle), 0);
	assert_memory_equal(f->answer, "hallo", 5);
	/* It stays the same file, whatever becomes of its name. */
	assert_int_equal(unlinkat(f->shared, "file", 0), 0);
	put_file(f->shared, "file", "other");
	assert_int_equal(node_of(f, FUSE_ROOT_ID, SHARE_FILE_NAME), node);
	link_in.oldnodeid = node;
	assert_int_equal(ask(f, FUSE_SETATTR, 1, &change, sizeof(change), NULL, 0), -EPERM);
	assert_int_equal(open_node(f, FUSE_OPENDIR, 1, O_RDONLY, &none), -EPERM);
	assert_int_equal(ask_name(f, FUSE_CREATE, 1, &create_in, sizeof(create_in), "x"), -EPERM);
	assert_int_equal(ask_name(f, FUSE_UNLINK, 1, NULL, 0, SHARE_FILE_NAME), -EPERM);
	assert_int_equal(ask_name(f, FUSE_LINK, 1, &link_in, sizeof(link_in), "x"), -EPERM);
	assert_int_equal(ask(f, FUSE_RENAME2, 1, &rename_in, sizeof(rename_in), "file\0x", 7),
			 -EPERM);
	assert_int_equal(fstat(f->config.directory_fd, &after), 0);
	assert_int_equal(after.st_mode, before.st_mode);
}

static void the_guest_makes_no_devices(void **state)
{
	struct fixture *f = *state;
	struct fuse_mknod_in in = {.mode = S_IFCHR | 0666, .rdev = 1 << 8 | 1};

	assert_int_equal(ask_name(f, FUSE_MKNOD, 1, &in, sizeof(in), "mem"), -EPERM);
	in.mode = S_IFBLK | 0666;
	assert_int_equal(ask_name(f, FUSE_MKNOD, 1, &in, sizeof(in), "disk"), -EPERM);
	in = (struct fuse_mknod_in){.mode = S_IFCHR};
	assert_int_equal(ask_name(f, FUSE_MKNOD, 1, &in, sizeof(in), "whiteout"), 0);
}

static void made_up_numbers_are_stale(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file"), handle = 0, dir;
	static const uint64_t numbers[] = {0, 2ull << 32 | 1, 1ull << 32 | 2, 99, UINT64_MAX};
	struct fuse_getattr_in in = {0};

	for (unsigned int i = 0; i < array_size(numbers); i++)
		assert_int_equal(ask(f, FUSE_GETATTR, numbers[i], &in, sizeof(in), NULL, 0),
				 -ESTALE);
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDONLY, &handle), 0);
	assert_int_equal(read_file(f, node, handle + 1), -EBADF);
	assert_int_equal(read_file(f, FUSE_ROOT_ID, handle), -EBADF);
	/* A directory's handle is no file's. */
	assert_int_equal(open_node(f, FUSE_OPENDIR, FUSE_ROOT_ID, O_RDONLY, &dir), 0);
	assert_int_equal(read_file(f, FUSE_ROOT_ID, dir), -EBADF);
}

static void what_is_forgotten_is_gone_and_its_number_is_not_used_again(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file");
	struct fuse_forget_in once = {.nlookup = 1};
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one;
	} batch = {{.count = 1}, {.nodeid = node, .nlookup = 99}};
	struct fuse_getattr_in in = {0};

	assert_int_equal(node_of(f, FUSE_ROOT_ID, "file"), node); /* a second time */
	assert_int_equal(ask(f, FUSE_FORGET, node, &once, sizeof(once), NULL, 0), 0);
	assert_int_equal(ask(f, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0), 0);
	assert_int_equal(ask(f, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0), 0);
	assert_int_equal(ask(f, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0), -ESTALE);
	assert_int_not_equal(node_of(f, FUSE_ROOT_ID, "file"), node);
	/* The root is not forgotten. */
	batch.one = (struct fuse_forget_one){.nodeid = FUSE_ROOT_ID, .nlookup = UINT64_MAX};
	assert_int_equal(ask(f, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), NULL, 0), 0);
	assert_int_equal(ask(f, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0), 0);
}

static void a_forgotten_file_stays_open(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file"), handle = 0;
	struct fuse_forget_in once = {.nlookup = 1};

	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDONLY, &handle), 0);
	assert_int_equal(ask(f, FUSE_FORGET, node, &once, sizeof(once), NULL, 0), 0);
	assert_int_equal(read_file(f, node, handle), 0);
}

static unsigned int open_descriptors(void)
{
	unsigned int count = 0;

	for (int fd = 0; fd < 1024; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* A guest that unmounts does not forget its files one by one. */
static void what_was_mounted_is_gone_when_it_is_unmounted(void **state)
{
	struct fixture *f = *state;
	struct fuse_getattr_in in = {0};
	unsigned int before = open_descriptors();

	for (unsigned int turn = 0; turn < 3; turn++) {
		uint64_t dir = node_of(f, FUSE_ROOT_ID, "dir"), node, handle, list = 0;

		if (create(f, dir, "new", O_RDWR, &node, &handle) < 0)
			fail_msg("nothing can be created in turn %u", turn);
		assert_int_equal(open_node(f, FUSE_OPENDIR, dir, O_RDONLY, &list), 0);
		assert_true(open_descriptors() > before);
		assert_int_equal(ask(f, FUSE_DESTROY, 0, NULL, 0, NULL, 0), 0);
		assert_int_equal(open_descriptors(), before);
		assert_int_equal(ask(f, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0), -ESTALE);
		assert_int_equal(ask(f, FUSE_GETATTR, FUSE_ROOT_ID, &in, sizeof(in), NULL, 0), 0);
	}
}

static void the_working_directory_leads_nowhere(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	/* It is that of descriptors, and its parent would be the process's in /proc. */
	assert_int_equal(faccessat(AT_FDCWD, "0", F_OK, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(open("../status", O_RDONLY | O_CLOEXEC), -1);
	assert_int_equal(open("../../1/status", O_RDONLY | O_CLOEXEC), -1);
}

static void short_requests_are_refused(void **state)
{
	struct fixture *f = *state;
	struct fuse_setattr_in attr = {.valid = FATTR_MODE, .mode = 0600};
	uint8_t zeroes[256] = {0};
	struct stat st;
	uint64_t node;

	for (uint32_t opcode = 0; opcode < 70; opcode++)
		for (size_t size = 0; size < 24; size++)
			(void)ask(f, opcode, FUSE_ROOT_ID, zeroes, size, NULL, 0);
	assert_int_equal(ask(f, FUSE_INIT, 0, zeroes, 8, NULL, 0), -EPROTO);
	/* What is missing is not taken from the request before. */
	node = node_of(f, FUSE_ROOT_ID, "file");
	assert_int_equal(ask(f, FUSE_SETATTR, node, &attr, sizeof(attr), NULL, 0), 0);
	assert_int_equal(fchmodat(f->shared, "file", 0644, 0), 0);
	assert_int_equal(ask(f, FUSE_SETATTR, node, NULL, 0, NULL, 0), -EPROTO);
	assert_int_equal(fstatat(f->shared, "file", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_int_equal(ask(f, FUSE_IOCTL, 1, zeroes, 32, NULL, 0), -ENOTTY);
	assert_int_equal(ask(f, FUSE_POLL, 1, zeroes, 24, NULL, 0), -ENOSYS);
	assert_int_equal(ask(f, 4095, 1, zeroes, 24, NULL, 0), -ENOSYS);
}

static int set_lock(struct fixture *f, uint32_t opcode, uint64_t node, uint64_t handle,
		    uint64_t owner, uint32_t type, uint32_t flags)
{
	struct fuse_lk_in in = {.fh = handle,
				.owner = owner,
				.lk = {.start = 0, .end = 9, .type = type},
				.lk_flags = flags};

	return ask(f, opcode, node, &in, sizeof(in), NULL, 0);
}

static void requests_and_answers_that_are_too_long_are_refused(void **state)
{
	enum { TOO_LONG = 200 << 10 };
	struct fixture *f = *state;
	own_mem uint8_t *zeroes = mem_new(TOO_LONG);
	struct fuse_in_header header = {
		.len = sizeof(header) + 5, .opcode = FUSE_LOOKUP, .nodeid = FUSE_ROOT_ID};
	char name[] = "file";
	struct iovec out[2] = {{&header, sizeof(header)}, {name, sizeof(name)}},
		     in = {f->answer, sizeof(f->answer)};
	struct share_request request = {
		.out = out, .out_count = 2, .out_bytes = header.len, .in = &in, .in_count = 1};
	struct fuse_out_header answer;

	assert_int_equal(ask(f, FUSE_SETXATTR, FUSE_ROOT_ID, zeroes, TOO_LONG, NULL, 0), -E2BIG);
	/* Room for the answer's head, but not for what is found. */
	in.iov_len = request.in_bytes = sizeof(answer) + sizeof(struct fuse_entry_out) - 1;
	memset(f->answer, 0x55, sizeof(f->answer));
	assert_int_equal(share_serve(f->thread, &request), sizeof(answer));
	memcpy(&answer, f->answer, sizeof(answer));
	assert_int_equal(answer.error, -ERANGE);
	assert_int_equal(f->answer[in.iov_len], 0x55);
	/* Not even for that. */
	in.iov_len = request.in_bytes = sizeof(answer) - 1;
	assert_int_equal(share_serve(f->thread, &request), -EPROTO);
}

/* Labels and rights are the host's; with ids that are others', so are lists of them. */
static void only_attributes_for_guests_are_changed(void **state)
{
	static const char *const names[] = {
		"security.selinux",
		"security.ima",
		"security.capability",
		"system.posix_acl_access",
		"system.nfs4_acl",
		"users.a",
		"x",
	};
	struct fixture *f = *state;
	uint64_t node;

	close_share(f);
	f->config.users = f->config.groups =
		(struct share_map){1, {{.guest = 0, .host = 0, .count = 1}}};
	open_share(f);
	node = node_of(f, FUSE_ROOT_ID, "file");
	for (unsigned int i = 0; i < array_size(names); i++) {
		struct {
			struct fuse_setxattr_in in;
			char name[64];
		} set = {.in = {.size = 1}};
		struct {
			struct fuse_getxattr_in in;
			char name[64];
		} get = {.in = {.size = 100}};

		strcpy(set.name, names[i]);
		strcpy(get.name, names[i]);
		assert_int_equal(ask(f, FUSE_SETXATTR, node, &set, sizeof(set), NULL, 0),
				 -EOPNOTSUPP);
		assert_int_equal(ask(f, FUSE_GETXATTR, node, &get, sizeof(get), NULL, 0),
				 -EOPNOTSUPP);
		assert_int_equal(ask_name(f, FUSE_REMOVEXATTR, node, NULL, 0, names[i]),
				 -EOPNOTSUPP);
	}
}

/* Each owner of a lock costs a descriptor of the host's. */
static void owners_of_locks_are_limited(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file"), handle = 0;
	int rc = 0;

	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &handle), 0);
	for (uint64_t owner = 0; owner < SHARE_LOCK_OWNERS_MAX && rc == 0; owner++)
		rc = set_lock(f, FUSE_SETLK, node, handle, owner, F_RDLCK, 0);
	if (rc == -EMFILE)
		skip();
	assert_int_equal(rc, 0);
	assert_int_equal(set_lock(f, FUSE_SETLK, node, handle, SHARE_LOCK_OWNERS_MAX, F_RDLCK, 0),
			 -ENOLCK);
}

static void a_read_only_share_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct fuse_setattr_in attr = {.valid = FATTR_MODE, .mode = 0};
	struct fuse_mkdir_in dir = {.mode = 0755};
	struct {
		struct fuse_setxattr_in in;
		char name[8];
	} xattr = {.in = {.size = 1}, .name = "user.a"};
	uint64_t node, handle = 0;

	close_share(f);
	f->config.read_only = true;
	open_share(f);
	node = node_of(f, FUSE_ROOT_ID, "file");
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &handle), -EROFS);
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDONLY | O_TRUNC, &handle), -EROFS);
	assert_int_equal(ask(f, FUSE_SETATTR, node, &attr, sizeof(attr), NULL, 0), -EROFS);
	assert_int_equal(ask_name(f, FUSE_MKDIR, 1, &dir, sizeof(dir), "x"), -EROFS);
	assert_int_equal(ask_name(f, FUSE_UNLINK, 1, NULL, 0, "file"), -EROFS);
	assert_int_equal(ask_name(f, FUSE_SYMLINK, 1, NULL, 0, "x"), -EROFS);
	assert_int_equal(ask(f, FUSE_SETXATTR, node, &xattr, sizeof(xattr), NULL, 0), -EROFS);
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDONLY, &handle), 0);
	assert_int_equal(read_file(f, node, handle), 0);
	assert_int_equal(write_file(f, node, handle, "x"), -EROFS);
	assert_int_equal(faccessat(f->shared, "file", F_OK, 0), 0);
}

static void ids_are_those_of_the_map(void **state)
{
	struct fixture *f = *state;
	struct fuse_entry_out out;
	struct fuse_mkdir_in in = {.mode = 0755};
	struct stat st;

	if (geteuid() != 0)
		skip();
	close_share(f);
	f->config.users = (struct share_map){1, {{.guest = 0, .host = 5000, .count = 100}}};
	f->config.groups = (struct share_map){1, {{.guest = 0, .host = 7000, .count = 100}}};
	open_share(f);
	assert_int_equal(fchmod(f->shared, 0777), 0);
	f->user = 3;
	f->group = 4;
	assert_int_equal(ask_name(f, FUSE_MKDIR, 1, &in, sizeof(in), "mine"), 0);
	memcpy(&out, f->answer, sizeof(out));
	assert_int_equal(out.attr.uid, 3);
	assert_int_equal(out.attr.gid, 4);
	assert_int_equal(fstatat(f->shared, "mine", &st, 0), 0);
	assert_int_equal(st.st_uid, 5003);
	assert_int_equal(st.st_gid, 7004);
	assert_int_equal(ask_name(f, FUSE_LOOKUP, 1, NULL, 0, "file"), 0);
	memcpy(&out, f->answer, sizeof(out));
	assert_int_equal(out.attr.uid, 65534); /* the host's root is nobody there */
	f->user = 100;
	assert_int_equal(ask_name(f, FUSE_MKDIR, 1, &in, sizeof(in), "not"), -EOVERFLOW);
	assert_int_equal(geteuid(), 0);
}

static void creating_gives_the_caller_and_takes_its_ids_off_again(void **state)
{
	struct fixture *f = *state;
	uint64_t node, handle;
	struct stat st;

	if (geteuid() != 0)
		skip();
	f->user = 1234;
	f->group = 4321;
	assert_int_equal(create(f, FUSE_ROOT_ID, "new", O_RDWR | O_EXCL, &node, &handle), 0);
	assert_int_equal(fstatat(f->shared, "new", &st, 0), 0);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 4321);
	assert_int_equal(create(f, FUSE_ROOT_ID, "new", O_RDWR | O_EXCL, &node, &handle), -EEXIST);
	assert_int_equal(create(f, FUSE_ROOT_ID, "new", O_RDWR, &node, &handle), 0);
	put_file(f->shared, "own", "x");
	assert_int_equal(fstatat(f->shared, "own", &st, 0), 0);
	assert_int_equal(st.st_uid, 0);
}

static void writing_takes_set_id_bits_away(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file"), handle = 0;
	struct fuse_write_in in = {.size = 1, .write_flags = FUSE_WRITE_KILL_SUIDGID};
	struct stat st;

	assert_int_equal(fchmodat(f->shared, "file", 06775, 0), 0);
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &handle), 0);
	in.fh = handle;
	assert_int_equal(ask(f, FUSE_WRITE, node, &in, sizeof(in), "x", 1), 0);
	assert_int_equal(fstatat(f->shared, "file", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0775);
}

static void locks_hold_between_owners_and_against_the_host(void **state)
{
	struct fixture *f = *state;
	uint64_t node = node_of(f, FUSE_ROOT_ID, "file"), handle = 0, other = 0;
	struct flock host = {.l_type = F_WRLCK, .l_start = 5, .l_len = 1};
	struct fuse_flush_in flush = {.lock_owner = 1};
	int fd = openat(f->shared, "file", O_RDWR | O_CLOEXEC);

	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &handle), 0);
	assert_int_equal(open_node(f, FUSE_OPEN, node, O_RDWR, &other), 0);
	assert_int_equal(set_lock(f, FUSE_SETLK, node, handle, 1, F_WRLCK, 0), 0);
	assert_int_equal(set_lock(f, FUSE_SETLK, node, handle, 2, F_RDLCK, 0), -EAGAIN);
	assert_int_equal(set_lock(f, FUSE_SETLKW, node, handle, 2, F_RDLCK, 0), -EAGAIN);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &host), -1);
	/* Closing any of its descriptors frees an owner's locks. */
	flush.fh = other;
	assert_int_equal(ask(f, FUSE_FLUSH, node, &flush, sizeof(flush), NULL, 0), 0);
	assert_int_equal(set_lock(f, FUSE_SETLKW, node, handle, 2, F_RDLCK, 0), 0);
	assert_int_equal(set_lock(f, FUSE_SETLK, node, handle, 0, F_WRLCK, FUSE_LK_FLOCK), 0);
	assert_int_equal(set_lock(f, FUSE_SETLK, node, other, 0, F_RDLCK, FUSE_LK_FLOCK), -EAGAIN);
	assert_int_equal(flock(fd, LOCK_SH | LOCK_NB), -1);
	fd_close(&fd);
}

static void what_the_guest_knows_survives_a_snapshot(void **state)
{
	struct fixture *f = *state;
	uint64_t dir = node_of(f, FUSE_ROOT_ID, "dir"), node, handle, gone, gone_handle, list = 0;
	struct fuse_getattr_in in = {0};
	struct state_writer out = {0};
	struct state_reader reader;

	assert_int_equal(create(f, dir, "deep", O_RDWR, &node, &handle), 0);
	assert_int_equal(write_file(f, node, handle, "kept"), 0);
	assert_int_equal(create(f, dir, "gone", O_RDWR, &gone, &gone_handle), 0);
	assert_int_equal(open_node(f, FUSE_OPENDIR, dir, O_RDONLY, &list), 0);
	assert_int_equal(ask(f, FUSE_RENAME, dir, &(struct fuse_rename_in){.newdir = FUSE_ROOT_ID},
			     sizeof(struct fuse_rename_in), "deep\0moved", 11),
			 0);
	state_begin(&out, "share", 0, 1);
	share_save(f->share, &out);
	state_end(&out);
	close_share(f);
	assert_int_equal(unlinkat(f->shared, "dir/gone", 0), 0);
	open_share(f);
	assert_int_equal(state_find(out.data.data, out.data.len, "share", 0, &reader), 0);
	share_load(f->share, &reader);
	assert_int_equal(state_finish(&reader), 0);
	assert_int_equal(read_file(f, node, handle), 0);
	assert_memory_equal(f->answer, "kept", 4);
	assert_int_equal(node_of(f, FUSE_ROOT_ID, "moved"), node);
	assert_int_equal(ask(f, FUSE_GETATTR, gone, &in, sizeof(in), NULL, 0), -ESTALE);
	assert_int_equal(read_file(f, gone, gone_handle), -ESTALE);
	assert_int_equal(ask(f, FUSE_GETATTR, dir, &in, sizeof(in), NULL, 0), 0);
	buf_release(&out.data);
}

static void a_damaged_snapshot_is_refused(void **state)
{
	struct fixture *f = *state;
	struct state_writer out = {0};
	struct state_reader reader;
	uint64_t node, handle;

	assert_int_equal(create(f, FUSE_ROOT_ID, "new", O_RDWR, &node, &handle), 0);
	state_begin(&out, "share", 0, 1);
	share_save(f->share, &out);
	state_end(&out);
	for (size_t i = 18; i < out.data.len; i++) {
		own_mem uint8_t *copy = mem_copy(out.data.data, out.data.len);

		copy[i] ^= 0xff;
		if (state_find(copy, out.data.len, "share", 0, &reader) < 0)
			continue;
		share_load(f->share, &reader);
		assert_true(state_finish(&reader) <= 0);
	}
	buf_release(&out.data);
}

static void put_node(struct state_writer *out, uint64_t id, uint64_t parent, const char *name)
{
	state_put_u64(out, id);
	state_put_u64(out, parent);
	state_put_u64(out, 1);
	state_put_u16(out, (uint16_t)strlen(name));
	state_put(out, name, strlen(name));
}

/* Nodes are names beneath the directory also if a snapshot says otherwise. */
static void a_snapshot_leads_nowhere_else(void **state)
{
	static const char *const names[] = {"../outside", "..", "dir/../../outside", "link", "dir"};
	struct fixture *f = *state;
	struct state_writer out = {0};
	struct state_reader reader;
	struct fuse_getattr_in in = {0};
	uint64_t id = 2, handle;

	state_begin(&out, "share", 0, 1);
	state_put_u32(&out, array_size(names) + 3);
	for (unsigned int i = 0; i < array_size(names); i++)
		put_node(&out, id++, FUSE_ROOT_ID, names[i]);
	/* From the link on, and in a circle. */
	put_node(&out, id, 5, "secret");
	put_node(&out, id + 1, id + 2, "dir");
	put_node(&out, id + 2, id + 1, "dir");
	state_put_u32(&out, 0);
	state_end(&out);
	assert_int_equal(state_find(out.data.data, out.data.len, "share", 0, &reader), 0);
	share_load(f->share, &reader);
	assert_int_equal(state_finish(&reader), 0);
	for (uint64_t i = 2; i < id + 3; i++) {
		bool there = i == 5 || i == 6;

		assert_int_equal(ask(f, FUSE_GETATTR, i, &in, sizeof(in), NULL, 0),
				 there ? 0 : -ESTALE);
	}
	assert_int_equal(open_node(f, FUSE_OPEN, 5, O_RDONLY, &handle), -ELOOP);
	buf_release(&out.data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_file_is_found_opened_and_read),
		CASE(names_that_lead_elsewhere_are_refused),
		CASE(a_link_is_shown_and_not_followed),
		CASE(devices_and_fifos_of_the_host_are_not_opened),
		CASE(a_single_file_is_in_a_directory_that_is_nothing_else),
		CASE(the_guest_makes_no_devices),
		CASE(made_up_numbers_are_stale),
		CASE(what_is_forgotten_is_gone_and_its_number_is_not_used_again),
		CASE(a_forgotten_file_stays_open),
		CASE(what_was_mounted_is_gone_when_it_is_unmounted),
		CASE(the_working_directory_leads_nowhere),
		CASE(short_requests_are_refused),
		CASE(requests_and_answers_that_are_too_long_are_refused),
		CASE(only_attributes_for_guests_are_changed),
		CASE(owners_of_locks_are_limited),
		CASE(a_read_only_share_changes_nothing),
		CASE(ids_are_those_of_the_map),
		CASE(creating_gives_the_caller_and_takes_its_ids_off_again),
		CASE(writing_takes_set_id_bits_away),
		CASE(locks_hold_between_owners_and_against_the_host),
		CASE(what_the_guest_knows_survives_a_snapshot),
		CASE(a_damaged_snapshot_is_refused),
		CASE(a_snapshot_leads_nowhere_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
