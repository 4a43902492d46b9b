/* file: whole reads and writes, atomic replacement, a full disk, locks and the death of their holders. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"

#include "scratch.h"
#include <cmocka.h>

static int dir;

static int set_up(void **state)
{
	(void)state;
	dir = scratch_open();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	scratch_close();
	return 0;
}

static void reads_whole_files(void **state)
{
	own_mem char *text = NULL, *empty = NULL, *proc = NULL;
	size_t len;

	(void)state;
	scratch_file("f", "content");
	assert_int_equal(file_read(dir, "f", 7, &text, &len, NULL), 0);
	assert_int_equal(len, 7);
	assert_string_equal(text, "content");
	scratch_file("e", NULL);
	assert_int_equal(file_read(dir, "e", 0, &empty, &len, NULL), 0);
	assert_int_equal(len, 0);
	assert_string_equal(empty, "");
	/* Its size is said to be 0. */
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 65536, &proc, &len, NULL), 0);
	assert_true(len > 100 && strlen(proc) == len);
}

static void refuses_what_it_cannot_read(void **state)
{
	static const struct {
		const char *path;
		size_t max;
		int rc;
	} cases[] = {
		{"f", 6, -EFBIG},          {"absent", 9, -ENOENT},
		{"fifo", 9, -EINVAL},      {"directory", 9, -EISDIR},
		{"/dev/zero", 9, -EINVAL}, {"/proc/self/status", 9, -EFBIG},
	};

	(void)state;
	scratch_file("f", "content");
	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(mkdirat(dir, "directory", 0700), 0);
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		char *text = NULL;
		size_t len;

		assert_int_equal(file_read(dir, cases[i].path, cases[i].max, &text, &len, &err),
				 cases[i].rc);
		assert_null(text);
		assert_non_null(strstr(err.text, cases[i].path));
	}
}

static void reads_a_pipe_over_short_transfers(void **state)
{
	own_mem char *text = NULL;
	int fds[2];
	size_t len;
	char half[4];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fd_write_full(fds[1], "abcd", 4), 0);
	close(fds[1]);
	assert_int_equal(fd_read_full(fds[0], half, 4), 4);
	assert_int_equal(fd_read_all(fds[0], 8, &text, &len), 0);
	assert_string_equal(text, "abcdabcd");
	assert_int_equal(fd_read_full(fds[0], half, 4), 0);
	close(fds[0]);
}

static void transfers_at_offsets(void **state)
{
	own_fd int fd = openat(dir, "f", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char back[8];

	(void)state;
	assert_int_equal(fd_write_full_at(fd, "world", 5, 3), 0);
	assert_int_equal(fd_read_full_at(fd, back, 8, 0), 8);
	assert_memory_equal(back, "\0\0\0world", 8);
	assert_int_equal(fd_read_full_at(fd, back, 8, 6), 2);
	assert_int_equal(fd_write_full_at(-1, "x", 1, 0), -EBADF);
	assert_int_equal(fd_read_full_at(-1, back, 1, 0), -EBADF);
}

static void writes_with_mode_and_leaves_no_temporary(void **state)
{
	static const enum file_write_flags flags[] = {FILE_WRITE_PLAIN, FILE_WRITE_ATOMIC,
						      FILE_WRITE_DURABLE};

	(void)state;
	for (size_t i = 0; i < array_size(flags); i++) {
		own_mem char *text = NULL;
		struct stat st;
		size_t len;

		assert_int_equal(mkdirat(dir, "d", 0700), 0);
		assert_int_equal(file_write(dir, "d/f", "long text", 9, 0600, flags[i], NULL), 0);
		assert_int_equal(file_write(dir, "d/f", "short", 5, 0600, flags[i], NULL), 0);
		assert_int_equal(file_read(dir, "d/f", 99, &text, &len, NULL), 0);
		assert_string_equal(text, "short");
		assert_int_equal(fstatat(dir, "d/f", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		/* The only entry: else the directory could not be removed. */
		assert_int_equal(unlinkat(dir, "d/f", 0), 0);
		assert_int_equal(unlinkat(dir, "d", AT_REMOVEDIR), 0);
	}
}

static void atomic_write_replaces_a_link_and_not_its_target(void **state)
{
	struct stat st;

	(void)state;
	scratch_file("target", "untouched");
	assert_int_equal(symlinkat("target", dir, "link"), 0);
	assert_int_equal(file_write(dir, "link", "new", 3, 0600, FILE_WRITE_ATOMIC, NULL), 0);
	assert_int_equal(fstatat(dir, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(fstatat(dir, "target", &st, 0), 0);
	assert_int_equal(st.st_size, 9);
}

static void failed_atomic_write_leaves_nothing(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	/* The rename is what fails: onto a directory. */
	assert_int_equal(file_write(dir, "d", "x", 1, 0600, FILE_WRITE_ATOMIC, &err), -EISDIR);
	assert_string_equal(err.text, "write d: Is a directory");
	assert_int_equal(unlinkat(dir, "d", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(AT_FDCWD, scratch_path(""), AT_REMOVEDIR), 0);
	assert_int_equal(mkdir(scratch_path(""), 0700), 0);
}

enum { WHOLE = 20000 };

static void write_forever(void *data)
{
	char text[WHOLE];

	(void)data;
	for (char c = 'a';; c = c == 'z' ? 'a' : (char)(c + 1)) {
		memset(text, c, sizeof(text));
		child_check(file_write(dir, "f", text, sizeof(text), 0600, FILE_WRITE_ATOMIC,
				       NULL) == 0);
	}
}

static void racing_reader_sees_old_or_new(void **state)
{
	char text[WHOLE];
	pid_t writer;
	int changes = 0;
	char last = 'A';

	(void)state;
	memset(text, 'A', sizeof(text));
	assert_int_equal(file_write(dir, "f", text, sizeof(text), 0600, FILE_WRITE_ATOMIC, NULL),
			 0);
	writer = child_start(write_forever, NULL);
	for (int i = 0; i < 400 || (changes < 2 && i < 100000); i++) {
		own_mem char *seen = NULL;
		size_t len;

		assert_int_equal(file_read(dir, "f", WHOLE, &seen, &len, NULL), 0);
		assert_int_equal(len, WHOLE);
		memset(text, seen[0], sizeof(text));
		assert_memory_equal(seen, text, WHOLE);
		changes += seen[0] != last;
		last = seen[0];
	}
	child_kill(writer);
	assert_true(changes >= 2);
}

static void fill_the_disk(void *data)
{
	static char text[256 * 1024];
	enum file_write_flags flags = *(const enum file_write_flags *)data;
	own_mem char *back = NULL;
	struct error err = {0};
	size_t len;

	child_tiny_tmpfs("128k");
	child_check(file_write(AT_FDCWD, "f", "old", 3, 0600, flags, NULL) == 0);
	child_check(file_write(AT_FDCWD, "f", text, sizeof(text), 0600, flags, &err) == -ENOSPC);
	child_check(strcmp(err.text, "write f: No space left on device") == 0);
	child_check(file_read(AT_FDCWD, "f", 99, &back, &len, NULL) == 0);
	child_check(strcmp(back, "old") == 0);
	/* The remains of the attempt are gone: there is room again, and nothing but "f". */
	child_check(file_write(AT_FDCWD, "g", text, 64 * 1024, 0600, flags, NULL) == 0);
	child_check(unlink("f") == 0 && unlink("g") == 0 && mkdir("d", 0700) == 0);
	child_check(rename("d", "e") == 0);
}

static void full_disk_keeps_the_old_file(void **state)
{
	static enum file_write_flags flags[] = {FILE_WRITE_ATOMIC, FILE_WRITE_DURABLE};

	(void)state;
	if (!root_or_skip("a tmpfs of 128 KiB"))
		skip();
	for (size_t i = 0; i < array_size(flags); i++)
		assert_int_equal(child_wait(child_start(fill_the_disk, &flags[i])), 0);
}

static void copy_to_a_full_disk(void *data)
{
	own_fd int from = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	own_fd int big = -1, to = -1;

	(void)data;
	child_tiny_tmpfs("128k");
	to = open("to", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	child_check(fd_copy(from, to, 1 << 20) == -ENOSPC);
	child_check(ftruncate(to, 0) == 0);
	big = open("big", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	child_check(ftruncate(big, 1 << 20) == 0);
	child_check(fd_copy(big, to, UINT64_MAX) == -ENOSPC);
}

static void copying_tells_of_a_full_disk(void **state)
{
	(void)state;
	if (!root_or_skip("a tmpfs of 128 KiB"))
		skip();
	assert_int_equal(child_wait(child_start(copy_to_a_full_disk, NULL)), 0);
}

static void copies_between_kinds_of_files(void **state)
{
	static const struct {
		const char *from;
		uint64_t len;
		int64_t copied;
	} cases[] = {
		{"f", UINT64_MAX, 7},
		{"f", 3, 3},
		{"f", 0, 0},
		{"/dev/zero", 300000, 300000},
		{"/proc/self/comm", UINT64_MAX, -1 /* whatever is there */},
	};

	(void)state;
	scratch_file("f", "content");
	for (size_t i = 0; i < array_size(cases); i++) {
		own_fd int from = openat(dir, cases[i].from, O_RDONLY | O_CLOEXEC);
		own_fd int to = openat(dir, "to", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		int64_t n = fd_copy(from, to, cases[i].len);
		struct stat st;

		assert_int_equal(fstat(to, &st), 0);
		assert_true(n == st.st_size);
		assert_true(cases[i].copied < 0 ? n > 0 : n == cases[i].copied);
	}
	assert_int_equal(fd_copy(-1, dir, 1), -EBADF);
}

static void puts_into_existing_files_only(void **state)
{
	(void)state;
	assert_int_equal(file_put(dir, "absent", "x"), -ENOENT);
	assert_false(scratch_has("absent"));
	assert_int_equal(file_put(AT_FDCWD, "/dev/full", "x"), -ENOSPC);
	assert_int_equal(file_put(AT_FDCWD, "/proc/self/comm", "renamed"), 0);
}

static void makes_directories_with_parents(void **state)
{
	static const struct {
		const char *path;
		int rc;
	} cases[] = {
		{"a", 0},
		{"a", 0},
		{"b/c/d", 0},
		{"b/c/e/", 0},
		{"b//c///f", 0},
		{".", 0},
		{"", -ENOENT},
		{"file", -ENOTDIR},
		{"file/x", -ENOTDIR},
		{"dangling", -ENOENT},
		{"to-a", 0},
		{"to-a/x/y", 0},
	};

	(void)state;
	scratch_file("file", NULL);
	assert_int_equal(symlinkat("nowhere", dir, "dangling"), 0);
	assert_int_equal(symlinkat("a", dir, "to-a"), 0);
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};

		print_message("\"%s\"\n", cases[i].path);
		assert_int_equal(dir_make(dir, cases[i].path, 0700, &err), cases[i].rc);
		assert_int_equal(err.code, cases[i].rc);
	}
	assert_true(scratch_has("b/c/d") && scratch_has("b/c/e") && scratch_has("b/c/f"));
	assert_true(scratch_has("a/x/y"));
	assert_int_equal(dir_make(AT_FDCWD, scratch_path("abs/x"), 0700, NULL), 0);
}

static void opens_directories_made_on_demand(void **state)
{
	own_fd int fd = dir_open(dir, "x/y", 0700, NULL);
	struct error err = {0};

	(void)state;
	assert_true(fd >= 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	assert_int_equal(dir_sync(fd), 0);
	scratch_file("file", NULL);
	assert_int_equal(dir_open(dir, "file", 0700, &err), -ENOTDIR);
	assert_string_equal(err.text, "open directory file: Not a directory");
}

static void locks_exclude_and_share(void **state)
{
	own_fd int first = file_lock(dir, "lock", FILE_LOCK_SHARED, false);
	own_fd int second = file_lock(dir, "lock", FILE_LOCK_SHARED, false);

	(void)state;
	assert_true(first >= 0 && second >= 0);
	assert_int_equal(file_lock(dir, "lock", FILE_LOCK_EXCLUSIVE, false), -EWOULDBLOCK);
	fd_close(&second);
	assert_int_equal(file_lock_change(first, FILE_LOCK_EXCLUSIVE, false), 0);
	assert_int_equal(file_lock(dir, "lock", FILE_LOCK_SHARED, false), -EWOULDBLOCK);
	assert_int_equal(file_lock_change(first, FILE_LOCK_SHARED, false), 0);
	second = file_lock(dir, "lock", FILE_LOCK_SHARED, false);
	assert_true(second >= 0);
}

static void lock_follows_no_link_and_needs_its_directory(void **state)
{
	(void)state;
	assert_int_equal(symlinkat("target", dir, "link"), 0);
	assert_int_equal(file_lock(dir, "link", FILE_LOCK_EXCLUSIVE, true), -ELOOP);
	assert_false(scratch_has("target"));
	assert_int_equal(file_lock(dir, "no/lock", FILE_LOCK_EXCLUSIVE, true), -ENOENT);
}

static void hold_the_lock(void *data)
{
	int said = *(const int *)data;
	int fd = file_lock(dir, "lock", FILE_LOCK_EXCLUSIVE, true);

	child_check(fd >= 0 && write(said, "x", 1) == 1);
	pause();
}

static void killed_holder_unlocks(void **state)
{
	own_fd int lock = -1;
	pid_t holder;
	int fds[2];

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	holder = child_start(hold_the_lock, &fds[1]);
	assert_int_equal(read(fds[0], &(char){0}, 1), 1);
	assert_int_equal(file_lock(dir, "lock", FILE_LOCK_EXCLUSIVE, false), -EWOULDBLOCK);
	kill(holder, SIGKILL);
	lock = file_lock(dir, "lock", FILE_LOCK_EXCLUSIVE, true);
	assert_true(lock >= 0);
	child_wait(holder);
	close(fds[0]);
	close(fds[1]);
}

enum { LOCK_ROUNDS = 200 };

/* Takes the lock, works alone ("inside" must not exist), and removes the lock file as its last holder. */
static void lock_work_remove(void *data)
{
	(void)data;
	for (int i = 0; i < LOCK_ROUNDS; i++) {
		own_fd int lock = file_lock(dir, "lock", FILE_LOCK_EXCLUSIVE, true);
		own_fd int inside = -1;

		child_check(lock >= 0);
		inside = openat(dir, "inside", O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		child_check(inside >= 0);
		child_check(unlinkat(dir, "inside", 0) == 0);
		child_check(unlinkat(dir, "lock", 0) == 0);
	}
}

static void removal_of_the_lock_file_lets_nobody_in_twice(void **state)
{
	pid_t workers[3];

	(void)state;
	for (size_t i = 0; i < array_size(workers); i++)
		workers[i] = child_start(lock_work_remove, NULL);
	for (size_t i = 0; i < array_size(workers); i++)
		assert_int_equal(child_wait(workers[i]), 0);
	assert_false(scratch_has("lock"));
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(reads_whole_files),
		case_of(refuses_what_it_cannot_read),
		case_of(reads_a_pipe_over_short_transfers),
		case_of(transfers_at_offsets),
		case_of(writes_with_mode_and_leaves_no_temporary),
		case_of(atomic_write_replaces_a_link_and_not_its_target),
		case_of(failed_atomic_write_leaves_nothing),
		case_of(racing_reader_sees_old_or_new),
		case_of(full_disk_keeps_the_old_file),
		case_of(copying_tells_of_a_full_disk),
		case_of(copies_between_kinds_of_files),
		case_of(puts_into_existing_files_only),
		case_of(makes_directories_with_parents),
		case_of(opens_directories_made_on_demand),
		case_of(locks_exclude_and_share),
		case_of(lock_follows_no_link_and_needs_its_directory),
		case_of(killed_holder_unlocks),
		case_of(removal_of_the_lock_file_lets_nobody_in_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
