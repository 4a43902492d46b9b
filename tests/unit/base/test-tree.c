/* tree: removal of trees that are deep, that change meanwhile, and that other file systems are in. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
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

static void removes_files_links_and_trees(void **state)
{
	(void)state;
	scratch_file("file", NULL);
	scratch_file("kept", "kept");
	assert_int_equal(mkdirat(dir, "kept-dir", 0700), 0);
	scratch_file("kept-dir/x", NULL);
	assert_int_equal(symlinkat("kept-dir", dir, "link"), 0);
	assert_int_equal(dir_make(dir, "t/a/b", 0700, NULL), 0);
	assert_int_equal(symlinkat("../../kept-dir", dir, "t/a/out"), 0);
	assert_int_equal(symlinkat("nowhere", dir, "t/dangling"), 0);
	assert_int_equal(mkfifoat(dir, "t/fifo", 0600), 0);
	scratch_file("t/a/b/f", "x");
	assert_int_equal(tree_remove(dir, "file", NULL), 0);
	assert_int_equal(tree_remove(dir, "link", NULL), 0);
	assert_int_equal(tree_remove(dir, "t", NULL), 0);
	assert_int_equal(tree_remove(dir, "absent", NULL), 0);
	assert_false(scratch_has("file") || scratch_has("link") || scratch_has("t"));
	assert_true(scratch_has("kept") && scratch_has("kept-dir/x"));
}

static void removes_wide_directories(void **state)
{
	(void)state;
	assert_int_equal(dir_make(dir, "t", 0700, NULL), 0);
	for (int i = 0; i < 1500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "t/%d", i);
		if (i % 10 == 0)
			assert_int_equal(mkdirat(dir, name, 0700), 0);
		else
			scratch_file(name, NULL);
	}
	assert_int_equal(tree_remove(dir, "t", NULL), 0);
	assert_false(scratch_has("t"));
}

/* A chain of directories, each with a file and a sibling. */
static void make_deep(const char *top, int depth)
{
	int at = dir;

	for (int i = 0; i < depth; i++) {
		int next;

		assert_int_equal(mkdirat(at, i ? "down" : top, 0700), 0);
		next = openat(at, i ? "down" : top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(openat(next, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		assert_int_equal(mkdirat(next, "sibling", 0700), 0);
		if (at != dir)
			close(at);
		at = next;
	}
	close(at);
}

static void removes_two_thousand_levels(void **state)
{
	struct rlimit before, few;

	(void)state;
	make_deep("t", 2000);
	/* Descriptors are what a depth must not cost. */
	getrlimit(RLIMIT_NOFILE, &before);
	few = (struct rlimit){.rlim_cur = 256, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(tree_remove(dir, "t", NULL), 0);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_false(scratch_has("t"));
}

/* Swaps the directory "t/x/d" with a link to a directory outside for as long as it lives. */
static void swap_with_link(void *data)
{
	(void)data;
	for (;;) {
		mkdirat(dir, "t", 0700);
		mkdirat(dir, "t/x", 0700);
		mkdirat(dir, "t/x/d", 0700);
		close(openat(dir, "t/x/d/f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		if (symlinkat("../../outside", dir, "t/x/link") < 0 && errno != EEXIST)
			continue;
		for (int i = 0; i < 20; i++)
			renameat2(dir, "t/x/d", dir, "t/x/link", RENAME_EXCHANGE);
	}
}

static void swapped_link_leads_nowhere_outside(void **state)
{
	pid_t racer;
	int removed = 0;
	int64_t deadline;

	(void)state;
	assert_int_equal(dir_make(dir, "outside/sub", 0700, NULL), 0);
	scratch_file("outside/sub/f", NULL);
	scratch_file("outside/f", NULL);
	racer = child_start(swap_with_link, NULL);
	deadline = clock_monotonic_ns() + 5000000000;
	/* A removal may fail while somebody keeps adding; what counts is what it touches. */
	while (removed < 500 && clock_monotonic_ns() < deadline) {
		const bool there = scratch_has("t/x/link");
		const int rc = tree_remove(dir, "t/x", NULL);

		removed += there && rc == 0;
		assert_true(scratch_has("outside/sub/f") && scratch_has("outside/f"));
	}
	child_kill(racer);
	assert_true(removed >= 50);
	assert_int_equal(tree_remove(dir, "t", NULL), 0);
	assert_false(scratch_has("t"));
	assert_true(scratch_has("outside/sub/f"));
}

/* What is mounted, where, and what is asked to be removed. */
struct mount_case {
	const char *target;
	bool bind; /* of a directory of the same file system: the device number tells nothing */
};

static void remove_around_a_mount(void *data)
{
	const struct mount_case *c = data;
	struct error err = {0};

	child_check(unshare(CLONE_NEWNS) == 0);
	child_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	if (c->bind)
		child_check(mount(scratch_path("precious"), scratch_path(c->target), NULL, MS_BIND,
				  NULL) == 0);
	else
		child_check(mount("tmpfs", scratch_path(c->target), "tmpfs", 0, "size=64k") == 0);
	/* Anew: the descriptor from before is not in this mount namespace. */
	dir = open(scratch_path(""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	scratch_file("precious/f", NULL);
	if (!c->bind)
		close(open(scratch_path("t/m/f"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	child_check(tree_remove(dir, "t", &err) == -EBUSY);
	child_check(strncmp(err.text, "remove t", 8) == 0);
	child_check(access(scratch_path("precious/f"), F_OK) == 0);
	if (c->bind)
		child_check(faccessat(dir, c->target, F_OK, 0) == 0);
}

static void does_not_cross_into_a_mount(void **state)
{
	static struct mount_case cases[] = {
		{"t/m", false}, {"t/m", true}, {"t", true}, {"t/m/n/o", true}};

	(void)state;
	if (!root_or_skip("mounts"))
		skip();
	for (size_t i = 0; i < array_size(cases); i++) {
		assert_int_equal(dir_make(dir, "t/m/n/o", 0700, NULL), 0);
		assert_int_equal(dir_make(dir, "precious", 0700, NULL), 0);
		scratch_file("precious/f", "x");
		assert_int_equal(child_wait(child_start(remove_around_a_mount, &cases[i])), 0);
		assert_true(scratch_has("precious/f"));
	}
}

static void remove_without_rights(void *data)
{
	struct error err = {0};

	(void)data;
	child_check(setresuid(65534, 65534, 65534) == 0);
	child_check(tree_remove(dir, "t", &err) == -EACCES);
	child_check(err.code == -EACCES);
}

static void tells_what_it_may_not_remove(void **state)
{
	(void)state;
	if (!root_or_skip("becomes another user"))
		skip();
	assert_int_equal(dir_make(dir, "t/a", 0700, NULL), 0);
	assert_int_equal(child_wait(child_start(remove_without_rights, NULL)), 0);
	assert_true(scratch_has("t/a"));
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(removes_files_links_and_trees), case_of(removes_wide_directories),
		case_of(removes_two_thousand_levels),   case_of(swapped_link_leads_nowhere_outside),
		case_of(does_not_cross_into_a_mount),   case_of(tells_what_it_may_not_remove),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
