/*
 * seccomp_filter: the system call filter.
 *
 * Compiling a filter costs milliseconds, so the compiled program is kept in <state_root>/.seccomp/
 * under the digest of everything that decides about it; the directory is the runtime's alone.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "base/error.h"
#include "oci/config.h"
#include "oci/runtime.h"

#define SECCOMP_CACHE ".seccomp"

struct seccomp_program {
	struct sock_filter *code; /* NULL: no filter */
	size_t count;
};

void seccomp_program_release(struct seccomp_program *program);
#define own_seccomp_program __attribute__((cleanup(seccomp_program_release)))

/* Compiles the filter, or takes it from the cache. `state_root_fd` -1: without cache. */
int seccomp_compile(const struct config_seccomp *s, int state_root_fd, struct seccomp_program *ret,
		    struct error *err) must_check;
/* Gives the configuration, and the program, what a filter has that was compiled before. */
void seccomp_use(const struct oci_filter *filter, struct config_seccomp *s,
		 struct seccomp_program *ret);
/* Installs it for this process. Returns the listener's descriptor with a listener, else 0. */
int seccomp_install(const struct seccomp_program *program, const struct config_seccomp *s,
		    struct error *err) must_check;
