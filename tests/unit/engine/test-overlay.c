/* Tests of stacking directories into a detached mount, both ways. They need the right to mount, and say
 * so loudly where it is missing. */
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
#include "engine/overlay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

typedef int stack_fn(const struct overlay_stack *stack, struct error *err);

enum { LOWER_COUNT = 3 };

struct fixture {
	char path[32];
	int dir;
	int lower[LOWER_COUNT];
	struct overlay_stack stack;
};

static int make_dir(int dirfd, const char *name)
{
	assert_int_equal(mkdirat(dirfd, name, 0755), 0);
	return openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void put(int dirfd, const char *name, const char *text)
{
	assert_int_equal(file_write(dirfd, name, text, strlen(text), 0644, FILE_WRITE_PLAIN, NULL),
			 0);
}

static void begin(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	strcpy(f->path, "/tmp/test-over,lay:XXXXXX"); /* what mount options would choke on */
	assert_non_null(mkdtemp(f->path));
	f->dir = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < LOWER_COUNT; i++) {
		char name[16];

		snprintf(name, sizeof(name), "lower%d", i);
		f->lower[i] = make_dir(f->dir, name);
		put(f->lower[i], name, name);
		put(f->lower[i], "shared", name);
	}
	f->stack.lower = f->lower;
	f->stack.lower_count = LOWER_COUNT;
	f->stack.upper = make_dir(f->dir, "upper");
	f->stack.work = make_dir(f->dir, "work");
}

static void end(struct fixture *f)
{
	for (int i = 0; i < LOWER_COUNT; i++)
		close(f->lower[i]);
	close(f->stack.upper);
	close(f->stack.work);
	close(f->dir);
	assert_int_equal(tree_remove(AT_FDCWD, f->path, NULL), 0);
}

static void expect_text(int dirfd, const char *name, const char *expected)
{
	own_mem char *text = NULL;
	size_t len;

	assert_int_equal(file_read(dirfd, name, 1000, &text, &len, NULL), 0);
	assert_string_equal(text, expected);
}

static bool host_sees(const char *path)
{
	own_mem char *text = NULL;
	size_t len;

	assert_int_equal(file_read(AT_FDCWD, "/proc/self/mountinfo", 8 << 20, &text, &len, NULL),
			 0);
	return strstr(text, path) != NULL;
}

static void works(stack_fn *fn, bool is_volatile)
{
	struct error err = {0};
	struct fixture f;
	int mount;

	begin(&f);
	f.stack.is_volatile = is_volatile;
	mount = fn(&f.stack, &err);
	if (mount == -EPERM) {
		end(&f);
		print_message("SKIPPED: no right to mount here: %s\n", err.text);
		skip();
	}
	if (mount < 0)
		fail_msg("%s", err.text);
	/* The first of `lower` is the uppermost. */
	expect_text(mount, "shared", "lower0");
	expect_text(mount, "lower2", "lower2");
	put(mount, "shared", "changed");
	put(mount, "new", "new");
	assert_int_equal(unlinkat(mount, "lower1", 0), 0);
	expect_text(f.stack.upper, "shared", "changed");
	expect_text(f.stack.upper, "new", "new");
	expect_text(f.lower[0], "shared", "lower0");
	expect_text(f.lower[1], "lower1", "lower1");
	assert_false(host_sees(f.path));
	close(mount);
	end(&f);
}

static void directly(void **state)
{
	(void)state;
	works(overlay_stack_direct, false);
}

static void directly_and_volatile(void **state)
{
	(void)state;
	works(overlay_stack_direct, true);
}

static void the_classic_way(void **state)
{
	(void)state;
	works(overlay_stack_classic, false);
}

static void the_classic_way_and_volatile(void **state)
{
	(void)state;
	works(overlay_stack_classic, true);
}

static void a_failure_is_told_in_words(void **state)
{
	stack_fn *const ways[] = {overlay_stack_direct, overlay_stack_classic};

	(void)state;
	for (size_t i = 0; i < array_size(ways); i++) {
		struct error err = {0};
		struct fixture f;
		int work, rc;

		begin(&f);
		work = f.stack.work;
		f.stack.work = f.lower[0]; /* not empty, and in use */
		f.stack.upper = f.lower[0];
		rc = ways[i](&f.stack, &err);
		f.stack.work = work;
		f.stack.upper = openat(f.dir, "upper", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(rc < 0);
		assert_non_null(strstr(err.text, "stack the layers"));
		end(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(directly),
		cmocka_unit_test(directly_and_volatile),
		cmocka_unit_test(the_classic_way),
		cmocka_unit_test(the_classic_way_and_volatile),
		cmocka_unit_test(a_failure_is_told_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
