/* dylib: loading on first use, with the system's math library as the library. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/dylib.h"
#include "base/mem.h"

#include <cmocka.h>

struct math_api {
	double (*floor)(double);
	double (*ceil)(double);
};

static void fills_the_table(void **state)
{
	static const struct dylib_symbol symbols[] = {
		DYLIB_SYMBOL(struct math_api, floor, "floor"),
		DYLIB_SYMBOL(struct math_api, ceil, "ceil"),
	};
	struct math_api api = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(dylib_load("libm.so.6", "libc6", symbols, array_size(symbols), &api, &err),
			 0);
	assert_true(api.floor(1.5) == 1.0 && api.ceil(1.5) == 2.0);
	assert_string_equal(err.text, "");
}

static void missing_library_is_named_with_its_package(void **state)
{
	struct math_api api = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(dylib_load("libno-such.so.9", "libno-such9", NULL, 0, &api, &err),
			 -ENOENT);
	assert_non_null(strstr(err.text, "libno-such.so.9"));
	assert_non_null(strstr(err.hint, "libno-such9"));
}

static void missing_symbol_is_named_and_nothing_filled(void **state)
{
	static const struct dylib_symbol symbols[] = {
		DYLIB_SYMBOL(struct math_api, floor, "floor"),
		DYLIB_SYMBOL(struct math_api, ceil, "no_such_function"),
	};
	struct math_api api = {0};
	struct error err = {0};

	(void)state;
	assert_int_equal(dylib_load("libm.so.6", "libc6", symbols, array_size(symbols), &api, &err),
			 -ENOSYS);
	assert_non_null(strstr(err.text, "no_such_function"));
	assert_null(api.floor);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_the_table),
		cmocka_unit_test(missing_library_is_named_with_its_package),
		cmocka_unit_test(missing_symbol_is_named_and_nothing_filled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
