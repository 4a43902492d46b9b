/*
 * sha256_pair: the SHA-256 of two messages at once.
 *
 * The processor's SHA instructions wait for each other: one message keeps half of the unit busy. Two that
 * have nothing to do with each other, as the blocks of a file under fs-verity, take little longer than one.
 * Without those instructions it is OpenSSL, one message after the other.
 */
#pragma once

#include <stddef.h>

enum { SHA256_LEN = 32, SHA256_BLOCK = 64 };

/* Both messages have `len` bytes, a multiple of SHA256_BLOCK. */
void sha256_pair(const void *a, const void *b, size_t len, unsigned char ret_a[static SHA256_LEN],
		 unsigned char ret_b[static SHA256_LEN]);
