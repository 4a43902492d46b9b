/*
 * The shared directory as a device, before a hostile driver: every request that bears names, with names that
 * lead elsewhere, in requests of every length. Beside the directory lies another one with a secret: it must
 * stay what it is, and nothing that is answered may have the secret in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "driver.h"
#include "vmm/virtio/devices.h"

#include <cmocka.h>

enum {
	REQUESTS = 1, /* the queue */
	ROOM = 8 << 10,
	NAME_LONG = 256,
	NAME_HUGE = 60000,
};

#define SECRET "the secret of the host"

struct fixture {
	char directory[32]; /* holds "outside" and "shared" */
	struct stat outside, secret;
	struct driver_board board;
	struct virtio *virtio;
	struct driver driver;
	unsigned int slot;
	unsigned int asked, answered;
};

struct name {
	const char *what;
	const char *bytes;
	size_t size; /* all of them, with the end if there is one */
};

#define NAME(what, text)                                                                           \
	{                                                                                          \
		what, text, sizeof(text)                                                           \
	}
#define UNENDED(what, text)                                                                        \
	{                                                                                          \
		what, text, sizeof(text) - 1                                                       \
	}

static char long_name[NAME_LONG + 1], huge_name[NAME_HUGE + 1], huge_path[NAME_HUGE + 1];

/* None of them is the name of anything. */
static const struct name names[] = {
	NAME("up", ".."),
	NAME("here", "."),
	NAME("nothing", ""),
	NAME("out", "../outside"),
	NAME("out to the secret", "../outside/secret"),
	NAME("down and out", "dir/../../outside/secret"),
	NAME("through the link", "link/secret"),
	NAME("from the root", "/etc/passwd"),
	NAME("the root", "/"),
	NAME("two roots", "//"),
	NAME("a directory's end", "dir/"),
	NAME("here and on", "./file"),
	NAME("up and on", "../"),
	UNENDED("without an end", "file"),
	UNENDED("up without an end", ".."),
	UNENDED("a path without an end", "../outside/secret"),
	{"too long", long_name, sizeof(long_name)},
	{"much too long", huge_name, sizeof(huge_name)},
	{"a path that is much too long", huge_path, sizeof(huge_path)},
	{"much too long, without an end", huge_name, sizeof(huge_name) - 1},
};

/* Requests with a name behind `args` bytes of arguments, or with two. */
static const struct operation {
	uint32_t opcode, args;
	bool second; /* another name may precede it */
} operations[] = {
	{FUSE_LOOKUP, 0, false},
	{FUSE_MKNOD, sizeof(struct fuse_mknod_in), false},
	{FUSE_MKDIR, sizeof(struct fuse_mkdir_in), false},
	{FUSE_UNLINK, 0, false},
	{FUSE_RMDIR, 0, false},
	{FUSE_SYMLINK, 0, false},
	{FUSE_LINK, sizeof(struct fuse_link_in), false},
	{FUSE_CREATE, sizeof(struct fuse_create_in), false},
	{FUSE_RENAME, sizeof(struct fuse_rename_in), true},
	{FUSE_RENAME2, sizeof(struct fuse_rename2_in), true},
};

static void put_file(int dir, const char *name, const char *text)
{
	assert_int_equal(file_write(dir, name, text, strlen(text), 0644, FILE_WRITE_PLAIN, NULL),
			 0);
}

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));
	struct share_config config = {.cache = SHARE_CACHE_NONE};
	int top, shared, outside;

	strcpy(f->directory, "/tmp/test-fs-XXXXXX");
	assert_non_null(mkdtemp(f->directory));
	top = open(f->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(top, "outside", 0755), 0);
	assert_int_equal(mkdirat(top, "shared", 0755), 0);
	outside = openat(top, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	shared = openat(top, "shared", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put_file(outside, "secret", SECRET);
	assert_int_equal(mkdirat(outside, "empty", 0755), 0);
	put_file(shared, "file", "hello");
	assert_int_equal(mkdirat(shared, "dir", 0755), 0);
	assert_int_equal(symlinkat("../outside", shared, "link"), 0);
	assert_int_equal(fstat(outside, &f->outside), 0);
	assert_int_equal(fstatat(outside, "secret", &f->secret, 0), 0);
	config.directory_fd = shared;
	close(outside);
	close(top);

	driver_board_init(&f->board);
	assert_int_equal(virtio_fs_create(&f->board.board, 0, "data", &config, &f->virtio, NULL),
			 0);
	assert_int_equal(virtio_fs_start(f->virtio, NULL, NULL), 0);
	driver_start(&f->driver, &f->board, f->virtio);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	f->virtio->ops->destroy(f->virtio);
	driver_board_release(&f->board);
	assert_int_equal(tree_remove(AT_FDCWD, f->directory, NULL), 0);
	own_mem_release(&f);
	return 0;
}

static void assert_outside_is_as_it_was(const struct fixture *f)
{
	char path[PATH_MAX], text[64] = "";
	struct stat now;
	int fd;

	snprintf(path, sizeof(path), "%s/outside", f->directory);
	assert_int_equal(stat(path, &now), 0);
	assert_int_equal(now.st_nlink, f->outside.st_nlink);
	assert_int_equal(now.st_mtim.tv_nsec, f->outside.st_mtim.tv_nsec);
	assert_int_equal(now.st_ctim.tv_nsec, f->outside.st_ctim.tv_nsec);
	snprintf(path, sizeof(path), "%s/outside/secret", f->directory);
	assert_int_equal(stat(path, &now), 0);
	assert_int_equal(now.st_ino, f->secret.st_ino);
	assert_int_equal(now.st_nlink, 1);
	assert_int_equal(now.st_ctim.tv_nsec, f->secret.st_ctim.tv_nsec);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), strlen(SECRET));
	close(fd);
	assert_string_equal(text, SECRET);
}

/* Nothing beside the two directories, and nothing that is not where the guest may put it. */
static void assert_nothing_has_got_out(const struct fixture *f)
{
	char path[PATH_MAX];
	struct stat now;

	assert_int_equal(stat(f->directory, &now), 0);
	assert_int_equal(now.st_nlink, 4);
	snprintf(path, sizeof(path), "%s/empty", f->directory);
	assert_int_equal(stat(path, &now), -1);
	assert_outside_is_as_it_was(f);
}

/* Sends `size` bytes of a request of which it says that there are `says`. The answer's error; 1: there was
 * none, as the device wants to be reset, which is done. */
static int send(struct fixture *f, uint32_t says, size_t size)
{
	unsigned int slot = f->slot++ % DRIVER_SLOTS;
	uint8_t *out = driver_out(&f->driver, REQUESTS, slot);
	uint8_t *in = driver_in(&f->driver, REQUESTS, slot);
	struct fuse_out_header answer;
	uint32_t written = 0;

	if (size >= sizeof(says))
		memcpy(out, &says, sizeof(says));
	memset(in, 0, ROOM);
	driver_offer(&f->driver, REQUESTS, slot, (uint32_t)size, ROOM);
	f->asked++;
	while (driver_used(&f->driver, REQUESTS, &written) < 0) {
		if (driver_needs_reset(&f->driver)) {
			driver_start(&f->driver, &f->board, f->virtio);
			f->slot = 0;
			return 1;
		}
		driver_serve(&f->driver);
	}
	f->answered++;
	assert_true(written >= sizeof(answer) && written <= ROOM);
	memcpy(&answer, in, sizeof(answer));
	assert_int_equal(answer.len, written);
	assert_null(memmem(in, ROOM, SECRET, strlen(SECRET)));
	return answer.error;
}

/* Puts a request together in the slot that is next. Returns its size. */
static size_t compose(struct fixture *f, const struct operation *operation, uint64_t node,
		      const struct name *first, const struct name *second)
{
	uint8_t *out = driver_out(&f->driver, REQUESTS, f->slot % DRIVER_SLOTS);
	struct fuse_in_header header = {.opcode = operation->opcode, .unique = 7, .nodeid = node};
	struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0644};
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_create_in create_in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0644};
	uint64_t root[2] = {FUSE_ROOT_ID}; /* where to, or which */
	const void *args = operation->opcode == FUSE_MKNOD    ? (const void *)&mknod_in
			   : operation->opcode == FUSE_MKDIR  ? (const void *)&mkdir_in
			   : operation->opcode == FUSE_CREATE ? (const void *)&create_in
							      : (const void *)root;
	size_t size = sizeof(header);

	memcpy(out, &header, size);
	memcpy(out + size, args, operation->args);
	size += operation->args;
	memcpy(out + size, first->bytes, first->size);
	size += first->size;
	if (second)
		memcpy(out + size, second->bytes, second->size);
	return size + (second ? second->size : 0);
}

static const struct name good = NAME("file", "file"), target = NAME("target", "x");

static void names_that_lead_elsewhere_are_refused(void **state)
{
	struct fixture *f = *state;
	/* The root, the directory, the link, and one that the guest has made up. */
	const uint64_t nodes[] = {FUSE_ROOT_ID, 2, 3, 0x1234567};

	for (size_t o = 0; o < array_size(operations); o++) {
		for (size_t n = 0; n < array_size(names); n++) {
			for (size_t i = 0; i < array_size(nodes); i++) {
				const struct operation *operation = &operations[o];
				const struct name *second = operation->second ? &target
							    : operation->opcode == FUSE_SYMLINK
								    ? &target
								    : NULL;
				size_t size = compose(f, operation, nodes[i], &names[n], second);

				/* What has no end ends in what follows it, which is another name then. */
				if (second && names[n].bytes[names[n].size - 1])
					continue;
				if (send(f, (uint32_t)size, size) >= 0)
					fail_msg("operation %u took \"%s\" for a name",
						 operation->opcode, names[n].what);
				if (!operation->second)
					continue;
				size = compose(f, operation, nodes[i], &good, &names[n]);
				if (send(f, (uint32_t)size, size) >= 0)
					fail_msg("operation %u took \"%s\" for a new name",
						 operation->opcode, names[n].what);
			}
		}
	}
	assert_nothing_has_got_out(f);
	assert_int_equal(f->answered, f->asked);
}

/* The length that a request has, and the one that it claims, may be any: odd ones, none, too many. */
static void lengths_that_are_wrong_harm_nobody(void **state)
{
	static const int32_t differences[] = {0, -1, 1, -3, 7, -8, INT32_MIN, INT32_MAX};
	struct fixture *f = *state;
	const struct name up = NAME("out", "../outside/secret");

	for (size_t o = 0; o < array_size(operations); o++) {
		const struct operation *operation = &operations[o];
		size_t size = compose(f, operation, FUSE_ROOT_ID, &up, &up);

		for (size_t cut = 0; cut <= size; cut++) {
			size_t d = cut % array_size(differences);

			compose(f, operation, FUSE_ROOT_ID, &up, &up);
			assert_true(send(f, (uint32_t)(cut + (uint32_t)differences[d]), cut) != 0);
		}
	}
	assert_nothing_has_got_out(f);
}

/* A link is made with whatever the guest likes; it leads nowhere here. */
static void links_that_lead_out_are_not_followed(void **state)
{
	static const char *const targets[] = {"..",
					      "../outside",
					      "/",
					      "/etc/passwd",
					      "dir/../..",
					      "/proc/self/fd",
					      "/proc/self/root"};
	static const struct operation lookup = {FUSE_LOOKUP, 0, false};
	static const struct operation symlink = {FUSE_SYMLINK, 0, false};
	struct fixture *f = *state;

	for (size_t i = 0; i < array_size(targets); i++) {
		const char text[2] = {(char)('a' + i), '\0'};
		const struct name name = {"link", text, sizeof(text)};
		const struct name to = {"target", targets[i], strlen(targets[i]) + 1};
		struct fuse_entry_out entry;
		size_t size = compose(f, &symlink, FUSE_ROOT_ID, &name, &to);
		unsigned int slot = f->slot % DRIVER_SLOTS;

		assert_int_equal(send(f, (uint32_t)size, size), 0);
		memcpy(&entry,
		       driver_in(&f->driver, REQUESTS, slot) + sizeof(struct fuse_out_header),
		       sizeof(entry));
		assert_int_equal(entry.attr.mode & S_IFMT, S_IFLNK);
		/* As a directory: for looking up, for making and for removing in it. */
		for (size_t o = 0; o < array_size(operations); o++) {
			static const struct name inside = NAME("secret", "secret");

			if (operations[o].opcode == FUSE_LINK)
				continue;
			size = compose(f, &operations[o], entry.nodeid, &inside, &inside);
			assert_true(send(f, (uint32_t)size, size) < 0);
		}
		size = compose(f, &lookup, entry.nodeid, &good, NULL);
		assert_true(send(f, (uint32_t)size, size) < 0);
	}
	assert_nothing_has_got_out(f);
}

/* A snapshot's few bytes for each must not become memory without end. */
static void more_waiting_requests_than_there_can_be_are_refused(void **state)
{
	enum { WAITING = 2 * QUEUE_SIZE_MAX + 1, WAITING_SIZE = 13, NOTHING = 12 };
	static const uint8_t none[WAITING * WAITING_SIZE];
	struct fixture *f = *state;
	struct device *device = &f->virtio->device;
	struct state_writer out = {0};
	struct state_reader in;

	device_lock(device);
	device->ops->save(device, &out);
	/* No request waits, and the share knows neither files nor handles. */
	assert_memory_equal(out.data.data + out.data.len - NOTHING, none, NOTHING);
	out.data.len -= NOTHING;
	state_put_u32(&out, WAITING);
	state_put(&out, none, sizeof(none));
	state_put_u64(&out, 0);
	in = (struct state_reader){.next = (const uint8_t *)out.data.data,
				   .end = (const uint8_t *)out.data.data + out.data.len,
				   .version = 1};
	assert_int_equal(device->ops->load(device, &in), -EINVAL);
	device_unlock(device);
	buf_release(&out.data);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(names_that_lead_elsewhere_are_refused),
		CASE(lengths_that_are_wrong_harm_nobody),
		CASE(links_that_lead_out_are_not_followed),
		CASE(more_waiting_requests_than_there_can_be_are_refused),
	};

	memset(long_name, 'n', NAME_LONG);
	memset(huge_name, 'n', NAME_HUGE);
	for (size_t i = 0; i < NAME_HUGE; i++)
		huge_path[i] = "../"[i % 3];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
