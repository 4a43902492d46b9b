/* hex: lower-case hexadecimal text of bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Writes 2*len digits and a NUL. */
void hex_format(const void *bytes, size_t len, char *out);
/* Parses exactly 2*len lower-case digits. -EINVAL for anything else. */
int hex_parse(const char *s, size_t len, void *ret_bytes) must_check;
