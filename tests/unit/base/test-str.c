/* str: strings, vectors, environment lists, buffers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

#include <cmocka.h>

static void compares_and_cuts(void **state)
{
	own_mem char *three = str_copy_n("abcdef", 3), *all = str_copy_n("ab", 9);

	(void)state;
	assert_string_equal(three, "abc");
	assert_string_equal(all, "ab");
	assert_null(str_copy(NULL));
	assert_true(str_eq(NULL, NULL) && str_eq("a", "a"));
	assert_false(str_eq("a", NULL) || str_eq(NULL, "a") || str_eq("a", "b"));
	assert_true(str_empty(NULL) && str_empty("") && !str_empty(" "));
	assert_string_equal(str_after("docker://x", "docker://"), "x");
	assert_null(str_after("dock", "docker"));
	assert_true(str_ends_with("a.tar", ".tar") && str_ends_with("a", ""));
	assert_false(str_ends_with("ar", ".tar"));
}

static void measures_edit_distance(void **state)
{
	static const struct {
		const char *a, *b;
		unsigned int distance;
	} cases[] = {
		{"", "", 0},         {"", "abc", 3},           {"abc", "", 3},
		{"run", "run", 0},   {"rum", "run", 1},        {"urn", "run", 2},
		{"flaw", "lawn", 2}, {"kitten", "sitting", 3}, {"detach", "detch", 1},
	};
	char a[201], b[201];

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		assert_int_equal(str_distance(cases[i].a, cases[i].b), cases[i].distance);
	memset(a, 'a', 200);
	memset(b, 'b', 200);
	a[200] = b[200] = '\0';
	assert_int_equal(str_distance(a, b), 63);
}

static void vectors_of_every_length_hold_together(void **state)
{
	(void)state;
	for (size_t n = 0; n < 70; n++) {
		own_strv char **v = NULL, **copy = NULL;

		for (size_t i = 0; i < n; i++)
			strv_push_format(&v, "%zu", i);
		copy = strv_copy(v);
		strv_push(&copy, "last");
		assert_int_equal(strv_len(v), n);
		assert_int_equal(strv_len(copy), n + 1);
		assert_string_equal(copy[n], "last");
		assert_null(copy[n + 1]);
		for (size_t i = 0; i < n; i++)
			assert_string_equal(copy[i], v[i]);
	}
}

/* A vector that was filled by index must have the room that pushing counts on. */
static void pushing_to_a_sized_vector_stays_inside(void **state)
{
	(void)state;
	for (size_t n = 0; n < 70; n++) {
		own_strv char **v = strv_new(n);

		for (size_t i = 0; i < n; i++)
			v[i] = str_copy("x");
		for (size_t i = 0; i < 3; i++)
			strv_push(&v, "y");
		assert_int_equal(strv_len(v), n + 3);
	}
}

static void splits_and_joins(void **state)
{
	static const struct {
		const char *text;
		size_t fields;
	} cases[] = {{"a", 1}, {"a,b", 2}, {",", 2}, {"a,,b", 3}, {",a,", 3}};
	own_mem char *nothing = strv_join(NULL, ",");

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_strv char **v = strv_split(cases[i].text, ',');
		own_mem char *joined = strv_join(v, ",");

		assert_int_equal(strv_len(v), cases[i].fields);
		assert_string_equal(joined, cases[i].text);
	}
	assert_string_equal(nothing, "");
	assert_null(strv_split("", ','));
	assert_null(strv_split(NULL, ','));
}

static void empty_vectors_are_null(void **state)
{
	(void)state;
	strv_free(NULL);
	assert_int_equal(strv_len(NULL), 0);
	assert_null(strv_copy(NULL));
	assert_false(strv_has(NULL, "x"));
	assert_null(env_get(NULL, "x"));
}

static void environment_is_set_and_replaced(void **state)
{
	own_strv char **env = NULL;

	(void)state;
	env_set(&env, "PATH", "/bin");
	env_set(&env, "PATHS", "x");
	env_set_pair(&env, "EMPTY=");
	env_set(&env, "PATH", "/usr/bin=1");
	assert_int_equal(strv_len(env), 3);
	assert_string_equal(env_get(env, "PATH"), "/usr/bin=1");
	assert_string_equal(env_get(env, "EMPTY"), "");
	assert_null(env_get(env, "PAT"));
	assert_null(env_get(env, "path"));
	assert_true(strv_has(env, "PATHS=x"));
}

static void buffers_grow_and_stay_terminated(void **state)
{
	own_buf struct buf b = {0};
	own_mem char *text = NULL, *empty = NULL;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		buf_format(&b, "%03d", i);
		assert_int_equal(b.data[b.len], '\0');
	}
	buf_add_char(&b, '.');
	buf_add(&b, "\0x", 2);
	assert_int_equal(b.len, 3003);
	assert_memory_equal(b.data + 2997, "999.\0x", 6);
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_string_equal(b.data, "");
	buf_add_str(&b, "again");
	text = buf_take(&b);
	assert_string_equal(text, "again");
	assert_null(b.data);
	empty = buf_take(&b);
	assert_string_equal(empty, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares_and_cuts),
		cmocka_unit_test(measures_edit_distance),
		cmocka_unit_test(vectors_of_every_length_hold_together),
		cmocka_unit_test(pushing_to_a_sized_vector_stays_inside),
		cmocka_unit_test(splits_and_joins),
		cmocka_unit_test(empty_vectors_are_null),
		cmocka_unit_test(environment_is_set_and_replaced),
		cmocka_unit_test(buffers_grow_and_stay_terminated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
