/* Tests of pulling (image/registry.h and above) from a registry that misbehaves. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "image/registry.h"
#include "server.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { TEXT_LEN = 300000 };

/* Where the image comes from, and where it goes to. */
struct pair {
	struct fixture source, target;
	struct digest id;
};

static int begin(void **state)
{
	struct pair *p = mem_new(sizeof(*p));
	own_buf struct buf text = {0};

	/* Something that gzip makes smaller, but not small. */
	for (unsigned int i = 1; text.len < TEXT_LEN; i = i * 1664525 + 1013904223)
		buf_format(&text, "%x ", i);
	setenv("CONTAINERS_REGISTRIES_CONF", "/dev/null/none", 1);
	setenv("REGISTRY_AUTH_FILE", "/nonexistent", 1);
	fixture_begin(&p->source);
	fixture_begin(&p->target);
	fixture_import(&p->source, "x", text.data, &p->id);
	*state = p;
	return 0;
}

static int end(void **state)
{
	struct pair *p = *state;

	fixture_end(&p->source);
	fixture_end(&p->target);
	free(p);
	return 0;
}

/* Pulls from a server with that fault. */
static int pull(struct pair *p, enum server_fault fault, const char *user, struct server_seen *seen,
		struct error *err)
{
	struct image_remote remote = {.user = user, .platform = "linux/amd64", .retries = 3};
	own_image struct image *image = NULL;
	own_mem char *name = NULL;
	struct server server;
	int rc;

	server_begin(&server, &p->source, "x", fault);
	name = str_format("127.0.0.1:%d/x:1", server.port);
	rc = image_pull(p->target.store, name, &remote, &image, err);
	*seen = *server.seen;
	server_end(&server);
	if (rc == 0)
		assert_string_equal(image->id.text, p->id.text);
	return rc;
}

static void succeeds_in_spite_of(struct pair *p, enum server_fault fault, const char *user,
				 struct server_seen *seen)
{
	struct error err = {0};

	if (pull(p, fault, user, seen, &err) < 0)
		fail_msg("fault %d: %s", fault, err.text);
	assert_int_equal(fixture_check(&p->target, IMAGE_CHECK_CONTENT), 0);
	assert_int_equal(fixture_count(&p->target, "ingest"), 0);
}

static void pulls_what_the_registry_has(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_NONE, NULL, &seen);
	assert_int_equal(seen.layer_requests, 1);
}

static void what_is_here_is_not_fetched_again(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_NONE, NULL, &seen);
	succeeds_in_spite_of(*state, FAULT_NONE, NULL, &seen);
	assert_int_equal(seen.layer_requests, 0);
	assert_int_equal(seen.requests, 1);
}

static void a_broken_connection_goes_on_where_it_broke(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_CUT, NULL, &seen);
	assert_int_equal(seen.layer_requests, 3);
	assert_int_equal(seen.ranges, 2);
}

static void a_server_without_ranges_is_served_too(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_CUT_NO_RANGE, NULL, &seen);
	assert_int_equal(seen.layer_requests, 3);
}

static void busy_servers_are_asked_again(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_BUSY, NULL, &seen);
	succeeds_in_spite_of(*state, FAULT_RATE_LIMIT, NULL, &seen);
}

static void answers_challenges(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_BASIC, "name:secret", &seen);
	succeeds_in_spite_of(*state, FAULT_BEARER, "name:secret", &seen);
	assert_true(seen.token_requests > 0);
}

static void a_redirect_carries_no_credentials(void **state)
{
	struct server_seen seen;

	succeeds_in_spite_of(*state, FAULT_REDIRECT, "name:secret", &seen);
	assert_true(seen.redirected > 0);
	assert_int_equal(seen.credentials_at_other_host, 0);
}

static void fails_with_the_reason_and_leaves_nothing(void **state)
{
	static const struct {
		enum server_fault fault;
		int rc;
		const char *reason;
	} cases[] = {
		{FAULT_CUT_ALWAYS, -ECONNRESET, NULL},
		{FAULT_SHORT, -ECONNRESET, "instead of"},
		{FAULT_LONG, -EBADMSG, "promised"},
		{FAULT_WRONG_BYTES, -EBADMSG, "sha256:"},
		{FAULT_WRONG_CONFIG, -EBADMSG, "configuration"},
		{FAULT_WRONG_MANIFEST_DIGEST, -EBADMSG, "the registry says"},
		{FAULT_WRONG_RANGE, -EPROTO, "instead of"},
		{FAULT_ENDLESS_MANIFEST, -EFBIG, "larger"},
		{FAULT_MANIFEST_NOT_JSON, -EINVAL, "JSON"},
		{FAULT_BROKEN, -EREMOTEIO, "500"},
		{FAULT_REDIRECT_LOOP, -ELOOP, "without end"},
		{FAULT_BASIC, -EACCES, "name and a password"},
		{FAULT_BEARER, -EACCES, NULL},
		{FAULT_FORBIDDEN, -EACCES, "does not allow"},
	};
	struct pair *p = *state;

	for (size_t i = 0; i < array_size(cases); i++) {
		own_image struct image *image = NULL;
		struct server_seen seen;
		struct error err = {0};
		int rc = pull(p, cases[i].fault, NULL, &seen, &err);

		print_message("# %s\n", err.text);
		assert_int_equal(rc, cases[i].rc);
		if (cases[i].reason != NULL && strstr(err.text, cases[i].reason) == NULL)
			fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].reason);
		assert_int_equal(fixture_count(&p->target, "layers"), 0);
		assert_int_equal(fixture_count(&p->target, "blobs/sha256"), 0);
		assert_int_equal(fixture_count(&p->target, "ingest"), 0);
		assert_int_equal(fixture_check(&p->target, IMAGE_CHECK_CONTENT), 0);
	}
}

static void reads_challenges(void **state)
{
	static const char challenge[] =
		"Bearer realm=\"https://a/b?c=d,e\", service=x ,scope=\"r:\\\"q\\\"\"";
	static const struct {
		const char *name, *value;
	} cases[] = {
		{"realm", "https://a/b?c=d,e"},
		{"Service", "x"},
		{"scope", "r:\"q\""},
		{"none", NULL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *value = registry_challenge_parameter(challenge, cases[i].name);

		assert_true(str_eq(value, cases[i].value));
	}
	assert_null(registry_challenge_parameter("Bearer", "realm"));
	assert_null(registry_challenge_parameter("", "realm"));
	assert_null(registry_challenge_parameter("Bearer realm", "realm"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pulls_what_the_registry_has, begin, end),
		cmocka_unit_test_setup_teardown(what_is_here_is_not_fetched_again, begin, end),
		cmocka_unit_test_setup_teardown(a_broken_connection_goes_on_where_it_broke, begin,
						end),
		cmocka_unit_test_setup_teardown(a_server_without_ranges_is_served_too, begin, end),
		cmocka_unit_test_setup_teardown(busy_servers_are_asked_again, begin, end),
		cmocka_unit_test_setup_teardown(answers_challenges, begin, end),
		cmocka_unit_test_setup_teardown(a_redirect_carries_no_credentials, begin, end),
		cmocka_unit_test_setup_teardown(fails_with_the_reason_and_leaves_nothing, begin,
						end),
		cmocka_unit_test(reads_challenges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
