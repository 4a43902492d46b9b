/*
 * build: a kernel from the distribution's source package. The configuration is options.c; after
 * configuring, every option is looked for in what Kconfig made of it, so that one that a newer source no
 * longer knows is noticed and not lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "vmm/kernel/kernel_priv.h"
#include "vmm/kernel/options.h"

enum { CONFIG_SIZE_MAX = 4 << 20 };

/* "CONFIG_NAME=value" */
static char *option_line(const char *option)
{
	return str_format("CONFIG_%s%s", option, strchr(option, '=') ? "" : "=y");
}

static int write_options(const char *path, struct error *err)
{
	own_buf struct buf text = {0};

	for (const char *const *option = kernel_options; *option; option++) {
		own_mem char *line = option_line(*option);

		buf_format(&text, "%s\n", line);
	}
	return file_write(AT_FDCWD, path, text.data, text.len, 0600, FILE_WRITE_PLAIN, err);
}

static int check_options(const char *path, struct error *err)
{
	own_mem char *text = NULL;
	own_strv char **lines = NULL;
	size_t len;
	int rc = file_read(AT_FDCWD, path, CONFIG_SIZE_MAX, &text, &len, err);

	if (rc < 0)
		return rc;
	lines = strv_split(text, '\n');
	for (const char *const *option = kernel_options; *option; option++) {
		own_mem char *line = option_line(*option);

		if (!strv_has(lines, line))
			return refuse(err, -EINVAL, "this source of Linux does not take %s", line);
	}
	return 0;
}

static int make(const struct kernel_work *work, const char *dir, const char *a, const char *b,
		struct error *err)
{
	char *argv[] = {str_copy("/usr/bin/nice"),
			str_copy("make"),
			str_copy("KBUILD_BUILD_USER=berth"),
			str_copy("KBUILD_BUILD_HOST=berth"),
			str_copy(a),
			str_copy(b),
			NULL};
	int rc = kernel_run(work, dir, argv, "make", NULL, err);

	for (char **word = argv; *word; word++)
		own_mem_release(word);
	return rc;
}

static int unpack_source(const struct kernel_work *work, const char *package, char **ret_dir,
			 struct error *err)
{
	own_mem char *pattern = str_format("%s/usr/src/linux-source-*.tar.xz", package),
		     *archive = NULL, *dir = str_format("%s/source", work->path);
	own_strv char **argv = NULL;
	glob_t found;
	int rc;

	if (glob(pattern, 0, NULL, &found) != 0)
		return refuse(err, -ENOENT, "the package has no source of Linux");
	archive = str_copy(found.gl_pathv[0]);
	globfree(&found);
	rc = dir_make(AT_FDCWD, dir, 0700, err);
	if (rc < 0)
		return rc;
	strv_push(&argv, "/bin/tar");
	strv_push(&argv, "--strip-components=1");
	strv_push(&argv, "-xf");
	strv_push(&argv, archive);
	rc = kernel_run(work, dir, argv, "tar xz-utils", NULL, err);
	if (rc == 0)
		*ret_dir = take(dir);
	return rc;
}

/* What the kernel's own makefiles call; they say less clearly what is missing. */
static int check_tools(struct error *err)
{
	static const char *const tools[] = {"gcc", "make", "flex", "bison", "bc", "xz", "perl"};
	own_strv char **missing = NULL;

	for (size_t i = 0; i < array_size(tools); i++) {
		own_mem char *path = str_format("/usr/bin/%s", tools[i]);

		if (access(path, X_OK) < 0)
			strv_push(&missing, tools[i]);
	}
	if (access("/usr/include/libelf.h", R_OK) < 0)
		strv_push(&missing, "libelf.h");
	if (missing) {
		own_mem char *all = strv_join(missing, ", ");

		return hint(err, refuse(err, -ENOENT, "missing to compile Linux: %s", all),
			    "apt-get install gcc make flex bison bc xz-utils perl libelf-dev");
	}
	return 0;
}

static int build(const struct kernel_work *work, unsigned int jobs, const struct kernel_add *add,
		 char **ret_vmlinux, struct error *err)
{
	const struct kernel_package package = {.suite = "bookworm", .name = "linux-source-6.1"};
	own_mem char *unpacked = NULL, *source = NULL, *config = NULL;
	own_mem char *options = str_format("%s/options", work->path);
	own_mem char *all = str_format("KCONFIG_ALLCONFIG=%s", options);
	own_mem char *parallel = str_format("-j%u", jobs);
	int rc = kernel_fetch_package(work, &package, add, &unpacked, err);

	if (rc == 0)
		kernel_step(add, "unpacking the source");
	if (rc == 0)
		rc = unpack_source(work, unpacked, &source, err);
	if (rc == 0)
		rc = write_options(options, err);
	if (rc < 0)
		return rc;
	config = str_format("%s/.config", source);
	rc = make(work, source, all, "allnoconfig", err);
	if (rc == 0)
		rc = check_options(config, err);
	if (rc < 0)
		return rc;
	kernel_step(add, "compiling (this takes minutes)");
	rc = make(work, source, parallel, "vmlinux", err);
	*ret_vmlinux = str_format("%s/vmlinux", source);
	return rc;
}

int kernel_build(const char *root, unsigned int jobs, const struct kernel_add *add,
		 struct kernel **ret, struct error *err)
{
	own_work struct kernel_work work = KERNEL_WORK_NONE;
	struct kernel_parts parts = {.name = add->name ? add->name : "berth",
				     .source = "linux-source-6.1"};
	own_mem char *vmlinux = NULL;
	int rc = check_tools(err);

	if (rc == 0)
		rc = kernel_work_begin(root, &work, err);
	if (rc == 0)
		rc = kernel_check_name(&work, parts.name, add->replace, err);
	if (rc == 0)
		rc = build(&work, jobs, add, &vmlinux, err);
	if (rc < 0)
		return rc;
	parts.file = vmlinux;
	return kernel_keep(&work, root, &parts, add, ret, err);
}
