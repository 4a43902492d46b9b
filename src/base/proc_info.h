/* proc_info: what /proc tells of one process. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct proc_info {
	pid_t pid, parent, pgid, sid;
	uid_t uid;
	int64_t started_ns, cpu_ns; /* on the wall clock; used */
	uint64_t virtual_bytes, resident_bytes;
	unsigned int threads;
	int nice;
	char state;
	char name[16];     /* the kernel's */
	char terminal[16]; /* "pts/0", "?" for none */
	char *command;     /* the command line with spaces, or the name in brackets */
};
/* -ESRCH if it has ended. The caller frees `command`. */
int proc_info_read(pid_t pid, struct proc_info *ret) must_check;
/* The children of a process's first thread, for the caller to free; how many. */
size_t proc_children(pid_t pid, pid_t **ret);
/* All processes in the pid namespace of `pid`, in order, for the caller to free; how many. 0 if that is our own
 * namespace, or not ours to ask. */
size_t proc_beside(pid_t pid, pid_t **ret);
/* The process's share of the memory that no file has: what its end gives back. 0 if it has ended, or is not ours to
 * ask. */
uint64_t proc_own_bytes(pid_t pid);
