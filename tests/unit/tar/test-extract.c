/* Extracting a tar into a directory that somebody else may control. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tar/extract.h"
#include "tarball.h"

/* cmocka has a macro of the name of our function. */
#include <cmocka.h>

struct place {
	char path[64];
	int fd; /* of root/, beside which nothing must appear */
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	char root[80];

	snprintf(p->path, sizeof(p->path), "/tmp/berth-extract-XXXXXX");
	assert_non_null(mkdtemp(p->path));
	snprintf(root, sizeof(root), "%s/root", p->path);
	assert_int_equal(mkdir(root, 0755), 0);
	p->fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(p->fd >= 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;

	close(p->fd);
	assert_int_equal(tree_remove(AT_FDCWD, p->path, NULL), 0);
	free(p);
	return 0;
}

/* The whole tar in pieces of 700 bytes. */
static int extract(const struct place *p, const char *dir, unsigned int flags, struct buf *ball,
		   struct error *err)
{
	const struct extract_options options = {
		.root_fd = p->fd, .dir = dir, .flags = flags, .uid = getuid(), .gid = getgid()};
	own_extract struct extract *x = NULL;
	int rc = extract_begin(&options, &x, err);

	for (size_t at = 0; rc == 0 && at < ball->len; at += 700)
		rc = extract_add(x, ball->data + at, ball->len - at < 700 ? ball->len - at : 700,
				 err);
	return rc < 0 ? rc : extract_finish(x, err);
}

static void expect_text(const struct place *p, const char *path, const char *text)
{
	own_mem char *is = NULL;
	size_t len;

	assert_int_equal(file_read(p->fd, path, 1 << 20, &is, &len, NULL), 0);
	assert_string_equal(is, text);
}

static void makes_files_links_and_directories(void **state)
{
	struct place *p = *state;
	own_buf struct buf ball = {0};
	struct error err = {0};
	struct stat st, other;

	ball_add(&ball, &(struct ball_entry){.name = "d/", .type = '5', .mode = 0500, .mtime = 99});
	ball_add(&ball,
		 &(struct ball_entry){.name = "d/f", .data = "text", .mode = 06755, .mtime = 7});
	ball_add(&ball, &(struct ball_entry){.name = "d/h", .type = '1', .link = "d/f"});
	ball_add(&ball, &(struct ball_entry){.name = "d/l", .type = '2', .link = "/etc"});
	ball_end(&ball);
	assert_int_equal(extract(p, "", 0, &ball, &err), 0);
	expect_text(p, "d/f", "text");
	assert_int_equal(fstatat(p->fd, "d", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0500);
	assert_int_equal(st.st_mtim.tv_sec, 99);
	assert_int_equal(fstatat(p->fd, "d/f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0755); /* without EXTRACT_SPECIAL */
	assert_int_equal(st.st_mtim.tv_sec, 7);
	assert_int_equal(fstatat(p->fd, "d/h", &other, 0), 0);
	assert_int_equal(st.st_ino, other.st_ino);
	assert_int_equal(fstatat(p->fd, "d/l", &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_true(S_ISLNK(st.st_mode));
	/* Once more over itself. */
	assert_int_equal(extract(p, "", EXTRACT_SPECIAL, &ball, &err), 0);
	assert_int_equal(fstatat(p->fd, "d/f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 06755);
}

static void refuses_names_that_lead_out(void **state)
{
	static const struct ball_entry entries[] = {
		{.name = "../x", .data = "x"},
		{.name = "a/../../x", .data = "x"},
		{.name = "../x/", .type = '5'},
		{.name = "x", .type = '1', .link = "../../etc/passwd"},
		{.name = "x", .type = '1', .link = "/etc/passwd"},
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		own_buf struct buf ball = {0};
		struct error err = {0};

		ball_add(&ball, &entries[i]);
		ball_end(&ball);
		assert_true(extract(p, "", EXTRACT_FOLLOW, &ball, &err) < 0);
		assert_string_not_equal(err.text, "");
	}
	assert_int_equal(faccessat(p->fd, "../x", F_OK, 0), -1);
}

static void does_not_follow_links(void **state)
{
	struct place *p = *state;
	own_buf struct buf ball = {0};
	struct error err = {0};

	assert_int_equal(symlinkat("..", p->fd, "up"), 0);
	ball_add(&ball, &(struct ball_entry){.name = "up/x", .data = "x"});
	ball_end(&ball);
	assert_int_equal(extract(p, "", 0, &ball, &err), -ELOOP);
	assert_int_equal(faccessat(p->fd, "../x", F_OK, 0), -1);
	/* With leave to follow, ".." of the root is the root. */
	memset(&err, 0, sizeof(err));
	assert_int_equal(extract(p, "", EXTRACT_FOLLOW, &ball, &err), 0);
	expect_text(p, "x", "x");
	assert_int_equal(faccessat(p->fd, "../x", F_OK, 0), -1);
}

static void replaces_a_link_instead_of_writing_through_it(void **state)
{
	struct place *p = *state;
	own_buf struct buf ball = {0};
	struct error err = {0};

	assert_int_equal(file_write(p->fd, "../canary", "old", 3, 0644, FILE_WRITE_PLAIN, &err), 0);
	assert_int_equal(symlinkat("../canary", p->fd, "f"), 0);
	ball_add(&ball, &(struct ball_entry){.name = "f", .data = "new"});
	ball_end(&ball);
	assert_int_equal(extract(p, "", EXTRACT_FOLLOW, &ball, &err), 0);
	expect_text(p, "f", "new");
	expect_text(p, "../canary", "old");
}

static void never_swaps_files_and_directories(void **state)
{
	struct place *p = *state;
	own_buf struct buf file = {0}, dir = {0};
	struct error err = {0};

	ball_add(&file, &(struct ball_entry){.name = "x", .data = "x"});
	ball_end(&file);
	ball_add(&dir, &(struct ball_entry){.name = "x/", .type = '5', .mode = 0755});
	ball_end(&dir);
	assert_int_equal(extract(p, "", 0, &file, &err), 0);
	assert_int_equal(extract(p, "", 0, &dir, &err), -EEXIST);
	assert_int_equal(unlinkat(p->fd, "x", 0), 0);
	memset(&err, 0, sizeof(err));
	assert_int_equal(extract(p, "", 0, &dir, &err), 0);
	assert_int_equal(extract(p, "", 0, &file, &err), -EEXIST);
}

static void leaves_no_half_of_a_file(void **state)
{
	struct place *p = *state;
	own_buf struct buf ball = {0};
	struct error err = {0};
	own_dir DIR *dir = NULL;
	const struct dirent *entry;
	char data[4000];

	memset(data, 'd', sizeof(data));
	ball_add(&ball, &(struct ball_entry){.name = "f", .data = data, .len = sizeof(data)});
	ball.len = 2000;
	assert_int_equal(extract(p, "", 0, &ball, &err), -EBADMSG);
	dir = fdopendir(openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		assert_int_equal(entry->d_name[0], '.');
	assert_int_equal(faccessat(p->fd, "f", F_OK, 0), -1);
}

static void refuses_devices_unless_asked(void **state)
{
	struct place *p = *state;
	own_buf struct buf ball = {0};
	struct error err = {0};

	ball_add(&ball, &(struct ball_entry){.name = "null", .type = '3', .major = 1, .minor = 3});
	ball_end(&ball);
	assert_int_equal(extract(p, "", EXTRACT_OWNERS, &ball, &err), -EPERM);
	assert_int_equal(faccessat(p->fd, "null", F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(makes_files_links_and_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_names_that_lead_out, setup, teardown),
		cmocka_unit_test_setup_teardown(does_not_follow_links, setup, teardown),
		cmocka_unit_test_setup_teardown(replaces_a_link_instead_of_writing_through_it,
						setup, teardown),
		cmocka_unit_test_setup_teardown(never_swaps_files_and_directories, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_no_half_of_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_devices_unless_asked, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
