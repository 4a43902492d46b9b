/*
 * scratch: what the tests of src/base need around them: a private directory, child processes whose
 * failures are seen, a file system that is full.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

/* Makes a private directory and returns a descriptor of it; scratch_close removes it with all that is
 * in it. One at a time. */
int scratch_open(void);
void scratch_close(void);
/* The absolute path of `name` in it, in one of a few static buffers that are used in turn. */
const char *scratch_path(const char *name);
/* Creates a file in it; the content may be NULL (empty). */
void scratch_file(const char *name, const char *content);
bool scratch_has(const char *name);

/* In a child: ends it with a message, since cmocka's assertions work only in the test's own process. */
#define child_check(condition)                                                                     \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: in child: %s\n", __FILE__, __LINE__, #condition);  \
			_exit(99);                                                                 \
		}                                                                                  \
	} while (0)

typedef void child_fn(void *data);
/* Runs `fn` in a child, which ends with 0 after it and is killed if the test dies. */
pid_t child_start(child_fn *fn, void *data);
/* Waits for the child. Returns its exit code, 128+N for signal N. */
int child_wait(pid_t pid);
/* Kills it with SIGKILL and reaps it. */
void child_kill(pid_t pid);

/* In a child: a mount namespace of its own with a tmpfs of `size` (mount's notation) on the scratch
 * directory, in which the child then stands. */
void child_tiny_tmpfs(const char *size);
/* False, with a loud word, if this test needs root and we are not. */
bool root_or_skip(const char *why);
