/*
 * config_file: reading the text of a configuration.
 *
 * The specification has unsigned 64-bit numbers (limits, seccomp values), the JSON library signed
 * ones. A number above 2^63-1 is therefore read as the negative number with the same 64 bits; the
 * fields that are unsigned take it back.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"

/* Reads and parses a file of at most CONFIG_FILE_MAX bytes. *ret_text, if that is asked for, is what was
 * parsed; the caller frees it. 0, -errno, -EINVAL. */
int config_read_file(int dirfd, const char *path, json_t **ret, char **ret_text,
		     struct error *err) must_check;
/* Parses a text, which is changed. `what` names it in errors. */
int config_read_text(char *text, size_t len, const char *what, json_t **ret,
		     struct error *err) must_check;
