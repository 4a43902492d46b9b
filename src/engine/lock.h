/*
 * lock: who works on a workload.
 *
 * The lock is a flock on <state>/<id>/lock. A command holds it while it changes a workload that does
 * not run; the monitor of a running one holds it for as long as it lives, as its sign of life. Its
 * directory exists only while somebody holds it: taking makes it, releasing removes it.
 *
 * A helper (the monitor's child that makes processes or cleans up) additionally holds a shared record
 * lock on the same file. Record locks do not pass to its children, so that its lock ends exactly with
 * it, and recovery can wait for helpers whose monitor has just died.
 */
#pragma once

#include <stdbool.h>

#include "engine/engine_priv.h"

/* Takes the lock; returns its descriptor. -EWOULDBLOCK: somebody has it. */
int lock_try(struct engine *engine, const char *id, struct error *err) must_check;
/* Takes the lock of a workload that is about to be made: nobody knows its id yet, but another command
 * that meets its fresh directory takes it for a leftover of a crash and removes it; waits for that.
 * Returns the descriptor; -ETIMEDOUT as lock_take. */
int lock_new(struct engine *engine, const char *id, struct error *err) must_check;
/* Takes the lock of a workload that does not run, waiting for other commands, and repairing what one of
 * them may have left. -EBUSY: its row became
 * active, so the monitor has it; -ETIMEDOUT: another command works on it for too long. */
int lock_take(struct engine *engine, const char *id, struct error *err) must_check;
/* Removes the directory with everything in it, the lock file last, and unlocks. */
void lock_release(struct engine *engine, const char *id, int *lock_fd);
/* Only closes the descriptor: somebody else has inherited the lock. */
void lock_leave(int *lock_fd);

/* For a helper: marks that it lives. -EBUSY: recovery is at work already. */
int lock_helper(int lock_fd) must_check;
/* For recovery, with the lock taken: waits until no helper lives. */
int lock_await_helpers(int lock_fd) must_check;
