/* Tests of image/registries.h and image/auth.h: where images come from, and who we are there. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/auth.h"
#include "image/registries.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static char directory[] = "/tmp/berth-registries-XXXXXX";

static int begin(void **state)
{
	(void)state;
	strcpy(strrchr(directory, '-') + 1, "XXXXXX");
	assert_non_null(mkdtemp(directory));
	setenv("HOME", directory, 1);
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	return 0;
}

static int end(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, directory, NULL);
}

static char *put(const char *name, const char *text, mode_t mode)
{
	char *path = str_format("%s/%s", directory, name);
	own_mem char *dir = str_copy_n(path, (size_t)(strrchr(path, '/') - path));

	assert_int_equal(dir_make(AT_FDCWD, dir, 0700, NULL), 0);
	assert_int_equal(
		file_write(AT_FDCWD, path, text, strlen(text), mode, FILE_WRITE_PLAIN, NULL), 0);
	return path;
}

static const char conf[] = "unqualified-search-registries = [\"docker.io\", \"quay.io\"]\n"
			   "[aliases]\n"
			   "\"mine\" = \"ghcr.io/me/mine\"\n"
			   "[[registry]]\n"
			   "prefix = \"docker.io\"\n"
			   "location = \"docker.io\"\n"
			   "[[registry.mirror]]\n"
			   "location = \"mirror:5000/hub\"\n"
			   "insecure = true\n"
			   "[[registry]]\n"
			   "prefix = \"old.example\"\n"
			   "location = \"new.example/archive\"\n"
			   "[[registry]]\n"
			   "location = \"bad.example\"\n"
			   "blocked = true\n"
			   "[[registry]]\n"
			   "prefix = \"*.inner\"\n"
			   "location = \"proxy.example\"\n"
			   "[[registry]]\n"
			   "location = \"plain.example:5000\"\n"
			   "insecure = true\n";

/* The places as "registry/repository[!]" joined by blanks, names apart by ";". */
static char *places(const char *name, int expected)
{
	own_registry_candidates struct registry_candidates c = {0};
	struct reference reference;
	struct error err = {0};
	struct buf text = {0};

	assert_int_equal(reference_parse(name, &reference, &err), 0);
	assert_int_equal(registries_resolve(&reference, &c, &err), expected);
	for (size_t i = 0; i < c.count; i++) {
		buf_add_str(&text, i ? "; " : "");
		for (size_t k = 0; k < c.items[i].endpoints_count; k++)
			buf_format(&text, "%s%s/%s%s", k ? " " : "",
				   c.items[i].endpoints[k].registry,
				   c.items[i].endpoints[k].repository,
				   c.items[i].endpoints[k].insecure ? "!" : "");
	}
	return buf_take(&text);
}

static void finds_the_places(void **state)
{
	static const struct {
		const char *name, *places;
	} cases[] = {
		{"busybox", "mirror:5000/hub/library/busybox! docker.io/library/busybox; "
			    "quay.io/busybox"},
		{"docker.io/a/b", "mirror:5000/hub/a/b! docker.io/a/b"},
		{"mine:1", "ghcr.io/me/mine"},
		{"old.example/x/y", "new.example/archive/x/y"},
		{"a.inner/x", "proxy.example/x"},
		{"plain.example:5000/x", "plain.example:5000/x!"},
		{"plain.example:5001/x", "plain.example:5001/x"},
		{"other.example/x", "other.example/x"},
	};
	own_mem char *path = put("registries.conf", conf, 0600);

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *found = places(cases[i].name, 0);

		assert_string_equal(found, cases[i].places);
	}
}

static void a_blocked_registry_is_refused(void **state)
{
	own_mem char *path = put("registries.conf", conf, 0600), *found = NULL;

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
	found = places("bad.example/x", -EPERM);
}

static void files_of_the_directory_add_up(void **state)
{
	own_mem char *path = put("registries.conf", conf, 0600), *found = NULL;
	own_mem char *more =
		put("registries.conf.d/a.conf",
		    "[[registry]]\nlocation = \"more.example\"\ninsecure = true\n", 0600);

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
	found = places("more.example/x", 0);
	assert_string_equal(found, "more.example/x!");
}

static void without_a_file_names_say_it_all(void **state)
{
	own_mem char *found = NULL;

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", "/nonexistent/registries.conf", 1);
	found = places("busybox", 0);
	assert_string_equal(found, "docker.io/library/busybox");
}

static void base64_goes_there_and_back(void **state)
{
	static const char *const texts[] = {"", "a", "ab", "abc", "name:secret\xff"};

	(void)state;
	for (size_t i = 0; i < array_size(texts); i++) {
		own_mem char *encoded = base64_encode(texts[i], strlen(texts[i])), *back = NULL;
		size_t len;

		assert_int_equal(base64_decode(encoded, &back, &len), 0);
		assert_string_equal(back, texts[i]);
	}
	for (size_t i = 0; i < 3; i++) {
		static const char *const bad[] = {"a!", "=a", "YQ==x"};
		own_mem char *back = NULL;
		size_t len;

		assert_int_equal(base64_decode(bad[i], &back, &len), -EINVAL);
	}
}

static void the_longest_entry_is_taken(void **state)
{
	/* a:1 b:2 c:3 */
	own_mem char *path = put(".docker/config.json",
				 "{\"auths\":{\"h.example\":{\"auth\":\"YToxCg==\"},"
				 "\"h.example/team\":{\"auth\":\"Yjoy\"},"
				 "\"https://index.docker.io/v1/\":{\"auth\":\"Yzoz\"},"
				 "\"t.example\":{\"identitytoken\":\"tok\"},"
				 "\"broken.example\":{\"auth\":\"%%\"}}}",
				 0600);
	static const struct {
		const char *registry, *repository, *user, *token;
		int rc;
	} cases[] = {
		{"h.example", "x", "a", NULL, 1},
		{"h.example", "team/x", "b", NULL, 1},
		{"h.example", "teams/x", "a", NULL, 1},
		{"docker.io", "library/x", "c", NULL, 1},
		{"t.example", "x", NULL, "tok", 1},
		{"other.example", "x", NULL, NULL, 0},
		{"broken.example", "x", NULL, NULL, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_credentials struct credentials c = {0};
		struct error err = {0};

		assert_int_equal(
			credentials_find(NULL, cases[i].registry, cases[i].repository, &c, &err),
			cases[i].rc);
		assert_true(str_eq(c.user, cases[i].user));
		assert_true(str_eq(c.identity_token, cases[i].token));
	}
}

static void a_helper_is_asked(void **state)
{
	own_mem char *config =
		put(".docker/config.json",
		    "{\"credHelpers\":{\"h.example\":\"test\"},\"credsStore\":\"../x\"}", 0600);
	own_mem char *helper =
		put("bin/docker-credential-test",
		    "#!/bin/sh\nread -r host\n[ \"$1\" = get ] && echo "
		    "\"{\\\"Username\\\":\\\"u\\\",\\\"Secret\\\":\\\"for $host\\\"}\"\n",
		    0700);
	own_mem char *path = str_format("%s/bin:%s", directory, getenv("PATH"));
	own_credentials struct credentials c = {0}, other = {0};
	struct error err = {0};

	(void)state;
	setenv("PATH", path, 1);
	assert_int_equal(credentials_find(NULL, "h.example", "x", &c, &err), 1);
	assert_string_equal(c.user, "u");
	assert_string_equal(c.secret, "for h.example");
	/* A name that leads somewhere else is not run. */
	assert_int_equal(credentials_find(NULL, "z.example", "x", &other, &err), -EINVAL);
}

static void what_is_stored_is_found_and_forgotten(void **state)
{
	own_credentials struct credentials in = {0}, out = {0}, none = {0};
	own_mem char *path = str_format("%s/.docker/config.json", directory);
	struct error err = {0};
	struct stat st;

	(void)state;
	assert_int_equal(credentials_parse("name:a:b", &in, &err), 0);
	assert_int_equal(credentials_store(NULL, "docker.io", &in, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(credentials_find(NULL, "docker.io", "library/x", &out, &err), 1);
	assert_string_equal(out.user, "name");
	assert_string_equal(out.secret, "a:b");
	assert_int_equal(credentials_store(NULL, "docker.io", NULL, &err), 0);
	assert_int_equal(credentials_find(NULL, "docker.io", "library/x", &none, &err), 0);
	assert_int_equal(credentials_store(NULL, "docker.io", NULL, &err), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(finds_the_places, begin, end),
		cmocka_unit_test_setup_teardown(a_blocked_registry_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(files_of_the_directory_add_up, begin, end),
		cmocka_unit_test_setup_teardown(without_a_file_names_say_it_all, begin, end),
		cmocka_unit_test(base64_goes_there_and_back),
		cmocka_unit_test_setup_teardown(the_longest_entry_is_taken, begin, end),
		cmocka_unit_test_setup_teardown(a_helper_is_asked, begin, end),
		cmocka_unit_test_setup_teardown(what_is_stored_is_found_and_forgotten, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
