/* Tests of users: names in files that somebody else wrote. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/user.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
			     "broken\n"
			     "::::::\n"
			     "web:x:33:34:web:/srv/web:/bin/sh\n"
			     "huge:x:4294967296:1::/:/bin/sh\n"
			     "minus:x:-1:1::/:/bin/sh\n"
			     "1000:x:77:78:a name of digits:/digits:/bin/sh\n"
			     "last:x:5:6::relative:/bin/sh";
static const char group[] = "root:x:0:\nwww:x:34:web\nextra:x:50:other,web\nalmost:x:51:webx,we\n"
			    "toobig:x:99999999999:web\nlast:x:6:last,web";

struct fixture {
	char path[32];
	int fd;
};

static int set_up(void **state)
{
	struct fixture *f = mem_new(sizeof(*f));

	strcpy(f->path, "/tmp/test-user-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	f->fd = open(f->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(f->fd, "etc", 0755), 0);
	assert_int_equal(file_write(f->fd, "etc/passwd", passwd, strlen(passwd), 0644,
				    FILE_WRITE_PLAIN, NULL),
			 0);
	assert_int_equal(
		file_write(f->fd, "etc/group", group, strlen(group), 0644, FILE_WRITE_PLAIN, NULL),
		0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	assert_int_equal(tree_remove(AT_FDCWD, f->path, NULL), 0);
	free(f);
	return 0;
}

struct user_case {
	const char *text;
	int rc;
	uint32_t uid, gid;
	size_t groups;
	const char *home;
};

static const struct user_case cases[] = {
	{"", 0, 0, 0, 0, "/root"},
	{"root", 0, 0, 0, 0, "/root"},
	{"web", 0, 33, 34, 3, "/srv/web"},
	{"33", 0, 33, 34, 3, "/srv/web"},
	{"web:", 0, 33, 34, 3, "/srv/web"},
	{"web:root", 0, 33, 0, 0, "/srv/web"},
	{"web:50", 0, 33, 50, 0, "/srv/web"},
	{"12:34", 0, 12, 34, 0, "/"},
	{"4711", 0, 4711, 0, 0, "/"},
	{"1000", 0, 77, 78, 0, "/digits"},
	{":50", 0, 0, 50, 0, "/root"},
	{"last", 0, 5, 6, 1, "/"},
	{"2147483647", 0, 2147483647, 0, 0, "/"},
	{"2147483648", -EINVAL},
	{"4294967295", -EINVAL},
	{"-1", -EINVAL},
	{"+1", -EINVAL},
	{"99999999999999999999", -EINVAL},
	{"0:-1", -EINVAL},
	{"nobody", -ENOENT},
	{"huge", -ENOENT},
	{"minus", -ENOENT},
	{"web:nogroup", -ENOENT},
	{"toobig:x", -ENOENT},
	{"ro\not", -ENOENT},
};

static void names_and_numbers(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < array_size(cases); i++) {
		own_user struct user user = {0};
		struct error err = {0};
		int rc = user_resolve(f->fd, cases[i].text, NULL, &user, &err);

		if (rc != cases[i].rc)
			fail_msg("\"%s\": %d %s", cases[i].text, rc, err.text);
		if (rc < 0)
			continue;
		if (user.uid != cases[i].uid || user.gid != cases[i].gid ||
		    user.groups_count != cases[i].groups || strcmp(user.home, cases[i].home) != 0)
			fail_msg("\"%s\": %u:%u, %zu groups, %s", cases[i].text, user.uid, user.gid,
				 user.groups_count, user.home);
	}
}

static void groups_can_be_added(void **state)
{
	struct fixture *f = *state;
	char *const add[] = {(char[]){"extra"}, (char[]){"7"}, (char[]){"7"}, NULL};
	own_user struct user user = {0};

	assert_int_equal(user_resolve(f->fd, "root", add, &user, NULL), 0);
	assert_int_equal(user.groups_count, 2);
	assert_int_equal(user.groups[0], 50);
	assert_int_equal(user.groups[1], 7);
}

static void replace(struct fixture *f, const char *how)
{
	assert_int_equal(unlinkat(f->fd, "etc/passwd", 0), 0);
	if (strcmp(how, "fifo") == 0)
		assert_int_equal(mkfifoat(f->fd, "etc/passwd", 0644), 0);
	else if (strcmp(how, "directory") == 0)
		assert_int_equal(mkdirat(f->fd, "etc/passwd", 0755), 0);
	else if (strcmp(how, "missing") != 0)
		assert_int_equal(symlinkat(how, f->fd, "etc/passwd"), 0);
}

/* CVE-2024-9676 and its like: no hang, nothing of the host. */
static void what_is_no_file_is_an_empty_one(void **state)
{
	static const char *const kinds[] = {
		"fifo",     "directory", "missing", "/etc/passwd", "../../../../etc/passwd",
		"/dev/zero"};

	(void)state;
	for (size_t i = 0; i < array_size(kinds); i++) {
		void *fresh;
		own_user struct user user = {0};
		struct fixture *f;

		set_up(&fresh);
		f = fresh;
		replace(f, kinds[i]);
		/* "daemon" is in the host's file. */
		assert_int_equal(user_resolve(f->fd, "daemon", NULL, &user, NULL), -ENOENT);
		assert_int_equal(user_resolve(f->fd, "0", NULL, &user, NULL), 0);
		tear_down(&fresh);
	}
}

static void a_huge_file_is_refused(void **state)
{
	struct fixture *f = *state;
	struct user user = {0};
	struct error err = {0};

	{
		own_fd int fd = openat(f->fd, "etc/passwd", O_WRONLY | O_CLOEXEC);

		assert_int_equal(ftruncate(fd, USER_FILE_MAX + 1), 0);
	}
	assert_int_equal(user_resolve(f->fd, "root", NULL, &user, &err), -EFBIG);
	assert_non_null(strstr(err.text, "etc/passwd"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(names_and_numbers, set_up, tear_down),
		cmocka_unit_test_setup_teardown(groups_can_be_added, set_up, tear_down),
		cmocka_unit_test(what_is_no_file_is_an_empty_one),
		cmocka_unit_test_setup_teardown(a_huge_file_is_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
