/* json: typed reading with errors that name the place; writing of any bytes. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"

#include "scratch.h"
#include <cmocka.h>

static const char document[] =
	"{\"name\":\"web\",\"count\":3,\"on\":true,\"off\":false,\"none\":null,\"ratio\":1.5,"
	"\"process\":{\"args\":[\"a\",\"b\",7],\"env\":[\"A=1\",\"B=2\"],\"empty\":[]},"
	"\"labels\":{\"b\":\"2\",\"a\":\"1\"},\"bad\":{\"x\":1},\"list\":[{\"deep\":[0,\"s\"]}]}";

static json_t *value;
static struct json_at root;

static int set_up(void **state)
{
	(void)state;
	if (json_parse(document, strlen(document), "test", &value, NULL) < 0)
		return -1;
	root = json_root(value);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	json_decref(value);
	return 0;
}

static void refuses_what_is_not_json(void **state)
{
	static const char *const cases[] = {
		"",
		" ",
		"{",
		"{}x",
		"{} {}",
		"{\"a\":1,\"a\":2}",
		"{\"a\":}",
		"[1,]",
		"{'a':1}",
		"nul",
		"\"text\"",
		"[\"\\u0000\"]",
		"[\"\xff\"]",
		"[\"\xed\xa0\x80\"]",
		"[99999999999999999999]",
		"[1e999]",
		"[01]",
		"[NaN]",
		"// comment\n{}",
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		json_t *v = NULL;

		print_message("%s\n", cases[i]);
		assert_int_equal(json_parse(cases[i], strlen(cases[i]), "the file", &v, &err),
				 -EINVAL);
		assert_null(v);
		assert_int_equal(strncmp(err.text, "the file is not valid JSON: line ", 33), 0);
	}
}

static void refuses_bottomless_nesting(void **state)
{
	enum { DEPTH = 100000 };
	own_mem char *text = malloc(DEPTH);
	json_t *v;

	(void)state;
	memset(text, '[', DEPTH);
	assert_int_equal(json_parse(text, DEPTH, "x", &v, NULL), -EINVAL);
}

static void reads_no_further_than_its_length(void **state)
{
	own_json json_t *v = NULL;
	const char text[] = {'[', '1', ']', ']'};

	(void)state;
	assert_int_equal(json_parse(text, 3, "x", &v, NULL), 0);
}

static void getters_return_what_is_there(void **state)
{
	const char *s = NULL;
	int64_t n = 0;
	bool b = false;
	struct json_at at;

	(void)state;
	assert_int_equal(json_get_string(&root, "name", JSON_REQUIRED, &s, NULL), 1);
	assert_string_equal(s, "web");
	assert_int_equal(json_get_int(&root, "count", JSON_OPTIONAL, 3, 3, &n, NULL), 1);
	assert_int_equal(n, 3);
	assert_int_equal(json_get_bool(&root, "on", JSON_OPTIONAL, &b, NULL), 1);
	assert_true(b);
	assert_int_equal(json_get_bool(&root, "off", JSON_OPTIONAL, &b, NULL), 1);
	assert_false(b);
	assert_int_equal(json_object_at(&root, "process", JSON_REQUIRED, &at, NULL), 1);
	assert_int_equal(json_as_object(&at, NULL), 0);
}

static void absent_and_null_leave_the_result_alone(void **state)
{
	static const char *const keys[] = {"absent", "none"};

	(void)state;
	for (size_t i = 0; i < array_size(keys); i++) {
		const char *s = "before";
		char **v = NULL;
		int64_t n = 42;
		bool b = true;
		struct json_at at = {.index = 9};

		assert_int_equal(json_get_string(&root, keys[i], JSON_OPTIONAL, &s, NULL), 0);
		assert_string_equal(s, "before");
		assert_int_equal(json_get_int(&root, keys[i], JSON_OPTIONAL, 0, 9, &n, NULL), 0);
		assert_int_equal(n, 42);
		assert_int_equal(json_get_bool(&root, keys[i], JSON_OPTIONAL, &b, NULL), 0);
		assert_true(b);
		assert_int_equal(json_get_strv(&root, keys[i], JSON_OPTIONAL, &v, NULL), 0);
		assert_int_equal(json_get_pairs(&root, keys[i], JSON_OPTIONAL, &v, NULL), 0);
		assert_null(v);
		assert_int_equal(json_member(&root, keys[i], JSON_OPTIONAL, &at, NULL), 0);
		assert_int_equal(at.index, 9);
	}
}

static int get_string(const char *key, struct error *err)
{
	const char *s;

	return json_get_string(&root, key, JSON_REQUIRED, &s, err);
}

static int get_int(const char *key, struct error *err)
{
	int64_t n;

	return json_get_int(&root, key, JSON_REQUIRED, 5, 9, &n, err);
}

static int get_bool(const char *key, struct error *err)
{
	bool b;

	return json_get_bool(&root, key, JSON_REQUIRED, &b, err);
}

static int get_array(const char *key, struct error *err)
{
	struct json_at at;

	return json_array_at(&root, key, JSON_REQUIRED, &at, err);
}

static int get_pairs(const char *key, struct error *err)
{
	char **v;

	return json_get_pairs(&root, key, JSON_REQUIRED, &v, err);
}

static int get_args(const char *key, struct error *err)
{
	struct json_at process;
	char **v;
	int rc = json_object_at(&root, "process", JSON_REQUIRED, &process, err);

	return rc < 0 ? rc : json_get_strv(&process, key, JSON_REQUIRED, &v, err);
}

static void errors_name_the_place(void **state)
{
	static const struct {
		int (*get)(const char *key, struct error *err);
		const char *key, *text;
	} cases[] = {
		{get_string, "count", "count: expected a string, found an integer"},
		{get_string, "absent", "absent: is required but missing"},
		{get_string, "none", "none: is required but missing"},
		{get_int, "count", "count: 3 is outside 5 to 9"},
		{get_int, "ratio", "ratio: expected an integer, found a number with a fraction"},
		{get_int, "name", "name: expected an integer, found a string"},
		{get_bool, "name", "name: expected true or false, found a string"},
		{get_array, "labels", "labels: expected an array, found an object"},
		{get_array, "on", "on: expected an array, found true or false"},
		{get_pairs, "bad", "bad.x: expected a string, found an integer"},
		{get_pairs, "list", "list: expected an object, found an array"},
		{get_args, "args", "process.args[2]: expected a string, found an integer"},
		{get_args, "nope", "process.nope: is required but missing"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};

		assert_int_equal(cases[i].get(cases[i].key, &err), -EINVAL);
		assert_string_equal(err.text, cases[i].text);
	}
}

static void place_is_told_through_arrays(void **state)
{
	struct json_at list, item, deep, last;
	own_mem char *path = NULL, *top = json_path(&root);
	struct error err = {0};

	(void)state;
	assert_string_equal(top, "");
	assert_int_equal(json_array_at(&root, "list", JSON_REQUIRED, &list, NULL), 1);
	assert_true(json_element(&list, 0, &item));
	assert_false(json_element(&list, 1, &item));
	assert_int_equal(json_array_at(&item, "deep", JSON_REQUIRED, &deep, NULL), 1);
	assert_true(json_element(&deep, 1, &last));
	path = json_path(&last);
	assert_string_equal(path, "list[0].deep[1]");
	assert_int_equal(json_refuse(&err, &last, "no %d", 5), -EINVAL);
	assert_string_equal(err.text, "list[0].deep[1]: no 5");
}

static void member_of_no_object_is_refused(void **state)
{
	struct json_at list, at;
	struct error err = {0};

	(void)state;
	assert_int_equal(json_array_at(&root, "list", JSON_REQUIRED, &list, NULL), 1);
	assert_int_equal(json_member(&list, "x", JSON_OPTIONAL, &at, &err), -EINVAL);
	assert_string_equal(err.text, "list: expected an object, found an array");
}

static void vectors_read_can_be_pushed_to(void **state)
{
	(void)state;
	for (size_t n = 0; n < 20; n++) {
		own_json json_t *object = json_object(), *array = json_array();
		own_strv char **v = NULL;
		struct json_at at = json_root(object);

		for (size_t i = 0; i < n; i++)
			json_array_append_new(array, json_string("x"));
		json_object_set(object, "v", array);
		assert_int_equal(json_get_strv(&at, "v", JSON_REQUIRED, &v, NULL), 1);
		assert_non_null(v);
		for (size_t i = 0; i < 3; i++)
			strv_push(&v, "more");
		assert_int_equal(strv_len(v), n + 3);
	}
}

static void pairs_keep_their_order(void **state)
{
	own_strv char **v = NULL;
	own_mem char *text = NULL;

	(void)state;
	assert_int_equal(json_get_pairs(&root, "labels", JSON_REQUIRED, &v, NULL), 1);
	text = strv_join(v, " ");
	assert_string_equal(text, "b=2 a=1");
	strv_push(&v, "c=3");
}

static void text_is_what_was_parsed(void **state)
{
	own_mem char *text = json_text(value), *pretty = json_text_pretty(value);
	own_json json_t *again = NULL;

	(void)state;
	assert_string_equal(text, document);
	assert_int_equal(json_parse(pretty, strlen(pretty), "x", &again, NULL), 0);
	assert_true(json_equal(value, again));
}

static void text_is_the_library_s_for_every_character(void **state)
{
	own_json json_t *object = json_object();
	own_mem char *text = NULL, *expected = NULL;
	char s[8];

	(void)state;
	for (int c = 1; c < 0x80; c++) {
		snprintf(s, sizeof(s), "<%c>%c", c, c);
		json_object_set_new(object, s, json_string(s));
	}
	json_object_set_new(
		object, "",
		json_pack("[[],{},n,b,b,f,I,s]", 1, 0, 0.1, INT64_MIN, "\xc3\xa4\xf0\x9f\x90\xb3"));
	text = json_text(object);
	expected = json_dumps(object, JSON_COMPACT);
	assert_string_equal(text, expected);
}

/* Arguments and environments may hold any bytes; dropping one would shift the others. */
static void bytes_that_are_not_utf8_are_replaced(void **state)
{
	static char *const v[] = {"a\xff"
				  "b",
				  "\xc3\xa4", "\xe2\x82", "\xed\xa0\x80", NULL};
	own_json json_t *object = json_object();
	own_mem char *text = NULL;

	(void)state;
	json_set_strv(object, "v", v);
	json_set_string(object, "s", "\x80");
	json_set_string(object, "n", NULL);
	json_set_strv(object, "m", NULL);
	text = json_text(object);
	assert_string_equal(text,
			    "{\"v\":[\"a\xef\xbf\xbd"
			    "b\",\"\xc3\xa4\",\"\xef\xbf\xbd\xef\xbf\xbd\","
			    "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"],\"s\":\"\xef\xbf\xbd\"}");
}

static void files_are_written_and_read(void **state)
{
	int dir = scratch_open();
	own_json json_t *again = NULL;
	struct error err = {0};
	json_t *none = NULL;

	(void)state;
	assert_int_equal(json_write_file(dir, "x.json", value, 0600, &err), 0);
	assert_int_equal(json_read_file(dir, "x.json", 4096, &again, &err), 0);
	assert_true(json_equal(value, again));
	assert_int_equal(json_read_file(dir, "x.json", 10, &none, &err), -EFBIG);
	assert_non_null(strstr(err.text, "x.json is larger than 10 bytes"));
	error_clear(&err);
	assert_int_equal(json_read_file(dir, "absent", 10, &none, &err), -ENOENT);
	scratch_file("bad", "{");
	error_clear(&err);
	assert_int_equal(json_read_file(dir, "bad", 10, &none, &err), -EINVAL);
	assert_int_equal(strncmp(err.text, "bad is not valid JSON: line 1 ", 30), 0);
	scratch_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refuses_what_is_not_json),
		cmocka_unit_test(refuses_bottomless_nesting),
		cmocka_unit_test(reads_no_further_than_its_length),
		cmocka_unit_test(getters_return_what_is_there),
		cmocka_unit_test(absent_and_null_leave_the_result_alone),
		cmocka_unit_test(errors_name_the_place),
		cmocka_unit_test(place_is_told_through_arrays),
		cmocka_unit_test(member_of_no_object_is_refused),
		cmocka_unit_test(vectors_read_can_be_pushed_to),
		cmocka_unit_test(pairs_keep_their_order),
		cmocka_unit_test(text_is_what_was_parsed),
		cmocka_unit_test(text_is_the_library_s_for_every_character),
		cmocka_unit_test(bytes_that_are_not_utf8_are_replaced),
		cmocka_unit_test(files_are_written_and_read),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
