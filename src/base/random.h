/* random: unpredictable bytes and identifiers, from the kernel. */
#pragma once

#include <stddef.h>

void random_bytes(void *out, size_t len);
/* 2*len lower-case hexadecimal digits and a NUL into `out`. */
void random_hex(char *out, size_t len);
