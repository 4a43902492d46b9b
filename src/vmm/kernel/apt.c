/*
 * apt: fetches packages of Debian with the host's own apt, but with sources, lists and caches of our
 * own in a directory that goes away: nothing on the host changes, no right is needed, and any Debian
 * release's packages can be had on any host with apt. Signatures are checked by apt against Debian's
 * keyring.
 *
 * Which mirror: what the user says; else the one that the host's apt uses for Debian; else Debian's
 * own. Security updates come from the host's place for them if it has one.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/kernel/kernel_priv.h"

static const char keyring[] = "/usr/share/keyrings/debian-archive-keyring.gpg";

struct mirrors {
	char *main, *security;
};

static void mirrors_release(struct mirrors *m)
{
	own_mem_release(&m->main);
	own_mem_release(&m->security);
}

/* From lines "Packages|Debian|bookworm-security|http://...". */
static void read_mirrors(const char *text, struct mirrors *ret)
{
	own_strv char **lines = strv_split(text, '\n');

	for (char **line = lines; line && *line; line++) {
		own_strv char **words = strv_split(*line, '|');
		char **place;

		if (strv_len(words) < 4 || !str_eq(words[0], "Packages") ||
		    !str_eq(words[1], "Debian"))
			continue;
		place = str_ends_with(words[2], "-security") ? &ret->security : &ret->main;
		if (!*place)
			*place = str_copy(words[3]);
	}
}

static int find_mirrors(const struct kernel_work *work, const char *wish, struct mirrors *ret,
			struct error *err)
{
	static char program[] = "/usr/bin/apt-get", verb[] = "indextargets", format[] = "--format",
		    fields[] = "$(IDENTIFIER)|$(ORIGIN)|$(SUITE)|$(REPO_URI)";
	char *argv[] = {program, verb, format, fields, NULL};
	own_mem char *out = NULL;
	int rc;

	if (wish) {
		ret->main = str_copy(wish);
		return 0;
	}
	rc = kernel_run(work, work->path, argv, "apt", &out, err);
	if (rc < 0)
		return rc;
	read_mirrors(out, ret);
	if (!ret->main)
		return hint(err,
			    refuse(err, -ENOENT, "apt knows of no mirror of Debian's packages"),
			    "run apt-get update, or say where they are: --mirror URL");
	return 0;
}

static int write_text(const char *path, struct buf *text, struct error *err)
{
	return file_write(AT_FDCWD, path, text->data, text->len, 0600, FILE_WRITE_PLAIN, err);
}

/* Writes the sources and the configuration that keeps apt within the directory `dir`. */
static int write_config(const char *dir, const char *suite, const struct mirrors *mirrors,
			struct error *err)
{
	static const char *const cleared[] = {"APT::Update::Pre-Invoke", "APT::Update::Post-Invoke",
					      "APT::Update::Post-Invoke-Success"};
	own_mem char *sources_path = str_format("%s/sources.list", dir),
		     *config_path = str_format("%s/apt.conf", dir),
		     *lists = str_format("%s/lists/partial", dir),
		     *cache = str_format("%s/cache/archives/partial", dir);
	own_buf struct buf sources = {0}, config = {0};
	int rc;

	buf_format(&sources, "deb [signed-by=%s] %s %s main\n", keyring, mirrors->main, suite);
	if (mirrors->security)
		buf_format(&sources, "deb [signed-by=%s] %s %s-security main\n", keyring,
			   mirrors->security, suite);
	for (size_t i = 0; i < array_size(cleared); i++)
		buf_format(&config, "#clear %s;\n", cleared[i]);
	buf_format(
		&config,
		"Dir::Etc::SourceList \"%s\";\nDir::Etc::SourceParts \"-\";\n"
		"Dir::Etc::Preferences \"-\";\nDir::Etc::PreferencesParts \"-\";\n"
		"Dir::State::Lists \"%s/lists\";\nDir::State::Status \"/dev/null\";\n"
		"Dir::Cache \"%s/cache\";\nDir::Log \"%s\";\nAPT::Architecture \"amd64\";\n"
		"APT::Architectures \"amd64\";\nAPT::Default-Release \"\";\n"
		"APT::Sandbox::User \"\";\nAPT::Update::Error-Mode \"any\";\nAcquire::Languages \"none\";\n",
		sources_path, dir, dir, dir);
	rc = dir_make(AT_FDCWD, lists, 0700, err);
	if (rc == 0)
		rc = dir_make(AT_FDCWD, cache, 0700, err);
	if (rc == 0)
		rc = write_text(sources_path, &sources, err);
	return rc < 0 ? rc : write_text(config_path, &config, err);
}

/* Runs "PROGRAM -qq -c CONFIG VERB [WHAT]" in `dir`. */
static int run_apt(const struct kernel_work *work, const char *dir, const char *program,
		   const char *verb, const char *what, char **ret_out, struct error *err)
{
	own_strv char **argv = NULL;

	strv_push(&argv, program);
	strv_push(&argv, "-qq");
	strv_push(&argv, "-c");
	strv_push_format(&argv, "%s/apt.conf", dir);
	strv_push(&argv, verb);
	if (what)
		strv_push(&argv, what);
	return kernel_run(work, dir, argv, "apt", ret_out, err);
}

/* The name in "  Depends: linux-image-6.1.0-1-cloud-amd64" that begins with `prefix`. */
static char *find_dependency(const char *text, const char *prefix)
{
	own_strv char **lines = strv_split(text, '\n');

	for (char **line = lines; line && *line; line++) {
		const char *name = strstr(*line, "Depends: ");

		if (name && str_after(name += strlen("Depends: "), prefix))
			return str_copy_n(name, strcspn(name, " ,"));
	}
	return NULL;
}

static int choose_package(const struct kernel_work *work, const char *dir,
			  const struct kernel_package *package, char **ret, struct error *err)
{
	own_mem char *out = NULL;
	int rc;

	if (!package->depends) {
		*ret = str_copy(package->name);
		return 0;
	}
	rc = run_apt(work, dir, "/usr/bin/apt-cache", "depends", package->name, &out, err);
	if (rc < 0)
		return rc;
	*ret = find_dependency(out, package->depends);
	return *ret ? 0
		    : refuse(err, -ENOENT, "Debian's %s has no %s for us", package->suite,
			     package->name);
}

static int unpack(const struct kernel_work *work, const char *dir, const char *target,
		  struct error *err)
{
	own_mem char *pattern = str_format("%s/*.deb", dir);
	own_strv char **argv = NULL;
	glob_t found;

	if (glob(pattern, 0, NULL, &found) != 0)
		return refuse(err, -ENOENT, "apt fetched nothing");
	strv_push(&argv, "/usr/bin/dpkg-deb");
	strv_push(&argv, "-x");
	strv_push(&argv, found.gl_pathv[0]);
	strv_push(&argv, target);
	globfree(&found);
	return kernel_run(work, dir, argv, "dpkg", NULL, err);
}

int kernel_fetch_package(const struct kernel_work *work, const struct kernel_package *package,
			 const struct kernel_add *add, char **ret_dir, struct error *err)
{
	own_mem char *dir = str_format("%s/apt", work->path),
		     *target = str_format("%s/package", work->path), *name = NULL;
	__attribute__((cleanup(mirrors_release))) struct mirrors mirrors = {0};
	int rc = find_mirrors(work, add->mirror, &mirrors, err);

	if (rc < 0)
		return rc;
	if (access(keyring, R_OK) < 0)
		return hint(err, fail(err, -errno, "read Debian's keys in %s", keyring),
			    "install debian-archive-keyring");
	kernel_step(add, "reading the package list of %s from %s", package->suite, mirrors.main);
	rc = write_config(dir, package->suite, &mirrors, err);
	if (rc == 0)
		rc = run_apt(work, dir, "/usr/bin/apt-get", "update", NULL, NULL, err);
	if (rc == 0)
		rc = choose_package(work, dir, package, &name, err);
	if (rc < 0)
		return rc;
	kernel_step(add, "fetching %s", name);
	rc = run_apt(work, dir, "/usr/bin/apt-get", "download", name, NULL, err);
	if (rc == 0)
		rc = dir_make(AT_FDCWD, target, 0700, err);
	if (rc == 0)
		rc = unpack(work, dir, target, err);
	if (rc == 0)
		rc = tree_remove(AT_FDCWD, dir, err);
	if (rc == 0)
		*ret_dir = take(target);
	return rc;
}
