/* digest and hex: texts of hashes, and the hashes themselves against FIPS 180's examples. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/hex.h"
#include "base/mem.h"
#include "base/str.h"

#include "scratch.h"
#include <cmocka.h>

#define HEX_128                                                                                    \
	"cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"                         \
	"47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
#define HEX_64 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct {
	const char *data, *text;
} examples[] = {
	{"", "sha256:" HEX_64},
	{"abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	 "sha256:248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void hashes_the_standards_examples(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_size(examples); i++) {
		struct digest d = digest_of(examples[i].data, strlen(examples[i].data));

		assert_string_equal(d.text, examples[i].text);
		assert_string_equal(digest_hex(&d), examples[i].text + 7);
	}
}

/* Of FIPS 180's examples "abc" and the one of two blocks. */
static void hashes_with_the_algorithm_of_what_is_promised(void **state)
{
	static const struct {
		const char *data, *text;
	} cases[] = {
		{"", "sha512:" HEX_128},
		{"abc", "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
			"2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"},
		{"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
		 "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
		 "sha512:8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
		 "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct digest promised, is;

		assert_int_equal(digest_parse(cases[i].text, &promised, NULL), 0);
		is = digest_of_like(&promised, cases[i].data, strlen(cases[i].data));
		assert_string_equal(is.text, cases[i].text);
		assert_string_equal(digest_hex(&is), cases[i].text + 7);
	}
	assert_true(str_after(digest_of_like(&(struct digest){0}, "", 0).text, "sha256:") != NULL);
}

static void names_and_digests_lead_to_each_other(void **state)
{
	struct digest d, back;

	(void)state;
	assert_int_equal(digest_parse("sha512:" HEX_128, &d, NULL), 0);
	assert_string_equal(digest_path(&d).text, "sha512/" HEX_128);
	assert_string_equal(digest_algorithm_name(&d), "sha512");
	assert_true(digest_from_hex(HEX_128 ".erofs", 128, &back) && digest_eq(&d, &back));
	d = digest_of("", 0);
	assert_string_equal(digest_path(&d).text, "sha256/" HEX_64);
	assert_true(digest_from_hex(HEX_64, 64, &back) && digest_eq(&d, &back));
	assert_false(digest_from_hex(HEX_128, 127, &back));
	assert_false(digest_from_hex("", 0, &back));
	assert_false(digest_from_hex("x" HEX_64, 64, &back));
	assert_string_equal(digest_text_hex("sha512:ab"), "ab");
	assert_string_equal(digest_text_hex("sha256:ab"), "ab");
	assert_null(digest_text_hex("ab"));
}

static void pieces_hash_as_the_whole(void **state)
{
	const char *text = examples[2].data;
	struct digest_state running;
	struct digest d;

	(void)state;
	digest_begin(&running, NULL);
	for (size_t i = 0; i < strlen(text); i++)
		digest_add(&running, text + i, 1);
	digest_end(&running, &d);
	assert_string_equal(d.text, examples[2].text);
}

static void hashes_a_descriptor_from_its_position(void **state)
{
	struct digest whole, rest, expected = digest_of("bc", 2);
	int pipe_fds[2];

	(void)state;
	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(write(pipe_fds[1], "abc", 3), 3);
	close(pipe_fds[1]);
	assert_int_equal(read(pipe_fds[0], &(char){0}, 1), 1);
	assert_int_equal(digest_of_fd(pipe_fds[0], NULL, &rest), 0);
	assert_true(digest_eq(&rest, &expected));
	close(pipe_fds[0]);
	assert_int_equal(digest_of_fd(pipe_fds[0], NULL, &whole), -EBADF);
}

static void parses_only_digests(void **state)
{
	static const struct {
		const char *text;
		int rc;
	} cases[] = {
		{"sha256:" HEX_64, 0},
		{"", -EINVAL},
		{"sha256:", -EINVAL},
		{HEX_64, -EINVAL},
		{"sha256:" HEX_64 "0", -EINVAL},
		{"sha256:" HEX_64 "\n", -EINVAL},
		{"SHA256:" HEX_64, -EINVAL},
		{"sha256:E3B0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		 -EINVAL},
		{"sha256:../4298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855bbbb",
		 -EINVAL},
		{"md5:d41d8cd98f00b204e9800998ecf8427e", -EINVAL},
		{"sha512:00", -EINVAL},
		{"sha512:" HEX_128, 0},
		{"sha512:" HEX_128 "0", -EINVAL},
		{"sha512:" HEX_64, -EINVAL},
		{"sha256:" HEX_128, -EINVAL},
		{"sha384:00", -ENOTSUP},
		{"blake3:" HEX_64, -ENOTSUP},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		struct error err = {0};
		struct digest d;

		print_message("%s\n", cases[i].text);
		assert_int_equal(digest_parse(cases[i].text, &d, &err), cases[i].rc);
		assert_int_equal(err.code, cases[i].rc);
		if (cases[i].rc == 0)
			assert_string_equal(d.text, cases[i].text);
	}
}

static void hex_goes_both_ways(void **state)
{
	uint8_t bytes[256], back[256];
	char text[513];

	(void)state;
	for (int i = 0; i < 256; i++)
		bytes[i] = (uint8_t)i;
	hex_format(bytes, sizeof(bytes), text);
	assert_int_equal(strlen(text), 512);
	assert_int_equal(strncmp(text, "000102", 6), 0);
	assert_int_equal(hex_parse(text, sizeof(back), back), 0);
	assert_memory_equal(bytes, back, sizeof(bytes));
	assert_int_equal(hex_parse("", 0, back), 0);
}

static void hex_refuses_other_text(void **state)
{
	static const char *const cases[] = {"", "0", "000", "0g", "g0", "0A", " 0", "-1", "0\n"};
	uint8_t byte;

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		assert_int_equal(hex_parse(cases[i], 1, &byte), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_the_standards_examples),
		cmocka_unit_test(hashes_with_the_algorithm_of_what_is_promised),
		cmocka_unit_test(names_and_digests_lead_to_each_other),
		cmocka_unit_test(pieces_hash_as_the_whole),
		cmocka_unit_test(hashes_a_descriptor_from_its_position),
		cmocka_unit_test(parses_only_digests),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(hex_refuses_other_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
