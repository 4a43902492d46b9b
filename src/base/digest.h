/*
 * digest: content digests as the OCI image specification writes them: the name of an algorithm, a colon,
 * lower-case hexadecimal digits. Both algorithms that it registers for everybody are here, sha256 (what is
 * made here has it) and sha512 (what others have named by it keeps that name).
 */
#pragma once

#include <openssl/sha.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The hexadecimal digits of a sha256 and of the longest digest; its whole text and a NUL. */
enum { DIGEST_HEX_LEN = 64, DIGEST_HEX_MAX = 128, DIGEST_TEXT_MAX = 136 };

enum digest_algorithm { DIGEST_SHA256, DIGEST_SHA512, DIGEST_ALGORITHMS };

struct digest {
	char text[DIGEST_TEXT_MAX]; /* "sha256:..." and a NUL; "" is none */
};

/* "sha256/<hex>": where OCI layouts and the image store have the blob, below `blobs`. */
struct digest_path {
	char text[DIGEST_TEXT_MAX];
};

/* A running hash. */
struct digest_state {
	enum digest_algorithm algorithm;
	union {
		SHA256_CTX sha256;
		SHA512_CTX sha512;
	};
};

/* Validates the text. -EINVAL for what is no digest, -ENOTSUP for another algorithm that is known. */
int digest_parse(const char *s, struct digest *ret, struct error *err) must_check;
/* The digest whose hexadecimal digits are the first `len` bytes of `hex`: their number tells the
 * algorithm. False if that is none. */
bool digest_from_hex(const char *hex, size_t len, struct digest *ret);
bool digest_eq(const struct digest *a, const struct digest *b);
/* The hexadecimal digits alone. */
const char *digest_hex(const struct digest *d);
/* The same of any text: what follows "sha256:" or "sha512:" in it; NULL if it begins with neither. */
const char *digest_text_hex(const char *text);
/* "sha256" */
const char *digest_algorithm_name(const struct digest *d);
/* The same for those who go through all of them. */
const char *digest_name(enum digest_algorithm algorithm);
struct digest_path digest_path(const struct digest *d);

/* A hash with the algorithm of `like`; sha256 if that is NULL or none. Whoever compares with a digest
 * that was promised passes that. */
void digest_begin(struct digest_state *state, const struct digest *like);
void digest_add(struct digest_state *state, const void *data, size_t len);
void digest_end(struct digest_state *state, struct digest *ret);

/* With sha256. */
struct digest digest_of(const void *data, size_t len);
struct digest digest_of_like(const struct digest *like, const void *data, size_t len);
/* Reads the descriptor from its current position to the end. 0 or -errno. */
int digest_of_fd(int fd, const struct digest *like, struct digest *ret) must_check;
