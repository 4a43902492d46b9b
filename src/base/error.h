/*
 * error: the one error scheme.
 *
 * A fallible function returns int: >= 0 is success, a negative errno is failure. Above the primitives
 * its last parameter is a `struct error *err` that receives the reason in words. The struct belongs to
 * the caller, starts zeroed, may be NULL, has a fixed size and holds no pointer, so that a child can
 * write it whole down a pipe to its parent.
 *
 * Invariants
 *   E1  text reads from the outside in: what failed, then why ("start web: open x: No such file").
 *   E2  after a failure text is not empty and code is the negative errno that was returned first.
 *   E3  a hint, once given, stays: the innermost place knows best what to do.
 */
#pragma once

#include <stdarg.h>

enum {
	ERROR_TEXT_MAX = 1024,
	ERROR_HINT_MAX = 320,
};

struct error {
	int code;        /* the innermost negative errno, 0 while there is no error */
	int exit_status; /* the process exit code that this error asks for (126, 127), 0: the default */
	char text[ERROR_TEXT_MAX];
	char hint[ERROR_HINT_MAX];
};

#define must_check __attribute__((warn_unused_result))

/* Records a failure of a system or library call. With an empty `err` the text becomes
 * "<fmt>: <strerror(-rc)>", else fmt is prepended: "<fmt>: <text so far>". Returns rc (negative). */
int fail(struct error *err, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same for a reason that is complete in its own words: errno's text is not added. */
int refuse(struct error *err, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int refuse_va(struct error *err, int rc, const char *fmt, va_list ap)
	__attribute__((format(printf, 3, 0)));

/* Sets what the user can do about it, unless a hint is there already. Returns rc, so that
 * `return hint(err, refuse(...), "...")` reads in one line. */
int hint(struct error *err, int rc, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Sets the exit code that the program should end with because of this error. Returns rc. */
int exit_with(struct error *err, int rc, int exit_status);

/* Forgets what `err` holds: for an attempt whose failure has been dealt with. */
void error_clear(struct error *err);
