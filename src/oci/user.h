/*
 * user: who a process in a workload is: names resolved by the workload's own /etc/passwd and
 * /etc/group, which are files that somebody else wrote. They are opened beneath the root directory,
 * without blocking, and read up to a limit.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	USER_FILE_MAX = 4 << 20, /* bytes of passwd or group */
	USER_GROUPS_MAX = 65536, /* the kernel's */
	USER_ID_MAX =
		0x7fffffff, /* larger numbers are refused, also where the kernel would take them */
};

struct user {
	uint32_t uid, gid;
	uint32_t *groups; /* supplementary */
	size_t groups_count;
	char *home; /* never NULL */
};
void user_release(struct user *user);
#define own_user __attribute__((cleanup(user_release)))

/* `text`: "", "name", "uid", "name:group", "uid:gid", ...; `groups_add`: names or numbers (may be
 * NULL). -EINVAL naming what is wrong; -ENOENT: no such user or group in the workload. */
int user_resolve(int root_fd, const char *text, char *const *groups_add, struct user *ret,
		 struct error *err) must_check;
/* process.user of a configuration. */
json_t *user_to_json(const struct user *user);
