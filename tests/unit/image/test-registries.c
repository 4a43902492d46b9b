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
	assert_int_equal(registries_resolve(&reference, NULL, &c, &err), expected);
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

static const char points[] =
	"short-name-mode = \"permissive\"\n"
	"unqualified-search-registries = [\"one.example\", \"two.example:5000\"]\n"
	"[aliases]\n\"team/tool\" = \"x.example/y/tool\"\n\"gone\" = \"\"\n"
	/* The longest prefix decides; a prefix ends where a part of the name does. */
	"[[registry]]\nprefix = \"p.example/a\"\nlocation = \"short.example\"\n"
	"[[registry]]\nprefix = \"p.example/a/b\"\nlocation = \"long.example/c/\"\n"
	"[[registry]]\nprefix = \"p.example/t:1\"\nlocation = \"tag.example/t\"\n"
	"[[registry]]\nprefix = \"p.example/blocked:2\"\nlocation = \"p.example\"\n"
	"blocked = true\n"
	/* Wildcards, with and without a location. */
	"[[registry]]\nprefix = \"*.wild.example\"\ninsecure = true\n"
	"[[registry]]\nprefix = \"*.far.example\"\nlocation = \"near.example/far\"\n"
	"[[registry]]\nprefix = \"*.far.example/ns\"\nlocation = \"ns.example\"\n"
	"[[registry]]\nprefix = \"very.far.example\"\nlocation = \"itself.example\"\n"
	/* Mirrors by kind. */
	"[[registry]]\nlocation = \"m.example/x\"\n"
	"[[registry.mirror]]\nlocation = \"d.example\"\npull-from-mirror = \"digest-only\"\n"
	"[[registry.mirror]]\nlocation = \"t.example/z\"\npull-from-mirror = \"tag-only\"\n"
	"insecure = true\n"
	"[[registry.mirror]]\nlocation = \"all.example\"\npull-from-mirror = \"all\"\n"
	"[[registry]]\nlocation = \"o.example\"\nmirror-by-digest-only = true\n"
	"[[registry.mirror]]\nlocation = \"od.example\"\n"
	/* Of the same prefix the last. */
	"[[registry]]\nlocation = \"same.example\"\nblocked = true\n"
	"[[registry]]\nlocation = \"same.example\"\ninsecure = true\n";
#define DIGEST "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static void prefixes_wildcards_and_mirrors_are_as_the_manual_says(void **state)
{
	static const struct {
		const char *name, *places;
		int rc;
	} cases[] = {
		{"p.example/a", "", -EINVAL}, /* nothing is left of the repository */
		{"p.example/a/x", "short.example/x", 0},
		{"p.example/ab", "p.example/ab", 0},
		{"p.example/a/b/x:2", "long.example/c/x", 0},
		{"p.example/a/bc", "short.example/bc", 0},
		{"p.example/t:1", "tag.example/t", 0},
		{"p.example/t:12", "p.example/t", 0},
		{"p.example/t", "p.example/t", 0},
		{"p.example/blocked:1", "p.example/blocked", 0},
		{"p.example/blocked:2", "", -EPERM},
		{"a.wild.example/x", "a.wild.example/x!", 0},
		{"a.b.wild.example:5000/x", "a.b.wild.example:5000/x!", 0},
		{"wild.example/x", "wild.example/x", 0},
		{"host.example/x.wild.example/y", "host.example/x.wild.example/y", 0},
		{"a.far.example/x/y", "near.example/far/x/y", 0},
		{"a.far.example/ns/y", "ns.example/y", 0},
		{"very.far.example/x", "itself.example/x", 0},
		{"m.example/x/y:1", "t.example/z/y! all.example/y m.example/x/y", 0},
		{"m.example/x/y" DIGEST, "d.example/y all.example/y m.example/x/y", 0},
		{"o.example/x", "o.example/x", 0},
		{"o.example/x" DIGEST, "od.example/x o.example/x", 0},
		{"same.example/x", "same.example/x!", 0},
		{"team/tool:3", "x.example/y/tool", 0},
		{"gone", "one.example/gone; two.example:5000/gone", 0},
	};
	own_mem char *path = put("registries.conf", points, 0600);

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *found = places(cases[i].name, cases[i].rc);

		if (cases[i].rc == 0)
			assert_string_equal(found, cases[i].places);
	}
}

static void what_is_not_understood_is_refused(void **state)
{
	static const struct {
		const char *text, *why;
	} cases[] = {
		{"[registries.search]\nregistries = [\"a\"]\n", "version 1"},
		{"[[registry]]\nblocked = true\n", "neither prefix nor location"},
		{"[[registry]]\nprefix = \"a.example\"\n", "needs a location"},
		{"[[registry]]\nlocation = \"a.example\"\nblocked = \"true\"\n", "blocked"},
		{"[[registry]]\nlocation = \"https://a.example\"\n", "scheme"},
		{"[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\ninsecure = true\n",
		 "location"},
		{"[[registry]]\nlocation = \"a.example\"\n[[registry.mirror]]\n"
		 "location = \"b\"\npull-from-mirror = \"never\"\n",
		 "digest-only or tag-only"},
		{"[[registry]]\nlocation = \"a.example\"\nmirror-by-digest-only = true\n"
		 "[[registry.mirror]]\nlocation = \"b\"\npull-from-mirror = \"all\"\n",
		 "together"},
		{"short-name-mode = \"strict\"\n", "short-name-mode"},
		{"unqualified-search-registries = [\"a.example/ns\"]\n", "no registry"},
		{"unqualified-search-registries = \"a.example\"\n", "unqualified-search"},
		{"[aliases]\n\"busybox\" = \"a.example/x:1\"\n", "neither tag nor digest"},
		{"[aliases]\n\"busybox\" = 3\n", "busybox"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_registry_candidates struct registry_candidates c = {0};
		own_mem char *path = put("registries.conf", cases[i].text, 0600);
		struct reference reference;
		struct error err = {0};

		setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
		assert_int_equal(reference_parse("busybox", &reference, &err), 0);
		assert_int_equal(registries_resolve(&reference, NULL, &c, &err), -EINVAL);
		if (strstr(err.text, cases[i].why) == NULL)
			fail_msg("%s: %s", cases[i].why, err.text);
	}
}

static void short_names_are_looked_for_as_the_mode_says(void **state)
{
	own_mem char *one = put("1.conf",
				"short-name-mode = \"enforcing\"\n"
				"unqualified-search-registries = [\"one.example\"]\n",
				0600);
	own_mem char *two = put("2.conf",
				"short-name-mode = \"enforcing\"\n"
				"unqualified-search-registries = [\"one.example\", \"b.example\"]\n"
				"[aliases]\n\"known\" = \"k.example/known\"\n",
				0600);
	own_mem char *blocked =
		put("3.conf",
		    "unqualified-search-registries = [\"b.example\", \"c.example\"]\n"
		    "[[registry]]\nlocation = \"b.example\"\nblocked = true\n",
		    0600);
	own_mem char *all = put("4.conf",
				"unqualified-search-registries = [\"b.example\"]\n"
				"[[registry]]\nlocation = \"b.example\"\nblocked = true\n",
				0600);
	own_mem char *a = NULL, *b = NULL, *c = NULL, *d = NULL, *e = NULL;

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", one, 1);
	a = places("x", 0);
	assert_string_equal(a, "one.example/x");
	setenv("CONTAINERS_REGISTRIES_CONF", two, 1);
	b = places("x", -EINVAL);
	c = places("known", 0);
	assert_string_equal(c, "k.example/known");
	/* One that is blocked is passed over; if nothing else is left, it is said. */
	setenv("CONTAINERS_REGISTRIES_CONF", blocked, 1);
	d = places("x", 0);
	assert_string_equal(d, "c.example/x");
	setenv("CONTAINERS_REGISTRIES_CONF", all, 1);
	e = places("x", -EPERM);
}

static int chooses;

static int choose_second(const char *name, char *const *names, struct error *err)
{
	(void)err;
	chooses++;
	assert_string_equal(name, "x:1");
	assert_string_equal(names[0], "one.example/x:1");
	assert_string_equal(names[1], "b.example/x:1");
	assert_null(names[2]);
	return 1;
}

static void the_user_is_asked_about_short_names_unless_that_is_disabled(void **state)
{
	static const char *const modes[] = {"short-name-mode = \"enforcing\"\n",
					    "short-name-mode = \"permissive\"\n", "",
					    "short-name-mode = \"disabled\"\n"};

	(void)state;
	for (size_t i = 0; i < array_size(modes); i++) {
		own_mem char *text = str_format(
			"%sunqualified-search-registries = [\"one.example\", \"no.example\", "
			"\"b.example\"]\n[aliases]\n\"known\" = \"k.example/known\"\n"
			"[[registry]]\nlocation = \"no.example\"\nblocked = true\n",
			modes[i]);
		own_mem char *path = put("1.conf", text, 0600);
		own_registry_candidates struct registry_candidates c = {0}, known = {0};
		const bool asks = i < 3;
		struct reference reference;

		setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
		chooses = 0;
		assert_int_equal(reference_parse("known", &reference, NULL), 0);
		assert_int_equal(registries_resolve(&reference, choose_second, &known, NULL), 0);
		assert_int_equal(chooses, 0);
		assert_false(known.chosen);
		assert_int_equal(reference_parse("x:1", &reference, NULL), 0);
		assert_int_equal(registries_resolve(&reference, choose_second, &c, NULL), 0);
		assert_int_equal(chooses, asks);
		assert_true(c.chosen == asks);
		assert_int_equal(c.count, asks ? 1 : 2);
		assert_string_equal(c.items[0].reference.registry,
				    asks ? "b.example" : "one.example");
		assert_string_equal(c.items[0].endpoints[0].registry,
				    asks ? "b.example" : "one.example");
	}
}

static void the_users_own_files_come_after_the_systems(void **state)
{
	own_mem char *main_file = put(".config/containers/registries.conf",
				      "unqualified-search-registries = [\"u.example\"]\n"
				      "[[registry]]\nlocation = \"r.example\"\nblocked = true\n",
				      0600);
	own_mem char *one = put(".config/containers/registries.conf.d/10-a.conf",
				"[[registry]]\nlocation = \"r.example\"\ninsecure = true\n", 0600);
	own_mem char *two = put(".config/containers/registries.conf.d/20-b.conf",
				"unqualified-search-registries = [\"v.example\"]\n"
				"[aliases]\n\"mine\" = \"w.example/mine\"\n",
				0600);
	own_mem char *a = NULL, *b = NULL, *c = NULL;

	(void)state;
	unsetenv("CONTAINERS_REGISTRIES_CONF");
	a = places("r.example/x", 0);
	assert_string_equal(a, "r.example/x!");
	b = places("no-such-alias", 0);
	assert_string_equal(b, "v.example/no-such-alias");
	c = places("mine", 0);
	assert_string_equal(c, "w.example/mine");
}

static void helpers_of_registries_conf_are_asked_in_order(void **state)
{
	own_mem char *conf_path =
		put("registries.conf",
		    "credential-helpers = [\"none\", \"containers-auth.json\", \"last\"]\n", 0600);
	own_mem char *config =
		put(".docker/config.json", "{\"auths\":{\"f.example\":{\"auth\":\"Zjpm\"}}}", 0600);
	own_mem char *none =
		put("bin/docker-credential-none",
		    "#!/bin/sh\necho credentials not found in native keychain\nexit 1\n", 0700);
	own_mem char *last =
		put("bin/docker-credential-last",
		    "#!/bin/sh\necho '{\"Username\":\"<token>\",\"Secret\":\"t\"}'\n", 0700);
	own_mem char *path = str_format("%s/bin:%s", directory, getenv("PATH"));
	own_credentials struct credentials c = {0}, other = {0};
	struct error err = {0};

	(void)state;
	setenv("CONTAINERS_REGISTRIES_CONF", conf_path, 1);
	setenv("PATH", path, 1);
	assert_int_equal(credentials_find(NULL, "f.example", "x", &c, &err), 1);
	assert_string_equal(c.user, "f");
	assert_int_equal(credentials_find(NULL, "g.example", "x", &other, &err), 1);
	assert_string_equal(other.identity_token, "t");
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
		cmocka_unit_test_setup_teardown(
			prefixes_wildcards_and_mirrors_are_as_the_manual_says, begin, end),
		cmocka_unit_test_setup_teardown(what_is_not_understood_is_refused, begin, end),
		cmocka_unit_test_setup_teardown(short_names_are_looked_for_as_the_mode_says, begin,
						end),
		cmocka_unit_test_setup_teardown(
			the_user_is_asked_about_short_names_unless_that_is_disabled, begin, end),
		cmocka_unit_test_setup_teardown(the_users_own_files_come_after_the_systems, begin,
						end),
		cmocka_unit_test_setup_teardown(helpers_of_registries_conf_are_asked_in_order,
						begin, end),
		cmocka_unit_test_setup_teardown(without_a_file_names_say_it_all, begin, end),
		cmocka_unit_test(base64_goes_there_and_back),
		cmocka_unit_test_setup_teardown(the_longest_entry_is_taken, begin, end),
		cmocka_unit_test_setup_teardown(a_helper_is_asked, begin, end),
		cmocka_unit_test_setup_teardown(what_is_stored_is_found_and_forgotten, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
