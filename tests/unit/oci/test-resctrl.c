/*
 * resctrl: what is written where. A directory stands for the file system, which this kernel or CPU may lack; a group
 * that is new there has no files, so the groups of these tests are there, but for those that must not be made.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "oci/resctrl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static char directory[] = "/tmp/test-resctrl-XXXXXX";
static int root;

static void put(const char *path, const char *text)
{
	assert_int_equal(file_write(root, path, text, strlen(text), 0644, 0, NULL), 0);
}

static void group(const char *name, const char *schemata)
{
	own_mem char *tasks = str_format("%s/tasks", name), *file = str_format("%s/schemata", name),
		     *groups = str_format("%s/mon_groups", name);

	assert_int_equal(mkdirat(root, name, 0755), 0);
	assert_int_equal(mkdirat(root, groups, 0755), 0);
	put(tasks, "");
	put(file, schemata);
}

static void holds(const char *path, const char *expected)
{
	own_mem char *text = NULL;
	size_t len;

	assert_int_equal(file_read(root, path, 4096, &text, &len, NULL), 0);
	assert_string_equal(text, expected);
}

static bool is_there(const char *path)
{
	return faccessat(root, path, F_OK, 0) == 0;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(directory + strlen(directory) - 6, "XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(root);
	return tree_remove(AT_FDCWD, directory, NULL);
}

static void lines_are_combined_as_the_specification_says(void **state)
{
	struct config_intel_rdt r = {
		.given = true,
		.l3_schema = "L3:0=7f0;1=1f\nMB:0=10",
		.memory_schema = "MB:0=20;1=70",
		.schemata = (char *[]){"L2:0=3", NULL},
	};
	struct error err = {0};

	(void)state;
	group("own", "");
	assert_int_equal(resctrl_make(root, &r, "own", 4711, &err), 0);
	holds("own/schemata", "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=3\n");
	holds("own/tasks", "4711\n");
	/* Without a bandwidth of its own the cache's text stays whole. */
	r = (struct config_intel_rdt){.given = true, .l3_schema = "L3:0=7f0\nMB:0=10"};
	group("whole", "");
	assert_int_equal(resctrl_make(root, &r, "whole", 4712, &err), 0);
	holds("whole/schemata", "L3:0=7f0\nMB:0=10\n");
}

static void a_group_of_others_has_to_agree(void **state)
{
	static const struct {
		const char *l3, *memory;
		bool agrees;
	} cases[] = {
		{"L3:0=7f0;1=1f", NULL, true},
		{"L3:1=01f", NULL, true},
		{"L3:0=7F0;1=1f", "MB:0=20", true},
		{NULL, "MB:1=70;0=20", true},
		{"L3:0=7f1;1=1f", NULL, false},
		{"L3:2=1", NULL, false},
		{"L3:0=7f0;1=1f", "MB:0=30", false},
		{"L2:0=1", NULL, false},
		{"L3:0=7f", NULL, false},
		{"L3:0", NULL, false},
		{"nonsense", NULL, false},
		{"L3CODE:0=7f0;1=1f", NULL, false},
	};

	(void)state;
	group("shared", "    MB:0= 20;1= 70\n");
	put("shared/schemata", "    MB:0=20;1=70\n    L3:0=007f0;1=0001f\n");
	for (size_t i = 0; i < array_size(cases); i++) {
		const struct config_intel_rdt r = {
			.given = true,
			.clos_id = "shared",
			.l3_schema = cases[i].l3,
			.memory_schema = cases[i].memory,
		};
		struct error err = {0};
		int rc = resctrl_make(root, &r, "id", 1, &err);

		if (rc != (cases[i].agrees ? 0 : -EINVAL))
			fail_msg("case %zu: %d %s", i, rc, err.text);
		if (rc < 0)
			assert_non_null(strstr(err.text, "linux.intelRdt.closID"));
		holds("shared/schemata", "    MB:0=20;1=70\n    L3:0=007f0;1=0001f\n");
	}
}

static void a_group_that_is_only_named_has_to_be_there(void **state)
{
	const struct config_intel_rdt r = {.given = true, .clos_id = "missing"};
	struct error err = {0};

	(void)state;
	assert_int_equal(resctrl_make(root, &r, "id", 1, &err), -ENOENT);
	assert_non_null(strstr(err.text, "missing"));
	assert_false(is_there("missing"));
	group("missing", "L3:0=f\n");
	assert_int_equal(resctrl_make(root, &r, "id", 12, &err), 0);
	holds("missing/tasks", "12\n");
	holds("missing/schemata", "L3:0=f\n");
}

static void what_could_not_be_set_up_is_not_left(void **state)
{
	const struct config_intel_rdt r = {.given = true, .clos_id = "new", .l3_schema = "L3:0=0"};
	struct error err = {0};

	(void)state;
	assert_true(resctrl_make(root, &r, "id", 1, &err) < 0);
	assert_non_null(strstr(err.text, "linux.intelRdt"));
	assert_false(is_there("new"));
	/* The kernel's reason is ours. */
	assert_int_equal(mkdirat(root, "info", 0755), 0);
	put("info/last_cmd_status", "Mask 0 is not consecutive\n");
	assert_true(resctrl_make(root, &r, "id", 1, &err) < 0);
	assert_non_null(strstr(err.text, "Mask 0 is not consecutive"));
}

static void links_are_not_followed(void **state)
{
	const struct config_intel_rdt r = {.given = true, .clos_id = "link"};
	struct error err = {0};

	(void)state;
	group("target", "");
	assert_int_equal(symlinkat("target", root, "link"), 0);
	assert_int_equal(resctrl_make(root, &r, "id", 1, &err), -ELOOP);
	holds("target/tasks", "");
}

static void measuring_has_a_group_below(void **state)
{
	struct config_intel_rdt r = {.given = true, .clos_id = "shared", .enable_cmt = true};
	struct error err = {0};
	json_t *saved;

	(void)state;
	group("shared", "");
	assert_int_equal(resctrl_make(root, &r, "id", 5, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "linux.intelRdt.enableCMT"));
	assert_int_equal(mkdirat(root, "info", 0755), 0);
	assert_int_equal(mkdirat(root, "info/L3_MON", 0755), 0);
	put("info/L3_MON/mon_features", "llc_occupancy\n");
	r.enable_mbm = true;
	assert_int_equal(resctrl_make(root, &r, "id", 5, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "linux.intelRdt.enableMBM"));
	put("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n");
	assert_int_equal(mkdirat(root, "shared/mon_groups/id", 0755), 0);
	put("shared/mon_groups/id/tasks", "");
	assert_int_equal(resctrl_make(root, &r, "id", 5, &err), 0);
	holds("shared/tasks", "5\n");
	holds("shared/mon_groups/id/tasks", "5\n");
	assert_int_equal(resctrl_join(root, &r, "id", 6789, &err), 0);
	holds("shared/mon_groups/id/tasks", "6789\n");
	/* What is measured goes with the container, the group that others may use stays. */
	assert_int_equal(unlinkat(root, "shared/mon_groups/id/tasks", 0), 0);
	saved = resctrl_save(&r, "id");
	assert_int_equal(resctrl_remove(root, saved, &err), 0);
	assert_false(is_there("shared/mon_groups/id"));
	assert_true(is_there("shared/tasks"));
	/* Twice does no harm. */
	assert_int_equal(resctrl_remove(root, saved, &err), 0);
	json_decref(saved);
}

static void a_group_of_its_own_is_removed(void **state)
{
	const struct config_intel_rdt r = {.given = true, .enable_monitoring = true};
	const struct config_intel_rdt none = {.given = false};
	struct error err = {0};
	json_t *saved = resctrl_save(&r, "id");

	(void)state;
	assert_null(resctrl_save(&none, "id"));
	assert_int_equal(mkdirat(root, "id", 0755), 0);
	assert_int_equal(mkdirat(root, "id/mon_groups", 0755), 0);
	assert_int_equal(mkdirat(root, "id/mon_groups/id", 0755), 0);
	/* In the kernel's file system what is left goes with the directory. */
	assert_int_equal(resctrl_remove(root, saved, &err), -ENOTEMPTY);
	assert_false(is_there("id/mon_groups/id"));
	assert_int_equal(unlinkat(root, "id/mon_groups", AT_REMOVEDIR), 0);
	assert_int_equal(resctrl_remove(root, saved, &err), 0);
	assert_false(is_there("id"));
	json_decref(saved);
}

static void another_file_system_is_refused(void **state)
{
	struct error err = {0};
	int fd = resctrl_open(&err);

	(void)state;
	if (fd >= 0) {
		close(fd);
		skip();
	}
	assert_int_equal(fd, -ENODEV);
	assert_non_null(strstr(err.text, "linux.intelRdt"));
}

#define case_of(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		case_of(lines_are_combined_as_the_specification_says),
		case_of(a_group_of_others_has_to_agree),
		case_of(a_group_that_is_only_named_has_to_be_there),
		case_of(what_could_not_be_set_up_is_not_left),
		case_of(links_are_not_followed),
		case_of(measuring_has_a_group_below),
		case_of(a_group_of_its_own_is_removed),
		case_of(another_file_system_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
