/* kernel: the kernels that virtual machines boot: `kernel add`, `build`, `ls`, `rm`. */
#include "vmm/kernel/kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/commands.h"
#include "cli/context.h"
#include "cli/listing.h"
#include "cli/when.h"

static void print_step(const char *step, void *data)
{
	(void)data;
	fprintf(stderr, "%s ...\n", step);
}

/* What the options say that `add` and `build` have in common. */
static struct kernel_add read_options(const struct args *args)
{
	return (struct kernel_add){
		.name = args_string(args, "name"),
		.init = args_string(args, "init"),
		.mirror = args_string(args, "mirror"),
		.replace = args_flag(args, "replace"),
		.step = args_flag(args, "quiet") ? NULL : print_step,
	};
}

static int print_kernel(const struct kernel *kernel, struct error *err)
{
	own_mem char *line = str_format("%s\n", kernel->name);

	return print_text(line, err);
}

static const struct option_spec shared_options[] = {
	{"init", 0, OPTION_STRING, 0, "FILE", "", "A program that becomes /init of the initramfs"},
	{"mirror", 0, OPTION_STRING, 0, "URL", "",
	 "Where Debian's packages are (default: as apt is configured)"},
	{"name", 0, OPTION_STRING, 0, "NAME", "", "The name it is kept by"},
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Do not say what is being done"},
	{"replace", 0, OPTION_FLAG, 0, "", "", "Replace a kernel of that name"},
};

static const struct option_spec add_options[] = {
	{"modules", 0, OPTION_STRING, 0, "DIR", "",
	 "For a file: the directory of its modules, such as /lib/modules/6.1.0"},
};

static int run_add(const struct args *args, struct error *err)
{
	const char *what = args_at(args, 0), *release = str_after(what, "debian");
	struct kernel_add add = read_options(args);
	own_engine struct engine *engine = NULL;
	own_kernel struct kernel *kernel = NULL;
	int rc = open_engine(args, &engine, err);

	if (rc < 0)
		return rc;
	add.modules = args_string(args, "modules");
	if (!release || (*release != ':' && *release != '\0'))
		rc = kernel_add_file(engine_root_path(engine), what, &add, &kernel, err);
	else if (add.modules)
		return args_refuse(args, err, "--modules is for a kernel from a file");
	else
		rc = kernel_add_debian(engine_root_path(engine), *release ? release + 1 : "6.1",
				       &add, &kernel, err);
	if (rc < 0)
		return refuse(err, rc, "cannot add the kernel \"%s\"", what);
	return print_kernel(kernel, err);
}

static const struct command add_command = {
	.arguments = "debian[:6.1|:6.12]|FILE",
	.summary = "Keep a kernel for virtual machines",
	.description =
		"\"debian\" fetches Debian's own kernel for virtual machines through apt, without "
		"installing it, and collects the modules that a guest needs to start into an "
		"initramfs. A file may be a bzImage or a vmlinux. Prints the kernel's name.",
	.examples = "berth kernel add debian:6.12\tDebian 13's kernel, as debian-6.12\n"
		    "berth kernel add --name own bzImage\tA kernel of one's own\n",
	.options = {OPTION_SET(shared_options), OPTION_SET(add_options)},
	.run = run_add,
};

static const struct option_spec build_options[] = {
	{"jobs", 'j', OPTION_INT, 0, "N", "", "Compilers at once (default: one per CPU)"},
};

static int run_build(const struct args *args, struct error *err)
{
	const struct kernel_add add = read_options(args);
	int64_t jobs = args_int(args, "jobs");
	own_engine struct engine *engine = NULL;
	own_kernel struct kernel *kernel = NULL;
	int rc = open_engine(args, &engine, err);

	if (rc < 0)
		return rc;
	if (!args_given(args, "jobs"))
		jobs = sysconf(_SC_NPROCESSORS_ONLN);
	if (jobs < 1 || jobs > 1024)
		return args_refuse(args, err, "--jobs takes 1 to 1024");
	rc = kernel_build(engine_root_path(engine), (unsigned int)jobs, &add, &kernel, err);
	if (rc < 0)
		return refuse(err, rc, "cannot build a kernel");
	return print_kernel(kernel, err);
}

static const struct command build_command = {
	.summary = "Build a kernel that starts fast",
	.description =
		"Builds Linux 6.1 from Debian's source package with what a workload needs built "
		"in and nothing else. It starts in a fraction of the time. Needs a compiler, "
		"about 2 GiB of disk for a while, and minutes.",
	.options = {OPTION_SET(shared_options), OPTION_SET(build_options)},
	.run = run_build,
};

/* --- ls, rm -------------------------------------------------------------------------------------- */

static const struct option_spec ls_options[] = {
	LISTING_OPTION_FORMAT,
	{"quiet", 'q', OPTION_FLAG, 0, "", "", "Only the names"},
};

static const struct listing_heading headings[] = {
	{"Name", "NAME"},
	{"Version", "VERSION"},
	{"Source", "SOURCE"},
	{"Modules", "MODULES"},
	{"Size", "SIZE"},
	{"CreatedSince", "CREATED"},
	{"CreatedAt", "CREATED AT"},
	{"Path", "PATH"},
};

static const struct listing_spec kernels_listing = {
	.table = "{{.Name}}\t{{.Version}}\t{{.Source}}\t{{.Modules}}\t{{.CreatedSince}}\t{{.Size}}",
	.quiet = "{{.Name}}",
	.headings = headings,
	.headings_count = array_size(headings),
};

static json_t *row_of(const struct kernel *kernel)
{
	own_mem char *modules = str_format("%zu", strv_len(kernel->modules));
	char size[24], created[CLOCK_TEXT_MAX], ago[CLOCK_TEXT_MAX];
	json_t *row = json_object();

	str_from_size(kernel->size_bytes, 3, size);
	when_local(kernel->created_ns, created);
	when_ago(kernel->created_ns, ago);
	json_set_string(row, "Name", kernel->name);
	json_set_string(row, "Version", kernel->version);
	json_object_set_new(row, "Source", json_from_string(kernel->source));
	json_set_string(row, "Modules", modules);
	json_set_string(row, "Size", size);
	json_set_string(row, "CreatedAt", created);
	json_set_string(row, "CreatedSince", ago);
	json_object_set_new(row, "Path", json_from_string(kernel->vmlinux));
	return row;
}

static int run_ls(const struct args *args, struct error *err)
{
	own_engine struct engine *engine = NULL;
	own_kernel_list struct kernel **kernels = NULL;
	own_listing struct listing listing = {0};
	int rc = listing_begin(&listing, &kernels_listing, args, err);

	if (rc >= 0)
		rc = open_engine(args, &engine, err);
	if (rc >= 0)
		rc = kernel_list(engine_root_path(engine), &kernels, err);
	for (struct kernel **k = kernels; rc >= 0 && *k; k++)
		rc = listing_add(&listing, row_of(*k), err);
	return rc < 0 ? rc : listing_end(&listing, err);
}

static const struct command ls_command = {
	.summary = "List the kernels",
	.options = {OPTION_SET(ls_options)},
	.run = run_ls,
};

static int remove_one(struct engine *engine, const char *name, const struct args *args,
		      struct error *err)
{
	int rc = kernel_remove(engine_root_path(engine), name, err);

	(void)args;
	return rc < 0 ? refuse(err, rc, "cannot remove \"%.80s\"", name) : 0;
}

static int run_rm(const struct args *args, struct error *err)
{
	return for_each_argument(args, remove_one, true, err);
}

static const struct command rm_command_ = {
	.arguments = "KERNEL...",
	.summary = "Remove kernels",
	.description = "Virtual machines that run on them go on.",
	.run = run_rm,
};

static const struct command_entry entries[] = {
	{"add", NULL, &add_command, NULL},
	{"build", NULL, &build_command, NULL},
	{"ls", "list", &ls_command, NULL},
	{"rm", "remove", &rm_command_, NULL},
	{0},
};

const struct command kernel_command = {
	.summary = "Work with the kernels of virtual machines",
	.entries = entries,
};
