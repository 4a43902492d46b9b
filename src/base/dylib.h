/*
 * dylib: libraries that are loaded when they are first used.
 *
 * `berth run` must start in well under a millisecond, so what only some commands need (TLS and HTTP,
 * instruction decoding) is not linked but opened on demand. The caller declares a struct of function
 * pointers whose types are those of the library's own header, and a table of names:
 *
 *     static const struct dylib_symbol symbols[] = {
 *             DYLIB_SYMBOL(struct curl_api, easy_init, "curl_easy_init"), ...
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

struct dylib_symbol {
	const char *name;
	size_t offset; /* of the function pointer in the caller's struct */
};

#define DYLIB_SYMBOL(type, member, symbol)                                                         \
	{                                                                                          \
		.name = symbol, .offset = offsetof(type, member)                                   \
	}

/* Opens `soname` and fills the pointers of `*api`. `package` is the Debian package to name in the
 * hint if it is missing. The library stays loaded. 0, -ENOENT, -ENOSYS (a symbol is missing); on
 * failure `*api` is as it was. */
int dylib_load(const char *soname, const char *package, const struct dylib_symbol *symbols,
	       size_t count, void *api, struct error *err) must_check;
