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

#include "scratch.h"
#include <cmocka.h>

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

static void pieces_hash_as_the_whole(void **state)
{
	const char *text = examples[2].data;
	struct digest_state running;
	struct digest d;

	(void)state;
	digest_begin(&running);
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
	assert_int_equal(digest_of_fd(pipe_fds[0], &rest), 0);
	assert_true(digest_eq(&rest, &expected));
	close(pipe_fds[0]);
	assert_int_equal(digest_of_fd(pipe_fds[0], &whole), -EBADF);
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
		{"sha512:00", -ENOTSUP},
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
		cmocka_unit_test(pieces_hash_as_the_whole),
		cmocka_unit_test(hashes_a_descriptor_from_its_position),
		cmocka_unit_test(parses_only_digests),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(hex_refuses_other_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
