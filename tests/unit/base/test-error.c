/* error: texts that read from the outside in, the first code, the innermost hint. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"

/* After our headers: it defines a macro fail(), hence (fail)(...) below. */
#include <cmocka.h>

static void reads_from_the_outside_in(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal((fail)(&err, -ENOENT, "open %s", "x"), -ENOENT);
	assert_string_equal(err.text, "open x: No such file or directory");
	assert_int_equal((fail)(&err, -EIO, "start %s", "web"), -EIO);
	assert_string_equal(err.text, "start web: open x: No such file or directory");
}

static void keeps_the_first_code(void **state)
{
	struct error err = {0};

	(void)state;
	refuse(&err, -ENOENT, "inner");
	refuse(&err, -EIO, "outer");
	assert_int_equal(err.code, -ENOENT);
}

static void refusal_adds_no_text_of_errno(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(refuse(&err, -EINVAL, "port %d is taken", 80), -EINVAL);
	assert_string_equal(err.text, "port 80 is taken");
}

static void keeps_the_innermost_hint(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(hint(&err, refuse(&err, -EBUSY, "a"), "first %d", 1), -EBUSY);
	assert_int_equal(hint(&err, -EBUSY, "second"), -EBUSY);
	assert_string_equal(err.hint, "first 1");
}

static void hands_on_the_exit_status(void **state)
{
	struct error err = {0};

	(void)state;
	assert_int_equal(exit_with(&err, -ENOENT, 127), -ENOENT);
	assert_int_equal(err.exit_status, 127);
}

static void accepts_no_struct(void **state)
{
	(void)state;
	assert_int_equal((fail)(NULL, -EIO, "x"), -EIO);
	assert_int_equal(refuse(NULL, -EIO, "x"), -EIO);
	assert_int_equal(hint(NULL, -EIO, "x"), -EIO);
	assert_int_equal(exit_with(NULL, -EIO, 3), -EIO);
	error_clear(NULL);
}

static void clearing_makes_it_as_new(void **state)
{
	struct error err = {0}, empty = {0};

	(void)state;
	hint(&err, exit_with(&err, refuse(&err, -EIO, "x"), 9), "y");
	error_clear(&err);
	assert_memory_equal(&err, &empty, sizeof(err));
}

/* The reason stands at the end of the text: it is what must not be lost. */
static void long_wrapping_does_not_lose_the_reason(void **state)
{
	struct error err = {0};
	char word[400];

	(void)state;
	memset(word, 'w', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	refuse(&err, -EIO, "the reason");
	for (int i = 0; i < 10; i++) {
		refuse(&err, -EIO, "step %d %s", i, word);
		assert_true(strlen(err.text) < ERROR_TEXT_MAX);
	}
	assert_non_null(strstr(err.text, "the reason"));
	assert_int_equal(strncmp(err.text, "step 9 ", 7), 0);
}

static void text_of_any_length_is_cut(void **state)
{
	static char huge[8 * ERROR_TEXT_MAX];
	struct error err = {0};

	(void)state;
	memset(huge, 'x', sizeof(huge) - 1);
	refuse(&err, -EIO, "%s", huge);
	assert_int_equal(strlen(err.text), ERROR_TEXT_MAX - 1);
	hint(&err, -EIO, "%s", huge);
	assert_int_equal(strlen(err.hint), ERROR_HINT_MAX - 1);
	refuse(&err, -EIO, "%s", huge);
	assert_true(strlen(err.text) < ERROR_TEXT_MAX);
}

/* A whole name (PATH_MAX is never used whole) in front of a short reason is not cut in half. */
static void long_head_before_short_reason_is_kept(void **state)
{
	struct error err = {0};
	char name[801];

	(void)state;
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	(fail)(&err, -ENOENT, "open %s!", name);
	assert_non_null(strstr(err.text, "n!: No such file or directory"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_from_the_outside_in),
		cmocka_unit_test(keeps_the_first_code),
		cmocka_unit_test(refusal_adds_no_text_of_errno),
		cmocka_unit_test(keeps_the_innermost_hint),
		cmocka_unit_test(hands_on_the_exit_status),
		cmocka_unit_test(accepts_no_struct),
		cmocka_unit_test(clearing_makes_it_as_new),
		cmocka_unit_test(long_wrapping_does_not_lose_the_reason),
		cmocka_unit_test(text_of_any_length_is_cut),
		cmocka_unit_test(long_head_before_short_reason_is_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
