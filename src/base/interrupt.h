/*
 * interrupt: SIGINT, SIGTERM and SIGHUP for work that wants to end in an orderly way: tidied up, with a message,
 * and the exit code that the signal stands for. While it lasts they are held back, and the work asks now and
 * then whether one is waiting.
 *
 *     struct interrupt interrupt = interrupt_begin();
 *     rc = ... interrupt_check(err) ...
 *     interrupt_end(&interrupt, rc);
 *
 * It may be nested. Children that are forked inside inherit the mask: interrupt_leave_to_parent(). For the
 * main thread of a process.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>

#include "base/error.h"

struct interrupt {
	sigset_t before;
};

struct interrupt interrupt_begin(void);
/* With -EINTR as the work's result the signal has been obeyed and is forgotten. With any other one that is
 * waiting takes effect now. */
void interrupt_end(const struct interrupt *interrupt, int rc);

/* The signals, but for those that this process was started to ignore (nohup, a shell's `&`). */
sigset_t interrupt_signals(void);
bool interrupt_pending(void);
/* -EINTR, with words and exit code, if one is waiting. */
int interrupt_check(struct error *err) must_check;
/* Those words for the signal `number`. Returns -EINTR. */
int interrupt_refuse(struct error *err, int number);
/* Sleeps; ends early if one is waiting, or comes. */
void interrupt_sleep(unsigned int ms);

/* Waits until something can be read from `fd` (or it is at its end); -EINTR as above. */
int interrupt_await(int fd, struct error *err) must_check;

/* In a child: these signals are for the parent to act on, who ends the child. Ctrl-C, which reaches all, is
 * ignored; the others end it. */
void interrupt_leave_to_parent(void);
