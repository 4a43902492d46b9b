/*
 * kernel: the guest kernels that are kept under <root>/kernels/<name>/:
 *
 *   vmlinux      the kernel as an ELF file, unpacked when it was added, never at boot
 *   initramfs    a cpio archive with the modules it needs to start; absent if it has none. No /init
 *                unless one was given: an archive that brings one is put behind it (Linux unpacks
 *                archives one after the other)
 *   kernel.json  version, source, the modules in the order in which they are to be loaded
 *
 * In the initramfs the modules are files /modules/NAME.ko, uncompressed, and /modules/order has one file
 * name a line, in the order in which each can be given to finit_module(2).
 *
 * A kernel appears by one rename and is complete then. Work on one goes on in a directory beside, which the
 * next command removes if it was left behind.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/own.h"

enum { KERNEL_NAME_MAX = 64 };

struct kernel {
	char *name;
	char *version;   /* "6.1.0-56-cloud-amd64"; "unknown" for what is not Linux */
	char *source;    /* what it was made from, as the user gave it: "debian:6.1", a path */
	char **modules;  /* names, in the order of loading */
	char *vmlinux;   /* absolute path */
	char *initramfs; /* absolute path, NULL: none */
	uint64_t size_bytes;
	int64_t created_ns;
};

void kernel_free(struct kernel *kernel);
OWN_DEFINE(own_kernel, struct kernel *, kernel_free);
#define own_kernel __attribute__((cleanup(own_kernel_release)))

/* Letters, digits, '.', '_' and '-', not beginning with '.' or '-', at most KERNEL_NAME_MAX. */
bool kernel_name_valid(const char *name);
/* `root`: absolute path of what berth keeps. -ENOENT with a hint if there is none of that name. */
int kernel_find(const char *root, const char *name, struct kernel **ret,
		struct error *err) must_check;
/* All, sorted by name; the array ends with NULL and is the caller's (kernel_list_free). */
int kernel_list(const char *root, struct kernel ***ret, struct error *err) must_check;
void kernel_list_free(struct kernel **kernels);
OWN_DEFINE(own_kernel_list, struct kernel **, kernel_list_free);
#define own_kernel_list __attribute__((cleanup(own_kernel_list_release)))
/* -ENOENT. */
int kernel_remove(const char *root, const char *name, struct error *err) must_check;

/* Told at the beginning of each step of long work, in words. */
typedef void kernel_step_fn(const char *step, void *data);

struct kernel_add {
	const char *name;    /* NULL: from the source */
	const char *modules; /* a directory lib/modules/<version>, for a file; NULL: none */
	const char *init;    /* a program that becomes /init; NULL: none */
	const char *mirror;  /* where the distribution's packages are; NULL: as apt is configured */
	bool replace;        /* an existing one of that name */
	kernel_step_fn *step;
	void *step_data;
};

/* Keeps a kernel from a bzImage or an ELF file. -EEXIST, -ENOEXEC (not a kernel), -errno. Sets *ret to
 * what is kept. */
int kernel_add_file(const char *root, const char *file, const struct kernel_add *add,
		    struct kernel **ret, struct error *err) must_check;
/* Fetches Debian's own kernel for virtual machines through apt (checked by the distribution's keys)
 * and keeps it, without installing it. `release`: "6.1", "6.12". -EINVAL for another one. */
int kernel_add_debian(const char *root, const char *release, const struct kernel_add *add,
		      struct kernel **ret, struct error *err) must_check;
/* Builds a kernel from Debian's source of Linux 6.1 with everything built in that a workload needs.
 * `jobs`: how many compilers at once. Takes minutes and 2 GiB. */
int kernel_build(const char *root, unsigned int jobs, const struct kernel_add *add,
		 struct kernel **ret, struct error *err) must_check;
