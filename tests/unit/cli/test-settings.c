/* settings: what the environment and files give to options that the command line leaves open. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/settings.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static char directory[] = "/tmp/berth-test-settings-XXXXXX";

/* Parses `line` (the words stay valid until the next call) and applies the settings. */
static int apply(const char *line, struct args **ret, struct error *err)
{
	static char **words;

	strv_free(words);
	words = strv_split(line, ' ');
	assert_int_equal(args_parse("berth", &berth_command, (int)strv_len(words), words, ret, err),
			 0);
	return settings_apply(*ret, err);
}

static char *config_path(void)
{
	return str_format("%s/berth/berth.toml", directory);
}

/* The user's own file. */
static void write_config(const char *text)
{
	own_mem char *dir = str_format("%s/berth", directory), *path = config_path();
	struct error err = {0};

	assert_int_equal(dir_make(AT_FDCWD, dir, 0755, &err), 0);
	assert_int_equal(
		file_write(AT_FDCWD, path, text, strlen(text), 0644, FILE_WRITE_PLAIN, &err), 0);
}

static int set_up(void **state)
{
	static const char *const names[] = {"BERTH_ROOT", "BERTH_STATE", "BERTH_DEBUG",
					    "BERTH_LOG_LEVEL", "BERTH_LOG_FORMAT"};

	(void)state;
	for (size_t i = 0; i < array_size(names); i++)
		unsetenv(names[i]);
	setenv("XDG_CONFIG_HOME", directory, 1);
	write_config("");
	return 0;
}

static void reads_the_environment(void **state)
{
	own_args struct args *args = NULL;
	struct error err = {0};

	(void)state;
	setenv("BERTH_ROOT", "/from/environment", 1);
	setenv("BERTH_LOG_LEVEL", "info", 1);
	setenv("BERTH_DEBUG", "true", 1);
	assert_int_equal(apply("berth ps", &args, &err), 0);
	assert_string_equal(args_string(args, "root"), "/from/environment");
	assert_string_equal(args_string(args, "log-level"), "info");
	assert_true(args_flag(args, "debug"));
	assert_null(args_string(args, "state"));
	assert_string_equal(args_string(args, "log-format"), "plain");
}

static void reads_the_file(void **state)
{
	own_args struct args *args = NULL;
	struct error err = {0};

	(void)state;
	write_config(
		"# settings\n\n  root = \"/from/file\"  # here\nstate='/s p'\nlog-level = \"info\"\r\n"
		"debug = true");
	assert_int_equal(apply("berth ps", &args, &err), 0);
	assert_string_equal(args_string(args, "root"), "/from/file");
	assert_string_equal(args_string(args, "state"), "/s p");
	assert_string_equal(args_string(args, "log-level"), "info");
	assert_true(args_flag(args, "debug"));
}

static void the_closer_one_wins(void **state)
{
	own_args struct args *args = NULL, *second = NULL;
	struct error err = {0};

	(void)state;
	write_config("root = \"/from/file\"\nstate = \"/from/file\"\n");
	setenv("BERTH_ROOT", "/from/environment", 1);
	assert_int_equal(apply("berth ps", &args, &err), 0);
	assert_string_equal(args_string(args, "root"), "/from/environment");
	assert_string_equal(args_string(args, "state"), "/from/file");
	assert_int_equal(apply("berth ps --root /from/line", &second, &err), 0);
	assert_string_equal(args_string(second, "root"), "/from/line");
	assert_false(args_given(second, "state"));
}

static void refuses_with_the_place(void **state)
{
	static const struct {
		const char *config, *text, *hint;
	} cases[] = {
		{"root", "line 1: ", ""},
		{"\nrot = \"x\"", "unknown setting \"rot\"", "did you mean \"root\"?"},
		{"version = true", "unknown setting \"version\"", ""},
		{"[section]", "unknown setting \"section\"", ""},
		{"root = \"x", "line 1: ", ""},
		{"root = [1]", "setting \"root\": expected a text", ""},
		{"root = \"\"", "setting \"root\": expected a text", ""},
		{"debug = \"maybe\"", "invalid value \"maybe\" for debug: expected true or false",
		 ""},
		{"log-level = \"loud\"", "expected error|warn|info|debug", ""},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_args struct args *args = NULL;
		struct error err = {0};

		write_config(cases[i].config);
		if (apply("berth ps", &args, &err) >= 0 ||
		    strstr(err.text, cases[i].text) == NULL ||
		    strstr(err.text, "berth.toml") == NULL ||
		    strstr(err.hint, cases[i].hint) == NULL)
			fail_msg("%s: got \"%s\" \"%s\"", cases[i].config, err.text, err.hint);
	}
}

static void refuses_a_bad_variable_by_its_name(void **state)
{
	own_args struct args *args = NULL;
	struct error err = {0};

	(void)state;
	setenv("BERTH_LOG_FORMAT", "xml", 1);
	assert_int_equal(apply("berth ps", &args, &err), -EINVAL);
	assert_non_null(strstr(err.text, "BERTH_LOG_FORMAT"));
}

static void a_named_file_replaces_the_others_and_must_exist(void **state)
{
	own_args struct args *args = NULL, *second = NULL;
	own_mem char *path = str_format("%s/other.toml", directory);
	own_mem char *line = str_format("berth --config %s ps", path);
	struct error err = {0};

	(void)state;
	write_config("root = \"/from/file\"\n");
	assert_int_equal(apply(line, &args, &err), -ENOENT);
	assert_non_null(strstr(err.text, path));
	error_clear(&err);
	assert_int_equal(file_write(AT_FDCWD, path, "state = \"/other\"\n", 17, 0644,
				    FILE_WRITE_PLAIN, &err),
			 0);
	assert_int_equal(apply(line, &second, &err), 0);
	assert_string_equal(args_string(second, "state"), "/other");
	assert_null(args_string(second, "root"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(reads_the_environment, set_up),
		cmocka_unit_test_setup(reads_the_file, set_up),
		cmocka_unit_test_setup(the_closer_one_wins, set_up),
		cmocka_unit_test_setup(refuses_with_the_place, set_up),
		cmocka_unit_test_setup(refuses_a_bad_variable_by_its_name, set_up),
		cmocka_unit_test_setup(a_named_file_replaces_the_others_and_must_exist, set_up),
	};
	int rc;

	if (mkdtemp(directory) == NULL)
		return 1;
	rc = cmocka_run_group_tests(tests, NULL, NULL);
	if (tree_remove(AT_FDCWD, directory, NULL) < 0)
		return 1;
	return rc;
}
