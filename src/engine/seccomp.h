/*
 * seccomp: the system calls that a workload may make by default.
 *
 * The set is the one that docker, podman and containerd agree on, so that what runs with them runs
 * here: an allow list, widened by capabilities. What is refused returns EPERM; clone3 returns ENOSYS,
 * so that C libraries fall back to clone, whose flags the filter can see.
 */
#pragma once

#include "base/json.h"

/* The profile as linux.seccomp of config.json, for a process with `capabilities` (an array of names). */
json_t *seccomp_default(const json_t *capabilities);
/* Turns a profile in docker's form (includes, excludes, archMap) into linux.seccomp. A file that has
 * that form already passes unchanged. -EINVAL with the place. */
int seccomp_from_profile(json_t *profile, const json_t *capabilities, json_t **ret,
			 struct error *err) must_check;
