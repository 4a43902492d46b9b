/* args: how a command line is taken apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "cli/args.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static const struct option_spec top_options[] = {
	{"debug", 'D', OPTION_FLAG, 0, "", "", "Debug"},
	{"root", 0, OPTION_STRING, 0, "DIR", "", "Root"},
};

static const struct option_spec run_options[] = {
	{"cpus", 0, OPTION_STRING, 0, "NUMBER", "", "CPUs"},
	{"detach", 'd', OPTION_FLAG, 0, "", "", "Detach"},
	{"env", 'e', OPTION_LIST, 0, "NAME=VALUE", "", "Environment"},
	{"gpus", 0, OPTION_STRING, OPTION_VALUE_OPTIONAL, "WHICH", "", "GPUs"},
	{"hostname", 'h', OPTION_STRING, 0, "NAME", "", "Hostname"},
	{"interactive", 'i', OPTION_FLAG, 0, "", "", "Interactive"},
	{"memory", 'm', OPTION_SIZE, 0, "BYTES", "", "Memory"},
	{"publish", 'p', OPTION_LIST, OPTION_REFUSED, "PORTS", "", "there are no ports"},
	{"pull", 0, OPTION_ENUM, 0, "always|missing|never", "missing", "Pull"},
	{"sig-proxy", 0, OPTION_FLAG, 0, "", "true", "Signals"},
	{"timeout", 0, OPTION_DURATION, 0, "DURATION", "10s", "Time"},
	{"tries", 0, OPTION_INT, 0, "COUNT", "", "Tries"},
	{"tty", 't', OPTION_FLAG, 0, "", "", "Terminal"},
};

static const struct option_spec list_options[] = {
	{"all", 'a', OPTION_FLAG, 0, "", "", "All"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Quiet"},
};

static const struct command run = {
	.arguments = "IMAGE [COMMAND] [ARG...]",
	.summary = "Run",
	.options = {OPTION_SET(run_options)},
	.flags = COMMAND_STOP_AT_ARGUMENT,
};
static const struct command list = {
	.arguments = "[NAME]", .summary = "List", .options = {OPTION_SET(list_options)}};
static const struct command rename_two = {.arguments = "OLD NEW", .summary = "Rename"};
static const struct command_entry group_entries[] = {{"ls", "list l", &list, NULL}, {0}};
static const struct command group = {.summary = "Group", .entries = group_entries};
static const struct option_spec isolated_options[] = {
	{"log", 0, OPTION_STRING, 0, "FILE", "", "Log"},
};
static const struct command isolated = {
	.summary = "Isolated",
	.options = {OPTION_SET(isolated_options)},
	.entries = group_entries,
	.flags = COMMAND_ISOLATED,
	.error_status = 1,
};
static const struct command_entry top_entries[] = {
	{"run", NULL, &run, "Section"},
	{"image", NULL, &group, NULL},
	{"rename", NULL, &rename_two, NULL},
	{"oci", NULL, &isolated, NULL},
	{0},
};
static const struct command top = {
	.summary = "Top", .options = {OPTION_SET(top_options)}, .entries = top_entries};

/* Parses the words of a line that is separated by spaces. The words stay valid for the test. */
static int parse(const char *line, struct args **ret, struct error *err)
{
	static char **words;

	strv_free(words);
	words = strv_split(line, ' ');
	return args_parse("berth", &top, (int)strv_len(words), words, ret, err);
}

static struct args *parse_ok(const char *line)
{
	struct args *args;
	struct error err = {0};

	if (parse(line, &args, &err) < 0)
		fail_msg("%s: %s", line, err.text);
	return args;
}

static void accepts_every_form_of_a_value(void **state)
{
	static const char *const lines[] = {
		"berth run --hostname=web img", "berth run --hostname web img",
		"berth run -h web img",         "berth run -hweb img",
		"berth run -h=web img",         "berth run -dih web img",
		"berth run -ithweb img",
	};

	(void)state;
	for (size_t i = 0; i < array_size(lines); i++) {
		own_args struct args *args = parse_ok(lines[i]);

		assert_string_equal(args_string(args, "hostname"), "web");
		assert_true(args_given(args, "hostname"));
		assert_int_equal(args_count(args), 1);
		assert_string_equal(args_at(args, 0), "img");
		assert_null(args_at(args, 1));
	}
}

static void reads_values_by_their_kind(void **state)
{
	own_args struct args *args =
		parse_ok("berth run --memory 64m --timeout=1m30s --tries=-3 --env A=1 -e B=2 -eC=3 "
			 "--pull always --sig-proxy=false img");

	(void)state;
	assert_int_equal(args_size(args, "memory"), 64 << 20);
	assert_int_equal(args_duration(args, "timeout"), 90 * INT64_C(1000000000));
	assert_int_equal(args_int(args, "tries"), -3);
	assert_string_equal(args_list(args, "env")[0], "A=1");
	assert_string_equal(args_list(args, "env")[1], "B=2");
	assert_string_equal(args_list(args, "env")[2], "C=3");
	assert_null(args_list(args, "env")[3]);
	assert_string_equal(args_string(args, "pull"), "always");
	assert_false(args_flag(args, "sig-proxy"));
}

static void fills_in_defaults(void **state)
{
	own_args struct args *args = parse_ok("berth run img");

	(void)state;
	assert_string_equal(args_string(args, "pull"), "missing");
	assert_true(args_flag(args, "sig-proxy"));
	assert_int_equal(args_duration(args, "timeout"), 10 * INT64_C(1000000000));
	assert_false(args_flag(args, "tty"));
	assert_null(args_string(args, "hostname"));
	assert_null(args_list(args, "env")[0]);
	assert_int_equal(args_size(args, "memory"), 0);
	assert_false(args_given(args, "pull"));
}

static void the_last_value_counts(void **state)
{
	own_args struct args *args = parse_ok("berth run -h a -t -t=false --hostname b img");

	(void)state;
	assert_string_equal(args_string(args, "hostname"), "b");
	assert_false(args_flag(args, "tty"));
}

static void optional_value_is_never_the_next_word(void **state)
{
	own_args struct args *bare = parse_ok("berth run --gpus img");
	own_args struct args *with;

	(void)state;
	assert_true(args_given(bare, "gpus"));
	assert_string_equal(args_at(bare, 0), "img");
	with = parse_ok("berth run --gpus=all img");
	assert_string_equal(args_string(with, "gpus"), "all");
}

static void leaves_the_workloads_words_alone(void **state)
{
	own_args struct args *args = parse_ok("berth run -d img sh -c --detach=no -- -x");

	(void)state;
	assert_int_equal(args_count(args), 6);
	assert_string_equal(args_at(args, 2), "-c");
	assert_string_equal(args_at(args, 4), "--");
	assert_string_equal(args_at(args, 5), "-x");
}

static void mixes_options_and_arguments_elsewhere(void **state)
{
	own_args struct args *args = parse_ok("berth image ls name -a");

	(void)state;
	assert_true(args_flag(args, "all"));
	assert_int_equal(args_count(args), 1);
}

static void two_dashes_end_the_options(void **state)
{
	own_args struct args *args = parse_ok("berth image ls -- -a");

	(void)state;
	assert_false(args_flag(args, "all"));
	assert_string_equal(args_at(args, 0), "-a");
}

static void finds_commands_by_alias_and_names_them_canonically(void **state)
{
	static const char *const lines[] = {"berth image ls", "berth image list", "berth image l"};

	(void)state;
	for (size_t i = 0; i < array_size(lines); i++) {
		own_args struct args *args = parse_ok(lines[i]);

		assert_ptr_equal(args_command(args), &list);
		assert_string_equal(args_path(args), "berth image ls");
	}
}

static void options_of_groups_work_before_and_after(void **state)
{
	own_args struct args *before = parse_ok("berth --root /x -D image ls");
	own_args struct args *after;

	(void)state;
	assert_string_equal(args_string(before, "root"), "/x");
	assert_true(args_flag(before, "debug"));
	after = parse_ok("berth image ls --root=/y");
	assert_string_equal(args_string(after, "root"), "/y");
}

static void isolated_group_has_its_own(void **state)
{
	own_args struct args *args = parse_ok("berth --root /x oci --log f ls");

	(void)state;
	assert_string_equal(args_string(args, "log"), "f");
	assert_string_equal(args_string(args, "root"), "/x");
	assert_int_equal(args_error_status(args), 1);
}

static void help_wins_over_everything_behind_it(void **state)
{
	static const char *const lines[] = {"berth image ls --help --nonsense",
					    "berth image ls -h",
					    "berth rename --help",
					    "berth run --help",
					    "berth help image ls",
					    "berth help run x"};

	(void)state;
	for (size_t i = 0; i < array_size(lines); i++) {
		own_args struct args *args = parse_ok(lines[i]);

		assert_true(args_wants_help(args));
	}
}

static void refuses_with_a_reason_and_a_hint(void **state)
{
	static const struct {
		const char *line, *text, *hint;
	} cases[] = {
		{"berth run --detch img", "unknown flag --detch", "did you mean --detach?"},
		{"berth run --hostnam=x img", "unknown flag --hostnam", "did you mean --hostname?"},
		{"berth run --zzz img", "unknown flag --zzz", "berth run --help"},
		{"berth run -x img", "unknown flag -x", "berth run --help"},
		{"berth run -itx img", "unknown flag -x in -itx", "berth run --help"},
		{"berth run --hostname", "--hostname needs a value: NAME", "berth run --help"},
		{"berth run -h", "-h needs a value: NAME", "berth run --help"},
		{"berth run -m lots img", "invalid value \"lots\" for -m: expected a size",
		 "--help"},
		{"berth run --tries x img", "invalid value \"x\" for --tries: expected a whole",
		 "--"},
		{"berth run --tty=maybe img", "invalid value \"maybe\" for --tty: expected true",
		 "--"},
		{"berth run --pull sometimes img",
		 "\"sometimes\" for --pull: expected always|missing", "--"},
		{"berth run --pull al img", "\"al\" for --pull", "--"},
		{"berth run --timeout soon img", "for --timeout: expected a duration", "--"},
		{"berth run -p 80:80 img", "-p is not supported: there are no ports", "--"},
		{"berth run --publish img", "--publish is not supported: there are no ports", "--"},
		{"berth run", "\"berth run\" needs at least 1 argument, but was given 0",
		 "usage: berth run [OPTIONS] IMAGE [COMMAND] [ARG...]"},
		{"berth rename a", "\"berth rename\" needs exactly 2 arguments, but was given 1",
		 "usage:"},
		{"berth image ls a b", "\"berth image ls\" takes at most 1 argument", "usage:"},
		{"berth image", NULL, NULL},
		{"berth image lss", "unknown command \"berth image lss\"",
		 "did you mean \"berth image ls\"?"},
		{"berth imag", "unknown command \"berth imag\"", "did you mean \"berth image\"?"},
		{"berth oci ls --root x", "unknown flag --root", "berth oci ls --help"},
		{"berth --run img", "unknown flag --run", "berth --help"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_args struct args *args = NULL;
		struct error err = {0};
		int rc = parse(cases[i].line, &args, &err);

		assert_non_null(args);
		if (cases[i].text == NULL) {
			assert_int_equal(rc, 0);
			continue;
		}
		if (rc >= 0 || strstr(err.text, cases[i].text) == NULL ||
		    strstr(err.hint, cases[i].hint) == NULL)
			fail_msg("%s: got \"%s\", \"%s\"", cases[i].line, err.text, err.hint);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_every_form_of_a_value),
		cmocka_unit_test(reads_values_by_their_kind),
		cmocka_unit_test(fills_in_defaults),
		cmocka_unit_test(the_last_value_counts),
		cmocka_unit_test(optional_value_is_never_the_next_word),
		cmocka_unit_test(leaves_the_workloads_words_alone),
		cmocka_unit_test(mixes_options_and_arguments_elsewhere),
		cmocka_unit_test(two_dashes_end_the_options),
		cmocka_unit_test(finds_commands_by_alias_and_names_them_canonically),
		cmocka_unit_test(options_of_groups_work_before_and_after),
		cmocka_unit_test(isolated_group_has_its_own),
		cmocka_unit_test(help_wins_over_everything_behind_it),
		cmocka_unit_test(refuses_with_a_reason_and_a_hint),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
