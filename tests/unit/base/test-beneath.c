/* beneath: nothing that the owner of a root does with links leads out of it. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include "base/beneath.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/own.h"

#include "scratch.h"
#include <cmocka.h>

static int dir, root;

static int set_up(void **state)
{
	(void)state;
	dir = scratch_open();
	root = dir_open(dir, "root", 0755, NULL);
	if (dir_make(dir, "root/etc", 0755, NULL) < 0 || dir_make(dir, "outside", 0755, NULL) < 0)
		return -1;
	scratch_file("root/etc/passwd", "inside");
	scratch_file("outside/passwd", "outside");
	return root < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(root);
	scratch_close();
	return 0;
}

static void link_to(const char *target, const char *name)
{
	assert_int_equal(symlinkat(target, root, name), 0);
}

static void links_mean_what_they_mean_inside(void **state)
{
	static const struct {
		const char *path;
		int rc; /* 0: opens the file inside */
	} cases[] = {
		{"etc/passwd", 0},       {"/etc/passwd", 0},
		{"../../etc/passwd", 0}, {"absolute/passwd", 0},
		{"climbing/passwd", 0},  {"etc/../../outside/passwd", -ENOENT},
		{"out/passwd", -ENOENT}, {"loop", -ELOOP},
		{"absent", -ENOENT},     {"etc/passwd/x", -ENOTDIR},
	};

	(void)state;
	link_to("/etc", "absolute");
	link_to("../../../etc", "climbing");
	link_to("../outside", "out");
	link_to("loop", "loop");
	for (size_t i = 0; i < array_size(cases); i++) {
		own_fd int fd = beneath_open(root, cases[i].path, O_RDONLY, 0);
		char text[7] = "";

		print_message("%s\n", cases[i].path);
		if (cases[i].rc < 0) {
			assert_int_equal(fd, cases[i].rc);
			continue;
		}
		assert_true(fd >= 0);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fd_read_full(fd, text, 6), 6);
		assert_string_equal(text, "inside");
	}
}

static void magic_links_are_refused(void **state)
{
	own_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char path[32];

	(void)state;
	snprintf(path, sizeof(path), "self/fd/%d", dir);
	assert_int_equal(beneath_open(proc, path, O_RDONLY, 0), -ELOOP);
	assert_int_equal(beneath_open(proc, "self/root", O_RDONLY, 0), -ELOOP);
}

static void empty_path_is_the_root(void **state)
{
	static const char *const paths[] = {"", "/", ".", "..", "//", "./"};
	struct stat st, expected;

	(void)state;
	assert_int_equal(fstat(root, &expected), 0);
	for (size_t i = 0; i < array_size(paths); i++) {
		own_fd int fd = beneath_open(root, paths[i], O_PATH | O_DIRECTORY, 0);
		own_fd int made = beneath_make_dir(root, paths[i], 0755);

		assert_true(fd >= 0 && made >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_ino, expected.st_ino);
		assert_int_equal(fstat(made, &st), 0);
		assert_int_equal(st.st_ino, expected.st_ino);
	}
}

static void makes_directories_inside(void **state)
{
	static const struct {
		const char *path, *appears; /* beneath the scratch directory; NULL: an error */
		int rc;
	} cases[] = {
		{"a", "root/a", 0},
		{"b/c/d", "root/b/c/d", 0},
		{"/x//y/", "root/x/y", 0},
		{"../../z", "root/z", 0},
		{"absolute/new", "root/etc/new", 0},
		{"climbing/new2/deep", "root/etc/new2/deep", 0},
		{"v/../w", "root/w", 0},
		{"etc/passwd", NULL, -ENOTDIR},
		{"etc/passwd/x", NULL, -ENOTDIR},
		{"dangling", NULL, -ENOENT},
		{"dangling/x", NULL, -ENOENT},
		{"out/x", NULL, -ENOENT},
		{"loop/x", NULL, -ELOOP},
	};

	(void)state;
	link_to("/etc", "absolute");
	link_to("../../etc", "climbing");
	link_to("/nowhere", "dangling");
	link_to("../outside", "out");
	link_to("loop", "loop");
	for (size_t i = 0; i < array_size(cases); i++) {
		own_fd int fd = beneath_make_dir(root, cases[i].path, 0755);

		print_message("%s\n", cases[i].path);
		if (cases[i].appears == NULL) {
			assert_int_equal(fd, cases[i].rc);
			continue;
		}
		assert_true(fd >= 0);
		assert_true(scratch_has(cases[i].appears));
	}
	assert_false(scratch_has("z") || scratch_has("outside/x"));
}

static void finds_the_parent(void **state)
{
	static const struct {
		const char *path;
		bool make;
		int rc;
		const char *name;
	} cases[] = {
		{"passwd", false, 0, "passwd"},     {"/passwd", false, 0, "passwd"},
		{"etc/passwd", false, 0, "passwd"}, {"new/deep/file", false, -ENOENT, NULL},
		{"new/deep/file", true, 0, "file"}, {"", false, -EINVAL, NULL},
		{"/", false, -EINVAL, NULL},        {"etc/", false, -EINVAL, NULL},
		{"etc/.", false, -EINVAL, NULL},    {"etc/..", false, -EINVAL, NULL},
		{"..", true, -EINVAL, NULL},        {"etc/passwd/x", false, -ENOTDIR, NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		const char *name = NULL;
		own_fd int fd = beneath_parent(root, cases[i].path, cases[i].make, 0755, &name);

		print_message("%s\n", cases[i].path);
		if (cases[i].rc < 0) {
			assert_int_equal(fd, cases[i].rc);
			assert_null(name);
			continue;
		}
		assert_true(fd >= 0);
		assert_string_equal(name, cases[i].name);
	}
	assert_true(scratch_has("root/new/deep"));
}

static void creates_files_inside_with_their_mode(void **state)
{
	own_fd int fd = -1;
	struct stat st;

	(void)state;
	link_to("../outside/new", "out");
	fd = beneath_open(root, "etc/new", O_WRONLY | O_CREAT | O_EXCL, 0640);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(beneath_open(root, "out", O_WRONLY | O_CREAT, 0600), -ENOENT);
	assert_false(scratch_has("outside/new"));
}

/* Swaps "d" between a directory and links that lead out, as a hostile workload would. */
static void swap_forever(void *data)
{
	(void)data;
	for (;;) {
		renameat2(root, "d", root, "relative", RENAME_EXCHANGE);
		renameat2(root, "d", root, "full", RENAME_EXCHANGE);
		renameat2(root, "relative", root, "full", RENAME_EXCHANGE);
		renameat2(root, "d", root, "relative", RENAME_EXCHANGE);
	}
}

static void racing_swaps_lead_nowhere_outside(void **state)
{
	int made = 0, refused = 0;
	pid_t racer;

	(void)state;
	assert_int_equal(mkdirat(root, "d", 0755), 0);
	link_to("../outside", "relative");
	link_to(scratch_path("outside"), "full");
	racer = child_start(swap_forever, NULL);
	for (int i = 0; i < 4000; i++) {
		own_fd int sub = beneath_make_dir(root, i % 2 ? "d/x/y" : "d/../d/x/../x", 0755);
		own_fd int file = beneath_open(root, "d/passwd", O_RDONLY, 0);
		own_fd int new = beneath_open(root, "d/new", O_WRONLY | O_CREAT, 0600);

		made += sub >= 0 && new >= 0;
		refused += sub < 0;
		assert_true(file < 0);
		if (i % 16 == 0) {
			unlinkat(root, "d/x/y", AT_REMOVEDIR);
			unlinkat(root, "d/x", AT_REMOVEDIR);
		}
		assert_false(scratch_has("outside/x") || scratch_has("outside/new"));
	}
	child_kill(racer);
	/* Both outcomes were seen: else nothing has been raced. */
	assert_true(made > 0 && refused > 0);
}

static void names_a_descriptor(void **state)
{
	struct stat a, b;

	(void)state;
	assert_int_equal(stat(fd_path(root).text, &a), 0);
	assert_int_equal(fstat(root, &b), 0);
	assert_int_equal(a.st_ino, b.st_ino);
}

#define case_of(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(links_mean_what_they_mean_inside),
		case_of(magic_links_are_refused),
		case_of(empty_path_is_the_root),
		case_of(makes_directories_inside),
		case_of(finds_the_parent),
		case_of(creates_files_inside_with_their_mode),
		case_of(racing_swaps_lead_nowhere_outside),
		case_of(names_a_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
