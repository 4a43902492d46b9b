/*
 * digest: content digests as the OCI image specification writes them ("sha256:<64 hex digits>").
 * Only sha256 is supported; sha512 is parsed as a digest that we say we do not support.
 */
#pragma once

#include <openssl/sha.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum { DIGEST_TEXT_MAX = 72, DIGEST_HEX_LEN = 64 };

struct digest {
	char text[DIGEST_TEXT_MAX]; /* "sha256:..." and a NUL */
};

/* A running SHA-256. */
struct digest_state {
	SHA256_CTX sha256;
};

/* Validates the text. -EINVAL for what is no digest, -ENOTSUP for another algorithm. */
int digest_parse(const char *s, struct digest *ret, struct error *err) must_check;
bool digest_eq(const struct digest *a, const struct digest *b);
/* The 64 hexadecimal digits, for file names. */
const char *digest_hex(const struct digest *d);

void digest_begin(struct digest_state *state);
void digest_add(struct digest_state *state, const void *data, size_t len);
void digest_end(struct digest_state *state, struct digest *ret);

struct digest digest_of(const void *data, size_t len);
/* Reads the descriptor from its current position to the end. 0 or -errno. */
int digest_of_fd(int fd, struct digest *ret) must_check;
