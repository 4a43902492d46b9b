/*
 * digest: see digest.h.
 *
 * OpenSSL's low-level hashes are used although they are marked deprecated: they are the same assembly with
 * SHA-NI, and unlike the EVP interface cost no library initialisation at start (over a millisecond).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/own.h"
#include "base/mem.h"
#include "base/str.h"

static const struct {
	const char *name, *prefix;
	size_t bytes;
} algorithms[] = {
	[DIGEST_SHA256] = {"sha256", "sha256:", SHA256_DIGEST_LENGTH},
	[DIGEST_SHA512] = {"sha512", "sha512:", SHA512_DIGEST_LENGTH},
};
_Static_assert(DIGEST_HEX_LEN == 2 * SHA256_DIGEST_LENGTH &&
		       DIGEST_HEX_MAX == 2 * SHA512_DIGEST_LENGTH,
	       "two digits a byte");
_Static_assert(DIGEST_TEXT_MAX == sizeof("sha512:") + DIGEST_HEX_MAX, "the longest fits");

/* Algorithms that go-digest and the specification know besides: worth another answer than nonsense. */
static const char *const others[] = {"sha384:", "blake3:"};

static enum digest_algorithm algorithm_of(const struct digest *d)
{
	return d != NULL && str_after(d->text, algorithms[DIGEST_SHA512].prefix) ? DIGEST_SHA512
										 : DIGEST_SHA256;
}

int digest_parse(const char *s, struct digest *ret, struct error *err)
{
	unsigned char raw[SHA512_DIGEST_LENGTH];

	for (size_t i = 0; i < array_size(algorithms); i++) {
		const char *hex = str_after(s, algorithms[i].prefix);

		if (hex == NULL || hex_parse(hex, algorithms[i].bytes, raw) < 0)
			continue;
		memcpy(ret->text, s, strlen(s) + 1);
		return 0;
	}
	for (size_t i = 0; i < array_size(others); i++)
		if (str_after(s, others[i]) != NULL)
			return refuse(err, -ENOTSUP, "digest algorithm %.6s is not supported",
				      others[i]);
	return refuse(err, -EINVAL,
		      "\"%.80s\" is not a digest (sha256: and 64, or sha512: and 128 hexadecimal "
		      "digits)",
		      s);
}

bool digest_from_hex(const char *hex, size_t len, struct digest *ret)
{
	char text[DIGEST_TEXT_MAX];

	for (size_t i = 0; i < array_size(algorithms); i++) {
		if (len != 2 * algorithms[i].bytes)
			continue;
		snprintf(text, sizeof(text), "%s%.*s", algorithms[i].prefix, (int)len, hex);
		return digest_parse(text, ret, NULL) == 0;
	}
	return false;
}

bool digest_eq(const struct digest *a, const struct digest *b)
{
	return strcmp(a->text, b->text) == 0;
}

const char *digest_hex(const struct digest *d)
{
	return d->text + strlen(algorithms[algorithm_of(d)].prefix);
}

const char *digest_text_hex(const char *text)
{
	for (size_t i = 0; i < array_size(algorithms); i++)
		if (str_after(text, algorithms[i].prefix) != NULL)
			return text + strlen(algorithms[i].prefix);
	return NULL;
}

const char *digest_algorithm_name(const struct digest *d)
{
	return digest_name(algorithm_of(d));
}

const char *digest_name(enum digest_algorithm algorithm)
{
	return algorithms[algorithm].name;
}

struct digest_path digest_path(const struct digest *d)
{
	struct digest_path path;

	snprintf(path.text, sizeof(path.text), "%s/%s", digest_algorithm_name(d), digest_hex(d));
	return path;
}

void digest_begin(struct digest_state *state, const struct digest *like)
{
	state->algorithm = algorithm_of(like);
	if (state->algorithm == DIGEST_SHA512)
		SHA512_Init(&state->sha512);
	else
		SHA256_Init(&state->sha256);
}

void digest_add(struct digest_state *state, const void *data, size_t len)
{
	if (state->algorithm == DIGEST_SHA512)
		SHA512_Update(&state->sha512, data, len);
	else
		SHA256_Update(&state->sha256, data, len);
}

void digest_end(struct digest_state *state, struct digest *ret)
{
	const size_t at = strlen(algorithms[state->algorithm].prefix);
	unsigned char raw[SHA512_DIGEST_LENGTH];

	if (state->algorithm == DIGEST_SHA512)
		SHA512_Final(raw, &state->sha512);
	else
		SHA256_Final(raw, &state->sha256);
	memcpy(ret->text, algorithms[state->algorithm].prefix, at);
	hex_format(raw, algorithms[state->algorithm].bytes, ret->text + at);
}

struct digest digest_of(const void *data, size_t len)
{
	return digest_of_like(NULL, data, len);
}

struct digest digest_of_like(const struct digest *like, const void *data, size_t len)
{
	struct digest_state state;
	struct digest d;

	digest_begin(&state, like);
	digest_add(&state, data, len);
	digest_end(&state, &d);
	return d;
}

int digest_of_fd(int fd, const struct digest *like, struct digest *ret)
{
	enum { CHUNK = 256 * 1024 };
	own_mem char *chunk = mem_new(CHUNK);
	struct digest_state state;

	digest_begin(&state, like);
	for (;;) {
		ssize_t n = read(fd, chunk, CHUNK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		digest_add(&state, chunk, (size_t)n);
	}
	digest_end(&state, ret);
	return 0;
}
