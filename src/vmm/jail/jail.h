/*
 * jail: what is left to a machine's process once everything it needs has been opened.
 *
 *     rc = jail_fork(&pid, err);        a child in a process namespace of its own
 *     in the child: open files, create the machine, then
 *     rc = jail_enter(users, err);      no files, no network, no processes, no rights
 *     in every thread, when it has what it needs:
 *     rc = jail_filter(JAIL_VCPU, err); no system calls but those of its kind
 *
 * Who starts as root ends as a user that nobody else has, in a user namespace of its own; who does not
 * stays who he is, in a user namespace. Nothing here is undone.
 *
 * Invariants
 *   J1  after jail_enter the root directory is empty and read-only, the network namespace has no
 *       interface but a loopback that is down, and no capability can be had again, but by threads of
 *       kind JAIL_FILES over files in directories that were mounted for them.
 *   J2  after jail_filter an unexpected system call ends the whole process.
 */
#pragma once

#include <sys/types.h>

#include "base/error.h"

/* Forks, like fork(2): returns 0 in the child and 1 in the parent, which gets the child's *ret_pid. The
 * child is the first process of a process namespace: a signal that it does not handle does nothing to
 * it, but for SIGKILL. -errno; -EPERM where user namespaces are needed and forbidden. One thread only. */
int jail_fork(pid_t *ret_pid, struct error *err) must_check;

/*
 * For a machine that serves directories of the host: the namespace of users that jail_enter will enter.
 * In it the ids 0 to 65535 are those that nobody else has, and jail_tree makes the owners in a directory
 * appear as these: the threads of kind JAIL_FILES have root's rights over what is in the directory, and
 * over nothing else in the world. Only for a caller who is root: else -EPERM, and the directory's files
 * are used with the caller's own rights. The descriptor or -errno.
 */
int jail_users(struct error *err) must_check;
/* A private mount of the directory `fd` in which the owners are those of that namespace. The descriptor;
 * -EINVAL or -EPERM from a file system that cannot have such mounts. */
int jail_tree(int fd, int users) must_check;

/* Shuts the calling process in, with the users of jail_users (or -1). It dies with its parent from then
 * on. One thread only. */
int jail_enter(int users, struct error *err) must_check;

enum jail_thread {
	JAIL_VCPU,     /* runs guest code with the software CPU */
	JAIL_VCPU_KVM, /* with KVM */
	JAIL_DEVICES,  /* the device thread: queues, timers, the control socket */
	JAIL_DISKS,    /* serves the disks */
	JAIL_FILES, /* serves a directory: the only kind that may open files, of which there are none
			* but the directory's, and that keeps rights over them */
};

/* Leaves to the calling thread, and to nobody else, only what its kind needs (filter.c says why). */
int jail_filter(enum jail_thread kind, struct error *err) must_check;
