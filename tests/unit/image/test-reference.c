/* Tests of image/reference.h. */
#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "image/reference.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void completes_and_formats(void **state)
{
	static const struct {
		const char *text, *full, *familiar;
	} cases[] = {
		{"busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"busybox:1.35", "docker.io/library/busybox:1.35", "busybox:1.35"},
		{"me/tool", "docker.io/me/tool:latest", "me/tool:latest"},
		{"docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"},
		{"index.docker.io/a/b:c", "docker.io/a/b:c", "a/b:c"},
		{"registry-1.docker.io/x", "docker.io/library/x:latest", "x:latest"},
		{"localhost/x", "localhost/x:latest", "localhost/x:latest"},
		{"localhost:5000/x", "localhost:5000/x:latest", "localhost:5000/x:latest"},
		{"ghcr.io/a/b/c:v1.2_3-4", "ghcr.io/a/b/c:v1.2_3-4", "ghcr.io/a/b/c:v1.2_3-4"},
		{"[::1]:5000/x:y", "[::1]:5000/x:y", "[::1]:5000/x:y"},
		{"a__b/c--d.e_f", "docker.io/a__b/c--d.e_f:latest", "a__b/c--d.e_f:latest"},
		{"x@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64, "x@sha256:" HEX64},
		{"x:t@sha256:" HEX64, "docker.io/library/x:t@sha256:" HEX64, "x:t@sha256:" HEX64},
		{"x@sha512:" HEX64 HEX64, "docker.io/library/x@sha512:" HEX64 HEX64,
		 "x@sha512:" HEX64 HEX64},
		{"docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest"},
		{"docker.io/localhost/c:1", "docker.io/localhost/c:1", "docker.io/localhost/c:1"},
		{"docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b:latest"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		struct reference r;
		char text[REFERENCE_TEXT_MAX];

		assert_int_equal(reference_parse(cases[i].text, &r, &err), 0);
		reference_format(&r, text);
		assert_string_equal(text, cases[i].full);
		reference_format_familiar(&r, text);
		assert_string_equal(text, cases[i].familiar);
	}
}

static void formatted_text_parses_to_the_same(void **state)
{
	static const char *const cases[] = {"busybox", "a/b:c", "h:1/x@sha256:" HEX64,
					    "h:1/x:t@sha512:" HEX64 HEX64};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct reference a, b;
		char first[REFERENCE_TEXT_MAX], second[REFERENCE_TEXT_MAX];

		assert_int_equal(reference_parse(cases[i], &a, NULL), 0);
		reference_format(&a, first);
		assert_int_equal(reference_parse(first, &b, NULL), 0);
		reference_format(&b, second);
		assert_string_equal(first, second);
	}
}

static void refuses_what_is_no_name(void **state)
{
	static const char *const cases[] = {
		"",
		"/",
		"a/",
		"/a",
		"a//b",
		"Upper",
		"a:",
		"a:-x",
		"a:.x",
		"a b",
		"a@",
		"a@sha256:",
		"a@md5:00",
		"a@sha512:" HEX64,
		"a@sha256:" HEX64 HEX64,
		"-a",
		"a-",
		"a..b",
		"a___b",
		"host:99999/x",
		"host:0/x",
		"ho_st.a/x",
		"host.:1/x",
		".host/x",
		"[::1/x",
		"a/b\n",
		"a@sha256:" HEX64 "0",
		"../etc/passwd",
		"a/../b",
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		struct reference r;

		if (reference_parse(cases[i], &r, &err) == 0)
			fail_msg("\"%s\" was accepted", cases[i]);
		assert_int_not_equal(err.text[0], '\0');
	}
}

static void refuses_names_that_are_too_long(void **state)
{
	char text[1024];
	struct reference r;

	(void)state;
	memset(text, 'a', sizeof(text));
	/* With "docker.io/library/" it is 255. */
	text[238] = '\0';
	assert_int_equal(reference_parse(text, &r, NULL), -EINVAL);
	text[237] = '\0';
	assert_int_equal(reference_parse(text, &r, NULL), 0);
	memset(text, 'a', sizeof(text));
	text[1023] = '\0';
	assert_int_equal(reference_parse(text, &r, NULL), -EINVAL);
	text[1] = ':';
	text[2 + 128] = '\0';
	assert_int_equal(reference_parse(text, &r, NULL), 0);
	memset(text, 'a', sizeof(text));
	text[1] = ':';
	text[2 + 129] = '\0';
	assert_int_equal(reference_parse(text, &r, NULL), -EINVAL);
}

static void upper_case_gets_a_hint(void **state)
{
	struct error err = {0};
	struct reference r;

	(void)state;
	assert_int_equal(reference_parse("BusyBox", &r, &err), -EINVAL);
	assert_string_equal(err.hint, "names of images are in lower case");
}

static void knows_what_was_left_out(void **state)
{
	struct reference r;

	(void)state;
	assert_int_equal(reference_parse("a/b", &r, NULL), 0);
	assert_true(r.short_name && r.default_tag);
	assert_int_equal(reference_parse("docker.io/a/b:c", &r, NULL), 0);
	assert_false(r.short_name || r.default_tag);
	assert_int_equal(reference_parse("a@sha256:" HEX64, &r, NULL), 0);
	assert_true(r.short_name && !r.default_tag && reference_has_digest(&r));
	assert_string_equal(r.tag, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(completes_and_formats),
		cmocka_unit_test(formatted_text_parses_to_the_same),
		cmocka_unit_test(refuses_what_is_no_name),
		cmocka_unit_test(refuses_names_that_are_too_long),
		cmocka_unit_test(upper_case_gets_a_hint),
		cmocka_unit_test(knows_what_was_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
