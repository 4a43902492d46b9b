/* tmpfs_copy: the mount option tmpcopyup: a tmpfs begins with what it covers. */
#pragma once

#include "base/error.h"

/* Copies the tree of the directory `from_fd` (O_PATH) into `to_fd`: directories, files, links,
 * devices, with owner, mode and times. Does not leave the mount that `from_fd` is on. */
int tmpfs_copy_up(int from_fd, int to_fd, struct error *err) must_check;
