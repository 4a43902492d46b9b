/* table: columns as docker prints them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "cli/table.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static void columns_are_as_wide_as_needed(void **state)
{
	own_table struct table table = {0};
	own_buf struct buf out = {0};

	(void)state;
	table_add(&table, "CONTAINER ID\tIMAGE\tNAMES");
	table_add(&table, "0123456789ab\tbusybox\tweb");
	table_add(&table, "0123456789ac\tgr\303\274n/wide-name\tdb");
	table_format(&table, &out);
	assert_string_equal(out.data, "CONTAINER ID   IMAGE            NAMES\n"
				      "0123456789ab   busybox          web\n"
				      "0123456789ac   gr\303\274n/wide-name   db\n");
}

static void narrow_columns_are_ten_wide(void **state)
{
	own_table struct table table = {0};
	own_buf struct buf out = {0};

	(void)state;
	table_add(&table, "A\t\tC");
	table_format(&table, &out);
	assert_string_equal(out.data, "A                   C\n");
}

static void nothing_acts_on_the_terminal(void **state)
{
	own_table struct table table = {0};
	own_buf struct buf out = {0};

	(void)state;
	table_add(&table, "a\033[2Jb\r\n\177\tz");
	table_add(&table, "\302\2332J\302\237\302\240\tz");
	table_format(&table, &out);
	assert_string_equal(out.data, "a?[2Jb???   z\n"
				      "?2J?\302\240       z\n");
}

static void many_columns_are_only_not_aligned(void **state)
{
	own_table struct table table = {0};
	own_buf struct buf line = {0}, out = {0};

	(void)state;
	for (int i = 0; i < 100; i++)
		buf_add_str(&line, "x\t");
	table_add(&table, line.data);
	table_format(&table, &out);
	assert_non_null(out.data);
}

static void shortens_by_characters(void **state)
{
	static const struct {
		const char *text;
		size_t width;
		const char *shown;
	} cases[] = {
		{"sleep 1000", 20, "sleep 1000"},
		{"abcdef", 6, "abcdef"},
		{"abcdefg", 6, "abcde\xe2\x80\xa6"},
		{"\303\274\303\274\303\274\303\274", 3, "\303\274\303\274\xe2\x80\xa6"},
		{"", 3, ""},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *shown = text_shorten(cases[i].text, cases[i].width);

		assert_string_equal(shown, cases[i].shown);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(columns_are_as_wide_as_needed),
		cmocka_unit_test(narrow_columns_are_ten_wide),
		cmocka_unit_test(nothing_acts_on_the_terminal),
		cmocka_unit_test(many_columns_are_only_not_aligned),
		cmocka_unit_test(shortens_by_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
