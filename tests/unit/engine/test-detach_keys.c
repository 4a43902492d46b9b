/* Tests of the detach keys. */
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "engine/detach_keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void texts(void **state)
{
	static const struct {
		const char *text;
		int rc;
		const char *keys;
	} cases[] = {
		{"ctrl-p,ctrl-q", 0, "\x10\x11"},
		{"", 0, ""},
		{"a", 0, "a"},
		{"ctrl-a", 0, "\x01"},
		{"ctrl-[,x", 0, "\x1bx"},
		{"ctrl-\\", 0, "\x1c"},
		{"ctrl-", -EINVAL, ""},
		{"ctrl-aa", -EINVAL, ""},
		{"ctrl-1", -EINVAL, ""},
		{"ab", -EINVAL, ""},
		{"a,,b", -EINVAL, ""},
		{"a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", -EINVAL, ""},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct detach_keys keys = {0};
		int rc = detach_keys_parse(cases[i].text, &keys, NULL);

		if (rc != cases[i].rc ||
		    (rc == 0 && (keys.count != strlen(cases[i].keys) ||
				 memcmp(keys.keys, cases[i].keys, keys.count))))
			fail_msg("\"%s\": %d, %zu keys", cases[i].text, rc, keys.count);
	}
}

static void found_however_the_input_is_cut(void **state)
{
	static const struct {
		const char *keys, *input, *output;
		bool found;
	} cases[] = {
		{"ctrl-p,ctrl-q", "abc", "abc", false},
		{"ctrl-p,ctrl-q", "ab\x10\x11zz", "ab", true},
		{"ctrl-p,ctrl-q", "\x10x", "\x10x", false},
		{"ctrl-p,ctrl-q", "\x10\x10\x11", "\x10", true},
		{"a,b,c", "abab", "ab", false}, /* the second "ab" is held back */
		{"a,b,c", "ababc", "ab", true},
		{"q", "xyq", "xy", true},
		{"", "anything", "anything", false},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		for (size_t cut = 0; cut <= strlen(cases[i].input); cut++) {
			struct detach_keys keys = {0};
			char out[64];
			size_t n = 0, total;
			bool found;

			assert_int_equal(detach_keys_parse(cases[i].keys, &keys, NULL), 0);
			found = detach_keys_filter(&keys, cases[i].input, cut, out, &n);
			total = n;
			if (!found) {
				found = detach_keys_filter(&keys, cases[i].input + cut,
							   strlen(cases[i].input) - cut,
							   out + total, &n);
				total += n;
			}
			if (found != cases[i].found || total != strlen(cases[i].output) ||
			    memcmp(out, cases[i].output, total) != 0)
				fail_msg("case %zu cut at %zu: %d \"%.*s\"", i, cut, found,
					 (int)total, out);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(found_however_the_input_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
