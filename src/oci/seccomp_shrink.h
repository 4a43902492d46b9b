/*
 * seccomp_shrink: the same filter in fewer instructions.
 *
 * What libseccomp makes has a comparison for each system call of each architecture. Where neighbouring
 * numbers end alike, one range will do: a usual profile becomes a quarter as long. The kernel checks,
 * translates and tries every instruction when a filter is installed, at the start of each container.
 */
#pragma once

#include "oci/seccomp_filter.h"

/* Puts a shorter program that decides everything alike in the place of `program`; leaves it as it is where
 * it is not of the form that libseccomp makes, or does not become shorter. */
void seccomp_shrink(struct seccomp_program *program);
