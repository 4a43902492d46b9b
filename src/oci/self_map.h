/* self_map: the running program, mapped anew from another descriptor of its own file. Internal. */
#pragma once

/* Replaces every mapping of the program's file by one of `fd` (a descriptor for reading of the same
 * file, through another mount) and makes it the file that /proc/self/exe names. Nothing of the running
 * program changes. -errno: it stays as it was, at worst with some of the mappings replaced; -EPERM
 * without CAP_SYS_RESOURCE and CAP_CHECKPOINT_RESTORE, -EINVAL if the kernel cannot. The caller must be
 * the only thread. */
int self_map(int fd);

/* The detached mount that the program runs from since (self.c), or -1. */
int self_mount_fd(void);
