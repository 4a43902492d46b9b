/* caps: see caps.h. */
#include "oci/caps.h"

#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"
#include "oci/config.h"

/* The index is the number. Texts in place: they need no relocation when the program starts. */
static const char names[][24] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

int caps_parse(const char *name)
{
	const size_t prefix = strlen("CAP_");

	if (strncasecmp(name, "CAP_", prefix) == 0)
		name += prefix;
	for (unsigned int i = 0; i < array_size(names); i++)
		if (strcasecmp(names[i] + prefix, name) == 0)
			return (int)i;
	return -EINVAL;
}

const char *caps_name(unsigned int number)
{
	return number < array_size(names) ? names[number] : NULL;
}

unsigned int caps_last(void)
{
	unsigned int last = 0;

	while (last < 63 && prctl(PR_CAPBSET_READ, last + 1, 0, 0, 0) >= 0)
		last++;
	return last;
}

int caps_before_user(const struct config_caps *caps, struct error *err)
{
	for (unsigned int i = 0; i < 64; i++) {
		if (caps->bounding >> i & 1 || prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0)
			continue;
		if (errno == EINVAL) /* this kernel knows no more */
			break;
		/* Without the right to drop it may still not be there. */
		if (prctl(PR_CAPBSET_READ, i, 0, 0, 0) != 0)
			return fail(err, -EPERM, "process.capabilities.bounding: drop %s",
				    i < array_size(names) ? names[i] : "a capability");
	}
	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
		return fail(err, -errno, "keep capabilities over the change of user");
	return 0;
}

static int get_sets(struct __user_cap_data_struct data[static 2])
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capget, &header, data) < 0 ? -errno : 0;
}

static int set_sets(uint64_t effective, uint64_t permitted, uint64_t inheritable)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	for (int i = 0; i < 2; i++) {
		data[i].effective = (uint32_t)(effective >> (32 * i));
		data[i].permitted = (uint32_t)(permitted >> (32 * i));
		data[i].inheritable = (uint32_t)(inheritable >> (32 * i));
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

int caps_after_user(const struct config_caps *caps, struct error *err)
{
	struct __user_cap_data_struct now[2];
	uint64_t have, permitted, inheritable;
	int rc = get_sets(now);

	if (rc < 0)
		return fail(err, rc, "read capabilities");
	/* What this host cannot grant is left out, as the specification wants. */
	have = now[0].permitted | (uint64_t)now[1].permitted << 32;
	permitted = caps->permitted & have;
	inheritable = caps->inheritable & have;
	rc = set_sets(caps->effective & permitted, permitted, inheritable);
	if (rc < 0)
		return fail(err, rc, "process.capabilities: set capabilities");
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 && errno != EINVAL)
		return fail(err, -errno, "process.capabilities.ambient: clear");
	for (unsigned int i = 0; i < 64; i++)
		if ((caps->ambient & permitted & inheritable) >> i & 1 &&
		    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0) < 0)
			return fail(err, -errno, "process.capabilities.ambient: raise %s",
				    caps_name(i));
	return 0;
}
