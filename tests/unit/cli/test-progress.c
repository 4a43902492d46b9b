/* progress: the line of a layer in every state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "cli/progress.h"

/* After our headers: it defines a macro fail(). */
#include <cmocka.h>

static void shows_each_state(void **state)
{
	static const struct {
		struct progress_line line;
		int64_t now_ms;
		size_t columns;
		const char *shown;
	} cases[] = {
		{{"0123456789ab", IMAGE_STEP_WAIT, 0, 100, 0, 0}, 0, 100, "0123456789ab  waiting"},
		{{"0123456789ab", IMAGE_STEP_EXISTS, 0, 0, 0, 0},
		 0,
		 100,
		 "0123456789ab  already here"},
		{{"0123456789ab", IMAGE_STEP_THERE, 0, 100, 0, 0},
		 0,
		 100,
		 "0123456789ab  already there"},
		{{"0123456789ab", IMAGE_STEP_DONE, 3000000, 3000000, 1000, 2500},
		 9999,
		 100,
		 "0123456789ab  done, 3MB in 1.5s"},
		{{"0123456789ab", IMAGE_STEP_RUN, 1000000, 4000000, 1000, 0},
		 2000,
		 100,
		 "0123456789ab  [======>                  ]  1MB/4MB  1MB/s  3s left"},
		{{"0123456789ab", IMAGE_STEP_RUN, 1000000, 4000000, 1000, 0},
		 2000,
		 60,
		 "0123456789ab  1MB/4MB  1MB/s  3s left"},
		{{"0123456789ab", IMAGE_STEP_RUN, 1000000, 4000000, 1000, 0},
		 2000,
		 20,
		 "0123456789ab  1MB/4M"},
		{{"0123456789ab", IMAGE_STEP_RUN, 5000, 0, 1000, 0},
		 3000,
		 100,
		 "0123456789ab  5kB  2.5kB/s"},
		{{"0123456789ab", IMAGE_STEP_RUN, 0, 10, 1000, 0},
		 1000,
		 60,
		 "0123456789ab  0B/10B"},
		/* A registry that sends more than it announced. */
		{{"0123456789ab", IMAGE_STEP_RUN, 20, 10, 1000, 0},
		 1100,
		 100,
		 "0123456789ab  [=========================]  20B/10B"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_buf struct buf out = {0};

		progress_format(&cases[i].line, cases[i].now_ms, cases[i].columns, &out);
		assert_string_equal(out.data, cases[i].shown);
	}
}

static void odd_events_do_no_harm(void **state)
{
	own_progress struct progress *progress = progress_new(false);
	const struct image_progress events[] = {
		{.step = IMAGE_STEP_RUN, .what = NULL, .index = 3},
		{.step = IMAGE_STEP_RUN, .what = "sha256:ab", .index = 1u << 31},
		{.step = IMAGE_STEP_FINISH},
	};

	(void)state;
	for (size_t i = 0; i < array_size(events); i++)
		progress_report(&events[i], progress);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(shows_each_state),
		cmocka_unit_test(odd_events_do_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
