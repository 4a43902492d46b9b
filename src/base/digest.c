/*
 * digest: see digest.h.
 *
 * OpenSSL's low-level SHA-256 is used although it is marked deprecated: it is the same assembly with
 * SHA-NI, and unlike the EVP interface costs no library initialisation at start (over a millisecond).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "base/digest.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/own.h"
#include "base/mem.h"
#include "base/str.h"

static const char prefix[] = "sha256:";

int digest_parse(const char *s, struct digest *ret, struct error *err)
{
	const char *hex = str_after(s, prefix);
	unsigned char raw[SHA256_DIGEST_LENGTH];

	if (hex == NULL && str_after(s, "sha512:") != NULL)
		return refuse(err, -ENOTSUP, "digest algorithm sha512 is not supported");
	if (hex == NULL || hex_parse(hex, sizeof(raw), raw) < 0)
		return refuse(err, -EINVAL,
			      "\"%.80s\" is not a digest (sha256: and 64 hexadecimal digits)", s);
	memcpy(ret->text, s, strlen(s) + 1);
	return 0;
}

bool digest_eq(const struct digest *a, const struct digest *b)
{
	return strcmp(a->text, b->text) == 0;
}

const char *digest_hex(const struct digest *d)
{
	return d->text + sizeof(prefix) - 1;
}

void digest_begin(struct digest_state *state)
{
	SHA256_Init(&state->sha256);
}

void digest_add(struct digest_state *state, const void *data, size_t len)
{
	SHA256_Update(&state->sha256, data, len);
}

void digest_end(struct digest_state *state, struct digest *ret)
{
	unsigned char raw[SHA256_DIGEST_LENGTH];

	SHA256_Final(raw, &state->sha256);
	memcpy(ret->text, prefix, sizeof(prefix) - 1);
	hex_format(raw, sizeof(raw), ret->text + sizeof(prefix) - 1);
}

struct digest digest_of(const void *data, size_t len)
{
	struct digest_state state;
	struct digest d;

	digest_begin(&state);
	digest_add(&state, data, len);
	digest_end(&state, &d);
	return d;
}

int digest_of_fd(int fd, struct digest *ret)
{
	enum { CHUNK = 256 * 1024 };
	own_mem char *chunk = mem_new(CHUNK);
	struct digest_state state;

	digest_begin(&state);
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
