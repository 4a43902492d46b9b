/* complete: what may stand next on a command line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/complete.h"
#include "cli/completion.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static void offers_what_fits(void **state)
{
	static const struct {
		const char *line;  /* words separated by spaces; the last one is to be completed */
		const char *names; /* in order, separated by spaces */
		enum complete_kind kind; /* what else */
	} cases[] = {
		{"ren", "rename", COMPLETE_NOTHING},
		{"image l", "load ls", COMPLETE_NOTHING},
		{"image list --di", "--digests", COMPLETE_NOTHING},
		{"--root /x image pu", "pull push", COMPLETE_NOTHING},
		{"--root=/x sys", "system", COMPLETE_NOTHING},
		{"--ro", "--root", COMPLETE_NOTHING},
		{"--root ", "", COMPLETE_DIRS},
		{"ps --debug --no", "--no-trunc", COMPLETE_NOTHING},
		{"run --cap-", "--cap-add --cap-drop", COMPLETE_NOTHING},
		{"run --pull ", "always missing never newer", COMPLETE_NOTHING},
		{"run --pull=ne", "never newer", COMPLETE_NOTHING},
		{"run -d --pull=always ", "", COMPLETE_IMAGES},
		{"run -it --name web --rm busy", "", COMPLETE_IMAGES},
		{"run -itv ", "", COMPLETE_FILES},
		{"run -v", "", COMPLETE_NOTHING},
		{"run busybox --na", "", COMPLETE_NOTHING},
		{"run busybox sh ", "", COMPLETE_NOTHING},
		{"stop ", "", COMPLETE_CONTAINERS},
		{"stop a b ", "", COMPLETE_CONTAINERS},
		{"stop --time 3 ", "", COMPLETE_CONTAINERS},
		{"logs a ", "", COMPLETE_NOTHING},
		{"completion ", "bash zsh fish", COMPLETE_NOTHING},
		{"bootstrap d", "debian", COMPLETE_NOTHING},
		{"nonsense ", "", COMPLETE_NOTHING},
		{"run --publ", "", COMPLETE_NOTHING},
		{"__comp", "", COMPLETE_NOTHING},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_strv char **words = strv_split(cases[i].line, ' ');
		own_buf struct buf out = {0};
		own_strv char **lines = NULL, **names = NULL;
		own_mem char *joined = NULL;
		size_t prefix;
		enum complete_kind kind = complete_words(&berth_command, words, &out, &prefix);

		lines = strv_split(out.data ? out.data : "", '\n');
		for (size_t j = 0; lines && lines[j] && lines[j][0]; j++) {
			lines[j][strcspn(lines[j], "\t")] = '\0';
			strv_push(&names, lines[j]);
		}
		joined = names ? strv_join(names, " ") : str_copy("");
		if (strcmp(joined, cases[i].names) != 0 || kind != cases[i].kind)
			fail_msg("%s: got \"%s\" and %d", cases[i].line, joined, kind);
	}
}

static void tells_where_the_value_begins(void **state)
{
	own_strv char **words = strv_split("run --pull=al", ' ');
	own_buf struct buf out = {0};
	size_t prefix;

	(void)state;
	complete_words(&berth_command, words, &out, &prefix);
	assert_int_equal(prefix, strlen("--pull="));
}

static void has_a_script_for_each_shell(void **state)
{
	(void)state;
	assert_non_null(completion_script("bash"));
	assert_non_null(completion_script("zsh"));
	assert_non_null(completion_script("fish"));
	assert_null(completion_script("csh"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_what_fits),
		cmocka_unit_test(tells_where_the_value_begins),
		cmocka_unit_test(has_a_script_for_each_shell),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
