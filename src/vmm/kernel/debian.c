/* debian: the kernels that Debian builds for virtual machines (linux-image-cloud-amd64). */
#include <errno.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/kernel/kernel_priv.h"

static const struct {
	const char *release, *suite;
} releases[] = {
	{"6.1", "bookworm"},
	{"6.12", "trixie"},
};

/* The one path that matches; the caller frees it. */
static char *find_one(const char *dir, const char *pattern)
{
	own_mem char *whole = str_format("%s/%s", dir, pattern);
	char *path = NULL;
	glob_t found;

	if (glob(whole, GLOB_BRACE, NULL, &found) != 0)
		return NULL;
	path = str_copy(found.gl_pathv[0]);
	globfree(&found);
	return path;
}

static int add_package(struct kernel_work *work, const char *root, const char *suite,
		       struct kernel_parts *parts, const struct kernel_add *add,
		       struct kernel **ret, struct error *err)
{
	const struct kernel_package package = {
		.suite = suite, .name = "linux-image-cloud-amd64", .depends = "linux-image-"};
	own_mem char *dir = NULL, *file = NULL, *modules = NULL;
	int rc = kernel_fetch_package(work, &package, add, &dir, err);

	if (rc < 0)
		return rc;
	file = find_one(dir, "boot/vmlinuz-*");
	modules = find_one(dir, "{lib,usr/lib}/modules/*");
	if (!file || !modules)
		return refuse(err, -ENOENT, "Debian's kernel package has no %s",
			      file ? "modules" : "kernel");
	parts->file = file;
	parts->modules = modules;
	return kernel_keep(work, root, parts, add, ret, err);
}

int kernel_add_debian(const char *root, const char *release, const struct kernel_add *add,
		      struct kernel **ret, struct error *err)
{
	own_mem char *name = add->name ? str_copy(add->name) : str_format("debian-%s", release);
	own_mem char *source = str_format("debian:%s", release);
	struct kernel_parts parts = {.name = name, .source = source};
	own_work struct kernel_work work = KERNEL_WORK_NONE;
	const char *suite = NULL;
	int rc;

	for (size_t i = 0; i < array_size(releases); i++)
		if (str_eq(release, releases[i].release))
			suite = releases[i].suite;
	if (!suite)
		return hint(
			err,
			refuse(err, -EINVAL, "there is no recipe for Debian's kernel %s", release),
			"debian, debian:6.1 or debian:6.12");
	rc = kernel_work_begin(root, &work, err);
	if (rc == 0)
		rc = kernel_check_name(&work, name, add->replace, err);
	return rc < 0 ? rc : add_package(&work, root, suite, &parts, add, ret, err);
}
