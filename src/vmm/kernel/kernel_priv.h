/* kernel_priv: what the files of kernel/ share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"
#include "vmm/kernel/kernel.h"

/* Work on a new kernel: `path` is a directory in <root>/kernels that kernel_work_end removes with all
 * that is in it. While its lock is held nobody takes it for a leftover. */
struct kernel_work {
	int lock_fd, dir_fd; /* of <root>/kernels */
	char name[32];       /* of the directory */
	char *path;          /* absolute */
};
int kernel_work_begin(const char *root, struct kernel_work *work, struct error *err) must_check;
void kernel_work_end(struct kernel_work *work);
#define own_work __attribute__((cleanup(kernel_work_end)))
#define KERNEL_WORK_NONE                                                                           \
	{                                                                                          \
		.lock_fd = -1, .dir_fd = -1                                                        \
	}

/* Refuses a bad name, and one that is taken unless add->replace. */
int kernel_check_name(const struct kernel_work *work, const char *name, bool replace,
		      struct error *err) must_check;
/* What `kernel_keep` is to keep. */
struct kernel_parts {
	const char *file;    /* the kernel as it came */
	const char *modules; /* a directory of modules, or NULL */
	const char *source;
	const char *name;
};
/* Unpacks, collects the modules, and puts the kernel in its place. */
int kernel_keep(struct kernel_work *work, const char *root, const struct kernel_parts *parts,
		const struct kernel_add *add, struct kernel **ret, struct error *err) must_check;
void kernel_step(const struct kernel_add *add, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* program.c: runs `argv` (argv[0] a path) in the directory `dir`, its messages in the file "log" of
 * `work`. `ret_out` (may be NULL: /dev/null) gets what it prints. An error quotes the last line of the
 * log, and hints at `package` if the program is missing. */
int kernel_run(const struct kernel_work *work, const char *dir, char *const *argv,
	       const char *package, char **ret_out, struct error *err) must_check;

/* apt.c: a package of the distribution, unpacked. */
struct kernel_package {
	const char *suite;   /* "bookworm" */
	const char *name;    /* of a package that is it, or depends on it */
	const char *depends; /* if not NULL: take the dependency that begins so */
};
/* Fetches and unpacks it into `work`; *ret_dir is the path. */
int kernel_fetch_package(const struct kernel_work *work, const struct kernel_package *package,
			 const struct kernel_add *add, char **ret_dir,
			 struct error *err) must_check;

/* cpio.c: an archive in the "newc" form, as Linux takes it for an initramfs. */
void cpio_add(struct buf *archive, const char *path, unsigned int mode, const void *data,
	      size_t len);
void cpio_end(struct buf *archive);

/* modules.c: */
/* Adds the modules that a guest needs, and those they depend on, to `archive` and their names to
 * *names. What is built in, or does not exist in this kernel, is left out. */
int kernel_modules_add(const char *dir, struct buf *archive, char ***names,
		       struct error *err) must_check;
/* The value of `key` in the section .modinfo of a module; NULL: none. Borrowed from `data`. */
const char *kernel_modinfo(const void *data, size_t size, const char *key);
