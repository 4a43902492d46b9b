/* Tests of image/toml.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/toml.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void reads_what_configurations_use(void **state)
{
	static const struct {
		const char *toml, *json;
	} cases[] = {
		{"", "{}"},
		{"# nothing\n\n", "{}"},
		{"a = 1", "{\"a\":1}"},
		{"a = -1_000 # x", "{\"a\":-1000}"},
		{"a = true\nb = false", "{\"a\":true,\"b\":false}"},
		{"a = \"x\\n\\\"\\u00e9\"", "{\"a\":\"x\\n\\\"\xc3\xa9\"}"},
		{"a = 'C:\\x'", "{\"a\":\"C:\\\\x\"}"},
		{"a = \"\"\"\nx\n\\\n   y\"\"\"", "{\"a\":\"x\\ny\"}"},
		{"a = [1, [\"b\"],\n # c\n 2,]", "{\"a\":[1,[\"b\"],2]}"},
		{"a = {b = 1, c = {d = 'e'}}", "{\"a\":{\"b\":1,\"c\":{\"d\":\"e\"}}}"},
		{"a.b.c = 1\n\"x y\" = 2", "{\"a\":{\"b\":{\"c\":1}},\"x y\":2}"},
		{"[a]\nb = 1\n[a.c]\nd = 2", "{\"a\":{\"b\":1,\"c\":{\"d\":2}}}"},
		{"[[r]]\nx = 1\n[[r.m]]\ny = 2\n[[r]]\nx = 3",
		 "{\"r\":[{\"x\":1,\"m\":[{\"y\":2}]},{\"x\":3}]}"},
		{"[aliases]\n\"debian\" = \"docker.io/library/debian\"\r\n",
		 "{\"aliases\":{\"debian\":\"docker.io/library/debian\"}}"},
		{"a = 1979-05-27", "{\"a\":\"1979-05-27\"}"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_json json_t *value = NULL;
		own_mem char *text = NULL;
		struct error err = {0};

		if (toml_parse(cases[i].toml, strlen(cases[i].toml), "x", &value, &err) < 0)
			fail_msg("case %zu: %s", i, err.text);
		text = json_text(value);
		assert_string_equal(text, cases[i].json);
	}
}

static void refuses_with_the_line(void **state)
{
	static const struct {
		const char *toml, *where;
	} cases[] = {
		{"a", "line 1"},
		{"\n\na = ", "line 3"},
		{"a = b", "needs quotes"},
		{"a = \"x", "does not end"},
		{"a = 1\na = 2", "line 2"},
		{"a = 1 b = 2", "something follows"},
		{"[a", "] is missing"},
		{"a = 1\n[a]\n", "as a table and as a value"},
		{"a = [1 2]", ", or ]"},
		{"a = \"\\q\"", "escape"},
		{"a = \"\\ud800\"", "no character"},
		{"= 1", "key is missing"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_json json_t *value = NULL;
		struct error err = {0};

		assert_int_equal(
			toml_parse(cases[i].toml, strlen(cases[i].toml), "x", &value, &err),
			-EINVAL);
		if (strstr(err.text, cases[i].where) == NULL)
			fail_msg("case %zu: %s", i, err.text);
	}
}

static void deep_nesting_is_refused(void **state)
{
	char text[4096] = "a = ";
	own_json json_t *value = NULL;

	(void)state;
	memset(text + 4, '[', 4000);
	text[4004] = '\0';
	assert_int_equal(toml_parse(text, strlen(text), "x", &value, NULL), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_configurations_use),
		cmocka_unit_test(refuses_with_the_line),
		cmocka_unit_test(deep_nesting_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
