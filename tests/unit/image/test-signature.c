/* Tests of signatures, with openssl's own program as the other side, and of what policies say. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/policy.h"
#include "image/signature.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char work[] = "/tmp/signature-XXXXXX";

/* Runs a shell script in the work directory. */
static void shell(const char *script)
{
	own_mem char *line = str_format("cd %s && { %s\n} >/dev/null 2>&1", work, script);

	if (system(line) != 0)
		fail_msg("failed: %s", script);
}

static char *contents(const char *name, size_t *ret_len)
{
	own_mem char *path = str_format("%s/%s", work, name);
	char *text;
	size_t len;

	assert_int_equal(file_read(AT_FDCWD, path, 1 << 20, &text, &len, NULL), 0);
	if (ret_len != NULL)
		*ret_len = len;
	return text;
}

static struct signature_key *load(const char *name, bool private_key)
{
	size_t len;
	own_mem char *pem = contents(name, &len);
	struct signature_key *key = NULL;
	struct error err = {0};
	int rc = private_key ? signature_key_private(pem, len, name, &key, &err)
			     : signature_key_public(pem, len, name, &key, &err);

	if (rc < 0)
		fail_msg("%s", err.text);
	return key;
}

static int make_keys(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(work));
	shell("openssl ecparam -name prime256v1 -genkey -noout -out ec.pem\n"
	      "openssl ec -in ec.pem -pubout -out ec.pub\n"
	      "openssl ecparam -name prime256v1 -genkey -noout -out other.pem\n"
	      "openssl ec -in other.pem -pubout -out other.pub\n"
	      "openssl genpkey -algorithm ed25519 -out ed.pem\n"
	      "openssl pkey -in ed.pem -pubout -out ed.pub\n"
	      "openssl genrsa -out rsa.pem 2048\n"
	      "openssl rsa -in rsa.pem -pubout -out rsa.pub\n"
	      "openssl ecparam -name secp384r1 -genkey -noout | openssl ec -pubout -out p384.pub\n"
	      "openssl ec -in ec.pem -aes128 -passout pass:x -out locked.pem");
	return 0;
}

static int remove_keys(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, work, NULL);
}

static const struct digest manifest = {
	"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};

static void what_we_sign_openssl_verifies(void **state)
{
	own_signature_key struct signature_key *key = load("ec.pem", true);
	own_mem char *payload = signature_payload("example.org/app", &manifest);
	own_mem char *base64 = NULL, *path = str_format("%s/payload", work),
		     *signature = str_format("%s/sig64", work);

	(void)state;
	assert_int_equal(signature_sign(key, payload, strlen(payload), &base64, NULL), 0);
	assert_int_equal(
		file_write(AT_FDCWD, path, payload, strlen(payload), 0600, FILE_WRITE_PLAIN, NULL),
		0);
	assert_int_equal(file_write(AT_FDCWD, signature, base64, strlen(base64), 0600,
				    FILE_WRITE_PLAIN, NULL),
			 0);
	shell("base64 -d sig64 >sig; openssl dgst -sha256 -verify ec.pub -signature sig payload");
}

static void what_openssl_signs_we_verify(void **state)
{
	own_signature_key struct signature_key *key = load("ec.pub", false);
	own_mem char *base64 = NULL;

	(void)state;
	shell("printf hello >message; openssl dgst -sha256 -sign ec.pem message | base64 -w0 >sig64");
	base64 = contents("sig64", NULL);
	assert_int_equal(signature_verify(key, "hello", 5, base64, NULL), 0);
	assert_int_equal(signature_verify(key, "hellO", 5, base64, NULL), -EKEYREJECTED);
}

static void ed25519_signs_and_verifies(void **state)
{
	own_signature_key struct signature_key *key = load("ed.pem", true);
	own_signature_key struct signature_key *public_key = load("ed.pub", false);
	own_mem char *base64 = NULL;

	(void)state;
	assert_int_equal(signature_sign(key, "message", 7, &base64, NULL), 0);
	assert_int_equal(signature_verify(public_key, "message", 7, base64, NULL), 0);
	assert_int_equal(signature_verify(public_key, "messagE", 7, base64, NULL), -EKEYREJECTED);
}

static void another_key_is_rejected(void **state)
{
	own_signature_key struct signature_key *key = load("ec.pem", true);
	own_signature_key struct signature_key *other = load("other.pub", false);
	own_mem char *base64 = NULL;

	(void)state;
	assert_int_equal(signature_sign(key, "x", 1, &base64, NULL), 0);
	assert_int_equal(signature_verify(other, "x", 1, base64, NULL), -EKEYREJECTED);
}

static void malformed_signatures_are_rejected(void **state)
{
	static const char *const cases[] = {"", "=", "====", "A", "AAA", "AAAA", "!!!!", "AA=A"};
	own_signature_key struct signature_key *key = load("ec.pub", false);

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++)
		assert_int_equal(signature_verify(key, "x", 1, cases[i], NULL), -EKEYREJECTED);
}

static void keys_of_other_kinds_are_refused(void **state)
{
	static const struct {
		const char *name;
		bool private_key;
	} cases[] = {{"rsa.pem", true}, {"rsa.pub", false}, {"p384.pub", false},
		     {"ec.pub", true},  {"ec.pem", false},  {"locked.pem", true}};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		size_t len;
		own_mem char *pem = contents(cases[i].name, &len);
		struct signature_key *key;
		struct error err = {0};
		int rc = cases[i].private_key
				 ? signature_key_private(pem, len, cases[i].name, &key, &err)
				 : signature_key_public(pem, len, cases[i].name, &key, &err);

		assert_int_equal(rc, -EINVAL);
		assert_non_null(strstr(err.text, cases[i].name));
	}
}

static void a_payload_must_speak_of_the_image(void **state)
{
	own_mem char *payload = signature_payload("example.org/app", &manifest);
	const size_t len = strlen(payload);
	struct digest other = digest_of("x", 1);

	(void)state;
	assert_int_equal(signature_check_payload(payload, len, &manifest, NULL,
						 SIGNATURE_TAGS_AS_SIGNED, NULL),
			 0);
	assert_int_equal(signature_check_payload(payload, len, &manifest, "example.org/app",
						 SIGNATURE_TAGS_AS_SIGNED, NULL),
			 0);
	assert_int_equal(
		signature_check_payload(payload, len, &other, NULL, SIGNATURE_TAGS_AS_SIGNED, NULL),
		-EKEYREJECTED);
	assert_int_equal(signature_check_payload(payload, len, &manifest, "example.org/b",
						 SIGNATURE_TAGS_AS_SIGNED, NULL),
			 -EKEYREJECTED);
	assert_int_equal(signature_check_payload(payload, len, &manifest, "example.org/app:1",
						 SIGNATURE_TAGS_AS_SIGNED, NULL),
			 0);
	assert_int_equal(signature_check_payload(payload, len, &manifest, "example.org/app:1",
						 SIGNATURE_TAGS_EQUAL, NULL),
			 -EKEYREJECTED);
	assert_int_equal(
		signature_check_payload("{}", 2, &manifest, NULL, SIGNATURE_TAGS_AS_SIGNED, NULL),
		-EKEYREJECTED);
	assert_int_equal(
		signature_check_payload("[", 1, &manifest, NULL, SIGNATURE_TAGS_AS_SIGNED, NULL),
		-EKEYREJECTED);
}

static void the_manifest_of_signatures_is_read_as_it_was_written(void **state)
{
	own_signatures struct signatures read = {0};
	struct signature item = {
		.payload = digest_of("p", 1), .size_bytes = 1, .base64 = (char[]){"QUJD"}};
	const struct signatures list = {.items = &item, .count = 1};
	const char *config;
	own_json json_t *json = signatures_manifest(&list, &config);
	own_mem char *text = json_text(json);

	(void)state;
	assert_int_equal(signatures_parse(text, strlen(text), &read, NULL), 0);
	assert_int_equal(read.count, 1);
	assert_string_equal(read.items[0].base64, "QUJD");
	assert_true(digest_eq(&read.items[0].payload, &item.payload));
}

/* --- policy --------------------------------------------------------------------------------------- */

static const char policy_text[] =
	"{\"default\":[{\"type\":\"reject\"}],\"transports\":{\"docker\":{"
	"\"docker.io/library\":[{\"type\":\"insecureAcceptAnything\"}],"
	"\"docker.io/library/evil\":[{\"type\":\"reject\"}],"
	"\"docker.io/library/evil:good\":[{\"type\":\"insecureAcceptAnything\"}],"
	"\"*.example.org\":[{\"type\":\"insecureAcceptAnything\"}],"
	"\"signed.example.org/app\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"/k\"}],"
	"\"old.org\":[{\"type\":\"signedBy\",\"keyType\":\"GPGKeys\",\"keyPath\":\"/g\"}]}}}";

static void the_most_specific_scope_decides(void **state)
{
	static const struct {
		const char *image;
		bool accepted, signatures;
	} cases[] = {
		{"busybox", true, false},
		{"evil", false, false},
		{"evil:other", false, false},
		{"evil:good", true, false},
		{"someone/app", false, false},
		{"a.example.org/x", true, false},
		{"a.b.example.org/x", true, false},
		{"example.org/x", false, false},
		{"signed.example.org/app:1", true, true},
		{"signed.example.org/app/part", true, true},
		{"signed.example.org/application", true, false},
		{"old.org/app", false, false},
	};
	own_policy struct policy policy = {0};
	struct error err = {0};

	(void)state;
	if (policy_parse(policy_text, strlen(policy_text), "policy.json", &policy, &err) < 0)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < array_size(cases); i++) {
		const struct policy_scope *scope;
		struct reference r;

		assert_int_equal(reference_parse(cases[i].image, &r, NULL), 0);
		scope = policy_find(&policy, &r);
		assert_non_null(scope);
		if ((policy_check_rejects(&policy, scope, &r, NULL) == 0) != cases[i].accepted)
			fail_msg("%s", cases[i].image);
		assert_int_equal(policy_wants_signatures(scope), cases[i].signatures);
	}
}

static void what_is_not_understood_is_refused(void **state)
{
	static const char *const cases[] = {
		"[]",
		"{}",
		"{\"default\":[]}",
		"{\"default\":{}}",
		"{\"default\":[{\"type\":\"acceptAll\"}]}",
		"{\"default\":[{}]}",
		"{\"default\":[{\"type\":\"reject\",\"unless\":1}]}",
		"{\"default\":[{\"type\":\"sigstoreSigned\"}]}",
		"{\"default\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"/a\",\"keyData\":\"b\"}]}",
		"{\"default\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"/a\",\"keypath\":\"/b\"}]}",
		"{\"default\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"/a\","
		"\"signedIdentity\":{\"type\":\"remapIdentity\",\"prefix\":\"a.example\"}}]}",
		"{\"default\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"/a\","
		"\"signedIdentity\":{\"type\":\"matchAll\"}}]}",
		"{\"default\":[{\"type\":\"sigstoreSigned\",\"keyPath\":\"/a\","
		"\"signedIdentity\":{\"type\":\"exactReference\",\"dockerReference\":\"a.example/x\"}}]}",
		"{\"default\":[{\"type\":\"reject\"}],\"transport\":{}}",
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_policy struct policy policy = {0};
		struct error err = {0};

		if (policy_parse(cases[i], strlen(cases[i]), "p.json", &policy, &err) != -EINVAL)
			fail_msg("accepted: %s", cases[i]);
		assert_non_null(strstr(err.text, "p.json"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_we_sign_openssl_verifies),
		cmocka_unit_test(what_openssl_signs_we_verify),
		cmocka_unit_test(ed25519_signs_and_verifies),
		cmocka_unit_test(another_key_is_rejected),
		cmocka_unit_test(malformed_signatures_are_rejected),
		cmocka_unit_test(keys_of_other_kinds_are_refused),
		cmocka_unit_test(a_payload_must_speak_of_the_image),
		cmocka_unit_test(the_manifest_of_signatures_is_read_as_it_was_written),
		cmocka_unit_test(the_most_specific_scope_decides),
		cmocka_unit_test(what_is_not_understood_is_refused),
	};

	return cmocka_run_group_tests(tests, make_keys, remove_keys);
}
