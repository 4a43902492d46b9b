/*
 * toml: TOML 1.0 as configuration files use it, into JSON values: tables, arrays of tables, dotted and
 * quoted keys, basic and literal strings (multi-line ones too), integers, true and false, arrays, inline
 * tables. Dates and floats are kept as strings of their text.
 */
#pragma once

#include "base/json.h"

enum { TOML_DEPTH_MAX = 32 };

/* -EINVAL: "<what>: line 3: ...". */
int toml_parse(const char *text, size_t len, const char *what, json_t **ret,
	       struct error *err) must_check;
