/*
 * identity: whose files they are. The kernel keeps the ids for the access to files apart for every
 * thread (setfsuid), so that a file is its owner's from the first moment on: there is none in which it
 * is ours. Becoming somebody takes the rights over others' files away; the guest's kernel has already
 * decided whether the caller may, with groups that we do not know, so that one right is taken back.
 */
#include "vmm/share/share_priv.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NOBODY = 65534 };

bool share_identity(const struct share_map *map)
{
	return map->count == 0;
}

bool share_to_host(const struct share_map *map, uint32_t guest, uint32_t *ret)
{
	if (map->count == 0) {
		*ret = guest;
		return true;
	}
	for (unsigned int i = 0; i < map->count; i++) {
		const struct share_range *range = &map->ranges[i];

		if (guest >= range->guest && guest - range->guest < range->count) {
			*ret = range->host + (guest - range->guest);
			return true;
		}
	}
	return false;
}

uint32_t share_to_guest(const struct share_map *map, uint32_t host)
{
	if (map->count == 0)
		return host;
	for (unsigned int i = 0; i < map->count; i++) {
		const struct share_range *range = &map->ranges[i];

		if (host >= range->host && host - range->host < range->count)
			return range->guest + (host - range->host);
	}
	return NOBODY;
}

static void regain_override(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].effective |= data[0].permitted & (1u << CAP_DAC_OVERRIDE);
	(void)syscall(SYS_capset, &header, data);
}

static bool has_capabilities(uint32_t wanted)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	return syscall(SYS_capget, &header, data) == 0 && (data[0].permitted & wanted) == wanted;
}

/* Who may be anybody is root while it is nobody else: it may be in a namespace whose root owns the
 * directory's files, which the process itself is not (jail/jail.h). */
void share_find_self(struct share_thread *thread)
{
	thread->may_switch = has_capabilities(1u << CAP_SETUID | 1u << CAP_SETGID);
	thread->may_override = has_capabilities(1u << CAP_DAC_OVERRIDE);
	if (thread->may_switch) {
		setfsgid(0);
		setfsuid(0);
	}
	/* An id that is none changes nothing, and tells the present one. */
	thread->own_group = (uint32_t)setfsgid((gid_t)-1);
	thread->own_user = (uint32_t)setfsuid((uid_t)-1);
}

int share_become(const struct share_call *call, uint32_t mask)
{
	const struct share_config *config = &call->share->config;
	const struct share_thread *thread = call->thread;
	uint32_t user, group;

	if (!share_to_host(&config->users, call->header.uid, &user) ||
	    !share_to_host(&config->groups, call->header.gid, &group))
		return -EOVERFLOW;
	umask(mask & 0777);
	if (!thread->may_switch || (user == thread->own_user && group == thread->own_group))
		return 0;
	setfsgid(group);
	setfsuid(user);
	if (thread->may_override && user != thread->own_user)
		regain_override();
	return 0;
}

void share_become_self(const struct share_call *call)
{
	const struct share_thread *thread = call->thread;

	umask(0);
	if (!thread->may_switch)
		return;
	setfsuid(thread->own_user);
	setfsgid(thread->own_group);
}
