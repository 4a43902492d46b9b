/* calls: system calls by name, also those that are newer than the libseccomp that we are built with. */
#pragma once

#include <seccomp.h>
#include <string.h>

#define CALL_OPEN_TREE_ATTR 467

/* __NR_SCMP_ERROR if nobody knows it. */
static inline int call_number(const char *name)
{
	return strcmp(name, "open_tree_attr") == 0 ? CALL_OPEN_TREE_ATTR
						   : seccomp_syscall_resolve_name(name);
}
