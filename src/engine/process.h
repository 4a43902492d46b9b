/* process: what /proc tells of a process of a workload. */
#pragma once

#include "engine/workload.h"

/* Fills *ret; ret->command is the caller's to free. -ESRCH. */
int process_read(pid_t pid, struct workload_process *ret) must_check;
