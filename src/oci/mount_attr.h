/*
 * mount_attr: the kernel's mount interface of Linux 5.2 and later.
 *
 * glibc's <sys/mount.h> has the calls, <linux/mount.h> some constants; both can be included together
 * only in newer releases, so the few names that are missing stand here.
 */
#pragma once

#include <stddef.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#ifndef MOUNT_ATTR_NOSYMFOLLOW
#define MOUNT_ATTR_NOSYMFOLLOW 0x00200000
#endif
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

/* open_tree and mount_setattr in one: Linux 6.15 and later. */
#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

/* The words of mounts[].options that the runtime itself understands, in no order; NULL at the end. */
const char *mount_option_name(size_t i);
