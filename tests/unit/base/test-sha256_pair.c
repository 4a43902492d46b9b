/* Tests of base/sha256_pair.h: against OpenSSL, one message at a time. */
#include <string.h>

#include "base/digest.h"
#include "base/hex.h"
#include "base/random.h"
#include "base/sha256_pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void assert_digest(const unsigned char raw[SHA256_LEN], const void *message, size_t len)
{
	struct digest right = digest_of(message, len);
	char hex[2 * SHA256_LEN + 1];

	hex_format(raw, SHA256_LEN, hex);
	assert_string_equal(hex, digest_hex(&right));
}

static void both_digests_are_those_of_one_at_a_time(void **state)
{
	static const size_t lengths[] = {0, 64, 128, 192, 448, 4096, 65536};
	static unsigned char a[65536 + 1], b[65536 + 1];
	unsigned char of_a[SHA256_LEN], of_b[SHA256_LEN];

	(void)state;
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		/* also where nothing is aligned */
		sha256_pair(a + i % 2, b, lengths[i], of_a, of_b);
		assert_digest(of_a, a + i % 2, lengths[i]);
		assert_digest(of_b, b, lengths[i]);
	}
}

static void the_standards_own_example(void **state)
{
	/* FIPS 180-4's "abc" is no whole block; this is 64 times "a". */
	static const char right[] =
		"ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb";
	unsigned char message[64], of_a[SHA256_LEN], of_b[SHA256_LEN];
	char hex[2 * SHA256_LEN + 1];

	(void)state;
	memset(message, 'a', sizeof(message));
	sha256_pair(message, message, sizeof(message), of_a, of_b);
	hex_format(of_a, SHA256_LEN, hex);
	assert_string_equal(hex, right);
	hex_format(of_b, SHA256_LEN, hex);
	assert_string_equal(hex, right);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_digests_are_those_of_one_at_a_time),
		cmocka_unit_test(the_standards_own_example),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
