/*
 * proc: processes, by descriptor where the kernel lets us.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

/* pidfd_open. The descriptor or -errno (-ESRCH). */
int proc_open(pid_t pid) must_check;
/* True for root of the machine: of the initial user namespace. Root of any other one is an ordinary user
 * outside it. */
bool proc_is_root(void);
/* True if the user namespace has but one user or group. */
bool proc_has_one_id(void);
/* True if it has that group. */
bool proc_has_group(unsigned int gid);
/* Sends `signal` through a pidfd. 0 or -errno. */
int proc_signal(int pidfd, int signal) must_check;
/* Waits for a child through its pidfd and reaps it. Returns the exit code as a shell gives it:
 * 0-255, 128+N for signal N; -errno. `ret_status` (may be NULL) gets the wait status. */
int proc_wait(int pidfd, int *ret_status) must_check;
/* Turns a wait status into an exit code as above. */
int proc_exit_code(int wait_status);
/* The start time of a process in clock ticks since boot (field 22 of /proc/PID/stat): together with
 * the pid it names a process for good. -errno (-ESRCH). */
int proc_start_time(pid_t pid, uint64_t *ret_ticks) must_check;
/* The letter of its state in /proc/PID/stat; NUL if there is no such process. */
char proc_state(pid_t pid);
/* True if `pid` exists, is not a zombie, and has that start time. */
bool proc_is(pid_t pid, uint64_t start_ticks);
/* True from when a process is killed, or ends by itself, until it has been collected. What it had open and
 * locked may be so all the while: on a host that is busy, gigabytes of memory take the kernel a minute. */
bool proc_is_ending(pid_t pid);

/* Parses a signal: "TERM", "SIGTERM", "term", "15", "RTMIN+3". -EINVAL. */
int proc_parse_signal(const char *s) must_check;
/* Marks every descriptor from `first` on close-on-exec. */
int proc_cloexec_from(unsigned int first) must_check;

enum { PROC_KEEP_MAX = 16 };

struct proc_spawn {
	const char *path; /* the program; or NULL and `exe_fd` for execveat */
	int exe_fd;
	char *const *argv;
	char *const *env; /* NULL: ours */
	int stdio[3];     /* descriptors to become 0, 1, 2; -1: /dev/null */
	const int
		*keep; /* at most PROC_KEEP_MAX further ones, to become 3, 4, ...; -1: /dev/null */
	unsigned int keep_count;
	int directory_fd;     /* its working directory; 0: ours */
	bool new_session;     /* setsid */
	bool die_with_parent; /* SIGKILL when the thread that started it ends */
	bool sibling;         /* a child of our parent, who collects it and counts as its starter */
};
/* Starts a program with exactly the given descriptors, default signal handling and an empty signal
 * * mask. Sets *ret_pid and *ret_pidfd. A program that cannot be executed is an error here (-ENOENT,
 * -EACCES) and leaves no zombie; -EMFILE for too many descriptors. */
int proc_spawn(const struct proc_spawn *spawn, pid_t *ret_pid, int *ret_pidfd,
	       struct error *err) must_check;
