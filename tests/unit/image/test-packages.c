/* Tests of the package lists and bills of materials made from a root file system. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "image/packages.h"
#include "image/packages_priv.h"
#include "image/sbom.h"

/* cmocka has a macro fail(): after the headers that have a function of that name. */
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct tree {
	char path[32];
	int fd;
};

static int make_tree(void **state)
{
	struct tree *t = mem_new(sizeof(*t));

	strcpy(t->path, "/tmp/packages-XXXXXX");
	assert_non_null(mkdtemp(t->path));
	t->fd = open(t->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = t;
	return 0;
}

static int remove_tree(void **state)
{
	struct tree *t = *state;

	assert_int_equal(tree_remove(AT_FDCWD, t->path, NULL), 0);
	close(t->fd);
	free(t);
	return 0;
}

/* Puts a file into the tree, with its directories. */
static void put(const struct tree *t, const char *path, const void *data, size_t len)
{
	own_mem char *parent = str_copy_n(path, (size_t)(strrchr(path, '/') - path));

	assert_int_equal(dir_make(t->fd, parent, 0755, NULL), 0);
	assert_int_equal(file_write(t->fd, path, data, len, 0644, FILE_WRITE_PLAIN, NULL), 0);
}

static void put_text(const struct tree *t, const char *path, const char *text)
{
	put(t, path, text, strlen(text));
}

static const struct package *find(const struct packages *list, const char *type, const char *name)
{
	for (size_t i = 0; i < list->count; i++)
		if (str_eq(list->items[i].type, type) && str_eq(list->items[i].name, name))
			return &list->items[i];
	return NULL;
}

static void scan(const struct tree *t, struct packages *list)
{
	struct error err = {0};

	if (packages_scan(t->fd, list, &err) < 0)
		fail_msg("%s", err.text);
}

static const char dpkg_status[] = "Package: bash\n"
				  "Status: install ok installed\n"
				  "Architecture: amd64\n"
				  "Version: 5.2.15-2+b7\n"
				  "Source: bash-source (5.2.15-2)\n"
				  "Description: shell\n"
				  " a second line: with a colon\n"
				  "\n"
				  "Package: gone\n"
				  "Status: deinstall ok config-files\n"
				  "Version: 1\n"
				  "\n"
				  "Package: tzdata\n"
				  "Status: install ok installed\n"
				  "Architecture: all\n"
				  "Version: 1:2024a\n";

static void reads_dpkg_without_what_is_not_installed(void **state)
{
	own_packages struct packages list = {0};
	const struct package *p;

	put_text(*state, "var/lib/dpkg/status", dpkg_status);
	scan(*state, &list);
	assert_int_equal(list.count, 2);
	p = find(&list, "deb", "bash");
	assert_non_null(p);
	assert_string_equal(p->version, "5.2.15-2+b7");
	assert_string_equal(p->source_name, "bash-source");
	assert_string_equal(p->source_version, "5.2.15-2");
	assert_string_equal(p->architecture, "amd64");
	assert_string_equal(p->path, "/var/lib/dpkg/status");
}

static void reads_parts_of_distroless_images(void **state)
{
	own_packages struct packages list = {0};

	put_text(*state, "var/lib/dpkg/status.d/libc6", "Package: libc6\nVersion: 2.36\n");
	put_text(*state, "var/lib/dpkg/status.d/libc6.md5sums", "Package: no\nVersion: 1\n");
	scan(*state, &list);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].name, "libc6");
}

static void reads_apk(void **state)
{
	own_packages struct packages list = {0};

	put_text(*state, "lib/apk/db/installed",
		 "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:ld\n\n"
		 "P:zlib\nV:1.3-r0\nA:x86_64\nL:Zlib\n\n");
	scan(*state, &list);
	assert_int_equal(list.count, 2);
	assert_string_equal(find(&list, "apk", "zlib")->license, "Zlib");
}

/* One rpm header with the given string tags and, if not negative, an epoch. */
static size_t make_header(uint8_t *out, const char *name, const char *version, int epoch)
{
	static const uint32_t tags[] = {1000, 1001, 1002, 1022};
	const char *values[] = {name, version, "3.el9", "x86_64"};
	uint32_t words[2 + 5 * 4];
	const uint32_t entries = 4 + (epoch >= 0);
	uint8_t data[256];
	uint32_t len = 0;

	for (uint32_t i = 0; i < 4; i++) {
		uint32_t *entry = words + 2 + i * 4;

		entry[0] = htobe32(tags[i]);
		entry[1] = htobe32(6);
		entry[2] = htobe32(len);
		entry[3] = htobe32(1);
		memcpy(data + len, values[i], strlen(values[i]) + 1);
		len += (uint32_t)strlen(values[i]) + 1;
	}
	if (epoch >= 0) {
		uint32_t *entry = words + 2 + 4 * 4, value = htobe32((uint32_t)epoch);

		len = (len + 3) & ~3U;
		entry[0] = htobe32(1003);
		entry[1] = htobe32(4);
		entry[2] = htobe32(len);
		entry[3] = htobe32(1);
		memcpy(data + len, &value, 4);
		len += 4;
	}
	words[0] = htobe32(entries);
	words[1] = htobe32(len);
	memcpy(out, words, 8 + entries * 16);
	memcpy(out + 8 + entries * 16, data, len);
	return 8 + entries * 16 + len;
}

static void put_rpm(const struct tree *t, const uint8_t *headers[], const size_t sizes[],
		    size_t count)
{
	own_mem char *path = str_format("%s/var/lib/rpm/rpmdb.sqlite", t->path);
	sqlite3 *db;

	assert_int_equal(dir_make(t->fd, "var/lib/rpm", 0755, NULL), 0);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(
		sqlite3_exec(db,
			     "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT,"
			     "blob BLOB NOT NULL)",
			     NULL, NULL, NULL),
		SQLITE_OK);
	for (size_t i = 0; i < count; i++) {
		sqlite3_stmt *insert;

		sqlite3_prepare_v2(db, "INSERT INTO Packages(blob) VALUES (?)", -1, &insert, NULL);
		sqlite3_bind_blob(insert, 1, headers[i], (int)sizes[i], SQLITE_STATIC);
		assert_int_equal(sqlite3_step(insert), SQLITE_DONE);
		sqlite3_finalize(insert);
	}
	sqlite3_close(db);
}

static void reads_rpm_and_notes_malformed_headers(void **state)
{
	own_packages struct packages list = {0};
	uint8_t good[512], epoch[512], key[512], cut[512];
	const uint8_t *headers[] = {good, epoch, key, cut};
	size_t sizes[] = {
		make_header(good, "glibc", "2.34", -1), make_header(epoch, "openssl", "3.0.7", 1),
		make_header(key, "gpg-pubkey", "1", -1), make_header(cut, "cut", "1", -1) - 5};

	put_rpm(*state, headers, sizes, 4);
	scan(*state, &list);
	assert_int_equal(list.count, 2);
	assert_string_equal(find(&list, "rpm", "glibc")->version, "2.34-3.el9");
	assert_string_equal(find(&list, "rpm", "openssl")->version, "1:3.0.7-3.el9");
	assert_int_equal(strv_len(list.notes), 1);
}

static void notes_what_it_cannot_read(void **state)
{
	own_packages struct packages list = {0};

	put_text(*state, "var/lib/rpm/Packages", "not a database that we know");
	put_text(*state, "srv/app/package-lock.json", "{ broken");
	scan(*state, &list);
	assert_int_equal(list.count, 0);
	assert_int_equal(strv_len(list.notes), 2);
}

static void reads_what_languages_install(void **state)
{
	static const struct {
		const char *path, *text, *type, *name, *version;
	} cases[] = {
		{"usr/lib/python3/dist-packages/Foo_Bar-1.2.dist-info/METADATA",
		 "Metadata-Version: 2.1\nName: Foo_Bar\nVersion: 1.2\nLicense: MIT\n\nVersion: 9\n",
		 "pypi", "Foo_Bar", "1.2"},
		{"app/node_modules/left-pad/package.json",
		 "{\"name\":\"left-pad\",\"version\":\"1.3.0\",\"license\":\"WTFPL\"}", "npm",
		 "left-pad", "1.3.0"},
		{"app/node_modules/@scope/thing/package.json",
		 "{\"name\":\"@scope/thing\",\"version\":\"2.0.0\"}", "npm", "@scope/thing",
		 "2.0.0"},
		{"lock/package-lock.json",
		 "{\"packages\":{\"\":{\"version\":\"0\"},\"node_modules/a/node_modules/b\":"
		 "{\"version\":\"4.5.6\"}}}",
		 "npm", "b", "4.5.6"},
		{"old/package-lock.json", "{\"dependencies\":{\"c\":{\"version\":\"0.1.0\"}}}",
		 "npm", "c", "0.1.0"},
		{"rust/Cargo.lock",
		 "version = 3\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.188\"\n", "cargo",
		 "serde", "1.0.188"},
		{"ruby/Gemfile.lock",
		 "GEM\n  remote: x\n  specs:\n    rake (13.0.6)\n      dep (>= 1)\n", "gem", "rake",
		 "13.0.6"},
		{"php/composer.lock", "{\"packages\":[{\"name\":\"v/p\",\"version\":\"v1.0\"}]}",
		 "composer", "v/p", "v1.0"},
		{"go/go.mod",
		 "module x\n\ngo 1.21\n\nrequire (\n\tgolang.org/x/net v0.17.0 // indirect\n)\n"
		 "require github.com/a/b v1.0.0\n",
		 "golang", "golang.org/x/net", "v0.17.0"},
	};
	own_packages struct packages list = {0};

	for (size_t i = 0; i < array_size(cases); i++)
		put_text(*state, cases[i].path, cases[i].text);
	/* Of the project itself, not an installed package. */
	put_text(*state, "app/package.json", "{\"name\":\"own\",\"version\":\"1\"}");
	scan(*state, &list);
	for (size_t i = 0; i < array_size(cases); i++) {
		const struct package *p = find(&list, cases[i].type, cases[i].name);

		if (p == NULL)
			fail_msg("%s is missing", cases[i].name);
		assert_string_equal(p->version, cases[i].version);
	}
	assert_non_null(find(&list, "golang", "github.com/a/b"));
	assert_null(find(&list, "npm", "own"));
	assert_null(find(&list, "gem", "  dep"));
	assert_int_equal(list.count, array_size(cases) + 1);
}

static void follows_no_link_out_of_the_tree(void **state)
{
	const struct tree *t = *state;
	own_packages struct packages list = {0};

	assert_int_equal(dir_make(t->fd, "var/lib/dpkg", 0755, NULL), 0);
	assert_int_equal(symlinkat("/var/lib/dpkg/status", t->fd, "var/lib/dpkg/status"), 0);
	assert_int_equal(symlinkat("../../../../../../../../../var/lib/dpkg", t->fd, "up"), 0);
	scan(t, &list);
	assert_int_equal(list.count, 0);
}

static void a_pipe_in_the_place_of_a_database_does_not_hang(void **state)
{
	const struct tree *t = *state;
	own_packages struct packages list = {0};

	assert_int_equal(dir_make(t->fd, "var/lib/dpkg", 0755, NULL), 0);
	assert_int_equal(mkfifoat(t->fd, "var/lib/dpkg/status", 0644), 0);
	scan(t, &list);
	assert_int_equal(list.count, 0);
}

static void duplicates_are_listed_once(void **state)
{
	own_packages struct packages list = {0};
	static const char text[] = "{\"name\":\"d\",\"version\":\"1\"}";

	put_text(*state, "a/node_modules/d/package.json", text);
	put_text(*state, "b/node_modules/d/package.json", text);
	scan(*state, &list);
	assert_int_equal(list.count, 1);
	assert_string_equal(list.items[0].path, "/a/node_modules/d/package.json");
}

static void package_urls_follow_the_specification(void **state)
{
	const struct {
		struct package package;
		const char *purl;
	} cases[] = {
		{{.type = "deb",
		  .name = (char[]){"libstdc++6"},
		  .version = (char[]){"12.2.0-14+deb12u1"},
		  .architecture = (char[]){"amd64"},
		  .source_name = (char[]){"gcc-12"}},
		 "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1?arch=amd64&distro=debian-12"
		 "&upstream=gcc-12"},
		{{.type = "rpm", .name = (char[]){"openssl"}, .version = (char[]){"1:3.0.7-1"}},
		 "pkg:rpm/debian/openssl@3.0.7-1?distro=debian-12&epoch=1"},
		{{.type = "pypi", .name = (char[]){"Foo_Bar"}, .version = (char[]){"1.0"}},
		 "pkg:pypi/foo-bar@1.0"},
		{{.type = "npm", .name = (char[]){"@scope/thing"}, .version = (char[]){"2.0.0"}},
		 "pkg:npm/%40scope/thing@2.0.0"},
	};
	const struct packages list = {.distribution = (char[]){"debian"},
				      .release = (char[]){"12"}};

	(void)state;
	for (size_t i = 0; i < array_size(cases); i++) {
		own_mem char *purl = sbom_purl(&list, &cases[i].package);

		assert_string_equal(purl, cases[i].purl);
	}
}

static void documents_name_every_package_and_what_is_missing(void **state)
{
	own_packages struct packages list = {0};
	const struct sbom_subject subject = {.name = "example.org/app:1", .digest = "sha256:00"};
	json_t *spdx, *cyclonedx;

	put_text(*state, "etc/os-release",
		 "PRETTY_NAME=\"Debian 12\"\nID=debian\nVERSION_ID='12'\n");
	put_text(*state, "var/lib/dpkg/status", dpkg_status);
	put_text(*state, "x/composer.lock", "[]");
	scan(*state, &list);
	spdx = sbom_spdx(&subject, &list);
	assert_string_equal(json_string_value(json_object_get(spdx, "spdxVersion")), "SPDX-2.3");
	assert_int_equal(json_array_size(json_object_get(spdx, "packages")), 3);
	assert_int_equal(json_array_size(json_object_get(spdx, "relationships")), 3);
	assert_non_null(
		strstr(json_string_value(json_object_get(spdx, "comment")), "composer.lock"));
	json_decref(spdx);
	cyclonedx = sbom_cyclonedx(&subject, &list);
	/* The operating system is a component too. */
	assert_int_equal(json_array_size(json_object_get(cyclonedx, "components")), 3);
	json_decref(cyclonedx);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_tree, remove_tree)
	const struct CMUnitTest tests[] = {
		TEST(reads_dpkg_without_what_is_not_installed),
		TEST(reads_parts_of_distroless_images),
		TEST(reads_apk),
		TEST(reads_rpm_and_notes_malformed_headers),
		TEST(notes_what_it_cannot_read),
		TEST(reads_what_languages_install),
		TEST(follows_no_link_out_of_the_tree),
		TEST(a_pipe_in_the_place_of_a_database_does_not_hang),
		TEST(duplicates_are_listed_once),
		TEST(package_urls_follow_the_specification),
		TEST(documents_name_every_package_and_what_is_missing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
