/*
 * reaper: a process 1 for programs that were not written to be one: it passes signals on, reaps
 * whatever is orphaned, and ends as the program does. It needs no file in the container: the process
 * that set the container up stays as it.
 */
#pragma once

#include "base/error.h"

/* Splits: returns 0 in a child that is to execute the program, and does not return in the reaper,
 * which keeps no descriptor. Negative: there is no child. */
int reaper_split(struct error *err) must_check;
