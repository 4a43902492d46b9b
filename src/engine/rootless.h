/*
 * rootless: the namespaces in which an ordinary user's commands work. There the user is root and has the ids
 * that /etc/subuid and /etc/subgid give (newuidmap does that), or no other id at all; and overlayfs may be
 * mounted.
 *
 * All commands of one state directory work in the same user namespace, since only so one can enter what
 * another has started. A process that only sleeps keeps it (R1: at most one for each state directory; R2: it
 * ends when `<state>/userns`, which names it, is removed). Each command has a mount namespace of its own.
 */
#pragma once

#include "base/error.h"

/* Nothing for the machine's root. `state` is the path of the state directory, which is made. The process must
 * have one thread. */
int rootless_enter(const char *state, struct error *err) must_check;
/* The user's own id: outside of the namespace, if this is in one. */
unsigned int rootless_user(void);
